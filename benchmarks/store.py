"""What a store of up to 100 000 samples costs: each operation as it grows, memory for an entry, starting, and uploads.

The server is the real one, in this process, over a Unix socket; the client is a Python one in the same process, whose
time is in every figure of an operation. What counts is whether a figure grows.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import gc
import hashlib
import itertools
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import numpy as np

from benchmarks.measuring import Figure
from benchmarks.serving import process
from benchmarks.uploads import throughput, upload_messages
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS
from samplecache.errors import SamplecacheError
from samplecache.lab.rig import Rig, RigOptions
from samplecache.service import translate
from samplecache.service.config import ServerConfig
from samplecache.service.server import Server
from samplecache.v1 import playback_pb2
from samplecache.v1 import samplecache_pb2 as pb
from samplecache.v1.samplecache_pb2_grpc import SampleCacheServiceStub

SIZES: Final = (1_000, 10_000, 100_000)
SAMPLE_BYTES: Final = 107_374
"""10 GiB / 100 000: half a second of 48 kHz stereo."""
PAGE_SAMPLES: Final = 100
REPETITIONS: Final = 30
STARTS: Final = 3
VMA_BYTES: Final = 256
"""``sizeof(struct vm_area_struct)`` rounded up to its slab's, Linux 6.18 (``/proc/slabinfo``)."""

_STEREO: Final = AudioFormat(48_000, 2, Encoding.S16)
_FRAMES: Final = SAMPLE_BYTES // _STEREO.frame_bytes


def measure(*, quick: bool = False) -> list[Figure]:
    """Measure everything: some minutes, and 10 GiB of memory."""
    if quick:
        return [*asyncio.run(_operations((100, 1_000), 2)), *_starts(1), *throughput(1)]
    return [*asyncio.run(_operations(SIZES, REPETITIONS)), *_starts(STARTS), *throughput()]


async def _operations(sizes: tuple[int, ...], repetitions: int) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as directory, _swap() as has_swap:
        config = ServerConfig(
            listen=(f"unix:{directory}/socket",), budget=16 << 30, max_samples=sizes[-1] + 1000, grace_s=0, readers=2
        )
        server = Server(config)
        await server.start()
        try:
            async with grpc.aio.insecure_channel(config.listen[0]) as channel:
                bench = _Bench(server, SampleCacheServiceStub(channel), has_swap, repetitions)
                await bench.warm_up()
                for size in sizes:
                    memory = bench.fill(size)
                    figures += [*await bench.operations(size), *memory]
                figures += await bench.crowded(sizes[-1])
        finally:
            began_ns = time.perf_counter_ns()
            await server.stop()
            stopped_ms = (time.perf_counter_ns() - began_ns) / NS_PER_MS
    return [*figures, Figure(f"stopping the service with {sizes[-1]:,} samples", "ms", (stopped_ms,))]


