"""What is done about the pages of the window, the ones behind it, and when is looked again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from samplecache.strategy import (
    Action,
    Advice,
    Advise,
    Operation,
    Populate,
    PrefetchStrategy,
    Pressure,
    Recheck,
    Residency,
    Span,
    Tier,
    View,
)
from samplecache_window.length import MOST_NS, MS, RECHECK_NS, SAFETY, WindowLength

MERGE_PAGES: Final = 16
"""Runs that are no further apart are asked for in one call: what is in RAM between them costs next to nothing."""

TAKEN_MOST: Final = 3
"""A page that was taken back so often before it was read is, under pressure, not asked for until it is about to be."""

SLACK_NS: Final = 100 * MS
"""How much later than asked for a look may come: a worker may be waiting for the device just then."""

UNPACED_NS: Final = 20 * MS
"""Time between two looks where there is no pace."""

LEAST_PERIOD_NS: Final = 100 * MS
"""Time between two looks at a window that the budget cuts short, at the least."""

CALM: Final = 2.5
"""How often a window is looked at in its own length while all of it comes in and stays. Not twice: what is asked for
at one look is to be there at the next, before it counts as near."""

IDLE: Final = 1.25
"""How often it is looked at in its own length while there is nothing to bring in as far as can be seen. As much further
is looked then as it is looked at later: what is not there is found as early."""

CALM_NS: Final = SAFETY * RECHECK_NS * 11 // 10
"""The longest window of which that holds: page-ins take a tenth of the time between looks, and none came too late."""

LET_GO_PAGES: Final = 32
"""What was played is let go of in so many pages at a time, so that not every look costs a call for it."""

SEEKS: Final = 4
"""Places whose heads stay warm because playing has jumped there before."""


class Segment(NamedTuple):
    """Pages of the window in one piece, and when the first of them may be read, in nanoseconds."""

    span: Span
    read_ns: int


class SlidingWindow(PrefetchStrategy):
    """Bring in what is read in the next second or two, map it before it is read, and let go of what was played.

    Of the pages ahead, those on the swap device are advised (MADV_WILLNEED) in long ascending runs, those in the swap
    cache are mapped (MADV_POPULATE_READ) so that reading them takes no fault at all, and those that are due before the
    next look are waited for. Behind the playhead pages become the next victims of reclaim (MADV_COLD), unless a loop
    that fits or the target of a seek will need them again.
    """

    name = "window"
    requires = frozenset({Operation.POPULATE, Operation.RESIDENCY})
    fallback = "willneed"
    budgeted = True
    horizon_ns = MOST_NS

    def __init__(self) -> None:
        self._length = WindowLength()
        self._last: Residency | None = None
        self._taken: dict[int, int] = {}
        self._window: tuple[Segment, ...] = ()
        self._targets: list[int] = []
        self._behind = 0
        self._other = False
        self._unpaced_at = -1

    # --- moments ---

    def prepare(self, view: View) -> Iterable[Action]:
        """Bring in the first window, the pages that are read first at once; give back the one of another place."""
        self._length.begin()
        before, self._last = self._window, None
        if before and view.playing:
            self._targets = [*self._targets, view.wanted.start][-SEEKS:]
        actions = list(self._decide(view))
        actions += self._given_back(view, before)
        self._behind = view.wanted.start
        return actions

    def advance(self, view: View) -> Iterable[Action]:
        """Move the window on."""
        return [*self._decide(view), *self._played(view)]

    # --- ahead ---

    def _decide(self, view: View) -> Iterator[Action]:
        # Who takes blocks as fast as they come gets all there may be, and is looked after all the time.
        unpaced = view.playing and view.deadline_ns is None
        length_ns = MOST_NS if unpaced else self._length.look(view)
        there = self._remember(view.residency)
        self._window = window = tuple(segments(view, length_ns))
        period_ns, further_ns = self._pace(view, length_ns, there=there)
        # What is read before the next look, if that comes late, must be there without another one.
        near_ns = view.now_ns + period_ns + SLACK_NS + 2 * (view.page_in.latency_high_ns or 0)
        behind_time = brought_in = False
        for segment in window:
            near = pages_until(segment, near_ns, view.sample.page_ns)
            for action in self._bring_in(view, segment, near):
                brought_in = True
                behind_time |= isinstance(action, Advise) and action.span.start < near.stop
                yield action
        if window:
            if unpaced and (view.wanted.start != self._unpaced_at or brought_in):
                self._unpaced_at, period_ns = view.wanted.start, UNPACED_NS
            elif unpaced:
                period_ns = RECHECK_NS  # the client takes nothing, and all of it is there
            elif behind_time:
                period_ns = RECHECK_NS // 2
            at_ns = view.now_ns + period_ns
            if not view.playing and view.deadline_ns is not None:
                at_ns = max(at_ns, view.deadline_ns - length_ns)
            # What the window will have come to by then is looked at too, or it would be known a look too late.
            look = self._next_look(window)
            if view.playing and not unpaced and len(window) == 1:
                more = -(-(at_ns - view.now_ns + further_ns) // view.sample.page_ns)
                look = Span(look.start, min(look.stop + more, view.path[0].span.stop))
            yield Recheck(look, at_ns)

    def _pace(self, view: View, length_ns: int, *, there: bool) -> tuple[int, int]:
        """Return the time to the next look, and how much beyond the window is looked at then, both in nanoseconds."""
        # Of a window in two parts only one may have been looked at.
        calm = there and len(self._window) == 1 and length_ns <= CALM_NS and view.pressure is Pressure.NONE
        period_ns = often_ns = max(RECHECK_NS, int(length_ns / (CALM if calm else SAFETY)))
        if calm and Tier.SWAPPED not in view.residency.tiers:
            period_ns = max(RECHECK_NS, int(length_ns / IDLE))
        if view.budget_bytes is not None:  # a window that the budget cuts short is played sooner
            most_ns = view.budget_bytes // view.sample.page_bytes * view.sample.page_ns
            period_ns = min(period_ns, max(LEAST_PERIOD_NS, most_ns // 2))
        if view.pressure is not Pressure.NONE:  # what is far off is put off, so it must be asked for in time
            period_ns = min(period_ns, RECHECK_NS)
        return period_ns, max(0, period_ns - often_ns)

    def _bring_in(self, view: View, segment: Segment, near: Span) -> Iterator[Action]:
        """Yield what is to be done about a segment, `near` of which will be read before the next look may help."""
        page_ns = view.sample.page_ns
        waits = view.capabilities.swap_synchronous or not view.capabilities.useful(Operation.WILLNEED)

        def read_ns(page: int) -> int:
            return segment.read_ns + (page - segment.span.start) * page_ns

        for run in merged(runs(view.residency, segment.span, Tier.SWAPPED), MERGE_PAGES):
            soon, later = cut(run, near.stop)
            if soon:
                if not waits:
                    # All of it is on its way before the first page is waited for.
                    yield Advise(soon, read_ns(soon.start))
                yield Populate(soon, read_ns(soon.start))
            if later and not self._keeps_being_taken(view, later):
                yield (Populate if waits else Advise)(later, read_ns(later.start))
        cached = Tier.SWAP_CACHE if view.residency.exact else Tier.MAPPED
        for run in merged(runs(view.residency, segment.span, cached), 0):
            yield Populate(run, read_ns(run.start))

    def _next_look(self, window: tuple[Segment, ...]) -> Span:
        """Return the pages to look at next: the window, or one of its parts in turn if they are far apart."""
        start = min(segment.span.start for segment in window)
        stop = max(segment.span.stop for segment in window)
        if stop - start <= 4 * sum(len(segment.span) for segment in window):
            return Span(start, stop)
        self._other = not self._other
        return window[self._other].span

    # --- what reclaim does ---

    def _remember(self, residency: Residency) -> bool:
        """Count pages of the window that were in RAM at the last look and are not any more; return whether all is there
        of what it was, or at the first look, whether all is there.
        """
        last, self._last = self._last, residency
        if last is None:
            return Tier.SWAPPED not in residency.tiers
        there = True
        for segment in self._window:
            for run in runs(residency, segment.span.intersection(last.span), Tier.SWAPPED):
                there = False
                for page in run:
                    if last.tiers[page - last.span.start] >= Tier.SWAP_CACHE:
                        self._taken[page] = self._taken.get(page, 0) + 1
        return there

    def _keeps_being_taken(self, view: View, span: Span) -> bool:
        if view.pressure is Pressure.NONE or not self._taken:
            return False
        return any(self._taken.get(page, 0) >= TAKEN_MOST for page in span)

    # --- behind ---

    def _played(self, view: View) -> Iterator[Action]:
        """Let go of what was played since the last look, unless it is going to be needed."""
        start, stop = self._behind, view.wanted.start
        if 0 <= stop - start < LET_GO_PAGES:
            return
        self._behind = stop
        if stop < start:  # a loop has begun again: the rest of the last round is behind too
            yield from self._let_go(view, Span(start, max(start, view.path[-1].span.stop)))
            start = view.path[-1].span.start
        yield from self._let_go(view, Span(min(start, stop), stop))

    def _given_back(self, view: View, before: tuple[Segment, ...]) -> Iterator[Action]:
        """Let go of the window of the place that playing has left."""
        for segment in before:
            yield from self._let_go(view, segment.span)

    def _let_go(self, view: View, span: Span) -> Iterator[Action]:
        if not view.capabilities.permitted(Operation.COLD) or self._needs_all(view):
            return
        advice = Advice.COLD
        if view.pressure is Pressure.FULL and view.capabilities.permitted(Operation.PAGEOUT):
            advice = Advice.PAGEOUT
        pieces = [span]
        heads = [Span(page, page + head_pages(view)) for page in self._targets]
        for kept in [*heads, *(segment.span for segment in self._window)]:
            pieces = [rest for piece in pieces for rest in without(piece, kept)]
        for piece in pieces:
            yield Advise(piece, view.now_ns, advice)

    def _needs_all(self, view: View) -> bool:
        """Return whether all of the sample will be needed again and may stay."""
        round_pages = len(view.path[-1].span) if len(view.path) > 1 else 0
        if round_pages:
            return view.budget_bytes is None or round_pages * view.sample.page_bytes <= view.budget_bytes
        # One that is no longer than a window is brought in again at once or not at all.
        return view.sample.pages <= head_pages(view)


def segments(view: View, length_ns: int) -> Iterator[Segment]:
    """Yield the pages that are read in the next `length_ns`, in the order in which they are."""
    page_ns, lead_ns = view.sample.page_ns, view.lead_ns
    pages = -(-length_ns // page_ns) + 1
    if view.budget_bytes is not None:
        pages = min(pages, max(1, view.budget_bytes // view.sample.page_bytes))
    seen = Span(0, 0)
    for stretch in view.path[:2]:
        span = stretch.span
        if seen:  # what of the next round is not ahead in this one already
            span = Span(span.start, max(span.start, min(span.stop, seen.start)))
        span = Span(span.start, min(span.stop, span.start + pages))
        if span:
            due_ns = stretch.deadline_ns
            yield Segment(span, view.now_ns if due_ns is None else due_ns - lead_ns)
        pages -= len(span)
        seen = stretch.span
        if pages <= 0:
            return


def head_pages(view: View) -> int:
    """Return how many pages the first second of a place takes."""
    return -(-view.sample.bytes_per_s // view.sample.page_bytes)


def pages_until(segment: Segment, time_ns: int, page_ns: int) -> Span:
    """Return the first pages of `segment`, those that may be read before `time_ns`."""
    pages = max(0, -(-(time_ns - segment.read_ns) // page_ns))
    return Span(segment.span.start, min(segment.span.stop, segment.span.start + pages))


def runs(residency: Residency, span: Span, tier: Tier) -> Iterator[Span]:
    """Yield the runs of pages of `span` that are in `tier`, as far as they were looked at."""
    if tier not in residency.tiers:  # as is the rule
        return
    if span := span.intersection(residency.span):
        yield from residency.part(span).spans_in(tier)


def merged(spans: Iterable[Span], gap_pages: int) -> Iterator[Span]:
    """Yield ascending `spans`, those that are no further apart than `gap_pages` as one."""
    last: Span | None = None
    for span in spans:
        if last is not None and span.start - last.stop <= gap_pages:
            last = Span(last.start, span.stop)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last


def cut(span: Span, page: int) -> tuple[Span, Span]:
    """Return the parts of `span` before `page` and from it on."""
    page = min(max(page, span.start), span.stop)
    return Span(span.start, page), Span(page, span.stop)


def without(span: Span, taken: Span) -> Iterator[Span]:
    """Yield what is left of `span` without `taken`."""
    before, rest = cut(span, taken.start)
    _, after = cut(rest, taken.stop)
    yield from (part for part in (before, after) if part)
