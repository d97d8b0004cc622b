"""How short memory is, and what of the prefetch budget may be used then: planning code, free of I/O.

Two kinds of signs. The kernel's own: time stalled for want of memory (PSI), or an estimate of it from refaults. They
count only where memory is scarce, since a thread that waits for a slow swap device is stalled as well, and bringing in
less would make it wait more. And ours: pages that were brought in ahead and that reclaim took back before anybody read
them. Those are what prefetching too much looks like, whatever else the machine does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.kernel.signals import MemoryState, PressureCounts
from samplecache.strategy.view import Pressure

SOME_STALL_SHARE: Final = 0.07
"""``psi_partial_stall_ms`` of Android's lmkd: 70 ms in a second."""
FULL_STALL_SHARE: Final = 0.2
"""Its value for devices with little memory, 200 ms; of the time in which all were stalled, since a player's own threads
that fault are *some* already."""

TAKEN_BACK_SOME: Final = 0.05
TAKEN_BACK_FULL: Final = 0.25
"""Shares of what was brought in. Assumed: at 5 %, a swap-in in twenty is for nothing; at 25 %, the budget of 1.2
swap-ins a page is used up."""
TAKEN_BACK_LEAST_PAGES: Final = 16
"""Fewer, in one look, are the odd page that an LRU batch held back."""

SCARCE_SHARE: Final = 16
"""Memory is scarce where less than one part in so many is available."""
REFAULT_NS: Final = NS_PER_MS
"""What a refault is taken to cost where no page-in was measured yet."""

CALM_LOOKS: Final = 4
"""A level is left after so many looks in a row that found less: reclaim comes in bursts."""
LEAST_FACTOR: Final = 1 / 8
"""Below that, the pages that are about to be read would not be brought in either, and each would fault."""
RECOVERY: Final = 1 / 16
"""What a calm look gives back. Halving at once and growing step by step (AIMD; Chiu and Jain, 1989) finds what memory
carries, whoever else uses it."""

FAR_NS: Final = 2 * NS_PER_S
"""What is due later than that is speculative under pressure: there is time to bring it in when it is nearer."""
NEAR_NS: Final = NS_PER_S // 2
TAKEN_BACK_OFTEN: Final = 3
"""A page that was taken back so often is brought in just before it is read, and not earlier."""

_LEVELS: Final = (Pressure.NONE, Pressure.SOME, Pressure.FULL)


@dataclass(frozen=True, slots=True)
class Signs:
    """What was seen between two looks.

    Attributes
    ----------
    elapsed_ns : int
        Time between them, in nanoseconds.
    counts : PressureCounts
        What the kernel counted meanwhile.
    memory : MemoryState
        What there was at the second.
    asked_pages : int
        Pages that were brought in ahead meanwhile.
    taken_back_pages : int
        Pages that had come in and were found gone before they were read.
    latency_ns : int or None
        What a page-in costs, in nanoseconds.
    """

    elapsed_ns: int
    counts: PressureCounts
    memory: MemoryState
    asked_pages: int = 0
    taken_back_pages: int = 0
    latency_ns: int | None = None

    @property
    def scarce(self) -> bool:
        """Whether memory is at its limit, as far as is known."""
        limit_bytes, available_bytes = self.memory.limit_bytes, self.memory.available_bytes
        if self.counts.limit_events or limit_bytes is None or available_bytes is None:
            return True
        return available_bytes < limit_bytes // SCARCE_SHARE

    @property
    def level(self) -> Pressure:
        """How short memory was."""
        some, full = self._stall_shares()
        taken_back = 0.0
        if self.taken_back_pages >= TAKEN_BACK_LEAST_PAGES:
            taken_back = self.taken_back_pages / max(self.asked_pages, self.taken_back_pages)
        if (self.scarce and full >= FULL_STALL_SHARE) or taken_back >= TAKEN_BACK_FULL:
            return Pressure.FULL
        if (self.scarce and some >= SOME_STALL_SHARE) or taken_back >= TAKEN_BACK_SOME:
            return Pressure.SOME
        return Pressure.NONE

    def _stall_shares(self) -> tuple[float, float]:
        """Return the shares of time in which some and all were stalled."""
        elapsed_ns = max(1, self.elapsed_ns)
        if self.counts.some_ns is not None:
            return self.counts.some_ns / elapsed_ns, (self.counts.full_ns or 0) / elapsed_ns
        # What we brought in ourselves nobody has waited for.
        refaults = max(0, (self.counts.refaults or 0) - self.asked_pages)
        return refaults * (self.latency_ns or REFAULT_NS) / elapsed_ns, 0.0


class PressureController:
    """Makes a level and a factor of what is seen, look by look. Not thread-safe.

    Attributes
    ----------
    level : Pressure
        How short memory is.
    factor : float
        What of the prefetch budget may be used: from 1/8 to 1.
    """

    def __init__(self) -> None:
        self.level = Pressure.NONE
        self.factor = 1.0
        self._calm_looks = 0

    def look(self, signs: Signs) -> None:
        """Take in what was seen since the last look."""
        seen = _LEVELS.index(signs.level)
        now = _LEVELS.index(self.level)
        if seen >= now:
            self._calm_looks = 0
            self.level = _LEVELS[seen]
        else:
            self._calm_looks += 1
            if self._calm_looks >= CALM_LOOKS:
                self._calm_looks = 0
                self.level = _LEVELS[now - 1]
        if seen:
            self.factor = max(LEAST_FACTOR, self.factor / 2)
        elif self.level is Pressure.NONE:
            self.factor = min(1.0, self.factor + RECOVERY)


def wait_ns(pressure: Pressure, lead_ns: int | None, times_taken_back: int = 0) -> int:
    """Return how long what is due in `lead_ns` is to be left alone, in nanoseconds.

    Parameters
    ----------
    pressure : Pressure
        How short memory is.
    lead_ns : int or None
        Time until it is due, in nanoseconds; None if at once.
    times_taken_back : int
        How often a page of it was taken back before.
    """
    if pressure is Pressure.NONE or lead_ns is None:
        return 0
    near = pressure is Pressure.FULL or times_taken_back >= TAKEN_BACK_OFTEN
    return max(0, lead_ns - (NEAR_NS if near else FAR_NS))
