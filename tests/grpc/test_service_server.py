"""The server around the service: health, reflection, tokens, TLS, addresses, metrics, stopping."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client.parser import text_string_to_metric_families
from served import FAST, RATE_HZ, WAIT_S, Playing, Serve, Served, chunk, drain, pcm, refused, start, until

from samplecache.errors import ConfigurationError, SamplecacheError, UnknownStrategyError
from samplecache.service.config import ServerConfig
from samplecache.service.server import SERVICE, Server
from samplecache.v1 import playback_pb2 as play
from samplecache.v1 import samplecache_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
DATA = pcm(20_000)


async def health(served: Served, service: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)


async def failing(**settings: Any) -> SamplecacheError:
    """What a server with these settings says instead of starting."""
    with pytest.raises(SamplecacheError) as caught:
        await Server(ServerConfig.load(**{**FAST, **settings})).start()
    assert str(caught.value).endswith(f"{caught.value.remedy}.")
    return caught.value


# --- health, reflection ---


async def test_health_follows_the_server(serve: Serve) -> None:
    served = await serve(grace_s=60.0)
    await served.put("a", pcm(4 * RATE_HZ))
    assert [await health(served, name) for name in ("", SERVICE)] == [SERVING, SERVING]
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="other"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == SERVING
    playing = Playing(served, "a")
    await playing.begin()
    await playing.until("block")
    stopping = asyncio.create_task(served.server.stop())
    assert (await asyncio.wait_for(watch.read(), WAIT_S)).status == NOT_SERVING
    watch.cancel()
    # What plays is let play on; nobody new comes in.
    await playing.send(seek={"frame": 3 * RATE_HZ})
    await playing.finish()
    assert playing.pcm.endswith(pcm(4 * RATE_HZ)[3 * RATE_HZ * 4 :])
    await asyncio.wait_for(stopping, WAIT_S)


async def test_a_stream_that_outlasts_the_grace_may_resume_elsewhere(serve: Serve) -> None:
    served = await serve(grace_s=0.1)
    await served.put("a", DATA)
    playing = Playing(served, "a", loop=True)
    await playing.begin()
    await playing.until("block")
    stopping = asyncio.create_task(served.server.stop())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await playing.finish()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await asyncio.wait_for(stopping, WAIT_S)


async def test_reflection_lists_and_describes_the_services(serve: Serve, tmp_path: Path) -> None:
    served = await serve()

    def look() -> tuple[list[str], list[str]]:
        with grpc.insecure_channel(served.address) as channel:
            database: Any = ProtoReflectionDescriptorDatabase(channel)
            described = database.FindFileContainingSymbol(SERVICE)
            return list(database.get_services()), [method.name for method in described.service[0].method]

    services, methods = await asyncio.to_thread(look)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(services)
    assert methods == [method.name for method in pb.DESCRIPTOR.services_by_name["SampleCacheService"].methods]


# --- tokens, TLS ---


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer ", "Bearer wrong", "open sesame", "bearer open sesame"])
async def test_without_the_token_nothing_goes(serve: Serve, tmp_path: Path, given: str | None) -> None:
    (tmp_path / "token").write_text("open sesame\nsecond line\n")
    served = await serve(token_file=tmp_path / "token")
    metadata = () if given is None else (("authorization", given),)
    before = served.state()
    for call in (
        served.stub.GetStats(pb.GetStatsRequest(), metadata=metadata),
        served.send([start("a", DATA)], metadata=metadata),
        _read(served.stub.WatchEvents(pb.WatchEventsRequest(), metadata=metadata)),
        _read(served.stub.Play(metadata=metadata)),
    ):
        await refused(call, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert served.state() == before
    assert await health(served) == SERVING


async def _read(call: Any) -> Any:
    return await call.read()


async def test_with_the_token_all_goes(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("  open sesame \n")
    served = await serve(token_file=tmp_path / "token")
    metadata = (("authorization", "Bearer open sesame"),)
    assert (await served.stub.GetStats(pb.GetStatsRequest(), metadata=metadata)).samples == 0


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe", "schl\u00fcssel".encode()])
async def test_a_token_file_that_is_no_use(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    error = await failing(token_file=tmp_path / "token", listen=(f"unix:{tmp_path}/a.sock",))
    assert isinstance(error, ConfigurationError)
    assert "token" in str(error)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost, signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


async def test_tls(serve: Serve, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    served = await serve(listen=("localhost:0",), tls_cert=cert, tls_key=key)
    (address,) = served.server.addresses
    trusting = grpc.ssl_channel_credentials(cert.read_bytes())
    async with grpc.aio.secure_channel(address, trusting) as channel:
        assert (await Served(served.server, channel, address).stub.GetStats(pb.GetStatsRequest())).samples == 0
    for stranger in (grpc.aio.insecure_channel(address), grpc.aio.secure_channel(address, _distrusting())):
        async with stranger as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Served(served.server, channel, address).stub.GetStats(pb.GetStatsRequest())
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def _distrusting() -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials()


async def test_half_of_tls_is_a_mistake(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    assert "go together" in str(await failing(listen=("127.0.0.1:0",), tls_cert=cert))
    assert "go together" in str(await failing(listen=("127.0.0.1:0",), tls_key=key))
    missing = await failing(listen=("127.0.0.1:0",), tls_cert=cert, tls_key=key.with_name("none.pem"))
    assert "none.pem are no certificate and its key: No such file" in str(missing)
    key.write_text("no key")
    assert "belong together" in str(await failing(listen=("127.0.0.1:0",), tls_cert=cert, tls_key=key))


# --- addresses ---


async def test_several_addresses_and_picked_ports(serve: Serve, tmp_path: Path) -> None:
    served = await serve(listen=(f"unix:{tmp_path}/other.sock", "127.0.0.1:0", "[::1]:0"))
    unix, four, six = served.server.addresses
    assert unix == f"unix:{tmp_path}/other.sock"
    assert four.startswith("127.0.0.1:")
    assert six.startswith("[::1]:")
    assert four != "127.0.0.1:0"
    for address in (unix, four, six):
        async with grpc.aio.insecure_channel(address) as channel:
            assert await health(Served(served.server, channel, address)) == SERVING


@pytest.mark.parametrize(
    "address",
    ["nonsense", "256.256.256.256:1", "127.0.0.1:port", "unix:/nowhere/at/all.sock", f"unix:/tmp/{'a' * 200}"],
)
async def test_an_impossible_address_is_a_mistake(address: str) -> None:
    error = await failing(listen=(address,))
    assert isinstance(error, ConfigurationError)
    assert str(error).startswith(f"{address} cannot be listened on")


async def test_an_address_in_use_is_a_mistake_and_harms_nobody(serve: Serve, tmp_path: Path) -> None:
    served = await serve(listen=(f"unix:{tmp_path}/a.sock", "127.0.0.1:0"))
    for address in served.server.addresses:
        assert isinstance(await failing(listen=(address,)), ConfigurationError)
    assert await health(served) == SERVING


async def test_a_stale_socket_is_replaced(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    served = await serve(listen=(f"unix:{path}",))
    assert await health(served) == SERVING


async def test_a_file_at_the_sockets_path_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    assert isinstance(await failing(listen=(f"unix:{tmp_path}/precious",)), ConfigurationError)
    assert (tmp_path / "precious").read_text() == "data"


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"device": "floppy"}, ConfigurationError, "floppy"),
        ({"memory": 0}, ConfigurationError, "memory"),
        ({"default_strategy": "magic"}, UnknownStrategyError, "magic"),
    ],
)
async def test_an_impossible_machine_is_a_mistake(
    tmp_path: Path, settings: dict[str, Any], kind: type[SamplecacheError], text: str
) -> None:
    error = await failing(listen=(f"unix:{tmp_path}/a.sock",), **settings)
    assert isinstance(error, kind)
    assert text in str(error)
    # Nothing is left behind: the same address serves at once.
    server = Server(ServerConfig.load(**FAST, listen=(f"unix:{tmp_path}/a.sock",)))
    await server.start()
    await server.stop()


# --- metrics ---


async def test_metrics_are_what_the_stats_say(serve: Serve) -> None:
    served = await serve(metrics_port=0, device="hdd-laptop-2008")
    await served.put_cold("a", DATA)
    await Playing(served, "a", strategy="none", lead={"nanos": 1_000_000}, frames=1_000).whole()
    await until(lambda: served.cache.session_count == 0)  # else it would take over what is prefetched
    await drain(served.stub.Prefetch(pb.PrefetchRequest(sample_id="a", strategy="touch")))
    await refused(
        served.stub.GetSample(pb.GetSampleRequest(sample_id="b")), grpc.StatusCode.NOT_FOUND, "SAMPLE_NOT_FOUND"
    )
    Playing(served, "a").call.cancel()
    stats = await served.stub.GetStats(pb.GetStatsRequest())
    text = await asyncio.to_thread(_scrape, served.server.metrics_address)
    found: dict[tuple[Any, ...], float] = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    none = ("strategy", "none")
    assert found["samplecache_samples",] == stats.samples == 1
    assert found["samplecache_used_bytes",] == stats.used_bytes
    assert found["samplecache_blocks_total", none] == stats.strategies[0].blocks
    assert found["samplecache_major_faults_total", none] == stats.strategies[0].faults.major
    touch, prefetched = ("strategy", "touch"), stats.strategies[1].prefetched
    assert found["samplecache_prefetched_pages_outstanding", touch] == prefetched.outstanding >= 1
    for outcome in ("useful", "late", "wasted"):
        key = ("samplecache_prefetched_pages_total", ("outcome", outcome), touch)
        assert found[key] == getattr(prefetched, outcome)
    assert found["samplecache_pages_played_total", none] == stats.strategies[0].played_pages >= 1
    assert found["samplecache_trigger_pages", ("how", "locked")] == stats.triggers.locked_pages == 0
    late = {cause: found["samplecache_late_blocks_total", ("cause", cause), none] for cause in _causes()}
    assert late["major_fault"] >= 1
    assert [0, *late.values()] == list(stats.strategies[0].late_by_cause)
    calls = {
        (dict(key[1:])["method"], dict(key[1:])["code"]): value
        for key, value in found.items()
        if key[0] == "samplecache_rpc_duration_seconds_count"
    }
    assert calls["GetSample", "NOT_FOUND"] == 1
    assert calls["PutSample", "OK"] == 1
    assert calls["Play", "OK"] == 1


def _causes() -> list[str]:
    return [name.removeprefix("UNDERRUN_CAUSE_").lower() for name in play.UnderrunCause.keys()[1:]]


def _scrape(address: str) -> str:
    with urllib.request.urlopen(address, timeout=WAIT_S) as answer:  # noqa: S310 -- the server's own address
        return str(answer.read().decode())


async def test_a_metrics_port_in_use_is_a_mistake(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = await failing(listen=(f"unix:{tmp_path}/a.sock",), metrics_port=port)
    assert isinstance(error, ConfigurationError)
    assert str(port) in str(error)


# --- limits of messages ---


async def test_a_message_that_is_too_large_is_refused_and_the_server_lives_on(served: Served) -> None:
    big = pcm(2 << 20)
    before = served.state()
    with pytest.raises(grpc.RpcError) as refusal:
        await served.send([start("a", big), chunk(0, big[: (4 << 20) + 1])])
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await until(lambda: len(served.cache.uploads) == 0)
    assert served.state() == before
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.GetSample(pb.GetSampleRequest(sample_id="x" * (5 << 20)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await served.put("a", big)).sample.size_bytes == len(big)


# --- the real kernel ---


async def test_the_linux_kernel_serves_too(serve: Serve) -> None:
    served = await serve(kernel="linux")
    await served.put("a", DATA)
    assert await Playing(served, "a").whole() == DATA
    residency = (await served.stub.GetResidency(pb.GetResidencyRequest(sample_id="a"))).residency
    assert residency.mapped + residency.swap_cache == 20
    capabilities = await served.stub.GetCapabilities(pb.GetCapabilitiesRequest())
    assert (capabilities.kernel, capabilities.release) == ("linux", os.uname().release)
    call = served.stub.Prefetch(pb.PrefetchRequest(sample_id="a", strategy="touch"))
    result = [answer async for answer in call][-1].result
    assert (result.pages_needed, result.in_time) == (0, True)
    await served.stub.DeleteSample(pb.DeleteSampleRequest(sample_id="a"))
    await until(lambda: served.cache.store.used_bytes == 0)


# --- a process of its own ---

Run = Callable[..., Awaitable[asyncio.subprocess.Process]]


async def process(path: Path, grace_s: float) -> asyncio.subprocess.Process:
    """A server as an administrator starts it; returns when it listens."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLECACHE_")}
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "samplecache", "serve", "--listen", f"unix:{path}", "--kernel", "simulated"),
        *("--device", "nvme-p3700", "--grace-s", str(grace_s)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**kept, "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("", "plugins"))},
    )
    assert server.stdout is not None
    lines = [await asyncio.wait_for(server.stdout.readline(), WAIT_S) for _ in range(2)]
    assert lines[0].startswith(b"samplecache ")
    assert lines[1] == f"listening on unix:{path}\n".encode()
    return server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_is_told_to_stop_lets_streams_play_out(tmp_path: Path, number: signal.Signals) -> None:
    server = await process(tmp_path / "a.sock", grace_s=60)
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/a.sock") as channel:
        served = Served(None, channel, f"unix:{tmp_path}/a.sock")  # type: ignore[arg-type]  # it is in another process
        await served.put("a", pcm(RATE_HZ))
        playing = Playing(served, "a")
        await playing.begin()
        await playing.until("block")
        server.send_signal(number)
        await playing.finish()
        assert playing.pcm == pcm(RATE_HZ)
    assert await asyncio.wait_for(server.wait(), WAIT_S) == 0


async def test_a_server_that_was_killed_leaves_a_socket_that_the_next_one_takes(tmp_path: Path) -> None:
    first = await process(tmp_path / "a.sock", grace_s=0)
    first.kill()
    await first.wait()
    assert (tmp_path / "a.sock").is_socket()
    second = await process(tmp_path / "a.sock", grace_s=0)
    second.terminate()
    assert await asyncio.wait_for(second.wait(), WAIT_S) == 0
