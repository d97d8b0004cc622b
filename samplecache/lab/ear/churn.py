"""A background load: a process that has memory and writes to all of it, once a second and round and round."""

from __future__ import annotations

import mmap
import os
import sys
from typing import Final

from samplecache.clock import NS_PER_S, MonotonicClock

STEPS: Final = 100
"""How many times a second it wakes."""


def main() -> int:
    """Write until killed, or until the parent has gone."""
    length_bytes, parent = int(sys.argv[1]), os.getppid()
    memory = mmap.mmap(-1, length_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    clock = MonotonicClock()
    starts = range(0, length_bytes, mmap.PAGESIZE)
    noise = os.urandom(mmap.PAGESIZE)
    due_ns, step = clock.now_ns(), 0
    while os.getppid() == parent:
        for start in starts[step * len(starts) // STEPS : (step + 1) * len(starts) // STEPS]:
            part = memoryview(memory)[start : start + mmap.PAGESIZE]
            part[:] = noise[: len(part)]
        step = (step + 1) % STEPS
        due_ns = max(due_ns + NS_PER_S // STEPS, clock.now_ns())
        clock.sleep_until(due_ns)
    return 0


if __name__ == "__main__":
    sys.exit(main())
