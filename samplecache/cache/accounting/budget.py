"""One budget for all that is brought in ahead and not read yet, spent on the pages whose deadlines are nearest.

Planning only: no I/O, no clock. Who may have outstanding how much follows from one horizon for all: with byte rates r_i
and an effective budget B everyone may bring in what it will read in the next T seconds, T = B / (r_1 + r_2 + ...), and
who wants less leaves the rest to the others (water-filling). So the budget is spent on the pages that are due soonest,
whoever reads them.

Shares are advice to strategies; :meth:`PrefetchBudget.admit` is what keeps the budget. A page is charged when it is
about to be brought in and paid back when it is settled (:mod:`samplecache.cache.accounting.accounts`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from samplecache.cache.accounting.accounts import Account
from samplecache.clock import NS_PER_S
from samplecache.kernel.port import Residency, Span
from samplecache.kernel.signals import MemoryState
from samplecache.strategy.view import SampleView, Stretch

LEAST_BUDGET_BYTES: Final = 16 << 20
"""What a budget is at least if none is set: a hundred streams of CD quality for nearly a second."""

UNKNOWN_BUDGET_BYTES: Final = 64 << 20
"""What it is where the kernel does not tell how much memory there is."""

SHARE_OF_AVAILABLE: Final = 4
"""One part in so many of the memory that is available at the start."""

SHARES_LAST_NS: Final = NS_PER_S
"""How long what everyone wants is kept before it is asked again; who comes or goes has only the horizon found anew."""


def default_budget_bytes(memory: MemoryState) -> int:
    """Return the budget for a process that finds so much memory at its start, in bytes."""
    if memory.available_bytes is None:
        return UNKNOWN_BUDGET_BYTES
    budget_bytes = max(LEAST_BUDGET_BYTES, memory.available_bytes // SHARE_OF_AVAILABLE)
    # In little memory even the least is too much: what is brought in would drive out what was before it.
    return budget_bytes if memory.limit_bytes is None else min(budget_bytes, memory.limit_bytes // SHARE_OF_AVAILABLE)


def horizon_s(budget_bytes: int, claims: Iterable[tuple[int, int]]) -> float:
    """Return for how many seconds of playing the budget lasts if everyone brings in as much ahead.

    Parameters
    ----------
    budget_bytes : int
        What there is.
    claims : iterable of (int, int)
        Of each: bytes per second that it reads, and the most bytes that it wants.

    Returns
    -------
    float
        T with ``sum(min(rate * T, wanted)) == budget_bytes``; infinity if all get what they want.
    """
    by_length = sorted((wanted / rate, rate, wanted) for rate, wanted in claims if rate > 0)
    left, rates = budget_bytes, sum(rate for _, rate, _ in by_length)
    for length_s, rate, wanted in by_length:
        if length_s * rates > left:
            return left / rates
        left -= wanted
        rates -= rate
    return math.inf


@dataclass(slots=True, eq=False)
class Claim:
    """Whoever's pages are charged: a session, or a prefetch without one.

    Attributes
    ----------
    account : Account
        Its pages.
    sample : SampleView
        What is played.
    path : Callable
        Returns what it will read, in order, and when; called by any thread.
    horizon_ns : int or None
        How far ahead its strategy looks at the most, in nanoseconds of audio; None for any distance.
    give_back : Callable
        Has the kernel take a span of its pages back; called by a worker, with no lock held.
    """

    account: Account
    sample: SampleView
    path: Callable[[], tuple[Stretch, ...]]
    horizon_ns: int | None
    give_back: Callable[[Span], object] = field(repr=False)

    @property
    def wanted_bytes(self) -> int:
        """The most that it could want to have outstanding; nothing if another has taken it over."""
        if self.account.owner is not None:
            return 0
        if self.account.finished:
            return self.account.outstanding * self.sample.page_bytes
        path = self.path()
        pages = sum(len(stretch.span) for stretch in path)
        # No page is outstanding twice, however often a loop will come by.
        most_bytes = min(pages, self.sample.pages) * self.sample.page_bytes
        if self.horizon_ns is None:
            return most_bytes
        return min(most_bytes, self.sample.bytes_per_s * self.horizon_ns // NS_PER_S + self.sample.page_bytes)

    @property
    def rate_and_wanted(self) -> tuple[int, int]:
        """What it reads, in bytes per second, and :attr:`wanted_bytes`."""
        return self.sample.bytes_per_s, self.wanted_bytes

    def due_ns(self, page: int, path: tuple[Stretch, ...], now_ns: int) -> int:
        """Return when `page` is due on `path`."""
        for span, first_ns in path:
            if span.start <= page < span.stop:
                # For one that is behind or has stopped, time stands still.
                start_ns = now_ns if first_ns is None else max(now_ns, first_ns)
                return start_ns + (page - span.start) * self.sample.page_ns
        return _NEVER_NS

    def furthest(self, path: tuple[Stretch, ...]) -> Span | None:
        """Return the outstanding run of pages that ends with what is due last on `path`; None if there is none."""
        ahead = path[0].span
        # Of a loop's next round only what is not due in this one already; and before all, what nobody will read.
        again = path[1].span.intersection(Span(0, ahead.start)) if len(path) > 1 else Span(0, 0)
        for span in (Span(ahead.stop, self.sample.pages), Span(again.stop, ahead.start), Span(0, again.start)):
            if span and (run := self.account.last_outstanding(span)) is not None:
                return run
        return self.account.last_outstanding(again) or self.account.last_outstanding(ahead)


_NEVER_NS: Final = 1 << 62
"""When pages are due that nobody is going to read."""


class Admission(NamedTuple):
    """What of a span may be brought in now.

    Attributes
    ----------
    span : Span
        Its first pages, none if there is no room.
    asked : int
        How many of them were not outstanding yet.
    displaced : tuple
        Claims and spans of theirs that had to make room: they are settled, and are to be given back.
    """

    span: Span
    asked: int = 0
    displaced: tuple[tuple[Claim, Span], ...] = ()


class PrefetchBudget:
    """Who may have outstanding how much, and that all together never have more than the budget. Any thread.

    Parameters
    ----------
    budget_bytes : int
        The most that may be outstanding, in bytes.
    page_bytes : int
        Size of a page, in bytes.

    Attributes
    ----------
    budget_bytes : int
        As given.
    """

    def __init__(self, budget_bytes: int, page_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._page_bytes = page_bytes
        self._lock = threading.Lock()
        self._effective_bytes = budget_bytes // page_bytes * page_bytes
        self._used_pages = 0
        self._peak_pages = 0
        self._claims: dict[Account, Claim] = {}
        self._wanted: dict[Account, tuple[int, int]] = {}
        self._asked_ns: int | None = None
        self._horizon_s: float | None = None

    @property
    def used_bytes(self) -> int:
        """What is outstanding now, in bytes."""
        return self._used_pages * self._page_bytes

    @property
    def peak_bytes(self) -> int:
        """The most that was outstanding at a time, in bytes."""
        return self._peak_pages * self._page_bytes

    @property
    def effective_bytes(self) -> int:
        """What of the budget may be used now, in bytes: all of it unless memory is short."""
        return self._effective_bytes

    def scale(self, factor: float) -> None:
        """Let only `factor` of the budget be used, 0 to 1. What is outstanding stays until it is settled."""
        with self._lock:
            pages = int(self.budget_bytes * min(1.0, max(0.0, factor))) // self._page_bytes
            self._effective_bytes = pages * self._page_bytes
            self._horizon_s = None

    # --- who is there ---

    def join(self, claim: Claim) -> None:
        """Take in one who brings pages in ahead."""
        wanted = claim.rate_and_wanted
        with self._lock:
            self._claims[claim.account] = claim
            self._wanted[claim.account] = wanted
            self._horizon_s = None

    def leave(self, account: Account) -> None:
        """Let go of one whose account is closed."""
        with self._lock:
            self._claims.pop(account, None)
            self._wanted.pop(account, None)
            self._horizon_s = None

    def share_bytes(self, account: Account, now_ns: int) -> int | None:
        """Return the most that `account` may have outstanding, in bytes; None if it is not charged."""
        claim = self._claims.get(account)
        if claim is None:
            return None
        if self._asked_ns is None or now_ns - self._asked_ns >= SHARES_LAST_NS:
            self._ask_all(now_ns)
        effective_bytes, horizon_s = self._effective_bytes, self._horizon()
        if horizon_s == math.inf:
            return effective_bytes
        # Rounded up to a page: nobody is left without one, and what is too much is not admitted.
        pages = -(-int(claim.sample.bytes_per_s * horizon_s) // self._page_bytes)
        return min(effective_bytes, pages * self._page_bytes)

    def _ask_all(self, now_ns: int) -> None:
        """Ask everyone how much he wants; not with every coming and going, for that takes some microseconds each."""
        self._asked_ns = now_ns
        wanted = {claim.account: claim.rate_and_wanted for claim in tuple(self._claims.values())}
        with self._lock:
            self._wanted.update((account, those) for account, those in wanted.items() if account in self._claims)
            self._horizon_s = None

    def _horizon(self) -> float:
        with self._lock:
            if self._horizon_s is None:
                wanted = [those for account, those in self._wanted.items() if account.owner is None]
                self._horizon_s = horizon_s(self._effective_bytes, wanted)
            return self._horizon_s

    # --- charging ---

    def admit(self, account: Account, span: Span, residency: Residency, now_ns: int) -> Admission:
        """Charge `account` for the pages of `span` that are to be brought in, pages being where `residency` says.

        Where there is no room, outstanding pages that are due later make some. Those whose deadline is the furthest go
        first; what is left then is put off: of the span, the first pages for which there is room are admitted.
        """
        claim = self._claims.get(account)
        fresh = account.not_asked(span, residency)
        if claim is None:
            return Admission(span, account.ask(fresh))
        displaced = self._make_room(len(fresh), claim, span, now_ns)
        reserved = self._reserve(len(fresh))
        if reserved < len(fresh):
            span = Span(span.start, fresh[reserved])
        asked = account.ask(fresh[:reserved])
        self.release(reserved - asked)
        return Admission(span, asked, displaced)

    def release(self, pages: int) -> None:
        """Take back what was charged for pages that are settled now. Takes no other lock."""
        if pages:
            with self._lock:
                self._used_pages -= pages

    def _reserve(self, pages: int) -> int:
        """Charge for as many of `pages` as there is room for, and return how many."""
        with self._lock:
            pages = max(0, min(pages, self._room()))
            self._used_pages += pages
            self._peak_pages = max(self._peak_pages, self._used_pages)
            return pages

    def _room(self) -> int:
        return self._effective_bytes // self._page_bytes - self._used_pages

    def _make_room(self, pages: int, claim: Claim, span: Span, now_ns: int) -> tuple[tuple[Claim, Span], ...]:
        """Settle as wasted what is due after `span`, the furthest first, until there is room for so many pages."""
        displaced: list[tuple[Claim, Span]] = []
        while (lacking := pages - self._room()) > 0:
            deadline_ns = claim.due_ns(span.start, self._path_of(claim), now_ns)
            latest: tuple[int, Claim, Span] | None = None
            for other in tuple(self._claims.values()):
                path = self._path_of(other)
                run = other.furthest(path)
                if run is None or (claim.account in (other.account, other.account.owner) and run.intersection(span)):
                    continue
                due_ns = other.due_ns(run.stop - 1, path, now_ns)
                if due_ns > deadline_ns and (latest is None or due_ns > latest[0]):
                    latest = due_ns, other, run
            if latest is None:
                break
            due_ns, other, run = latest
            later = -(-(due_ns - deadline_ns) // other.sample.page_ns)
            cut = Span(max(run.start, run.stop - min(lacking, later)), run.stop)
            other.account.give_up(cut)
            displaced.append((other, cut))
        return tuple(displaced)

    def _path_of(self, claim: Claim) -> tuple[Stretch, ...]:
        owner = claim.account.owner
        return self._claims.get(owner, claim).path() if owner is not None else claim.path()
