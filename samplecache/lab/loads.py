"""What else wants memory while a cache plays: loads, each of which is one virtual thread."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

from samplecache.cache.prefetching.prefetcher import CHUNK_PAGES
from samplecache.clock import NS_PER_S, VirtualClock
from samplecache.errors import InvalidError
from samplecache.lab.virtual_threads import VirtualKernel
from samplecache.simulation.memory import Steps


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a load runs.

    Attributes
    ----------
    kernel : VirtualKernel
        The machine is its :attr:`machine`, whose operations a load runs itself.
    clock : VirtualClock
        The time.
    thread : int
        What the machine knows the load's thread by.
    began_ns : int
        When all samples are cold and the first cue may come; a warm-up lies before it. Nothing yet to who runs before
        all others.
    """

    kernel: VirtualKernel
    clock: VirtualClock
    thread: int
    began_ns: int


class Press(Protocol):
    """A load. It may belong to many runs, one after the other, and keeps what it finds out about each by itself."""

    def run(self, stage: Stage) -> Steps:
        """Want memory, as one virtual thread, from the warm-up's start on or, if there is none, the beginning."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """A thread with a buffer of its own that writes to it, over and over: memory pressure.

    Attributes
    ----------
    length_bytes : int
        Length of the buffer.
    rate_bytes_per_s : int
        How fast it writes, if memory is there in time.
    start_ns, stop_ns : int
        When it does, in nanoseconds from the beginning.
    idle : bool
        Whether it also does from the start of the warm-up on, whatever `start_ns` says.

    Raises
    ------
    InvalidError
        A length, rate or time is impossible.
    """

    length_bytes: int
    rate_bytes_per_s: int
    start_ns: int
    stop_ns: int
    idle: bool = False

    def __post_init__(self) -> None:
        if min(self.length_bytes, self.rate_bytes_per_s) < 1 or not 0 <= self.start_ns <= self.stop_ns:
            raise InvalidError(
                f"a load is impossible: {self}",
                remedy="Give it a length and a rate of 1 at least, and 0 <= start <= stop",
            )

    def run(self, stage: Stage) -> Steps:
        """Write to memory, chunk by chunk, at a steady rate."""
        kernel, clock = stage.kernel, stage.clock
        stop_ns = stage.began_ns + self.stop_ns
        yield clock.now_ns() if self.idle else stage.began_ns + self.start_ns
        region = kernel.map(self.length_bytes)
        model = kernel.model(region)
        for chunk in itertools.cycle(list(region.span.chunks(CHUNK_PAGES))):
            chunk_ns = len(chunk) * kernel.page_bytes * NS_PER_S // self.rate_bytes_per_s
            next_ns = clock.now_ns() + max(1, chunk_ns)  # time has to pass, or it would write for ever
            if next_ns > stop_ns:
                break
            yield from kernel.machine.write(stage.thread, model, chunk.start, chunk.stop)
            yield next_ns
        kernel.unmap(region)
