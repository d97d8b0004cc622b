"""Keeps the heads of trigger samples in RAM: what :mod:`samplecache.cache.ahead.heads` plans, done on workers.

One head is seen to at a time, on one worker, behind everything that is due: of all prefetching this is the most
speculative. A head that reclaim takes back again and again is populated less and less often, so that a machine that has
no room for it is not made to thrash.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.ahead.heads import TRIGGER_TAG, Head, Trigger, Use, cover_ns, plan
from samplecache.cache.device.pressure_watch import PressureWatch
from samplecache.cache.samples.sample import Content, Sample
from samplecache.cache.samples.store import Lease, Store
from samplecache.cache.settings import CacheSettings
from samplecache.cache.tasks.work import Workers
from samplecache.clock import NS_PER_MS, NS_PER_S, Clock
from samplecache.errors import SampleNotFoundError, UnmappedError
from samplecache.kernel.ledger import LockLedger
from samplecache.kernel.port import Capabilities, Kernel, Operation, Region, Span
from samplecache.strategy.failures import log_failure
from samplecache.strategy.view import PageInFigures, Pressure

HOLDER: Final = "heads"
"""In whose name heads are locked."""

REST_FRACTION: Final = 4
"""One part in so many of the lock budget is left to sessions and prefetches, unless it is set otherwise."""

MAX_HEADS: Final = 4096
"""The most heads. Locking a part of a region splits its mapping, of which a process has 65 530 (vm.max_map_count)."""

SETTLE_NS: Final = 50 * NS_PER_MS
"""How long after a change planning waits for more: samples come in folders."""

SPARE_NS: Final = NS_PER_S
"""What is done to a head counts as due so much later: before that, what will be read goes first."""

IDLE_DUTY: Final = 9
"""What one head took is rested so many times: nine tenths of a slow device are left to those who are heard."""

RECHECK_NS: Final = NS_PER_S
"""How often those heads that are not locked are looked at; each, as long as it is found in RAM."""

MOST_MISSES: Final = 6
"""So many times in a row, a head that was found cold is left alone for twice as long: up to 64 s."""

LOOKS: Final = 256
"""Heads looked at each time; a look is a mincore of some microseconds."""

PLAN_DUTY: Final = 20
"""Planning costs time in proportion to the triggers; at least so many times that passes between plans (5 %)."""

REPLAN_RATIO: Final = 1.25
"""Page-ins may become so much dearer or cheaper before heads are measured anew."""

_NO_HEAD: Final = Head(0, 0)


@dataclass(frozen=True, slots=True)
class TriggerFigures:
    """How triggers stand.

    Attributes
    ----------
    samples : int
        Samples that are tagged.
    heads : int
        Contents of which a head is kept.
    locked_pages : int
        Pages locked for them.
    warm_pages : int
        Pages kept in RAM without a lock.
    repopulated_pages : int
        Pages populated again because they went cold, since the start.
    """

    samples: int = 0
    heads: int = 0
    locked_pages: int = 0
    warm_pages: int = 0
    repopulated_pages: int = 0


@dataclass(slots=True)
class _Watch:
    """When an unlocked part of a head is looked at again, and how many times in a row it was found cold."""

    check_ns: int
    misses: int = 0


_NEVER: Final = _Watch((1 << 63) - 1)


class Triggers:
    """Sees to it that trigger samples can start at once. Any thread; what blocks or faults is left to workers.

    Parameters
    ----------
    kernel : Kernel
        What acts on memory.
    ledger : LockLedger
        Through which heads are locked.
    store : Store
        Whose samples they are; it tells of each change.
    work : Workers
        Who does what is to be done.
    clock : Clock
        What times are measured on.
    meter : PageInMeter
        Knows what page-ins cost, and so how long a head has to be.
    capabilities : Capabilities
        What the kernel permits.
    pressure : PressureWatch
        How short memory is: heads that are not locked are left alone as long as it is.
    settings : CacheSettings
        The most to lock for heads, and to keep in RAM without a lock.
    """

    def __init__(
        self,
        kernel: Kernel,
        ledger: LockLedger,
        store: Store,
        work: Workers,
        clock: Clock,
        meter: PageInMeter,
        capabilities: Capabilities,
        pressure: PressureWatch,
        settings: CacheSettings,
    ) -> None:
        self._kernel = kernel
        self._ledger = ledger
        self._store = store
        self._work = work
        self._clock = clock
        self._meter = meter
        self._pressure = pressure
        self._bring_in = kernel.populate if capabilities.permitted(Operation.POPULATE) else kernel.touch
        lock_bytes = settings.trigger_lock_bytes
        if lock_bytes is None:
            lock_bytes = ledger.budget_bytes - ledger.budget_bytes // REST_FRACTION
        self._lock_pages = lock_bytes // kernel.page_bytes if capabilities.permitted(Operation.LOCK) else 0
        self._warm_pages = settings.trigger_warm_bytes // kernel.page_bytes
        self._lock = threading.Lock()
        self._changed: set[str] = set()
        self._samples: dict[str, Sample] = {}
        self._uses: dict[str, Use] = {}
        self._stale = False
        self._planned_for_ns = 0
        self._replan_ns = 0
        self._look_ns = 0
        self._names: dict[Content, list[str]] = {}
        self._heads: dict[Content, Head] = {}
        self._kept: dict[Content, Head] = {}
        self._todo: deque[Content] = deque()
        self._watched: dict[Content, _Watch] = {}
        self._repopulated_pages = 0
        self._busy = False
        self._stopped = False
        self._wake_ns: int | None = None
        store.listen(self._note_change)

    # --- what happens ---

    def note_play(self, sample: Sample) -> None:
        """Count a use, if the sample is a trigger. Never blocks."""
        sample_id = sample.sample_id
        with self._lock:
            if sample_id not in self._samples:
                return
            now_ns = self._clock.now_ns()
            self._uses[sample_id] = self._uses[sample_id].again(now_ns)
            self._stale = True
            self._wake(now_ns + SETTLE_NS)

    def _note_change(self, sample_id: str) -> None:
        """Have the sample looked at anew: it came, went, or was changed. Called under the store's lock."""
        with self._lock:
            self._changed.add(sample_id)
            self._wake(self._clock.now_ns() + SETTLE_NS)

    def stop(self) -> None:
        """Let heads be as they are, until :meth:`start`. Never blocks; what is being done to one is finished."""
        with self._lock:
            self._stopped, self._wake_ns = True, None

    def start(self) -> None:
        """See to heads again."""
        with self._lock:
            self._stopped = False
            self._wake(self._clock.now_ns())

    # --- figures ---

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be done but to look at heads from time to time."""
        return not (self._busy or self._changed or self._stale or self._todo)

    @property
    def figures(self) -> TriggerFigures:
        """How triggers stand now."""
        with self._lock:
            kept = self._kept.values()
            return TriggerFigures(
                len(self._samples),
                sum(head.pages > 0 for head in kept),
                sum(head.locked_pages for head in kept),
                sum(head.pages - head.locked_pages for head in kept),
                self._repopulated_pages,
            )

    # --- on workers ---

    def _wake(self, time_ns: int) -> None:
        """Have work go on at `time_ns`, unless it does before that. Under the lock."""
        if self._busy or self._stopped or (self._wake_ns is not None and self._wake_ns <= time_ns):
            return
        self._wake_ns = time_ns
        self._work.call_at(lambda: self._ring(time_ns), time_ns)

    def _ring(self, time_ns: int) -> None:
        with self._lock:
            if self._busy or self._wake_ns != time_ns:
                return  # work went on before, or is to rest
            self._wake_ns, self._busy = None, True
        self._work.submit(self._see_to_one, time_ns + SPARE_NS)

    def _see_to_one(self) -> Iterator[None]:
        """Plan if there is cause, see to the next head that is not as it should be, and go on or rest."""
        began_ns = self._clock.now_ns()
        try:
            self._replan()
            self._look_for_cold()
            content = self._next()
            if content is not None:
                yield from self._keep(content)
        except Exception as error:  # of one head: the others still want to be seen to
            log_failure("trigger_head_failed", error)
        finally:
            with self._lock:
                self._go_on_after(began_ns)

    def _go_on_after(self, began_ns: int) -> None:
        """Have work go on when there is some, after a rest if it has just taken long. Under the lock."""
        self._busy = False
        now_ns = self._clock.now_ns()
        rested_ns = now_ns + IDLE_DUTY * (now_ns - began_ns)
        if self._todo:
            self._wake(rested_ns)
        elif self._changed or self._stale:
            self._wake(max(rested_ns, self._replan_ns, now_ns + SETTLE_NS))
        elif self._watched:
            self._wake(max(rested_ns, self._look_ns))

    def _next(self) -> Content | None:
        with self._lock:
            return self._todo.popleft() if self._todo else None

    # --- planning ---

    def _replan(self) -> None:
        began_ns, figures = self._clock.now_ns(), self._meter.figures
        with self._lock:
            if began_ns < self._replan_ns or not (self._changed or self._stale or self._measures_otherwise(figures)):
                return
            changed, self._changed, self._stale = self._changed, set(), False
        found = {sample_id: self._find(sample_id) for sample_id in changed}
        with self._lock:
            for sample_id, sample in found.items():
                self._take_in(sample_id, sample)
            triggers, page_bytes = self._most_used(began_ns), self._kernel.page_bytes
            planned = plan(triggers, figures, page_bytes, self._lock_pages, self._warm_pages)
            self._heads = {content: head for content, head in planned.items() if isinstance(content, Content)}
            self._planned_for_ns = cover_ns(figures)
            self._list_what_to_do()
        ended_ns = self._clock.now_ns()
        self._replan_ns = ended_ns + PLAN_DUTY * (ended_ns - began_ns)

    def _measures_otherwise(self, figures: PageInFigures) -> bool:
        """Return whether heads would be of another length by what is measured now."""
        low_ns, high_ns = sorted((cover_ns(figures), self._planned_for_ns))
        return bool(self._samples) and high_ns > low_ns * REPLAN_RATIO

    def _find(self, sample_id: str) -> Sample | None:
        try:
            return self._store.get(sample_id)
        except SampleNotFoundError:
            return None

    def _take_in(self, sample_id: str, sample: Sample | None) -> None:
        if sample is not None and TRIGGER_TAG in sample.tags:
            self._samples[sample_id] = sample
            self._uses.setdefault(sample_id, Use())  # a sample that replaces another takes over how it was used
        else:
            self._samples.pop(sample_id, None)
            self._uses.pop(sample_id, None)

    def _most_used(self, now_ns: int) -> list[Trigger]:
        """Return as many triggers as may have heads; samples that share a content are one."""
        self._names = {}
        uses: dict[Content, float] = {}
        for sample_id, sample in self._samples.items():
            self._names.setdefault(sample.content, []).append(sample_id)
            uses[sample.content] = uses.get(sample.content, 0.0) + self._uses[sample_id].count_at(now_ns)
        most_used = sorted(uses, key=lambda content: -uses[content])[:MAX_HEADS]
        return [Trigger(content, content.region.pages, content.bytes_per_s, uses[content]) for content in most_used]

    def _list_what_to_do(self) -> None:
        """Find the heads that are not as planned; what gives locks up comes first, so that there is room."""
        heads, kept = self._heads, self._kept
        gone = [content for content in kept if content not in heads]
        shrinking = [
            content for content in heads if heads[content].locked_pages < kept.get(content, _NO_HEAD).locked_pages
        ]
        others = [content for content in heads if heads[content] != kept.get(content)]
        self._todo = deque(dict.fromkeys((*gone, *shrinking, *others)))

    # --- one head ---

    def _keep(self, content: Content) -> Iterator[None]:
        """Lock, unlock and bring in what is planned of one content's head. Faults."""
        with self._lock:
            head = self._heads.get(content, _NO_HEAD)
            names = self._names.get(content, []) if head.pages else []
        lease = self._lease(names, content)
        if lease is None:
            # It is gone, or no trigger any more; locks in memory that is unmapped are only forgotten.
            self._ledger.release(HOLDER, content.region)
            with self._lock:
                self._kept.pop(content, None)
                self._watched.pop(content, None)
            return
        with lease:
            yield from self._lock_head(content, head)
            locked_pages = sum(map(len, self._ledger.spans(HOLDER, content.region)))
            yield from self._warm(content, Span(locked_pages, max(locked_pages, head.pages)))
        with self._lock:
            self._kept[content] = Head(locked_pages, head.pages)

    def _lease(self, names: list[str], content: Content) -> Lease | None:
        """Return a lease on `content` if it is still stored under one of `names`; being kept warm is no use of it."""
        for name in names:
            try:
                lease = self._store.lease(name, used=False)
            except SampleNotFoundError:
                continue
            if lease.content is content:
                return lease
            lease.release()
        return None

    def _lock_head(self, content: Content, head: Head) -> Iterator[None]:
        held_pages = sum(map(len, self._ledger.spans(HOLDER, content.region)))
        if held_pages > head.locked_pages:
            self._ledger.release(HOLDER, content.region, Span(head.locked_pages, held_pages))
        elif held_pages < head.locked_pages:
            self._ledger.acquire(HOLDER, content.region, Span(held_pages, head.locked_pages))
            yield

    def _warm(self, content: Content, span: Span) -> Iterator[None]:
        """Bring in the part of a head that is not locked, and have it looked at again in a while."""
        cold = bool(span) and not self._kernel.in_core(content.region, span)
        now_ns, brings_in = self._clock.now_ns(), cold and self._pressure.level is Pressure.NONE
        with self._lock:
            if not span:
                self._watched.pop(content, None)
                return
            watch = self._watched.setdefault(content, _Watch(now_ns))
            watch.misses = min(watch.misses + 1, MOST_MISSES) if cold else 0
            watch.check_ns = now_ns + (RECHECK_NS << watch.misses)
            self._repopulated_pages += len(span) if brings_in else 0
        if brings_in:
            self._pressure.asked(len(span))
            self._bring_in(content.region, span)
            yield

    def _look_for_cold(self) -> None:
        """Look at those heads that have waited for it the longest; what went cold is to be seen to."""
        now_ns = self._clock.now_ns()
        with self._lock:
            if now_ns < self._look_ns:
                return
            self._look_ns = now_ns + RECHECK_NS
            due = [content for content in self._heads if self._watched.get(content, _NEVER).check_ns <= now_ns]
            due.sort(key=lambda content: self._watched[content].check_ns)
            looks = [(content, self._kept.get(content, _NO_HEAD)) for content in due[:LOOKS]]
        cold = {content for content, kept in looks if self._is_cold(content.region, kept)}
        with self._lock:
            self._todo.extend(content for content, _ in looks if content in cold)
            for content, _ in looks:
                if content not in cold and (watch := self._watched.get(content)) is not None:
                    watch.misses, watch.check_ns = 0, now_ns + RECHECK_NS

    def _is_cold(self, region: Region, kept: Head) -> bool:
        try:
            return not self._kernel.in_core(region, Span(kept.locked_pages, kept.pages))
        except UnmappedError:
            return False  # removed just now; the store has told so
