"""Plays memory of twice the size of what there is, on either kernel, and advises about what lies behind the playhead.

As a script, on the running kernel: ``ADVICE CONTROL_FILE``; it bounds its own group's memory once the pages are cold.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samplecache.clock import NS_PER_MS, NS_PER_S, Clock, MonotonicClock
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Advice, Kernel, Span

LIMIT_PAGES = 6144
"""24 MiB: of less, an interpreter alone needs too much."""
PAGES = 2 * LIMIT_PAGES
AHEAD_PAGES = 256
CHUNK_PAGES = 64
ROUNDS = 2


@dataclass(frozen=True)
class Played:
    """What two rounds cost."""

    swap_ins_a_page: float
    major: int


def play(kernel: Kernel, clock: Clock, advice: Advice, limit: Callable[[], object] = lambda: None) -> Played:
    """Write, evict, `limit` memory, and play: advise what is ahead, wait for it, touch it, advise what is behind."""
    region = kernel.map(PAGES * kernel.page_bytes)
    noise = random.Random(2008).randbytes(CHUNK_PAGES * kernel.page_bytes)
    for chunk in region.span.chunks(CHUNK_PAGES):
        kernel.write(region, chunk.start * kernel.page_bytes, noise)
    while kernel.evict(region, region.span, 20 * NS_PER_S):
        pass
    limit()
    before, major = kernel.swap_counts(), 0
    for _ in range(ROUNDS):
        asked = 0
        for chunk in region.span.chunks(CHUNK_PAGES):
            ahead = min(PAGES, chunk.start + AHEAD_PAGES)
            if asked < ahead:
                kernel.advise(region, Span(asked, ahead), Advice.WILLNEED)
                asked = ahead
            give_up_ns = clock.now_ns() + NS_PER_S // 2
            while not kernel.in_core(region, chunk) and clock.now_ns() < give_up_ns:
                clock.sleep_until(clock.now_ns() + NS_PER_MS)
            faults = kernel.thread_faults()
            kernel.touch(region, chunk)
            major += (kernel.thread_faults() - faults).major
            kernel.advise(region, chunk, advice)
    read = kernel.swap_counts() - before
    return Played(read.pswpin / (ROUNDS * PAGES), major)


def main() -> None:
    """Play on the running kernel and print what it cost."""
    advice, control_file = sys.argv[1:]
    limit_bytes = LIMIT_PAGES * 4096
    clock = MonotonicClock()
    played = play(LinuxKernel(clock), clock, Advice(advice), lambda: Path(control_file).write_text(str(limit_bytes)))
    print(played.swap_ins_a_page, played.major)


if __name__ == "__main__":
    main()
