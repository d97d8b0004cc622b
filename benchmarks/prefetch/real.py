"""A case on the running kernel: a real server in a rig, and gRPC clients outside of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc.aio
import numpy as np
from google.protobuf.duration_pb2 import Duration

from benchmarks.prefetch.cases import Case, Contender
from benchmarks.prefetch.figures import Heard, Run
from samplecache.client import Client
from samplecache.clock import NS_PER_S, MonotonicClock
from samplecache.errors import StateError
from samplecache.lab.rig import Limits, Rig, RigOptions
from samplecache.lab.workload import Cue, VirtualSample, Workload
from samplecache.v1 import playback_pb2 as play
from samplecache.v1 import samplecache_pb2 as pb
from samplecache.v1.samplecache_pb2_grpc import SampleCacheServiceStub
from samplecache.witness import Witness

READY_NS: Final = 20 * NS_PER_S
STOP_S: Final = 15
DEATH_S: Final = 5
"""How long after it stopped answering a killed server may take to be gone."""
HISTORY_NS: Final = 300 * NS_PER_S
"""For how long the witness remembers: longer than any case plays, streams that are shed and behind included."""

EVICTIONS: Final = 10
HEADS_QUIET_S: Final = 2
HEADS_MOST_S: Final = 20
"""How long heads are waited for at the most: where memory is too short for them, they never come to rest."""
EVICT_NS: Final = 10 * NS_PER_S
_SETTLE_NS: Final = NS_PER_S // 5
_KNOWN_S: Final = 1.1
"""The server looks at its memory limit once a second at the most. Nobody else changes it between two plays."""
_WARM_UP: Final = "warm-up"


@dataclass(frozen=True, slots=True)
class Server:
    """A server under a case, with its samples uploaded.

    Attributes
    ----------
    address : str
        Where it listens.
    client : Client
        Connected to it.
    process : Popen
        Its process.
    rig : Rig
        What it runs in.
    """

    address: str
    client: Client
    process: subprocess.Popen[Any]
    rig: Rig

    @property
    def killed(self) -> bool:
        """Whether its process was killed, which nobody but the kernel's OOM killer does."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(DEATH_S) == -signal.SIGKILL
        return False


@contextlib.contextmanager
def serve(case: Case, workload: Workload) -> Iterator[Server]:
    """Start a server, put what it maps from now on into a rig, and upload the case's samples.

    The server's own code and heap were there before, so a limit on memory is one on samples.

    Raises
    ------
    NotPermittedError
        Not root, or without control groups.
    """
    total_bytes = sum(sample.format.frames_to_bytes(sample.frames) for sample in workload.samples)
    with contextlib.ExitStack() as stack:
        # Twice what is swapped: beyond half of it, the kernel frees the slots of pages it has read.
        rig = stack.enter_context(Rig(RigOptions(swap_bytes=4 * total_bytes + (256 << 20))))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samplecache-")))
        address = f"unix:{directory / 'samplecache.sock'}"
        flags = [part for name, value in case.settings for part in ("--set", f"{name}={value}")]
        command = [sys.executable, "-m", "samplecache", "serve", "--listen", address, *flags]
        log = stack.enter_context((directory / "server.log").open("w+"))
        started = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(_stop, started)
        client = stack.enter_context(Client(address))
        client.wait_ready(READY_NS)
        _put(client, VirtualSample(_WARM_UP, workload.samples[0].format, 48_000), 0)
        with client.play(_WARM_UP) as stream:
            for _ in stream:
                pass
        for group in rig.groups:
            (group / "cgroup.procs").write_text(str(started.pid))
        for number, sample in enumerate(workload.samples):
            _put(client, sample, number + 1)
        yield Server(address, client, started, rig)


def _put(client: Client, sample: VirtualSample, seed: int) -> None:
    """Upload noise of the sample's length: nothing that a kernel compresses or leaves out."""
    noise = np.random.default_rng(seed).bytes(sample.format.frames_to_bytes(sample.frames))
    client.put_file(io.BytesIO(noise), sample.sample_id, raw_format=sample.format)


