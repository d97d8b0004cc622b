"""A server in the test's own process, calls to it, and what many tests have to say of both."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache import SampleCache
from samplecache.service import translate
from samplecache.service.server import Server
from samplecache.v1 import playback_pb2 as play
from samplecache.v1 import samplecache_pb2 as pb
from samplecache.v1.samplecache_pb2_grpc import SampleCacheServiceStub

FAST: dict[str, Any] = {
    "kernel": "simulated",
    "device": "nvme-p3700",
    "memory": 64 << 20,
    "swap": 256 << 20,
    "grace_s": 0.0,
}
"""A simulated machine on which nothing takes long, and a server that does not wait for its streams."""

RATE_HZ = 48_000
STEREO = AudioFormat(RATE_HZ, 2, Encoding.S16)
WAIT_S = 20.0
CHUNK_BYTES = 32 << 10
_TELLTALES = ("Traceback", "<class", " object at 0x", "Error(", "Exception", ".py", "['", "(b'")


def pcm(frames: int, seed: int = 1) -> bytes:
    """Stereo S16 noise: no page of it is like another."""
    return np.random.default_rng(seed).integers(-30_000, 30_000, (frames, 2), np.int16).tobytes()


async def until(condition: Callable[[], Any]) -> None:
    """Return when `condition` holds; fail after 20 s."""
    deadline_s = asyncio.get_running_loop().time() + WAIT_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline_s, "waited 20 s in vain"
        await asyncio.sleep(0.002)


def stall(seconds: float) -> None:
    """Hold this thread up, and with it the server's event loop, as a machine does that stalls."""
    time.sleep(seconds)


async def drain(call: AsyncIterable[Any]) -> list[Any]:
    """All answers of a stream."""
    return [answer async for answer in call]


async def refused(call: Awaitable[Any], code: grpc.StatusCode, reason: str) -> error_details_pb2.ErrorInfo:
    """Check that `call` is refused as the contract promises, and return the ErrorInfo."""
    with pytest.raises(grpc.RpcError) as caught:
        await call
    error: Any = caught.value
    text = error.details() or ""
    assert error.code() is code, text
    assert not [telltale for telltale in _TELLTALES if telltale in text], text
    status = rpc_status.from_call(error)
    assert status is not None, f"no google.rpc.Status comes with {text}"
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("samplecache.v1", reason)
    assert text.endswith(f". {info.metadata['remedy']}.")
    wanted = {
        grpc.StatusCode.INVALID_ARGUMENT: error_details_pb2.BadRequest,
        grpc.StatusCode.RESOURCE_EXHAUSTED: error_details_pb2.QuotaFailure,
    }.get(code)
    assert wanted is None or any(detail.Is(wanted.DESCRIPTOR) for detail in status.details)
    return info


def start(sample_id: str, data: bytes, *, raw: AudioFormat | None = STEREO, **wishes: Any) -> pb.PutSampleRequest:
    """The declaration of an upload of `data`; raw PCM unless `raw` is None."""
    declared = {"total_bytes": len(data), "sha256": hashlib.sha256(data).digest(), **wishes}
    message = pb.UploadStart(sample_id=sample_id, **declared)
    if raw is not None:
        message.raw_format.CopyFrom(translate.audio_format(raw))
    return pb.PutSampleRequest(start=message)


def chunk(offset_bytes: int, data: bytes) -> pb.PutSampleRequest:
    return pb.PutSampleRequest(chunk=pb.UploadChunk(write_offset=offset_bytes, data=data))


def chunks(data: bytes, offset_bytes: int = 0) -> Iterator[pb.PutSampleRequest]:
    """`data` from `offset_bytes` on, in chunks."""
    for begin in range(offset_bytes, len(data), CHUNK_BYTES):
        yield chunk(begin, data[begin : begin + CHUNK_BYTES])


FINISH = pb.PutSampleRequest(finish=pb.UploadFinish())


