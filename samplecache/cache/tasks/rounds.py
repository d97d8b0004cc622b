"""Looks of many sessions, taken together by one worker where none of them has to be on the dot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Final

from samplecache.cache.tasks.work import Work
from samplecache.clock import Clock
from samplecache.strategy.failures import log_failure

LATE_SHARE: Final = 16
"""What is wanted after a time may be done later by one part in so many of it: a hundred sessions that look again after
a second then wake a worker some thirty times a second. The kernel's timer wheel lets an eighth pass."""


class Rounds:
    """Has work done soon after its time, together with other work of about that time. Any thread; never blocks.

    Waking a thread that then waits for the GIL costs more than a look at a session's pages does.

    Parameters
    ----------
    clock : Clock
        The time.
    call_at : Callable
        Has something done by a worker at a time, in nanoseconds of `clock`.
    """

    def __init__(self, clock: Clock, call_at: Callable[[Work, int], None]) -> None:
        self._clock = clock
        self._call_at = call_at
        self._lock = threading.Lock()
        self._rounds: dict[int, list[Work]] = {}

    def call_after(self, work: Work, time_ns: int) -> None:
        """Have `work`, which waits for no device, done at `time_ns` or later by a sixteenth of the time until then."""
        share_ns = max(1, (time_ns - self._clock.now_ns()) // LATE_SHARE)
        # A power of two, so that those who wait for long meet those who wait for half as long.
        tick_ns = 1 << (share_ns.bit_length() - 1)
        round_ns = -(-time_ns // tick_ns) * tick_ns
        with self._lock:
            if (round_ := self._rounds.get(round_ns)) is not None:
                round_.append(work)
                return
            self._rounds[round_ns] = [work]
        self._call_at(lambda: self._go(round_ns), round_ns)

    def _go(self, round_ns: int) -> Iterator[None]:
        with self._lock:
            round_ = self._rounds.pop(round_ns)
        for work in round_:
            try:
                yield from work() or ()
            except Exception as error:
                log_failure("work_failed", error)  # as a worker does: the others of the round are still to be done
