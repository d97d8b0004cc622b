"""Keeps what sequencers have announced, and has it prefetched when :mod:`samplecache.cache.ahead.schedule` says so."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from samplecache.cache.accounting.budget import PrefetchBudget
from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.ahead.cues import MAX_AHEAD_NS, Cue, check_cue, check_name, named
from samplecache.cache.ahead.schedule import Decision, Hint, decide
from samplecache.cache.device.pressure_watch import PressureWatch
from samplecache.cache.events import EventBus
from samplecache.cache.prefetching.prefetch import Prefetch
from samplecache.cache.samples.store import Store
from samplecache.cache.tasks.work import Workers
from samplecache.clock import NS_PER_S, Clock
from samplecache.errors import InvalidError, LimitError, SamplecacheError, ScheduleNotFoundError
from samplecache.strategy.events import CueSettled, CueState
from samplecache.strategy.registry import StrategyRegistry

KEEP_NS: Final = 10 * NS_PER_S
"""How long a cue is remembered after its time, and what was locked for it is kept."""

REMEMBERED_REQUESTS: Final = 1024

_GAVE_WAY: Final = "Surer cues or the memory that cues may take left no room. Announce less, or more surely."
_LATE: Final = "The device was too slow. Announce it earlier, or less with it."
_SHORT: Final = "Not all of its pages stayed in memory. Announce less at a time, or free memory."


class Starts(Protocol):
    """Begins a prefetch: :meth:`samplecache.cache.cache.SampleCache.prefetch`."""

    def __call__(
        self, sample_id: str, start_frame: int, frames: int, strategy: str, deadline_ns: int | None, hold_ns: int
    ) -> Prefetch:
        """Begin it."""
        ...


@dataclass(slots=True, eq=False)
class _Entry:
    """A cue and what became of it so far."""

    schedule_id: str
    cue: Cue
    needed_bytes: int
    announced_ns: int
    state: CueState = CueState.WAITING
    prefetch: Prefetch | None = None
    ready_ns: int | None = None
    why: str = ""
    began_ns: int = 0

    def status(self, now_ns: int) -> CueSettled:
        """Return how it stands, which is an event if it is settled."""
        prefetch = self.prefetch
        progress = None if prefetch is None else prefetch.progress
        return CueSettled(
            now_ns,
            self.schedule_id,
            self.cue.cue_id,
            self.cue.sample_id,
            "" if prefetch is None else prefetch.order.binding.strategy.name,
            self.state,
            self.cue.due_ns,
            self.cue.sureness,
            0 if progress is None else progress.pages_needed,
            0 if progress is None else progress.pages_in,
            None if self.ready_ns is None else self.cue.due_ns - self.ready_ns,
            self.why,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """How a schedule stands.

    Attributes
    ----------
    schedule_id : str
        Its name.
    now_ns : int
        When it stood so, on the cache's clock.
    cues : tuple of CueSettled
        Its cues, by time.
    """

    schedule_id: str
    now_ns: int
    cues: tuple[CueSettled, ...]


class Schedules:
    """All schedules of one cache. Any thread; nothing blocks or faults.

    Parameters
    ----------
    prefetch : Starts
        Begins a prefetch.
    store : Store
        Where samples are looked up.
    registry : StrategyRegistry
        Knows strategies' names.
    work : Workers
        Who does what is to be done at a time.
    clock : Clock
        What times are measured on.
    meter : PageInMeter
        Knows what page-ins cost.
    events : EventBus
        Told of every cue that is settled.
    max_cues : int
        The most cues, over all schedules.
    budget : PrefetchBudget
        What of it may be used now is the most that cues may have brought in before their times.
    pressure : PressureWatch
        How short memory is.
    """

    def __init__(
        self,
        prefetch: Starts,
        store: Store,
        registry: StrategyRegistry,
        work: Workers,
        clock: Clock,
        meter: PageInMeter,
        events: EventBus,
        max_cues: int,
        budget: PrefetchBudget,
        pressure: PressureWatch,
    ) -> None:
        self.max_cues = max_cues
        self._prefetch = prefetch
        self._store = store
        self._registry = registry
        self._work = work
        self._clock = clock
        self._meter = meter
        self._events = events
        self._budget = budget
        self._pressure = pressure
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._schedules: dict[str, dict[str, _Entry]] = {}
        self._requests: OrderedDict[str, tuple[bytes, Answer]] = OrderedDict()
        self._settled: list[CueSettled] = []
        self._wake_ns: int | None = None
        self._stopped = False

    def __len__(self) -> int:
        """How many cues there are whose time is not over."""
        return sum(map(len, tuple(self._schedules.values())))

    # --- requests ---

    def announce(
        self,
        schedule_id: str,
        cues: Sequence[Cue],
        *,
        keep_others: bool = False,
        request_id: str = "",
        fingerprint: bytes = b"",
        received_ns: int | None = None,
    ) -> Answer:
        """Make or replace a schedule, and return it; on any error nothing changes.

        Parameters
        ----------
        schedule_id : str
            Its name; empty to be given one.
        cues : sequence of Cue
            What is going to be played. What was announced under the same name before, and is the same work, goes on.
        keep_others : bool
            Whether cues that are not named stay.
        request_id : str
            Names the request; if it comes again, it is answered as the first time.
        fingerprint : bytes
            Tells requests apart that bear one id.
        received_ns : int, optional
            When the request came, on the cache's clock; now if not given.

        Raises
        ------
        InvalidError, SampleNotFoundError, OutOfRangeError, UnknownStrategyError, LimitError
        """
        if schedule_id:
            check_name("schedule", schedule_id)
        if request_id:
            check_name("request", request_id)
        with self._lock:
            if (before := self._requests.get(request_id)) is not None:
                return _repeated(request_id, before, fingerprint)
            now_ns = self._clock.now_ns() if received_ns is None else received_ns
            cues = named(cues)
            fresh = {cue.cue_id: _Entry(schedule_id, cue, self._needed_bytes(cue, now_ns), now_ns) for cue in cues}
            old = self._schedules.get(schedule_id, {})
            self._check_room(len(old.keys() | fresh.keys() if keep_others else fresh.keys()) - len(old))
            schedule_id = schedule_id or self._new_name()
            self._replace(schedule_id, old, fresh, keep_others=keep_others)
            answer = self._answer(schedule_id, now_ns)
            if request_id:
                self._requests[request_id] = fingerprint, answer
                while len(self._requests) > REMEMBERED_REQUESTS:
                    self._requests.popitem(last=False)
            self._wake(now_ns)
        self._tell()
        return answer

    def get(self, schedule_id: str) -> Answer:
        """Return how a schedule stands.

        Raises
        ------
        ScheduleNotFoundError
        """
        with self._lock:
            self._find(schedule_id)
            return self._answer(schedule_id, self._clock.now_ns())

    def cancel(self, schedule_id: str, cue_ids: Collection[str] = (), *, allow_missing: bool = False) -> Answer:
        """Cancel a schedule's cues, all by default; return those that were not settled before.

        Raises
        ------
        ScheduleNotFoundError
            There is none of that name, or no such cue, and that is not allowed. Nothing is cancelled.
        """
        with self._lock:
            now_ns = self._clock.now_ns()
            try:
                entries = self._find(schedule_id)
                if missing := set(cue_ids) - entries.keys():
                    raise _not_found(f"cue {min(missing)!r} in the schedule {schedule_id!r}", schedule_id)
            except ScheduleNotFoundError:
                if not allow_missing:
                    raise
                entries = self._schedules.get(schedule_id, {})
            chosen = [entry for name, entry in entries.items() if not cue_ids or name in cue_ids]
            cancelled = [entry for entry in chosen if not entry.state.settled]
            for entry in cancelled:
                self._settle(entry, CueState.CANCELLED, "It was cancelled. Announce it again if that was not meant.")
            answer = Answer(schedule_id, now_ns, tuple(entry.status(now_ns) for entry in _by_time(cancelled)))
            self._wake(now_ns)
        self._tell()
        return answer

    def stop(self) -> None:
        """Begin nothing any more. Never blocks."""
        with self._lock:
            self._stopped = True

    # --- checking ---

    def _needed_bytes(self, cue: Cue, now_ns: int) -> int:
        check_cue(cue, now_ns)
        self._registry.check(cue.strategy)
        content = self._store.get(cue.sample_id).content
        return content.format.frames_to_bytes(len(content.check_frames(cue.start_frame, cue.frames)))

    def _check_room(self, more: int) -> None:
        if more > 0 and len(self) + more > self.max_cues:
            raise LimitError(
                f"{len(self)} cues are announced; {more} more are too many",
                remedy=f"Announce at most {self.max_cues} at a time, the nearest first, or raise max_cues",
                reason="TOO_MANY_CUES",
                limit=self.max_cues,
            )

    def _find(self, schedule_id: str) -> dict[str, _Entry]:
        try:
            return self._schedules[schedule_id]
        except KeyError:
            raise _not_found(f"schedule {schedule_id[:80]!r}", schedule_id) from None

    # --- changing, under the lock ---

    def _new_name(self) -> str:
        return next(name for number in self._numbers if (name := f"schedule-{number}") not in self._schedules)

    def _replace(
        self, schedule_id: str, old: dict[str, _Entry], fresh: dict[str, _Entry], *, keep_others: bool
    ) -> None:
        entries: dict[str, _Entry] = {}
        for name, entry in old.items():
            new = fresh.get(name)
            if new is None and keep_others:
                entries[name] = entry
            elif new is not None and entry.cue.work == new.cue.work and _goes_on(entry):
                entry.cue, entry.announced_ns = new.cue, new.announced_ns
                entries[name] = entry
            elif not entry.state.settled:
                self._settle(entry, CueState.CANCELLED, "It was replaced. Announce it again if that was not meant.")
        for name, entry in fresh.items():
            entry.schedule_id = schedule_id
            entries.setdefault(name, entry)
        self._schedules[schedule_id] = entries
        if not entries:
            del self._schedules[schedule_id]

    def _settle(self, entry: _Entry, state: CueState, why: str = "") -> None:
        now_ns = self._clock.now_ns()
        entry.state, entry.why = state, why
        self._settled.append(entry.status(now_ns))
        if state in (CueState.CANCELLED, CueState.GAVE_WAY) and entry.prefetch is not None:
            # Not here: its end may be reported at once, on this thread.
            self._work.call_at(entry.prefetch.cancel, now_ns)

    def _tell(self) -> None:
        """Publish what was settled. Not under the lock: who is told may ask."""
        with self._lock:
            settled, self._settled = self._settled, []
        for event in settled:
            self._events.publish(event)

    def _answer(self, schedule_id: str, now_ns: int) -> Answer:
        entries = _by_time(self._schedules.get(schedule_id, {}).values())
        return Answer(schedule_id, now_ns, tuple(entry.status(now_ns) for entry in entries))

    # --- on workers ---

    def _wake(self, time_ns: int) -> None:
        if self._stopped or (self._wake_ns is not None and self._wake_ns <= time_ns):
            return
        self._wake_ns = time_ns
        self._work.call_at(lambda: self._ring(time_ns), time_ns)

    def _ring(self, time_ns: int) -> None:
        """Begin what is to begin now, and settle what is over."""
        with self._lock:
            if self._stopped or self._wake_ns != time_ns:
                return
            self._wake_ns = None
            now_ns = self._clock.now_ns()
            self._settle_what_is_over(now_ns)
            decision = self._decide(now_ns)
            for entry in _entries(decision.give_way):
                self._settle(entry, CueState.GAVE_WAY, _GAVE_WAY)
        for entry in _entries(decision.begin):
            self._begin(entry)
        with self._lock:
            self._settle_what_is_over(now_ns, tried=True)
            times_ns = [self._next_ns(entry) for entries in self._schedules.values() for entry in entries.values()]
            if decision.next_ns is not None:
                times_ns.append(decision.next_ns)
            if times_ns:
                self._wake(min(times_ns))
        self._tell()

    def _decide(self, now_ns: int) -> Decision:
        hints = [
            Hint(
                entry,
                entry.cue.due_ns,
                entry.needed_bytes,
                entry.cue.sureness,
                begun=entry.state is not CueState.WAITING,
                ended=entry.state is CueState.READY,
            )
            for entries in self._schedules.values()
            for entry in entries.values()
            if entry.state is CueState.WAITING or (_goes_on(entry) and entry.cue.due_ns > now_ns)
        ]
        return decide(hints, now_ns, self._meter.figures, self._pressure.level, self._budget.effective_bytes)

    def _begin(self, entry: _Entry) -> None:
        cue, now_ns = entry.cue, self._clock.now_ns()
        hold_ns = min(MAX_AHEAD_NS, max(0, cue.due_ns - now_ns) + KEEP_NS)
        try:
            prefetch = self._prefetch(cue.sample_id, cue.start_frame, cue.frames, cue.strategy, cue.due_ns, hold_ns)
        except LimitError as error:
            entry.why = str(error)  # it is tried again as long as its time has not come
            return
        except SamplecacheError as error:
            with self._lock:
                if not entry.state.settled:
                    self._settle(entry, CueState.FAILED, str(error))
            return
        with self._lock:
            cancelled = entry.state.settled
            if not cancelled:
                entry.prefetch, entry.began_ns, entry.state, entry.why = prefetch, now_ns, CueState.FETCHING, ""
        if cancelled:
            prefetch.cancel()
        else:
            prefetch.when_ended(lambda: self._note_end(entry, prefetch))

    def _note_end(self, entry: _Entry, prefetch: Prefetch) -> None:
        with self._lock:
            if entry.state is not CueState.FETCHING:
                return
            now_ns, progress = self._clock.now_ns(), prefetch.progress
            whole = progress.pages_in == progress.pages_needed
            # One that came when its time had come is not too late if nothing had to be done.
            if whole and (now_ns <= entry.cue.due_ns or not progress.pages_needed):
                entry.ready_ns = min(now_ns, entry.cue.due_ns)
                self._settle(entry, CueState.READY, " ".join(prefetch.notes))
            else:
                self._settle(entry, CueState.LATE, " ".join(prefetch.notes) or (_LATE if whole else _SHORT))
            self._wake(now_ns)
        self._tell()

    def _settle_what_is_over(self, now_ns: int, *, tried: bool = False) -> None:
        """Settle cues whose time has come. One that was announced when it had come already is tried first."""
        for schedule_id, entries in tuple(self._schedules.items()):
            for name, entry in tuple(entries.items()):
                due_ns = entry.cue.due_ns
                if entry.state is CueState.WAITING and due_ns <= now_ns and (tried or entry.announced_ns < due_ns):
                    self._settle(entry, CueState.GAVE_WAY, entry.why or _GAVE_WAY)
                elif entry.state is CueState.FETCHING and entry.began_ns < due_ns <= now_ns:
                    self._settle(entry, CueState.LATE, _LATE)
                if entry.state.settled and due_ns + KEEP_NS <= now_ns:
                    del entries[name]
            if not entries:
                del self._schedules[schedule_id]

    def _next_ns(self, entry: _Entry) -> int:
        """Return when something is to be done about it, if nothing happens before."""
        if entry.state.settled or entry.began_ns >= entry.cue.due_ns:
            return entry.cue.due_ns + KEEP_NS
        return entry.cue.due_ns


def _entries(keys: Iterable[Hashable]) -> list[_Entry]:
    """Return the entries among what was decided about: all of it, as far as types can tell."""
    return [key for key in keys if isinstance(key, _Entry)]


def _goes_on(entry: _Entry) -> bool:
    """Return whether what was or will be done for it is of use to a cue that wants the same."""
    return entry.state in (CueState.WAITING, CueState.FETCHING, CueState.READY)


def _by_time(entries: Iterable[_Entry]) -> list[_Entry]:
    return sorted(entries, key=lambda entry: entry.cue.due_ns)


def _repeated(request_id: str, before: tuple[bytes, Answer], fingerprint: bytes) -> Answer:
    known, answer = before
    if known != fingerprint:
        raise InvalidError(
            f"the request_id {request_id!r} came before, with another request",
            remedy="Give each request an id of its own, and repeat it unchanged",
            reason="REQUEST_ID_REUSED",
        )
    return answer


def _not_found(what: str, schedule_id: str) -> ScheduleNotFoundError:
    return ScheduleNotFoundError(
        f"there is no {what}",
        remedy="Its time may be over. Announce it, or set allow_missing where you cancel",
        schedule_id=schedule_id[:80],
    )