@dataclass
class Served:
    """A server that runs, and a stub for it."""

    server: Server
    channel: grpc.aio.Channel
    address: str
    stub: Any = field(init=False)

    def __post_init__(self) -> None:
        self.stub = SampleCacheServiceStub(self.channel)

    @property
    def cache(self) -> SampleCache:
        return self.server.cache

    async def send(self, messages: Iterable[pb.PutSampleRequest], **options: Any) -> pb.PutSampleResponse:
        """Send these messages as one upload.

        Through a channel on another thread: an asynchronous one reports INTERNAL if the server has answered before all
        is sent.
        """

        def call() -> pb.PutSampleResponse:
            with grpc.insecure_channel(self.address) as channel:
                return SampleCacheServiceStub(channel).PutSample(iter(messages), **options)

        return await asyncio.to_thread(call)

    async def put(self, sample_id: str, data: bytes, **wishes: Any) -> pb.PutSampleResponse:
        """Upload `data` as a well-behaved client does."""
        return await self.send([start(sample_id, data, **wishes), *chunks(data), FINISH])

    async def put_cold(self, sample_id: str, data: bytes, **wishes: Any) -> None:
        """Upload `data` and have it paged out."""
        await self.put(sample_id, data, **wishes)
        await self.evict(sample_id)

    async def evict(self, sample_id: str) -> None:
        request = pb.EvictSampleRequest(sample_id=sample_id)
        assert (await self.stub.EvictSample(request)).pages_left == 0

    async def in_core(self, sample_id: str) -> int:
        """How many of a sample's pages are in RAM."""
        residency = (await self.stub.GetResidency(pb.GetResidencyRequest(sample_id=sample_id))).residency
        return int(residency.swap_cache + residency.mapped + residency.locked)

    def state(self) -> object:
        """All that the cache holds, down to the bytes; equal to another if nothing changed."""
        cache = self.cache
        samples, _ = cache.store.page("", 1000, frozenset())
        return (
            [
                (
                    translate.sample(sample).SerializeToString(),
                    hashlib.sha256(cache.kernel.read(sample.content.region, 0, sample.content.size_bytes)).digest(),
                )
                for sample in samples
            ],
            cache.store.used_bytes,
            cache.store.content_count,
            cache.store.evictions,
            len(cache.uploads),
        )


class Playing:
    """One Play call: sends commands and keeps what comes back."""

    def __init__(self, served: Served, sample_id: str = "", **wishes: Any) -> None:
        self.call = served.stub.Play()
        self.seen: list[play.PlayResponse] = []
        self._start = play.PlayStart(sample_id=sample_id, **wishes)

    async def begin(self) -> play.PlayStarted:
        """Send the start; return its answer."""
        await self.send(start=self._start)
        started: play.PlayStarted = await self.until("started")
        return started

    async def send(self, **command: Any) -> None:
        await self.call.write(play.PlayRequest(**command))

    async def next(self) -> play.PlayResponse | None:
        """The next answer; None after the last. Raises what ended the call, if that was an error."""
        answer: Any = await asyncio.wait_for(self.call.read(), WAIT_S)
        if answer is grpc.aio.EOF:
            return None
        self.seen.append(answer)
        return self.seen[-1]

    async def until(self, kind: str) -> Any:
        """Read up to the next answer of that kind, and return it."""
        while (answer := await self.next()) is not None:
            if answer.WhichOneof("event") == kind:
                return getattr(answer, kind)
        pytest.fail(f"the session ended without {kind}")

    async def finish(self) -> play.PlaySummary:
        """Read to the end; return the summary."""
        while await self.next() is not None:
            pass
        assert self.seen[-1].WhichOneof("event") == "summary"
        return self.seen[-1].summary

    async def whole(self) -> bytes:
        """Play it all and return the PCM."""
        await self.begin()
        await self.finish()
        return self.pcm

    def of(self, kind: str) -> list[Any]:
        """What came of that kind."""
        return [getattr(answer, kind) for answer in self.seen if answer.WhichOneof("event") == kind]

    @property
    def pcm(self) -> bytes:
        return b"".join(block.pcm for block in self.of("block"))


Serve = Callable[..., Awaitable[Served]]
"""The fixture that starts a server with the settings given."""