def _stop(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(case: Case, contender: Contender, server: Server) -> Run:
    """Make samples cold, or resident, and play `case` once. Blocks for as long as it sounds.

    Raises
    ------
    StateError
        A sample did not get cold.
    """
    workload = case.workload(contender.strategy, contender.tagged)
    server.rig.limit(Limits())
    for sample in workload.samples:
        server.client.update(sample.sample_id, tags=getattr(sample, "tags", ()))
    if contender.cold:
        _make_cold(server, workload)
        server.rig.limit(case.limits)
        if case.memory_bytes is not None:
            time.sleep(_KNOWN_S)
        if any(getattr(sample, "tags", ()) for sample in workload.samples):
            _await_heads(server)
    else:
        for sample in workload.samples:
            server.client.prefetch(sample.sample_id, strategy="populate").result()
    before = server.client.stats()
    cpu_ns = _cpu_ns(server.process.pid)
    clock = MonotonicClock()
    with Witness(history_ns=HISTORY_NS) as witness:
        began_ns = clock.now_ns()
        heard = asyncio.run(_play_all(server.address, workload))
        machine_ns = witness.lateness_between(began_ns, clock.now_ns())
    elapsed_ns = clock.now_ns() - began_ns
    cpu_ns = _cpu_ns(server.process.pid) - cpu_ns
    after = server.client.stats()
    server.rig.limit(Limits())
    # What the server remembers is the most since its start: of this run if it is more than before.
    peak_bytes = after.prefetch_budget.peak_bytes
    return Run(
        tuple(heard),
        after.swap_in_pages - before.swap_in_pages,
        _pages_played(workload),
        peak_bytes if peak_bytes > before.prefetch_budget.peak_bytes else None,
        cpu_ns,
        elapsed_ns,
        machine_ns,
    )


def _await_heads(server: Server) -> None:
    """Wait until nothing more is done to the heads of triggers, which nobody makes cold just before they are struck."""
    deadline_s = time.monotonic() + HEADS_MOST_S
    before, since_s = server.client.stats().triggers, time.monotonic()
    while since_s + HEADS_QUIET_S > time.monotonic() < deadline_s:
        time.sleep(HEADS_QUIET_S / 10)
        now = server.client.stats().triggers
        if now != before:
            before, since_s = now, time.monotonic()


def _make_cold(server: Server, workload: Workload) -> None:
    # One by one, not by taking all memory of the control group away: that would make the server's own heap cold too,
    # and it would wait for that behind whatever is prefetched.
    for sample in workload.samples:
        for _ in range(EVICTIONS):
            server.client.evict(sample.sample_id, timeout_ns=EVICT_NS)
            residency = server.client.residency(sample.sample_id)
            left = residency.mapped + residency.swap_cache
            # The head of a trigger stays, locked or looked after; the heads of a run before are let go of in a while.
            if not left or getattr(sample, "tags", ()):
                break
            time.sleep(_KNOWN_S)
        else:
            raise StateError(
                f"{left} pages of {sample.sample_id} stay in RAM",
                remedy="Give the machine more swap, or less other work",
            )


def _cpu_ns(pid: int) -> int:
    """Return the CPU time of a process so far, in nanoseconds: user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * NS_PER_S // os.sysconf("SC_CLK_TCK")


def _pages_played(workload: Workload) -> int:
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    samples = {sample.sample_id: sample for sample in workload.samples}
    played = {cue.sample_id for cue in workload.cues}
    return sum(-(-samples[name].format.frames_to_bytes(samples[name].frames) // page_bytes) for name in played)


async def _play_all(address: str, workload: Workload) -> list[Heard]:
    formats = {sample.sample_id: sample.format for sample in workload.samples}
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = SampleCacheServiceStub(channel)
        start_s = asyncio.get_running_loop().time() + _SETTLE_NS / NS_PER_S
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_perform(stub, cue, formats[cue.sample_id].rate_hz, start_s)) for cue in workload.cues
            ]
    return [task.result() for task in tasks]


async def _perform(stub: Any, cue: Cue, rate_hz: int, start_s: float) -> Heard:
    """Announce a cue in its time, and play it in its."""
    at_s = start_s + cue.at_ns / NS_PER_S
    hint: Any = None
    if cue.hint_ahead_ns is not None:
        await _sleep_until(max(start_s, at_s - cue.hint_ahead_ns / NS_PER_S))
        hint = asyncio.create_task(_announce(stub, cue, at_s))
    await _sleep_until(at_s)
    start = play.PlayStart(
        sample_id=cue.sample_id,
        strategy=cue.strategy,
        block=_duration(cue.block_ns),
        lead=_duration(cue.lead_ns or 0),
        pace=play.PACE_REALTIME,
    )
    call = stub.Play()
    await call.write(play.PlayRequest(start=start))
    await call.done_writing()
    opened_s = asyncio.get_running_loop().time()
    bound, late_first_second, told_after_ns, stats = "", 0, None, play.PlaybackStats()
    async for answer in call:
        match answer.WhichOneof("event"):
            case "started":
                bound = answer.started.binding.strategy
            case "underrun":
                late_first_second += answer.underrun.frame_offset < rate_hz
            case "overload" if told_after_ns is None and answer.overload.shed:
                told_after_ns = int((asyncio.get_running_loop().time() - opened_s) * NS_PER_S)
            case "summary":
                stats = answer.summary.stats
    if hint is not None:
        await hint
    return Heard(
        cue.sample_id,
        bound,
        stats.blocks,
        stats.late_blocks,
        late_first_second,
        stats.longest_stall.ToNanoseconds(),
        stats.first_block.ToNanoseconds(),
        stats.faults.major,
        stats.faults.minor,
        told_after_ns,
    )


async def _announce(stub: Any, cue: Cue, at_s: float) -> None:
    left_ns = max(0, int((at_s - asyncio.get_running_loop().time()) * NS_PER_S))
    request = pb.PrefetchRequest(sample_id=cue.sample_id, strategy=cue.strategy, deadline=_duration(left_ns))
    async for _ in stub.Prefetch(request):
        pass


async def _sleep_until(time_s: float) -> None:
    await asyncio.sleep(max(0.0, time_s - asyncio.get_running_loop().time()))


def _duration(length_ns: int) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(length_ns)
    return duration
