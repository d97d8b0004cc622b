"""Measured cost of bringing pages back, and sums per strategy."""

from __future__ import annotations

import statistics
import threading
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field, replace

from samplecache.cache.accounting.accounts import Account, PageOutcomes
from samplecache.cache.accounting.playback import PlaybackStats
from samplecache.cache.accounting.throughput import REMEMBERED, Throughput, percentile
from samplecache.kernel.port import FaultCounts
from samplecache.strategy.events import UnderrunCause
from samplecache.strategy.view import PageInFigures


class PageInMeter:
    """What page-ins have cost lately, with its spread. Any thread.

    The latency of a single page-in is what threads waited that took major faults: those that read for clients, and
    workers that touch or populate. The rate is what came in while something was awaited; see
    :class:`~samplecache.cache.accounting.throughput.Throughput`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latencies_ns: deque[int] = deque(maxlen=REMEMBERED)
        self._throughput = Throughput()
        self._figures: PageInFigures | None = PageInFigures()

    def record_faults(self, major_faults: int, elapsed_ns: int) -> None:
        """Take in that a thread waited for `major_faults` page-ins one after the other."""
        if major_faults:
            with self._lock:
                self._latencies_ns.append(elapsed_ns // major_faults)
                self._figures = None

    def begin(self, now_ns: int) -> None:
        """Take in that something is awaited from the swap device."""
        with self._lock:
            self._throughput.begin(now_ns)

    def end(self, arrived_bytes: int, began_ns: int, now_ns: int, *, others_wait: bool = False) -> None:
        """Take in that so much of what is awaited since `began_ns` arrived, at `now_ns`.

        `others_wait` tells whether more would have been sent for if that had not kept the device busy.
        """
        with self._lock:
            self._throughput.end(arrived_bytes, began_ns, now_ns, others_wait=others_wait)
            self._figures = None

    def lose(self, now_ns: int) -> None:
        """Take in that something is not awaited any more, and that it is not known when it arrived."""
        with self._lock:
            self._throughput.lose(now_ns)

    @property
    def awaited(self) -> int:
        """How many batches are awaited from the swap device."""
        return self._throughput.awaited

    @property
    def sustained(self) -> int | None:
        """What the device carries, in bytes per second, while it has more to do than that; else None."""
        with self._lock:
            return self._throughput.sustained

    @property
    def figures(self) -> PageInFigures:
        """The figures now; None where nothing was measured yet."""
        with self._lock:
            if self._figures is None:  # asked for at every look, and changed by page-ins only
                latencies_ns, throughput = self._latencies_ns, self._throughput
                self._figures = PageInFigures(
                    latency_ns=int(statistics.median(latencies_ns)) if latencies_ns else None,
                    bytes_per_s=throughput.median,
                    latency_high_ns=percentile(latencies_ns, 95),
                    bytes_per_s_low=throughput.low,
                )
            return self._figures


@dataclass(slots=True)
class StrategyTotals:
    """What sessions and prefetches under one strategy have come to; times in nanoseconds.

    `prefetched` is what became of pages that this strategy brought in ahead, whoever played them; `played_pages` are
    the pages that sessions under it have read, each once a round, so that ``prefetched.asked / played_pages`` is
    swap-ins a page.
    """

    sessions: int = 0
    blocks: int = 0
    late_blocks: int = 0
    longest_stall_ns: int = 0
    faults: FaultCounts = field(default_factory=FaultCounts)
    late_by_cause: Counter[UnderrunCause] = field(default_factory=Counter)
    prefetches: int = 0
    pages_needed: int = 0
    pages_brought_in: int = 0
    prefetched: PageOutcomes = field(default_factory=PageOutcomes)
    played_pages: int = 0

    def add(self, stats: PlaybackStats, page_frames: float) -> None:
        """Take in what has happened in a session, `page_frames` of whose sample fill a page."""
        self.played_pages += round(stats.frames / page_frames)
        self.blocks += stats.blocks
        self.late_blocks += stats.late_blocks
        self.longest_stall_ns = max(self.longest_stall_ns, stats.longest_stall_ns)
        self.faults += stats.faults
        # Counter.copy is atomic under the GIL; iterating the live one while its session goes on might raise.
        self.late_by_cause += stats.late_by_cause.copy()


class Totals:
    """Sums per strategy, since the start. Any thread.

    A session that goes on is looked at when the sums are asked for, so that no block pays for them. The block that it
    is accounting for just then may be in some of them only.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: defaultdict[str, StrategyTotals] = defaultdict(StrategyTotals)
        self._playing: dict[str, tuple[str, PlaybackStats, float]] = {}
        self._accounts: set[Account] = set()

    def begin_session(self, session_id: str, strategy: str, stats: PlaybackStats, page_frames: float) -> None:
        """Count a session that was opened, and what is going to happen in it."""
        with self._lock:
            self._sums[strategy].sessions += 1
            self._playing[session_id] = strategy, stats, page_frames

    def end_session(self, session_id: str) -> None:
        """Let go of a session in which nothing more will happen."""
        with self._lock:
            strategy, stats, page_frames = self._playing.pop(session_id)
            self._sums[strategy].add(stats, page_frames)

    def begin_account(self, account: Account) -> None:
        """Count what is going to become of pages that are brought in ahead."""
        with self._lock:
            self._accounts.add(account)

    def end_account(self, account: Account) -> None:
        """Let go of an account that was closed."""
        with self._lock:
            self._accounts.remove(account)
            self._sums[account.strategy].prefetched.add(account.outcomes)

    def add_prefetch(self, strategy: str, needed: int, brought_in: int) -> None:
        """Count a prefetch that ended."""
        with self._lock:
            totals = self._sums[strategy]
            totals.prefetches += 1
            totals.pages_needed += needed
            totals.pages_brought_in += brought_in

    def snapshot(self) -> dict[str, StrategyTotals]:
        """Return a copy of the sums by strategy, sorted by name."""
        with self._lock:
            sums = {
                name: replace(totals, late_by_cause=totals.late_by_cause.copy(), prefetched=replace(totals.prefetched))
                for name, totals in sorted(self._sums.items())
            }
            for strategy, stats, page_frames in self._playing.values():
                sums[strategy].add(stats, page_frames)
            for account in self._accounts:
                sums.setdefault(account.strategy, StrategyTotals()).prefetched.add(account.outcomes)
        return sums
