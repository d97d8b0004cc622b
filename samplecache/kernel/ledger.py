"""Who holds which page locked. ``mlock`` does not nest and RLIMIT_MEMLOCK is shared, so holders are counted here.

A page is locked when its first holder comes and unlocked when its last one leaves. What the budget does not cover is
left unlocked, and said so: the head of a span is locked first, because it sounds first.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samplecache.errors import InvalidError, LockLimitError, UnmappedError
from samplecache.kernel.port import Capabilities, Kernel, Region, Span
from samplecache.kernel.runs import runs

UNLIMITED_BUDGET_BYTES = 256 << 20
"""Budget where RLIMIT_MEMLOCK does not bind: eleven minutes of 48 kHz stereo floats, and 1/16 of a 4 GiB machine."""

STRIPES = 16
"""Locks that regions share out by their hash: one a region would have to be forgotten with it."""

RESERVE_FRACTION = 4
"""One part in so many of RLIMIT_MEMLOCK is left to other libraries in the process, such as an audio client's."""


def default_lock_budget(capabilities: Capabilities) -> int:
    """Return how many bytes to lock at most: RLIMIT_MEMLOCK less a reserve for other libraries in the process."""
    limit_bytes = capabilities.lock_limit_bytes
    if limit_bytes is None:
        return UNLIMITED_BUDGET_BYTES
    return limit_bytes - limit_bytes // RESERVE_FRACTION


@dataclass(frozen=True, slots=True)
class LockGrant:
    """What came of :meth:`LockLedger.acquire`.

    Attributes
    ----------
    locked : Span
        The head of the span asked for, which the holder now holds; empty if nothing could be locked.
    refused : Span
        The rest of it.
    why : str
        What stood in the way of the rest and what to do about it; empty if nothing was refused.
    """

    locked: Span
    refused: Span
    why: str = ""

    @property
    def complete(self) -> bool:
        """Whether all of the span is locked."""
        return not len(self.refused)


