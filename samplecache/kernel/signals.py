"""What a kernel says of its memory as a whole: how much there is, and how scarce it has become."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryState:
    """How much memory this process may use, at one moment; None where that is not known.

    Attributes
    ----------
    limit_bytes : int or None
        The most that it and those it shares a limit with can have in RAM, in bytes: the machine's memory, or the
        tightest limit of its control groups.
    available_bytes : int or None
        How much more of that can be had without anything being swapped out, in bytes; page cache that can be dropped
        counts as available. 0 where swapping goes on already.
    """

    limit_bytes: int | None = None
    available_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PressureCounts:
    """Signs of scarce memory, counted since some time in the past: only differences say anything.

    None stands for what this kernel does not tell. A count may fall where the process is moved to another control
    group.

    Attributes
    ----------
    some_ns : int or None
        How long at least one thread was stalled for want of memory (PSI, ``some``), in nanoseconds.
    full_ns : int or None
        How long all that were not idle were, in nanoseconds.
    limit_events : int or None
        How often memory was asked for and a control group's limit was in the way.
    refaults : int or None
        Anonymous pages that were read back from swap (``workingset_refault_anon``), in pages. Whoever asked for them:
        prefetched ones count, too.
    """

    some_ns: int | None = None
    full_ns: int | None = None
    limit_events: int | None = None
    refaults: int | None = None

    def since(self, earlier: PressureCounts) -> PressureCounts:
        """Return what was counted since `earlier`; 0 for a count that fell, None for what either does not tell."""
        return PressureCounts(
            _grown(self.some_ns, earlier.some_ns),
            _grown(self.full_ns, earlier.full_ns),
            _grown(self.limit_events, earlier.limit_events),
            _grown(self.refaults, earlier.refaults),
        )


def _grown(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else max(0, now - before)
