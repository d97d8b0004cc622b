"""Several workers behind one port: one cache, true books, and a worker that dies takes only its own streams along."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from server_process import SAMPLECACHE, environment
from waiting import wait_until

from samplecache.client import Client
from samplecache.errors import ConfigurationError
from samplecache.service.config import ServerConfig
from samplecache.v1 import playback_pb2
from samplecache.v1 import samplecache_pb2 as pb
from samplecache.v1.samplecache_pb2_grpc import SampleCacheServiceStub

RATE_HZ = 48_000
FRAMES = 20 * RATE_HZ
CONNECTIONS = 16
"""So many that both workers get some, but once in 32 768 runs."""


@dataclass
class Workers:
    """A server with two of them."""

    address: str
    process: subprocess.Popen[str]
    pcm: bytes

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for file in children for pid in file.read_text().split()]
        return [pid for pid in pids if b"workers.process" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    @contextlib.contextmanager
    def stubs(self, count: int) -> Iterator[list[Any]]:
        """Connections of their own, which the kernel shares out among the workers."""
        with contextlib.ExitStack() as stack:
            yield [
                SampleCacheServiceStub(
                    stack.enter_context(
                        grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])
                    )
                )
                for _ in range(count)
            ]


@contextlib.contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Workers]:
    command = [*SAMPLECACHE, "serve", "--listen", "127.0.0.1:0", "--workers", "2", *flags]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment())
    try:
        assert process.stdout is not None
        address = next(line.split()[-1] for line in process.stdout if line.startswith("listening"))
        frames = np.random.default_rng(1).integers(-3000, 3000, (FRAMES, 2), np.int16)
        soundfile.write(folder / "noise.wav", frames, RATE_HZ)
        with Client(address) as client:
            client.put_file(folder / "noise.wav")
        yield Workers(address, process, frames.tobytes())
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with serving(tmp_path_factory.mktemp("workers"), "--grace-s", "0") as running:
        yield running


def play(stub: Any, **start: Any) -> Any:
    """Open a stream that plays on; its first answer has come."""
    call = stub.Play(iter([playback_pb2.PlayRequest(start=playback_pb2.PlayStart(sample_id="noise", **start))]))
    assert next(call).HasField("started")
    return call


def code_after(call: Any, answers: int) -> grpc.StatusCode | None:
    """How a stream ended within so many answers; None if it goes on."""
    try:
        for _ in range(answers):
            next(call)
    except grpc.RpcError:
        code: grpc.StatusCode = call.code()
        return code
    return None


def unlimited(stub: Any, **start: Any) -> list[playback_pb2.PlayResponse]:
    return list(play(stub, pace=playback_pb2.PACE_UNLIMITED, **start))


def test_every_worker_streams_the_same_sample(workers: Workers) -> None:
    with workers.stubs(CONNECTIONS) as stubs:
        for stub in stubs:
            answers = unlimited(stub, start_frame=FRAMES - 96_000)
            assert (
                b"".join(answer.block.pcm for answer in answers if answer.HasField("block")) == workers.pcm[-384_000:]
            )
            assert answers[-1].summary.stats.blocks == 100
            assert answers[-1].summary.next_frame == FRAMES


def test_the_books_are_true_over_all_workers(workers: Workers) -> None:
    def strategy(stub: Any) -> pb.StrategyStats:
        return next(
            (each for each in stub.GetStats(pb.GetStatsRequest()).strategies if each.strategy == "touch"),
            pb.StrategyStats(),
        )

    with workers.stubs(CONNECTIONS) as stubs:
        before = strategy(stubs[0])
        calls = [play(stub, strategy="touch") for stub in stubs]
        assert {stub.GetStats(pb.GetStatsRequest()).sessions for stub in stubs} == {CONNECTIONS}
        assert stubs[0].GetSample(pb.GetSampleRequest(sample_id="noise")).sample.playing == CONNECTIONS
        for call in calls:
            call.cancel()
        wait_until(lambda: stubs[0].GetStats(pb.GetStatsRequest()).sessions == 0)
        blocks = sum(unlimited(stub, strategy="touch", frames=96_000)[-1].summary.stats.blocks for stub in stubs)
        after = strategy(stubs[-1])
        assert after.sessions - before.sessions == 2 * CONNECTIONS
        assert blocks == 100 * CONNECTIONS
        assert after.blocks - before.blocks >= blocks


def test_commands_are_obeyed_and_counted(workers: Workers) -> None:
    def commands() -> Iterator[playback_pb2.PlayRequest]:
        yield playback_pb2.PlayRequest(
            start=playback_pb2.PlayStart(sample_id="noise")  # paced, so that it lasts until they are there
        )
        yield playback_pb2.PlayRequest(position=playback_pb2.PlayPosition())
        yield playback_pb2.PlayRequest(seek=playback_pb2.PlaySeek(frame=FRAMES - 1920))

    with workers.stubs(1) as (stub,):
        answers = list(stub.Play(commands()))
    kinds = [answer.WhichOneof("event") for answer in answers]
    assert (kinds[0], kinds[-1]) == ("started", "summary")
    assert {"seeked", "position"} <= set(kinds)
    assert answers[-1].summary.stats.blocks == kinds.count("block")


def test_errors_are_the_owners(workers: Workers) -> None:
    with workers.stubs(1) as (stub,):
        for ask in (
            lambda: next(stub.Play(iter([playback_pb2.PlayRequest(start=playback_pb2.PlayStart(sample_id="no"))]))),
            lambda: stub.GetSample(pb.GetSampleRequest(sample_id="no")),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                ask()
            error: Any = caught.value
            status, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()
            assert status is not None
            assert status.details[0].Unpack(info)
            assert (error.code(), info.reason) == (grpc.StatusCode.NOT_FOUND, "SAMPLE_NOT_FOUND")
            assert "there is no sample 'no'" in error.details()


def test_health_and_events_come_from_the_owner(workers: Workers) -> None:
    with grpc.insecure_channel(workers.address) as channel, workers.stubs(2) as stubs:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        events = stubs[0].WatchEvents(pb.WatchEventsRequest())
        assert next(events).HasField("started")
        list(stubs[1].Prefetch(pb.PrefetchRequest(sample_id="noise")))
        assert next(events).prefetch_done.sample_id == "noise"
        events.cancel()


def test_a_worker_that_dies_takes_its_own_streams_along_and_comes_again(workers: Workers) -> None:
    before = set(workers.pids())
    with workers.stubs(CONNECTIONS) as stubs:
        calls = [play(stub) for stub in stubs]
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        ended = [call for call in calls if code_after(call, 30) is grpc.StatusCode.UNAVAILABLE]
        assert 0 < len(ended) < CONNECTIONS
        left = CONNECTIONS - len(ended)
        wait_until(lambda: stubs[0].GetStats(pb.GetStatsRequest(), wait_for_ready=True).sessions == left)
        wait_until(lambda: len(workers.pids()) == 2)
        assert victim not in workers.pids()
        for call in calls:
            call.cancel()
    with Client(workers.address) as client:
        assert [sample.sample_id for sample in client.list_samples()] == ["noise"]


def test_stopping_lets_streams_play_on_and_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, "--grace-s", "10") as workers:
        pids = workers.pids()
        with workers.stubs(4) as stubs:
            calls = [play(stub, frames=RATE_HZ) for stub in stubs]
            workers.process.send_signal(signal.SIGTERM)
            for call in calls:
                *_, last = call
                assert last.summary.next_frame == RATE_HZ
        assert workers.process.wait(20) == 0
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_workers_end_with_their_owner(tmp_path: Path) -> None:
    with serving(tmp_path) as workers:
        pids = workers.pids()
        workers.process.kill()
        workers.process.wait(20)
        wait_until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()])


def test_the_simulated_kernel_has_no_workers() -> None:
    with pytest.raises(ConfigurationError, match="share the memory of one process"):
        ServerConfig.load(kernel="simulated", workers=2)


def test_a_port_is_not_shared_with_another_server(workers: Workers) -> None:
    command = [*SAMPLECACHE, "serve", "--listen", workers.address, "--workers", "2"]
    other = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60, check=False)
    assert other.returncode
    assert f"{workers.address} cannot be listened on" in other.stderr
