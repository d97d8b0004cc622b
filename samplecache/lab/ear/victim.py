"""The victim: a process that shares the memory limit, uses its own pages round and round, and times that.

It stands for all the other programs of the machine: what a contender takes from them shows in its faults and in how
long its rounds take.
"""

from __future__ import annotations

import mmap
import resource
import sys
import threading
import time
from array import array
from typing import Final

from samplecache.clock import NS_PER_MS, MonotonicClock
from samplecache.lab.ear.heard import quantile
from samplecache.lab.ear.lines import Message, serve

WORKING_BYTES: Final = 4 << 20
ROUND_NS: Final = 10 * NS_PER_MS
PAGES_A_ROUND: Final = 64
"""A quarter of a mebibyte every 10 ms: 4 MiB are gone through in 160 ms, often enough not to look disused."""


class Victim:
    """The process."""

    def __init__(self, working_bytes: int) -> None:
        self._memory = mmap.mmap(-1, working_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for start in range(0, working_bytes, mmap.PAGESIZE):
            self._memory[start : start + 8] = (start * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "little")
        self._rounds = array("q")
        self._faults = (0, 0)
        self._going = threading.Event()
        self._going.set()
        threading.Thread(target=self._run, daemon=True).start()

    def begin(self) -> Message:
        """Count from now on."""
        self._rounds = array("q")
        self._faults = _faults()
        return {}

    def rest(self) -> Message:
        """Use nothing from now on, so that all can be pushed out."""
        self._going.clear()
        return {}

    def go_on(self) -> Message:
        """Use its memory again."""
        self._going.set()
        return {}

    def settled(self, rounds: int) -> Message:
        """Tell whether the last `rounds` rounds together took less than one of them may."""
        last = self._rounds[-rounds:]
        return {"settled": len(last) == rounds and sum(last) < ROUND_NS}

    def report(self) -> Message:
        """Tell how it went since :meth:`begin`."""
        rounds, (major, minor) = list(self._rounds), _faults()
        return {
            "working_bytes": len(self._memory),
            "rounds": len(rounds),
            "major_faults": major - self._faults[0],
            "minor_faults": minor - self._faults[1],
            "round_p50_ns": quantile(rounds, 0.5) or 0,
            "round_p99_ns": quantile(rounds, 0.99) or 0,
            "round_worst_ns": max(rounds, default=0),
        }

    def _run(self) -> None:
        clock = MonotonicClock()
        pages = len(self._memory) // mmap.PAGESIZE
        page, due_ns = 0, clock.now_ns()
        while True:
            clock.sleep_until(due_ns)
            self._going.wait()
            began_ns = time.monotonic_ns()
            for _ in range(PAGES_A_ROUND):
                self._memory[page * mmap.PAGESIZE]
                page = (page + 1) % pages
            took_ns = time.monotonic_ns() - began_ns
            self._rounds.append(took_ns)
            due_ns = max(due_ns + ROUND_NS, began_ns + took_ns)  # a round that was late is not made up for


def _faults() -> tuple[int, int]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_majflt, usage.ru_minflt


def main() -> int:
    """Serve until standard input ends."""
    victim = Victim(int(sys.argv[1]))
    serve(
        {
            "begin": victim.begin,
            "rest": victim.rest,
            "go_on": victim.go_on,
            "settled": victim.settled,
            "report": victim.report,
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
