"""An order being carried out: the strategy is asked, its actions done piece by piece, and arrivals watched."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

from samplecache.cache.prefetching.orders import Moment, Order, Progress
from samplecache.cache.prefetching.prefetcher import CHUNK_PAGES, Prefetcher
from samplecache.cache.tasks.looks import RETRY_NS
from samplecache.cache.tasks.work import Work
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import StrategyError
from samplecache.kernel.port import Residency, Span, Tier
from samplecache.strategy.actions import (
    Action,
    Advise,
    Lock,
    Recheck,
    brings_in,
    gives_back,
    only_marks,
    waits_for_pages,
)
from samplecache.strategy.failures import log_failure

POLL_NS: Final = 5 * NS_PER_MS
"""How often arrival is looked at, at the most: mincore is the only unprivileged sign that WILLNEED has finished."""

POLL_DUTY: Final = 20
"""Looking costs time in proportion to the span; at least so many times that is slept between looks (5 % of a core)."""

GIVE_UP_NS: Final = NS_PER_S
"""A prefetch whose actions are done ends when no page has arrived for so long: reclaim is taking them back."""

PUT_OFF_NS: Final = 50 * NS_PER_MS
"""How long an action waits for room in the budget before it is tried again."""


class _State(enum.Enum):
    RUNNING = enum.auto()
    DONE = enum.auto()
    CANCELLED = enum.auto()


class Prefetch:
    """An order being carried out, once it is started. Any thread may ask it how far it is.

    Parameters
    ----------
    prefetcher : Prefetcher
        What it shares with all others.
    order : Order
        What it is to do.
    on_end : Callable
        Called exactly once, on whichever thread it ends or is cancelled, when no page is being worked on.

    Attributes
    ----------
    order : Order
        What it is to do.
    notes : list of str
        What came short of that, each with its remedy.
    pages_locked : int
        Pages that were locked for it when it ended.
    """

    def __init__(self, prefetcher: Prefetcher, order: Order, on_end: Callable[[Prefetch], None]) -> None:
        self.order = order
        self.notes: list[str] = []
        self.pages_locked = 0
        self._prefetcher = prefetcher
        self._on_end = on_end
        self._lock = threading.Lock()
        self._state = _State.RUNNING
        self._at_work = 0
        self._rechecks = False
        self._watches = False
        self._superseded = False
        self._actions_left = 0
        self._over = False
        self._listeners: list[Callable[[], object]] = []
        self._ended_ns: int | None = None
        self._began_ns = prefetcher.clock.now_ns()
        self._last_arrival_ns = self._began_ns
        self._missing: tuple[Span, ...] = ()
        self._needed = 0
        self._in = 0

    @property
    def progress(self) -> Progress:
        """How far it had come at the last look, some milliseconds ago. Never blocks."""
        ended_ns = self._ended_ns
        until_ns = self._prefetcher.clock.now_ns() if ended_ns is None else ended_ns
        return Progress(self._needed, self._in, until_ns - self._began_ns, self._over)

    @property
    def in_time(self) -> bool:
        """Whether all pages were in when it ended, and that before its deadline if it had one."""
        deadline_ns, ended_ns = self.order.deadline_ns, self._ended_ns
        if ended_ns is None or self._in < self._needed:
            return False
        return deadline_ns is None or ended_ns <= deadline_ns

    @property
    def rechecks(self) -> bool:
        """Whether its strategy is going to look again, and may ask for more then."""
        return self._rechecks

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._state is _State.CANCELLED

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until it has ended or `timeout_s` has passed; return whether it has ended."""
        ended = threading.Event()
        self.when_ended(ended.set)
        return ended.wait(timeout_s)

    def when_ended(self, listener: Callable[[], object]) -> None:
        """Have `listener` called when it has ended, on whichever thread that happens; at once if it has."""
        with self._lock:
            if not self._over:
                self._listeners.append(listener)
                return
        listener()

    def start(self) -> None:
        """Have a worker look what is missing and ask the strategy. Never blocks."""
        self._submit(self._begin, self.order.deadline_ns)

    def run(self) -> Iterator[None]:
        """Look what is missing and ask the strategy, as a piece of work of the calling worker."""
        return self._do(self._begin)

    def cancel(self) -> None:
        """Stop: no further chunk is begun; it has ended when the one under way is finished. Never blocks."""
        self._end(_State.CANCELLED)

    def supersede(self) -> None:
        """Leave what it has not brought in yet to a later answer of the strategy, which asks for it again.

        Never blocks. Else what waits for the device would be there once for every look while the device is busy. What
        is to be locked or given back is not asked for again.
        """
        self._superseded = True

    # --- on worker threads ---

    def _submit(self, piece: Work, deadline_ns: int | None) -> None:
        self._prefetcher.submit(lambda: self._do(piece), deadline_ns, self.order.urgency)

    def _do(self, piece: Work) -> Iterator[None]:
        """Do a piece of the work unless all is over. While a piece is being done, the end is not reported: whoever
        hears of the end may unmap the memory. A piece that fails is the last: locks and a lease wait for the end.
        """
        with self._lock:
            if self._state is not _State.RUNNING:
                return
            self._at_work += 1
        try:
            yield from piece() or ()
        except Exception as error:
            log_failure("prefetch_failed", error, sample=self.order.sample.sample_id)
            self._fall_short(f"the prefetch failed: {error!r}. Look into the log, and report it.")
            self._look_again_after_failure()
            self._end(_State.DONE)
        finally:
            with self._lock:
                self._at_work -= 1
                over = self._state is not _State.RUNNING and not self._at_work
            if over:
                self._report()

    def _begin(self) -> Iterable[None]:
        order, kernel = self.order, self._prefetcher.kernel
        residency = kernel.residency(order.sample.content.region, order.pages_to_look_at(kernel.page_bytes))
        self._prefetcher.pressure.taken_back(order.account.look(residency))
        self._missing = tuple(residency.spans_in(Tier.SWAPPED))
        self._needed = sum(map(len, self._missing))
        try:
            answer = self._prefetcher.decide(order, residency)
        except StrategyError as error:
            self._fall_short(str(error))
            self._look_again_after_failure()
            answer = ()
        actions = [action for action in self._with_effect(answer, residency) if not isinstance(action, Recheck)]
        rechecks = [action for action in answer if isinstance(action, Recheck)]
        if rechecks and order.on_recheck is not None and self._state is _State.RUNNING:
            self._rechecks = True
            order.on_recheck(rechecks[-1])
        if order.binding.strategy.budgeted:
            # It does not set out to bring in all that is wanted.
            self._missing = tuple(_covered(self._missing, actions))
            self._needed = sum(map(len, self._missing))
        self._actions_left = len(actions)
        # Where a session's strategy looks again by itself, nobody else has to.
        self._watches = order.moment is Moment.PREPARE and not (self._rechecks and order.playhead is not None)
        # Sooner done than handed over; but what is to be done before it goes before it.
        at_once = all(map(only_marks, actions))
        if not at_once:
            for action in actions:
                self._submit_action(action)
        if not actions:
            self._end(_State.DONE)
        elif self._watches:
            self._watch()
        return chain.from_iterable(map(self._do_chunk, actions)) if at_once else ()

    def _with_effect(self, answer: Iterable[Action], residency: Residency) -> Iterator[Action]:
        """Yield what strategies answered, advice only from the first page that it does something to up to the last.

        Most samples that are played are in RAM, and asking the kernel chunk by chunk for nothing costs more than the
        session's opening does.
        """
        for action in answer:
            span = action.span
            if not brings_in(action) or waits_for_pages(action) or span.intersection(residency.span) != span:
                yield action
                continue
            if missing := tuple(residency.part(span).spans_in(Tier.SWAPPED)):
                start = missing[0].start - (missing[0].start - span.start) % CHUNK_PAGES  # chunks stay what they are
                yield self._after(Span(span.start, start), replace(action, span=Span(span.start, missing[-1].stop)))

    def _look_again_after_failure(self) -> None:
        """Ask the strategy again in a while, if it is asked again at all: one failure must not leave it silent."""
        order, clock = self.order, self._prefetcher.clock
        if order.on_recheck is not None and order.moment is not Moment.FINISH and not self._rechecks:
            self._rechecks = True
            look = order.pages_to_look_at(self._prefetcher.kernel.page_bytes)
            order.on_recheck(Recheck(look, clock.now_ns() + RETRY_NS))

    def _submit_action(self, action: Action) -> None:
        self._submit(lambda: self._do_chunk(action), action.deadline_ns)

    def _do_chunk(self, action: Action) -> Iterator[None]:
        """Do the first pages of an action and queue the rest, so that whoever is nearer its deadline goes first."""
        account, chunk_pages = self.order.account, action.span.stop if only_marks(action) else CHUNK_PAGES
        if brings_in(action):
            if self._superseded and not isinstance(action, Lock):
                self._one_action_less()
                return
            wait_ns = self._prefetcher.wait_ns(self.order, action)
            if wait_ns:
                self._put_off(action, wait_ns)
                return
        if brings_in(action) and not waits_for_pages(action):
            if not self._prefetcher.may_send_for(
                self.order, action, lambda: self._submit_action(action), self._brings_in_more
            ):
                return
            chunk_pages = min(chunk_pages, self._prefetcher.flights.part_pages)
        head = next(action.span.chunks(chunk_pages), action.span)
        asked = 0
        if brings_in(action):
            head, asked = self._prefetcher.admit(self.order, replace(action, span=head))
            if not head and action.span:
                self._put_off(action)
                return
        measuring = self._prefetcher.measure(self.order, replace(action, span=head), asked)
        short = self._prefetcher.execute(self.order, replace(action, span=head))
        yield
        measuring()
        if waits_for_pages(action) and not short:
            account.arrive(head)
        elif gives_back(action):
            account.give_up(head)
        if short:
            self._fall_short(short)
            if isinstance(action, Lock):
                # Others took the budget since the strategy looked. What cannot be kept can still be brought in.
                self._submit_action(Advise(action.span, action.deadline_ns))
                return
        elif head.stop < action.span.stop:
            self._submit_action(self._after(head, action))
            return
        self._one_action_less()

    def _brings_in_more(self) -> bool:
        return self._state is _State.RUNNING and not self._superseded

    def _one_action_less(self) -> None:
        with self._lock:
            self._actions_left -= 1
        if not self._actions_left and not self._watches:
            self._end(_State.DONE)

    def _put_off(self, action: Action, wait_ns: int = PUT_OFF_NS) -> None:
        """Try an action again when there may be room for it, unless the strategy is going to look again anyway."""
        if self._rechecks:
            self._one_action_less()
        else:
            at_ns = self._prefetcher.clock.now_ns() + wait_ns
            self._prefetcher.call_at(lambda: self._do(lambda: self._do_chunk(action)), at_ns)

    def _after(self, head: Span, action: Action) -> Action:
        deadline_ns = action.deadline_ns
        if deadline_ns is not None:
            deadline_ns += len(head) * self.order.sample.view(self._prefetcher.kernel.page_bytes).page_ns
        return replace(action, span=Span(head.stop, action.span.stop), deadline_ns=deadline_ns)

    def _watch(self) -> None:
        """Count what has arrived; end if that is all, or if nothing more is to be hoped for; else look again later."""
        clock = self._prefetcher.clock
        began_ns = clock.now_ns()
        busy = self._actions_left > 0
        region = self.order.sample.content.region
        looks = [self._prefetcher.kernel.residency(region, span) for span in self._missing]
        arrived = sum(look.in_core for look in looks)
        for look in looks:
            self._prefetcher.pressure.taken_back(self.order.account.look(look))
        if busy or arrived != self._in:
            self._in, self._last_arrival_ns = arrived, began_ns
        if not busy and (arrived == self._needed or began_ns - self._last_arrival_ns >= GIVE_UP_NS):
            self._end(_State.DONE)
            return
        looked_ns = clock.now_ns()
        pause_ns = max(POLL_NS, POLL_DUTY * (looked_ns - began_ns))
        self._prefetcher.call_at(lambda: self._do(self._watch), looked_ns + pause_ns)

    def _fall_short(self, why: str) -> None:
        if why not in self.notes:
            self.notes.append(why)
            self._prefetcher.on_short(self.order, why)

    def _end(self, state: _State) -> None:
        with self._lock:
            if self._state is not _State.RUNNING:
                return
            self._state = state
            self._ended_ns = self._prefetcher.clock.now_ns()
            over = not self._at_work
        if over:
            self._report()

    def _report(self) -> None:
        try:
            self._on_end(self)
        finally:
            with self._lock:
                self._over = True
                listeners, self._listeners = self._listeners, []
            for listener in listeners:
                listener()


def _covered(spans: Iterable[Span], actions: Iterable[Action]) -> Iterator[Span]:
    """Yield the parts of ascending `spans` that `actions` bring in, none of them twice."""
    bringing = sorted({action.span for action in actions if brings_in(action)})
    for span in spans:
        start = span.start
        for other in bringing:
            part = other.intersection(Span(start, max(start, span.stop)))
            if part:
                yield part
                start = part.stop
