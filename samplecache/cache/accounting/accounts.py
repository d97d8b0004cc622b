"""What became of every page that was brought in ahead: useful, late or wasted.

A page is *asked* for when something that brings pages in is begun on it while it is on the swap device, and *arrived*
when it has been seen in RAM since. It is settled once: *useful* if it is in RAM when the session that it was asked for
is about to read it; *late* if it is not and never was; *wasted* if it was there and has gone again, was given back, or
is not going to be read. Until then it is outstanding: ``asked == useful + late + wasted + outstanding`` at all times.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from samplecache.kernel.port import Residency, Span, Tier

_NONE: Final = 0
_ASKED: Final = 1
_ARRIVED: Final = 2

_OUTSTANDING: Final = re.compile(b"[\x01\x02]+")
_ONLY_ASKED: Final = re.compile(b"\x01+")
_IN_CORE: Final = bytes(tier in (Tier.SWAP_CACHE, Tier.MAPPED, Tier.LOCKED) for tier in range(256))


@dataclass(slots=True)
class PageOutcomes:
    """How many pages were brought in ahead, and what became of them.

    Attributes
    ----------
    asked : int
        Pages that were on the swap device when something was done to bring them in. A page that was taken back and
        asked for again counts again.
    useful : int
        Of those, pages in RAM when they were about to be read.
    late : int
        Pages that were still on their way then.
    wasted : int
        Pages that came in and went again, were given back, or were not read after all.
    """

    asked: int = 0
    useful: int = 0
    late: int = 0
    wasted: int = 0

    @property
    def outstanding(self) -> int:
        """Pages of which nothing has become yet."""
        return self.asked - self.useful - self.late - self.wasted

    def add(self, other: PageOutcomes) -> None:
        """Take in what became of other pages."""
        self.asked += other.asked
        self.useful += other.useful
        self.late += other.late
        self.wasted += other.wasted


class Account:
    """Pages of one content that were brought in ahead for one session, or for a prefetch without one. Any thread.

    Parameters
    ----------
    strategy : str
        Whose doing it is.
    pages : int
        Length of the content, in pages.
    totals : PageOutcomes, optional
        Counted in as well: what a session has come to, with what it took over.
    on_closed : Callable, optional
        Told when it is closed.
    on_settled : Callable, optional
        Told of how many pages something has become, with the account's lock held.

    Attributes
    ----------
    outcomes : PageOutcomes
        What became of its pages so far; without those of accounts that it took over.
    owner : Account or None
        Who has taken it over.
    finished : bool
        Whether nothing more is going to be asked for: see :meth:`finish`.
    """

    def __init__(
        self,
        strategy: str,
        pages: int,
        totals: PageOutcomes | None = None,
        on_closed: Callable[[Account], object] = lambda account: None,
        on_settled: Callable[[int], object] = lambda pages: None,
    ) -> None:
        self.strategy = strategy
        self.outcomes = PageOutcomes()
        self._pages = pages
        self._totals = totals
        self.owner: Account | None = None
        self.finished = False
        self._on_closed = on_closed
        self._on_settled = on_settled
        self._lock = threading.RLock()
        self._states = bytearray()
        self._times_taken_back = bytearray()
        self._inherited: tuple[Account, ...] = ()
        self._closed = False

    @property
    def outstanding(self) -> int:
        """Pages of its own, and of accounts that it took over, of which nothing has become yet."""
        pages = self.outcomes.outstanding
        for account in self._inherited:
            pages += account.outstanding
        return pages

    def ask(self, pages: Iterable[int]) -> int:
        """Note that `pages`, of :meth:`not_asked`, are being brought in; return how many were not outstanding yet."""
        with self._lock:
            if self._closed:
                return 0
            fresh = [page for page in pages if not self._states[page]]
            for page in fresh:
                self._states[page] = _ASKED
            self._count(asked=len(fresh))
            return len(fresh)

    @property
    def settled_by_others(self) -> bool:
        """Whether nobody is to ask for more here: it was taken over, or is closed."""
        return self._closed or self.owner is not None

    def not_asked(self, span: Span, residency: Residency) -> list[int]:
        """Return the pages of `span` that are on the swap device, as far as `residency` tells, and not outstanding."""
        span = span.intersection(residency.span)
        with self._lock:
            if self._closed or not span:
                return []
            if not self._states:
                self._states = bytearray(self._pages)
            first = residency.span.start
            tiers = residency.tiers[span.start - first : span.stop - first]
            return [
                page
                for page, tier in enumerate(tiers, span.start)
                if tier == Tier.SWAPPED and not self._states[page] and not self._is_inherited(page)
            ]

    def arrive(self, span: Span) -> None:
        """Note that what was asked for in `span` is in RAM."""
        with self._lock:
            for account in self._inherited:
                account.arrive(span)
            for run in self._runs(_ONLY_ASKED, span):
                self._states[run.start : run.stop] = bytes([_ARRIVED]) * len(run)

    def look(self, residency: Residency) -> int:
        """Take in where pages are; return how many that had arrived are on the swap device again: those are wasted."""
        if not self.outstanding:
            return 0
        with self._lock:
            gone = sum(account.look(residency) for account in self._inherited)
            first, wasted = residency.span.start, 0
            for run in list(self._runs(_OUTSTANDING, residency.span)):
                tiers = residency.tiers[run.start - first : run.stop - first]
                if 0 not in tiers.translate(_IN_CORE):  # as most are
                    self._states[run.start : run.stop] = bytes([_ARRIVED]) * len(run)
                    continue
                for page, tier in enumerate(tiers, run.start):
                    if _IN_CORE[tier]:
                        self._states[page] = _ARRIVED
                    elif tier == Tier.SWAPPED and self._states[page] == _ARRIVED:
                        self._states[page] = _NONE
                        self._note_taken_back(page)
                        wasted += 1
            self._count(wasted=wasted)
            return gone + wasted

    def _note_taken_back(self, page: int) -> None:
        if not self._times_taken_back:
            self._times_taken_back = bytearray(self._pages)
        self._times_taken_back[page] = min(255, self._times_taken_back[page] + 1)

    def times_taken_back(self, span: Span) -> int:
        """Return how often a page of `span` had come in and was gone before it was read: of the page with the most."""
        return max(self._times_taken_back[span.start : span.stop], default=0)

    def read(self, span: Span, in_core: Callable[[Span], bool]) -> None:
        """Settle the pages of `span`, which are about to be read, `in_core` telling of pages whether all are in RAM."""
        if not self.outstanding:
            return
        with self._lock:
            for account in self._inherited:
                account.read(span, in_core)
            runs = list(self._runs(_OUTSTANDING, span))
            if not runs:
                return
            useful = late = wasted = 0
            for run in runs:
                if in_core(run):
                    useful += len(run)
                else:
                    for page in run:
                        if in_core(Span(page, page + 1)):
                            useful += 1
                        elif self._states[page] == _ASKED:
                            late += 1
                        else:
                            wasted += 1
                self._states[run.start : run.stop] = bytes(len(run))
            self._count(useful=useful, late=late, wasted=wasted)

    def give_up(self, span: Span) -> None:
        """Settle as wasted what is outstanding in `span`: it was given back, or will not be read."""
        if not self.outstanding:
            return
        with self._lock:
            for account in self._inherited:
                account.give_up(span)
            wasted = 0
            for run in list(self._runs(_OUTSTANDING, span)):
                self._states[run.start : run.stop] = bytes(len(run))
                wasted += len(run)
            self._count(wasted=wasted)

    def keep_only(self, spans: Iterable[Span]) -> None:
        """Give up what is outstanding outside of all `spans`."""
        start = 0
        for span in sorted(spans):
            self.give_up(Span(start, max(start, span.start)))
            start = max(start, span.stop)
        self.give_up(Span(start, max(start, self._pages)))

    def last_outstanding(self, span: Span) -> Span | None:
        """Return the last run of pages of `span` of which nothing has become yet; not of accounts that it took over."""
        with self._lock:
            stop = span.start + len(self._states[span.start : span.stop].rstrip(b"\0"))
            if stop == span.start:
                return None
            return Span(max(span.start, self._states.rfind(b"\0", 0, stop) + 1), stop)

    def take_over(self, other: Account) -> None:
        """Go on for `other`, whose pages a session of this account is going to read; they stay its strategy's doing."""
        with self._lock, other._lock:
            if other._closed:
                return
            other._totals, other.owner = self._totals, self
            if self._totals is not None:
                self._totals.asked += other.outcomes.outstanding
            self._inherited += (other,)
            closed = self._closed
        if closed:
            other.close()

    def finish(self) -> None:
        """Note that nobody is going to ask for more."""
        self.finished = True

    def hand_back(self, other: Account) -> None:
        """Go on without `other`, whose pages somebody else may be going to read; undoes :meth:`take_over`."""
        with self._lock, other._lock:
            if other.owner is not self:
                return
            self._inherited = tuple(account for account in self._inherited if account is not other)
            other._totals, other.owner = None, None
            if self._totals is not None:
                self._totals.asked -= other.outcomes.outstanding

    def close(self) -> None:
        """Give up all that is outstanding; nothing can be asked for any more. Again, it does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._count(wasted=self.outcomes.outstanding)
            self._states = bytearray()
            inherited = self._inherited
        for account in inherited:
            account.close()
        self._on_closed(self)

    def _runs(self, states: re.Pattern[bytes], span: Span) -> Iterable[Span]:
        """Yield the runs of pages of `span` that are in these states."""
        for run in states.finditer(self._states, span.start, span.stop):
            yield Span(run.start(), run.end())

    def _is_inherited(self, page: int) -> bool:
        return any(account._states and account._states[page] for account in self._inherited)

    def _count(self, asked: int = 0, useful: int = 0, late: int = 0, wasted: int = 0) -> None:
        if asked or useful or late or wasted:
            more = PageOutcomes(asked, useful, late, wasted)
            self.outcomes.add(more)
            if self._totals is not None:
                self._totals.add(more)
            if settled := useful + late + wasted:
                self._on_settled(settled)
