"""Measures what the service's own code takes, through a real server and with samples that are in RAM."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from samplecache.audio.format import Encoding
from samplecache.client import Client
from samplecache.clock import NS_PER_S
from samplecache.lab.virtual import ServiceCosts
from samplecache.v1 import playback_pb2
from samplecache_demo.schedule import BLOCK_NS, TOGETHER

ROUNDS: Final = 10
BLOCKS: Final = 4
PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class MeasuredService:
    """What a service takes where memory takes nothing; times in nanoseconds, one value a measurement.

    Attributes
    ----------
    transport_ns : tuple of int
        From a client's call until its session opens, and from a block's being ready until the client has it, together.
    opening_ns : tuple of int
        From a session's opening until its first block is ready.
    block_ns : tuple of int
        A block more, of a stream that nothing paces; the client's part with it.
    prefetch_ns : tuple of int
        A prefetch that finds nothing to do: being picked up by a worker, and a look at where the pages are.
    """

    transport_ns: tuple[int, ...]
    opening_ns: tuple[int, ...]
    block_ns: tuple[int, ...]
    prefetch_ns: tuple[int, ...]

    def costs(self, chance: random.Random) -> ServiceCosts:
        """Return costs for one run: a measurement of each kind, as it comes."""
        return ServiceCosts(*(chance.choice(values) for values in (self.opening_ns, self.block_ns, self.prefetch_ns)))


def measure_service(client: Client, sample_id: str) -> MeasuredService:
    """Measure the server that `client` is connected to, with a sample that is in RAM. Takes a few seconds.

    Raises
    ------
    ClientError
        The server refuses.
    """
    frames = BLOCKS * BLOCK_NS * client.get(sample_id).format.rate_hz // NS_PER_S
    opened: list[tuple[int, int]] = []
    prefetches_ns: list[int] = []
    with ThreadPoolExecutor(TOGETHER) as pool:
        for _ in range(ROUNDS):
            time.sleep(PAUSE_S)  # as between beats: what has slept takes longer to wake than what runs hot
            opened += pool.map(lambda _: _open(client, sample_id, frames), range(TOGETHER))
            time.sleep(PAUSE_S)
            prefetches_ns += pool.map(lambda _: _look(client, sample_id), range(TOGETHER))
    return MeasuredService(
        tuple(max(0, heard_ns - first_ns) for heard_ns, first_ns in opened),
        tuple(first_ns for _, first_ns in opened),
        tuple(_block_ns(client, sample_id) for _ in range(ROUNDS)),
        tuple(prefetches_ns),
    )


def _look(client: Client, sample_id: str) -> int:
    """Prefetch nothing; return how long the server took."""
    return client.prefetch(sample_id, strategy="none").result().elapsed.ToNanoseconds()


def _open(client: Client, sample_id: str, frames: int) -> tuple[int, int]:
    """Play a few blocks; return when the client heard the first of them, and what the server says of it."""
    began_ns = time.monotonic_ns()
    heard_ns = 0
    with client.play(
        sample_id, frames=frames, strategy="none", channels=2, encoding=Encoding.S16, block_ns=BLOCK_NS
    ) as stream:
        for event in stream:
            if isinstance(event, playback_pb2.PlayBlock) and not heard_ns:
                heard_ns = time.monotonic_ns() - began_ns
            elif isinstance(event, playback_pb2.PlaySummary):
                return heard_ns, int(event.stats.first_block.ToNanoseconds())
    raise AssertionError("a session ended without a summary")


def _block_ns(client: Client, sample_id: str) -> int:
    """Play a sample as fast as it comes; return the time of a block."""
    with client.play(sample_id, strategy="none", block_ns=BLOCK_NS, realtime=False) as stream:
        arrivals = [time.monotonic_ns() for event in stream if isinstance(event, playback_pb2.PlayBlock)]
    return (arrivals[-1] - arrivals[0]) // max(1, len(arrivals) - 1)