@contextmanager
def _swap() -> Iterator[bool]:
    """Have some swap to evict to, where this process may make it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(Rig(RigOptions(swap_bytes=256 << 20)))
        except SamplecacheError as error:
            print(f"nothing is evicted to swap: {error}", file=sys.stderr)
            yield False
        else:
            yield True


class _Bench:
    """Operations on a server of this process that is filled from inside."""

    def __init__(self, server: Server, stub: Any, has_swap: bool, repetitions: int) -> None:
        self._cache = server.cache
        self._stub = stub
        self._has_swap = has_swap
        self._repetitions = repetitions
        self._noise = np.random.default_rng(2008).bytes(_STEREO.frames_to_bytes(_FRAMES))
        self._contents = itertools.count()
        self._numbers = itertools.count()
        self._names = itertools.count()
        self._put_ids: list[str] = []

    async def warm_up(self) -> None:
        """Have what is made once made before memory is counted."""
        self._store(self._name(), b"\1\2" * (SAMPLE_BYTES // 2))
        await self.operations(1)

    def fill(self, size: int) -> list[Figure]:
        """Store samples until there are `size`; return what memory each took beside its audio."""
        store = self._cache.store
        before, count_before = _memory(), len(store)
        audio_before = store.used_bytes
        while len(store) < size:
            self._store(self._name(), self._pcm())
        gc.collect()
        _trim()
        after, count = _memory(), len(store) - count_before
        audio_bytes = store.used_bytes - audio_before
        beside = {what: after[what] - before[what] for what in after}
        beside["resident"] -= audio_bytes
        name = f"memory beside the audio, from {count_before:,} to {size:,} samples"
        return [Figure(f"{name}: {what}", "bytes an entry", (beside[what] / count,)) for what in beside] + [
            Figure(f"{name}: all", "bytes an entry", (sum(beside.values()) / count,))
        ]

    def _pcm(self) -> bytes:
        """Return noise that no other sample has."""
        number = next(self._contents).to_bytes(8, "big")
        return number + self._noise[len(number) :]

    def _name(self) -> str:
        return f"sample-{next(self._names):06}"

    def _store(self, sample_id: str, pcm: bytes) -> None:
        """Publish as an upload does, without the upload."""
        kernel = self._cache.kernel
        region = kernel.map(len(pcm), packed=True)
        kernel.write(region, 0, pcm)
        self._cache.store.publish(
            sample_id, region, _STEREO, _FRAMES, hashlib.sha256(pcm).digest(), source="raw", tags=(sample_id[-2:],)
        )

    async def operations(self, size: int) -> list[Figure]:
        """Time each operation at this size."""
        middle = base64.urlsafe_b64encode(f"sample-{size // 2:06}".encode()).decode()
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            f"list {PAGE_SAMPLES} of them, from the middle": lambda: self._list(page_token=middle),
            "list those of a tag that one in a hundred has": lambda: self._list(tags=["07"]),
            "get": lambda: self._stub.GetSample(pb.GetSampleRequest(sample_id=self._any(size))),
            "put": self._put,
            "play, to the first block": lambda: self._play(self._any(size)),
            "stats": lambda: self._stub.GetStats(pb.GetStatsRequest()),
        }
        if self._has_swap:
            acts["page out to swap"] = lambda: self._stub.EvictSample(pb.EvictSampleRequest(sample_id=self._any(size)))
        acts["delete"] = self._delete
        return [await self._timed(f"{what}; {size:,} samples", act) for what, act in acts.items()]

    async def crowded(self, size: int) -> list[Figure]:
        """Put where the budget is used up and the older half is pinned."""
        store = self._cache.store
        samples, _ = store.page("", size // 2, frozenset())
        for sample in samples:
            store.update(sample.sample_id, pinned=True)
        store.budget_bytes = store.used_bytes
        return [await self._timed(f"put, which evicts; {size:,} samples, half of them pinned", self._put)]

    def _any(self, size: int) -> str:
        return f"sample-{next(self._numbers) * 7919 % size:06}"

    async def _list(self, **fields: Any) -> pb.ListSamplesResponse:
        answer: pb.ListSamplesResponse = await self._stub.ListSamples(
            pb.ListSamplesRequest(page_size=PAGE_SAMPLES, **fields)
        )
        return answer

    async def _put(self) -> None:
        pcm = self._pcm()
        start = pb.UploadStart(
            sample_id=f"put-{next(self._numbers)}",
            total_bytes=len(pcm),
            sha256=hashlib.sha256(pcm).digest(),
            raw_format=translate.audio_format(_STEREO),
        )
        await self._stub.PutSample(upload_messages(start, pcm))
        self._put_ids.append(start.sample_id)

    async def _delete(self) -> None:
        await self._stub.DeleteSample(pb.DeleteSampleRequest(sample_id=self._put_ids.pop()))

    async def _timed(self, name: str, act: Callable[[], Awaitable[object]]) -> Figure:
        values = []
        for _ in range(self._repetitions):
            began_ns = time.perf_counter_ns()
            await act()
            values.append((time.perf_counter_ns() - began_ns) / NS_PER_MS)
        return Figure(name, "ms", tuple(values))

    async def _play(self, sample_id: str) -> None:
        call = self._stub.Play()
        await call.write(playback_pb2.PlayRequest(start=playback_pb2.PlayStart(sample_id=sample_id)))
        async for answer in call:
            if answer.HasField("block"):
                break
        call.cancel()


def _memory() -> dict[str, int]:
    """Return what this process takes, in bytes: resident, page tables, and the kernel's notes of its mappings."""
    fields = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/self/status").read_text()))
    mappings = Path("/proc/self/maps").read_bytes().count(b"\n")
    return {
        "resident": int(fields["VmRSS"]) << 10,
        "page tables": int(fields["VmPTE"]) << 10,
        "mappings": mappings * VMA_BYTES,
    }


def _trim() -> None:
    """Have the C library give back what is free."""
    ctypes.CDLL(None).malloc_trim(0)


def _starts(count: int) -> list[Figure]:
    """Start ``samplecache serve`` until it listens, and stop it."""
    values = []
    for _ in range(count):
        began_ns = time.perf_counter_ns()
        with tempfile.TemporaryDirectory() as directory, process(f"unix:{directory}/socket"):
            values.append((time.perf_counter_ns() - began_ns) / NS_PER_MS)
    return [Figure("starting the service, from exec to listening", "ms", tuple(values))]
