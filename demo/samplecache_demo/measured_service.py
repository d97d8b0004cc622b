"""Measures what the service's own code takes, mostly through a real server and with samples that are in RAM."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from samplecache.audio.format import Encoding
from samplecache.client import Client
from samplecache.clock import NS_PER_S
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Region
from samplecache.lab.service_costs import ServiceCosts
from samplecache.v1 import playback_pb2
from samplecache_demo.schedule import BLOCK_NS, TOGETHER

ROUNDS: Final = 30
"""A run plays a dozen cues, and what one call in fifty takes makes its worst: fewer rounds may not see that at all."""
SOUNDING: Final = 1 + TOGETHER
"""Streams that play meanwhile: the demo's pad, and the hits of the beat before."""
PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class MeasuredService:
    """What a service takes where memory takes nothing.

    Attributes
    ----------
    transport_ns : tuple of int
        From a client's call until its session opens, and from a block's being ready until the client has it, together;
        in nanoseconds, one value a measurement.
    costs : ServiceCosts
        The rest.
    """

    transport_ns: tuple[int, ...]
    costs: ServiceCosts


def measure_service(client: Client, sample_id: str) -> MeasuredService:
    """Measure the server that `client` is connected to, with a sample that is in RAM. Takes some ten seconds.

    What cannot be asked of a server is measured in this process, with the server's own kernel code: looks, touches, and
    handing a block over to a thread. Everything but the pace of blocks is done by as many at once as the demo strikes,
    and what a server is asked, beside streams that sound.

    Raises
    ------
    ClientError
        The server refuses.
    """
    frames = BLOCK_NS * client.get(sample_id).format.rate_hz // NS_PER_S
    opened: list[tuple[int, int]] = []
    prefetches_ns: list[int] = []
    with _sounding(client, sample_id), ThreadPoolExecutor(TOGETHER) as pool:
        for _ in range(ROUNDS):
            time.sleep(PAUSE_S)  # as between beats: what has slept takes longer to wake than what runs hot
            opened += pool.map(lambda _: _open(client, sample_id, frames), range(TOGETHER))
            time.sleep(PAUSE_S)
            prefetches_ns += pool.map(lambda _: _prefetch_nothing(client, sample_id), range(TOGETHER))
    pages = client.residency(sample_id).mapped
    looks_ns, touches_ns = _look_and_touch(max(1, pages))
    blocks_ns = tuple(_block_ns(client, sample_id) for _ in range(ROUNDS))
    # A prefetch of nothing is picked up, looks once and asks the strategy; a session's first block is a block too. Both
    # are charged by themselves, so what they mostly take is taken off here.
    look_ns, block_ns = (int(statistics.median(values)) for values in (looks_ns, blocks_ns))
    costs = ServiceCosts(
        open_ns=tuple(max(0, first_ns - block_ns) for _, first_ns in opened),
        handover_ns=tuple(asyncio.run(_handovers())),
        block_ns=blocks_ns,
        prefetch_ns=tuple(max(0, prefetch_ns - look_ns) for prefetch_ns in prefetches_ns),
        look_ns=tuple(looks_ns),
        touch_page_ns=tuple(touch_ns // max(1, pages) for touch_ns in touches_ns),
    )
    return MeasuredService(tuple(max(0, heard_ns - first_ns) for heard_ns, first_ns in opened), costs)


@contextlib.contextmanager
def _sounding(client: Client, sample_id: str) -> Iterator[None]:
    """Play a sample over and over, in as many streams as the demo has when it strikes the next."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(SOUNDING))
        streams = [
            stack.enter_context(client.play(sample_id, strategy="none", loop=True, channels=2, block_ns=BLOCK_NS))
            for _ in range(SOUNDING)
        ]
        heard = [pool.submit(deque, stream, 0) for stream in streams]
        try:
            yield
        finally:
            for stream in streams:
                stream.stop()
        for one in heard:
            one.result()


def _prefetch_nothing(client: Client, sample_id: str) -> int:
    """Prefetch nothing; return how long the server took."""
    return client.prefetch(sample_id, strategy="none").result().elapsed.ToNanoseconds()


def _open(client: Client, sample_id: str, frames: int) -> tuple[int, int]:
    """Play a block; return when the client heard it, and what the server says of it."""
    began_ns = time.monotonic_ns()
    heard_ns = 0
    with client.play(
        sample_id, frames=frames, strategy="none", channels=2, encoding=Encoding.S16, block_ns=BLOCK_NS
    ) as stream:
        for event in stream:
            if isinstance(event, playback_pb2.PlayBlock) and not heard_ns:
                heard_ns = time.monotonic_ns() - began_ns
            elif isinstance(event, playback_pb2.PlaySummary):
                return heard_ns, event.stats.first_block.ToNanoseconds()
    raise AssertionError("a session ended without a summary")


def _look_and_touch(pages: int) -> tuple[list[int], list[int]]:
    """Look at pages in RAM, touch them and look again, several threads at once; return the times of both."""
    kernel = LinuxKernel()
    looks_ns: list[int] = []
    touches_ns: list[int] = []

    def once(region: Region) -> None:
        times_ns = [time.monotonic_ns()]
        for call in (kernel.residency, kernel.touch, kernel.residency):
            call(region, region.span)
            times_ns.append(time.monotonic_ns())
        first_ns, touch_ns, second_ns = (stop - start for start, stop in itertools.pairwise(times_ns))
        looks_ns.extend((first_ns, second_ns))
        touches_ns.append(touch_ns)

    regions = [kernel.map(pages * kernel.page_bytes) for _ in range(TOGETHER)]
    try:
        for region in regions:
            kernel.write(region, 0, b"\1" * (pages * kernel.page_bytes))
        with ThreadPoolExecutor(TOGETHER) as pool:
            for _ in range(ROUNDS):
                time.sleep(PAUSE_S)
                list(pool.map(once, regions))
    finally:
        for region in regions:
            kernel.unmap(region)
    return looks_ns, touches_ns


async def _handovers() -> list[int]:
    """Hand blocks over from a loop to threads, as the service does, several at once; return how long they took."""
    loop = asyncio.get_running_loop()
    handovers_ns: list[int] = []
    with ThreadPoolExecutor(TOGETHER) as pool:
        await asyncio.gather(*(loop.run_in_executor(pool, time.sleep, PAUSE_S) for _ in range(TOGETHER)))
        for _ in range(ROUNDS):
            await asyncio.sleep(PAUSE_S)
            began = [(time.monotonic_ns(), loop.run_in_executor(pool, time.monotonic_ns)) for _ in range(TOGETHER)]
            handovers_ns += [await running - began_ns for began_ns, running in began]
    return handovers_ns


def _block_ns(client: Client, sample_id: str) -> int:
    """Play a sample as fast as it comes; return the time of a block."""
    with client.play(sample_id, strategy="none", block_ns=BLOCK_NS, realtime=False) as stream:
        arrivals = [time.monotonic_ns() for event in stream if isinstance(event, playback_pb2.PlayBlock)]
    return (arrivals[-1] - arrivals[0]) // max(1, len(arrivals) - 1)