class LockLedger:
    """Counts holders per page over one kernel and keeps the total within a budget. Thread-safe.

    Parameters
    ----------
    kernel : Kernel
        Whose :meth:`~Kernel.lock` is called. Nobody else should lock pages of the same regions.
    budget_bytes : int
        The most to lock at a time, in bytes; rounded down to pages.

    Raises
    ------
    InvalidError
        The budget is negative.
    """

    def __init__(self, kernel: Kernel, budget_bytes: int) -> None:
        if budget_bytes < 0:
            raise InvalidError(f"A lock budget of {budget_bytes} bytes is negative", remedy="Give 0 or more")
        self._kernel = kernel
        self._budget_pages = budget_bytes // kernel.page_bytes
        self._locked_pages = 0
        # The tables are changed under a lock that is never held while pages are read in; the kernel is called under one
        # that holds up only the same region, or one of the few that share it.
        self._tables = threading.Lock()
        self._acting = [threading.Lock() for _ in range(STRIPES)]
        self._counts: dict[Region, npt.NDArray[np.uint32]] = {}
        self._held: dict[Hashable, dict[Region, npt.NDArray[np.bool_]]] = {}

    @property
    def budget_bytes(self) -> int:
        """The most that is ever locked at a time, in bytes."""
        return self._budget_pages * self._kernel.page_bytes

    @property
    def locked_bytes(self) -> int:
        """What is locked or being locked, in bytes; a page counts once however many hold it. Never blocks."""
        return self._locked_pages * self._kernel.page_bytes

    def held(self, holder: Hashable) -> int:
        """Return how many pages `holder` holds, over all regions. Never blocks for long."""
        with self._tables:
            return sum(int(mask.sum()) for mask in self._held.get(holder, {}).values())

    def spans(self, holder: Hashable, region: Region) -> tuple[Span, ...]:
        """Return the runs of pages of `region` that `holder` holds, ascending. Never blocks for long."""
        with self._tables:
            mask = self._held.get(holder, {}).get(region)
            return () if mask is None else tuple(runs(mask))

    def acquire(self, holder: Hashable, region: Region, span: Span) -> LockGrant:
        """Lock the pages of `span`, or as much of its head as the budget and the kernel allow, for `holder`.

        Pages that another holder has locked already cost nothing; pages that `holder` has already stay held once.
        Faults, and blocks until the pages are in RAM: never call it on a reading thread.

        Raises
        ------
        NotPermittedError
            The process may not lock at all. Nothing changes, as with every error that the kernel raises.
        InvalidSpanError
            `span` ends after the region.
        UnmappedError
            The region has been unmapped.
        """
        region.check(span)
        with self._acting_on(region):
            within, fresh, reserved_pages = self._reserve(region, span)
            locked = Span(span.start, span.start)
            try:
                stop, refusal = self._lock_head(region, within, fresh)
                locked = Span(span.start, stop)
            finally:
                with self._tables:
                    self._locked_pages -= reserved_pages
                    if locked:
                        self._hold(holder, region, locked)
        refused = Span(locked.stop, span.stop)
        if refusal is not None:
            return LockGrant(locked, refused, str(refusal))
        why = f"The lock budget of {self.budget_bytes} bytes is used up. Raise it, or hold less." if refused else ""
        return LockGrant(locked, refused, why)

    def release(self, holder: Hashable, region: Region, span: Span | None = None) -> None:
        """Let go of what `holder` holds of `span`, of the whole region if None; unlock what nobody else holds.

        Waits for an :meth:`acquire` on the same region. Pages that it does not hold are left alone. A region unmapped
        meanwhile has no locks left to undo.

        Raises
        ------
        InvalidSpanError
            `span` ends after the region.
        """
        span = region.span if span is None else span
        region.check(span)
        with self._acting_on(region):
            with self._tables:
                mask = self._held.get(holder, {}).get(region)
                if mask is None:
                    return
                counts = self._counts[region]
                leaving = np.zeros(region.pages, np.bool_)
                leaving[span.start : span.stop] = mask[span.start : span.stop]
                counts[leaving] -= 1
                mask[leaving] = False
                free = leaving & (counts == 0)
                self._forget_empty(holder, region)
            try:
                self._unlock(region, free)
            finally:
                with self._tables:
                    self._locked_pages -= int(free.sum())

    def transfer(self, holder: Hashable, heir: Hashable, region: Region) -> None:
        """Have `heir` hold what `holder` held of `region`. Nothing is locked or unlocked; never blocks for long."""
        with self._tables:
            left = self._held.get(holder, {}).get(region)
            if left is None or holder == heir:
                return
            mask = self._held.setdefault(heir, {}).setdefault(region, np.zeros(region.pages, np.bool_))
            self._counts[region][left & mask] -= 1  # it held these already
            mask |= left
            left[:] = False
            self._forget_empty(holder, region)

    def _acting_on(self, region: Region) -> threading.Lock:
        return self._acting[hash(region) % STRIPES]

    def _reserve(self, region: Region, span: Span) -> tuple[Span, npt.NDArray[np.bool_], int]:
        """Set aside what of the budget `span` needs. Return the head that it covers, which pages of that nobody holds
        yet, and how many those are.
        """
        with self._tables:
            counts = self._counts.get(region)
            window = slice(span.start, span.stop)
            fresh = np.ones(len(span), np.bool_) if counts is None else counts[window] == 0
            affordable = int((np.cumsum(fresh) <= self._budget_pages - self._locked_pages).sum())
            reserved_pages = int(fresh[:affordable].sum())
            self._locked_pages += reserved_pages
            return Span(span.start, span.start + affordable), fresh[:affordable], reserved_pages

    def _lock_head(self, region: Region, span: Span, fresh: npt.NDArray[np.bool_]) -> tuple[int, LockLimitError | None]:
        """Lock the pages of `span` that are `fresh`, from its start. Return where it ended, and why if early."""
        newly = np.zeros(region.pages, np.bool_)
        try:
            for run in runs(fresh, span.start):
                stop, refusal = self._lock_run(region, run, newly)
                if refusal is not None:
                    return stop, refusal
        except BaseException:
            self._unlock(region, newly)
            raise
        return span.stop, None

    def _lock_run(self, region: Region, run: Span, newly: npt.NDArray[np.bool_]) -> tuple[int, LockLimitError | None]:
        """Lock as many pages of `run` as the kernel lets, in pieces halved at each refusal down to a page."""
        start, piece_pages = run.start, len(run)
        refusal: LockLimitError | None = None
        while start < run.stop and piece_pages:
            piece = Span(start, min(start + piece_pages, run.stop))
            try:
                self._kernel.lock(region, piece)
            except LockLimitError as error:
                refusal, piece_pages = error, len(piece) // 2
            else:
                newly[piece.start : piece.stop] = True
                start = piece.stop
        return start, refusal if start < run.stop else None

    def _hold(self, holder: Hashable, region: Region, span: Span) -> None:
        counts = self._counts.setdefault(region, np.zeros(region.pages, np.uint32))
        regions = self._held.setdefault(holder, {})
        mask = regions.setdefault(region, np.zeros(region.pages, np.bool_))
        window = slice(span.start, span.stop)
        self._locked_pages += int((counts[window] == 0).sum())
        counts[window] += ~mask[window]
        mask[window] = True

    def _forget_empty(self, holder: Hashable, region: Region) -> None:
        regions = self._held[holder]
        if not regions[region].any():
            del regions[region]
        if not regions:
            del self._held[holder]
        if not self._counts[region].any():
            del self._counts[region]

    def _unlock(self, region: Region, pages: npt.NDArray[np.bool_]) -> None:
        with suppress(UnmappedError):  # unmapping has unlocked them
            for run in runs(pages):
                self._kernel.unlock(region, run)
