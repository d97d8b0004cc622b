"""Measured cost of bringing pages back, and sums per strategy."""

from __future__ import annotations

import statistics
import threading
from collections import Counter, deque
from dataclasses import dataclass, field, replace

from samplecache.clock import NS_PER_S
from samplecache.kernel.port import FaultCounts
from samplecache.strategy.events import UnderrunCause
from samplecache.strategy.view import PageInFigures

_REMEMBERED = 64
"""Measurements kept: enough for a steady median, few enough to follow a device whose load changes."""


class PageInMeter:
    """Medians of what page-ins have cost lately. Any thread."""

    def __init__(self) -> None:
        self._latencies_ns: deque[int] = deque(maxlen=_REMEMBERED)
        self._rates: deque[int] = deque(maxlen=_REMEMBERED)

    def record_faults(self, major_faults: int, elapsed_ns: int) -> None:
        """Take in a read that waited for `major_faults` page-ins one after the other."""
        if major_faults:
            self._latencies_ns.append(elapsed_ns // major_faults)

    def record_prefetch(self, brought_in_bytes: int, elapsed_ns: int) -> None:
        """Take in a prefetch that brought so many bytes in."""
        if brought_in_bytes and elapsed_ns:
            self._rates.append(brought_in_bytes * NS_PER_S // elapsed_ns)

    @property
    def figures(self) -> PageInFigures:
        """The medians now; None where nothing was measured yet."""
        # deque.copy is atomic under the GIL; iterating the live one while another thread appends would raise.
        latencies_ns, rates = self._latencies_ns.copy(), self._rates.copy()
        return PageInFigures(
            int(statistics.median(latencies_ns)) if latencies_ns else None,
            int(statistics.median(rates)) if rates else None,
        )


@dataclass(slots=True)
class StrategyTotals:
    """What sessions and prefetches under one strategy have come to; times in nanoseconds."""

    sessions: int = 0
    blocks: int = 0
    late_blocks: int = 0
    longest_stall_ns: int = 0
    faults: FaultCounts = field(default_factory=FaultCounts)
    late_by_cause: Counter[UnderrunCause] = field(default_factory=Counter)
    prefetches: int = 0
    pages_needed: int = 0
    pages_brought_in: int = 0


class Totals:
    """Sums per strategy, since the start. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_strategy: dict[str, StrategyTotals] = {}

    def add_session(self, strategy: str) -> None:
        """Count a session that was opened."""
        with self._lock:
            self._of(strategy).sessions += 1

    def add_block(self, strategy: str, faults: FaultCounts, late_ns: int, cause: UnderrunCause | None) -> None:
        """Count a block that was delivered, late by `late_ns` for `cause` if that is not None."""
        with self._lock:
            totals = self._of(strategy)
            totals.blocks += 1
            totals.faults += faults
            if cause is not None:
                totals.late_blocks += 1
                totals.late_by_cause[cause] += 1
                totals.longest_stall_ns = max(totals.longest_stall_ns, late_ns)

    def add_prefetch(self, strategy: str, needed: int, brought_in: int) -> None:
        """Count a prefetch that ended."""
        with self._lock:
            totals = self._of(strategy)
            totals.prefetches += 1
            totals.pages_needed += needed
            totals.pages_brought_in += brought_in

    def snapshot(self) -> dict[str, StrategyTotals]:
        """Return a copy of the sums by strategy, sorted by name."""
        with self._lock:
            return {
                name: replace(totals, late_by_cause=totals.late_by_cause.copy())
                for name, totals in sorted(self._by_strategy.items())
            }

    def _of(self, strategy: str) -> StrategyTotals:
        return self._by_strategy.setdefault(strategy, StrategyTotals())
