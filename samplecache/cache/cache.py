"""The façade: everything the cache can do, for a service or for a program that embeds it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from samplecache.audio.convert import Converter
from samplecache.audio.decode import DecodeLimits, Decoder
from samplecache.cache.accounting.bookkeeping import Bookkeeping
from samplecache.cache.accounting.budget import PrefetchBudget, default_budget_bytes
from samplecache.cache.accounting.figures import PageInMeter, Totals
from samplecache.cache.accounting.playback import Playback
from samplecache.cache.ahead.schedules import Schedules
from samplecache.cache.ahead.triggers import Triggers
from samplecache.cache.choosing import Chooser
from samplecache.cache.device.flights import Flights
from samplecache.cache.device.pressure_watch import PressureWatch
from samplecache.cache.device.shedding import Shedding
from samplecache.cache.events import EventBus
from samplecache.cache.play_options import PlayOptions
from samplecache.cache.prefetching.announced import Announced
from samplecache.cache.prefetching.holds import Holds
from samplecache.cache.prefetching.lookout import Lookout
from samplecache.cache.prefetching.orders import Order
from samplecache.cache.prefetching.prefetch import Prefetch
from samplecache.cache.prefetching.prefetcher import Prefetcher
from samplecache.cache.reading import block_frames
from samplecache.cache.samples.ingest import Ingest
from samplecache.cache.samples.limits import check_between, limit_error
from samplecache.cache.samples.sample import Sample, check_tags
from samplecache.cache.samples.store import Lease, Publication, Store
from samplecache.cache.samples.upload import Declaration, Upload
from samplecache.cache.samples.upload_desk import UploadDesk
from samplecache.cache.session import Session, SessionFloor
from samplecache.cache.settings import CacheSettings
from samplecache.cache.tasks.work import Workers, WorkQueue
from samplecache.clock import NS_PER_MS, NS_PER_S, Clock, MonotonicClock
from samplecache.errors import OutOfRangeError
from samplecache.kernel.ledger import LockLedger, default_lock_budget
from samplecache.kernel.port import Capabilities, Kernel, Residency
from samplecache.strategy.events import Degraded, Evicted, PrefetchDone
from samplecache.strategy.registry import AUTO, Binding, StrategyRegistry
from samplecache.strategy.view import Stretch
from samplecache.witness import Witness

MIN_BLOCK_NS: Final = NS_PER_MS
MAX_BLOCK_NS: Final = NS_PER_S
MAX_LEAD_NS: Final = 30 * NS_PER_S
MAX_HOLD_NS: Final = 3600 * NS_PER_S
EVICT_SLICE_NS: Final = NS_PER_S // 2


class SampleCache:
    """Samples in anonymous memory, and their pages back in RAM before they are played.

    All methods may be called from any thread. Those that may block or fault say so.

    Parameters
    ----------
    kernel : Kernel
        Real or simulated.
    settings : CacheSettings
        Limits and defaults.
    registry : StrategyRegistry, optional
        Strategies; all installed plugins if not given.
    clock : Clock, optional
        What deadlines are measured on. Must be a real clock if there are no `workers`: threads sleep on it.
    witness : Witness, optional
        Sleeping threads that tell the machine's stalls from memory's; without one no underrun is put down to
        scheduling. The caller starts and stops it.
    workers : Workers, optional
        Who carries prefetches out; ``settings.workers`` threads if not given. The cache closes them.

    Raises
    ------
    UnknownStrategyError
        ``settings.default_strategy`` is not registered.
    """

    def __init__(
        self,
        kernel: Kernel,
        settings: CacheSettings,
        registry: StrategyRegistry | None = None,
        clock: Clock | None = None,
        witness: Witness | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.kernel = kernel
        self.settings = settings
        self.registry = registry or StrategyRegistry.discover()
        self.registry.check(settings.default_strategy)
        self.clock = clock or MonotonicClock()
        self.witness = witness
        self.capabilities: Capabilities = kernel.probe()
        budget_bytes = settings.lock_budget_bytes
        self.ledger = LockLedger(
            kernel, default_lock_budget(self.capabilities) if budget_bytes is None else budget_bytes
        )
        prefetch_bytes = settings.prefetch_budget_bytes
        self.prefetch_budget = PrefetchBudget(
            default_budget_bytes(kernel.memory()) if prefetch_bytes is None else prefetch_bytes, kernel.page_bytes
        )
        self.events = EventBus(self.registry)
        self.totals = Totals()
        self.meter = PageInMeter()
        self.store = Store(kernel, settings.budget_bytes, settings.max_samples)
        self._work = WorkQueue(settings.workers, self.clock) if workers is None else workers
        self.uploads = UploadDesk(
            settings.max_uploads,
            settings.max_upload_bytes,
            settings.upload_ttl_ns,
            self._call_later,
            settings.spool_dir,
        )
        self._decoder = Decoder(
            DecodeLimits(max_input_bytes=settings.max_upload_bytes, max_decoded_bytes=settings.max_decoded_bytes)
        )
        self._ingest = Ingest(kernel, self.store, self._decoder, settings.max_decoded_bytes)
        self.pressure = PressureWatch(kernel, self.clock, self._work.call_at, self.meter, self.prefetch_budget.scale)
        self._chooser = Chooser(
            self.registry,
            settings.default_strategy,
            self.capabilities,
            self.ledger,
            self.meter,
            self.pressure,
            kernel.page_bytes,
        )
        self._shedding = Shedding(self.clock, self._work.call_at, self.meter, self.events.publish)
        self._prefetcher = Prefetcher(
            kernel,
            self.ledger,
            self.registry,
            self._work,
            self.clock,
            self.meter,
            self.capabilities,
            Flights(kernel, self.clock, self._work.call_at, self.meter, bounded=settings.advice_bounded),
            self.prefetch_budget,
            self.pressure,
            self._fell_short,
        )
        self.triggers = Triggers(
            kernel,
            self.ledger,
            self.store,
            self._work,
            self.clock,
            self.meter,
            self.capabilities,
            self.pressure,
            settings,
        )
        self._floor = SessionFloor(
            kernel, self.clock, self._prefetcher, self.meter, self._witness_ns, self.events.publish
        )
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._sessions: dict[Session, None] = {}
        self._prefetches: set[Prefetch] = set()
        self._holds = Holds(self.ledger, self._call_later)
        self._books = Bookkeeping(kernel, self.totals, self.prefetch_budget)
        self._lookout = Lookout(self._prefetcher, self.store.lease)
        self.schedules = Schedules(
            self.prefetch,
            self.store,
            self.registry,
            self._work,
            self.clock,
            self.meter,
            self.events,
            settings.max_cues,
            self.prefetch_budget,
            self.pressure,
        )
        self._announced = Announced(self._call_later)

    # --- uploads ---

    def open_upload(self, declaration: Declaration) -> Upload:
        """Begin or resume an upload; see :meth:`UploadDesk.open`. Refuses early what could not be stored anyway.

        Raises
        ------
        UnknownStrategyError, InvalidSampleIdError, ConflictError, StoreFullError, LimitError, InvalidError
        """
        self.registry.check(declaration.strategy)
        check_tags(declaration.tags)
        raw = declaration.raw_format
        if raw is not None:
            raw.bytes_to_frames(declaration.total_bytes)
        known_bytes = declaration.total_bytes if raw is not None else 0
        self.store.check_room(declaration.sample_id, known_bytes, replace=declaration.replace)
        return self.uploads.open(declaration)

    def finish_upload(self, upload: Upload) -> Publication:
        """Verify, decode and publish; the upload is done then. Blocks on the decoder, and may fault. On any error the
        store is as it was.

        Raises
        ------
        UploadIncompleteError, ChecksumError, AudioError, DecodedTooLargeError, StoreFullError, MappingError, ...
        """
        with upload.verified() as fd:
            publication = self._ingest.ingest(upload.declaration, fd)
        self.uploads.close(upload, done=True)
        for sample_id, freed_bytes in publication.evicted:
            self.events.publish(Evicted(self.clock.now_ns(), sample_id, freed_bytes))
        return publication

    # --- prefetch ---

    def prefetch(
        self,
        sample_id: str,
        start_frame: int = 0,
        frames: int = 0,
        strategy: str = "",
        deadline_ns: int | None = None,
        hold_ns: int = 10 * NS_PER_S,
    ) -> Prefetch:
        """Have a sample's pages brought in. Does not block; watch the :class:`Prefetch` that it returns.

        Parameters
        ----------
        sample_id : str
            The sample.
        start_frame, frames : int
            Frames to bring in; to the end if `frames` is 0.
        strategy : str
            A name, "auto", or empty for no wish.
        deadline_ns : int or None
            When the first frame will be played, on the cache's clock.
        hold_ns : int
            How long locks are kept after it has ended, unless a session takes them over.

        Raises
        ------
        SampleNotFoundError, OutOfRangeError, UnknownStrategyError, LimitError, InvalidError
        """
        check_between("hold", hold_ns, 0, MAX_HOLD_NS)
        lease = self.store.lease(sample_id)
        try:
            wanted = lease.content.pages_of(lease.content.check_frames(start_frame, frames), self.kernel.page_bytes)
            lead_ns = None if deadline_ns is None else max(0, deadline_ns - self.clock.now_ns())
            binding = self._bind(lease.sample, strategy, lead_ns)
            holder = f"prefetch-{next(self._numbers)}"
            with self._lock:
                if len(self._prefetches) + len(self._holds) >= self.settings.max_prefetches:
                    raise limit_error("prefetches", self.settings.max_prefetches)
                account = self._books.new(lease, binding)
                order = self._lookout.watched(Order(lease.sample, wanted, binding, deadline_ns, holder, account))
                prefetch = Prefetch(self._prefetcher, order, lambda ended: self._prefetch_ended(ended, lease, hold_ns))
                self._prefetches.add(prefetch)
        except BaseException:
            lease.release()
            raise
        self._books.begin(account, lease, binding, lambda: (Stretch(wanted, deadline_ns),))
        self._announced.begin(lease.content, account)
        prefetch.start()
        return prefetch

    def _prefetch_ended(self, prefetch: Prefetch, lease: Lease, hold_ns: int) -> None:
        order, progress = prefetch.order, prefetch.progress
        # A cancelled one may end on the event loop, where nothing may block: a worker gives its locks up. What has
        # locked nothing is not worth keeping: its lease would only keep the sample from being evicted.
        prefetch.pages_locked = self.ledger.held(order.holder)
        keep_ns = hold_ns if not prefetch.cancelled and prefetch.pages_locked else 0
        with self._lock:
            self._prefetches.discard(prefetch)
        until_due_ns = min(MAX_HOLD_NS, max(0, (order.deadline_ns or 0) - self.clock.now_ns()))
        kept_ns = 0 if prefetch.cancelled or not hold_ns else hold_ns + until_due_ns
        self._announced.end(lease.content, order.account, kept_ns, until_due_ns if prefetch.rechecks else 0)
        self._holds.keep(order, lease, keep_ns)
        self.totals.add_prefetch(order.binding.strategy.name, progress.pages_needed, progress.pages_in)
        self.events.publish(
            PrefetchDone(
                self.clock.now_ns(),
                order.sample.sample_id,
                order.binding.strategy.name,
                progress.pages_needed,
                progress.pages_in,
                progress.elapsed_ns,
                prefetch.in_time,
                prefetch.cancelled,
            )
        )

    # --- playback ---

    def open_session(self, options: PlayOptions, *, start: bool = True) -> Session:
        """Open a playback session; its clock starts now. Does not block. Close it in any case.

        It takes over what prefetches of the same sample hold locked. Without `start` its strategy is not asked yet, nor
        anybody woken: the caller says when, by :meth:`Session.start`.

        Raises
        ------
        SampleNotFoundError, OutOfRangeError, UnknownStrategyError, InvalidFormatError, LimitError, InvalidError
        """
        check_between("block", options.block_ns, MIN_BLOCK_NS, MAX_BLOCK_NS)
        check_between("lead", options.lead_ns or 0, 0, MAX_LEAD_NS)
        self._check_room()  # before anything is done for one of very many that are refused
        lease = self.store.lease(options.sample_id)
        try:
            stored = lease.content.format
            delivered = options.format(stored)
            playback = Playback(
                stored.rate_hz,
                lease.content.frames,
                lease.content.check_frames(options.start_frame, options.frames),
                block_frames(stored, delivered, options.block_ns),
                self.clock.now_ns(),
                options.lead_ns,
                loop=options.loop,
            )
            converter = Converter(stored, delivered, options.gain)
            binding = self._bind(lease.sample, options.strategy, options.lead_ns)
            with self._lock:
                self._check_room()
                session_id = f"session-{next(self._numbers)}"
                account = self._books.new(lease, binding, playback.stats.prefetched)
                session = Session(
                    session_id,
                    lease,
                    binding,
                    playback,
                    converter,
                    account,
                    self._floor,
                    self._session_started,
                    self._session_closed,
                )
                self._sessions[session] = None
        except BaseException:
            lease.release()
            raise
        self._holds.begin_playing(lease.content, session_id)
        self._books.begin(account, lease, binding, session.path)
        self._announced.begin_playing(lease.content, account)
        page_frames = self.kernel.page_bytes / stored.frame_bytes
        self.totals.begin_session(session_id, binding.strategy.name, playback.stats, page_frames)
        if start:
            session.start()
        return session

    def _check_room(self) -> None:
        if len(self._sessions) >= self.settings.max_sessions:
            raise limit_error("sessions", self.settings.max_sessions)

    def _session_started(self, session: Session) -> None:
        self._shedding.join(session, session.place)
        self.triggers.note_play(session.sample)

    def _session_closed(self, session: Session) -> None:
        self._shedding.leave(session.session_id)
        self._announced.end_playing(session.sample.content, session.account)
        self.totals.end_session(session.session_id)
        self._holds.end_playing(session.sample.content, session.session_id)
        with self._lock:
            self._sessions.pop(session, None)
        self.events.publish(session.ending())

    # --- samples ---

    def residency(self, sample_id: str, start_frame: int = 0, frames: int = 0) -> Residency:
        """Tell where the pages of a sample are. Does not fault; takes some milliseconds for a large sample.

        Raises
        ------
        SampleNotFoundError, OutOfRangeError
        """
        with self.store.lease(sample_id) as lease:
            content = lease.content
            span = content.pages_of(content.check_frames(start_frame, frames), self.kernel.page_bytes)
            return self.kernel.residency(content.region, span)

    def evict(self, sample_id: str, timeout_ns: int) -> tuple[int, int]:
        """Page a sample out, as disuse would; return its pages and how many unlocked ones are left in RAM. Blocks.

        Raises
        ------
        SampleNotFoundError, NotPermittedError
        """
        deadline_ns = self.clock.now_ns() + timeout_ns
        with self.store.lease(sample_id) as lease:
            region = lease.content.region
            while True:
                # In slices: whoever stops the cache need not wait for the longest timeout.
                slice_ns = max(1, min(EVICT_SLICE_NS, deadline_ns - self.clock.now_ns()))
                left = self.kernel.evict(region, region.span, slice_ns)
                if not left or self._stopping.is_set() or self.clock.now_ns() >= deadline_ns:
                    return region.pages, left

    def stop_evictions(self) -> None:
        """Have evictions under way return soon with what they have reached, and later ones at once. Never blocks."""
        self._stopping.set()

    def update(
        self,
        sample_id: str,
        *,
        tags: tuple[str, ...] | None = None,
        pinned: bool | None = None,
        strategy: str | None = None,
    ) -> Sample:
        """Change what is not None about a sample.

        Raises
        ------
        SampleNotFoundError, UnknownStrategyError, InvalidError
        """
        if strategy is not None:
            self.registry.check(strategy)
        return self.store.update(sample_id, tags=tags, pinned=pinned, strategy=strategy)

    def explain(self, sample_id: str, lead_ns: int | None = None) -> Binding:
        """Return what a session of `sample_id` that asks for "auto" would get now, `lead_ns` before it is due.

        Raises
        ------
        SampleNotFoundError
        """
        with self.store.lease(sample_id) as lease:
            return self._chooser.choose(lease.sample, AUTO, lead_ns)

    # --- figures ---

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Sessions open now, oldest first. Any of them may end at any time."""
        with self._lock:
            return tuple(self._sessions)

    @property
    def session_count(self) -> int:
        """Sessions open now."""
        return len(self._sessions)

    @property
    def prefetch_count(self) -> int:
        """Prefetches under way now."""
        return len(self._prefetches)

    # --- the end ---

    def close(self) -> None:
        """Stop workers, end the decoder, unmap everything. Blocks. Sessions must have been closed before."""
        with self._lock:
            prefetches = tuple(self._prefetches)
        for prefetch in prefetches:
            prefetch.cancel()
        self.triggers.stop()
        self.schedules.stop()
        self._work.close()
        self._decoder.close()
        self.uploads.clear()
        self.store.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside ---

    def _bind(self, sample: Sample, strategy: str, lead_ns: int | None) -> Binding:
        binding = self._chooser.choose(sample, strategy, lead_ns)
        if binding.degraded_from:
            self._degraded(sample.sample_id, binding.strategy.name, binding.degraded_from, "; ".join(binding.notes))
        return binding

    def _fell_short(self, order: Order, why: str) -> None:
        name = order.binding.strategy.name
        self._degraded(order.sample.sample_id, name, name, why)

    def _degraded(self, sample_id: str, strategy: str, wanted: str, why: str) -> None:
        self.events.publish(Degraded(self.clock.now_ns(), sample_id, strategy, wanted, why))

    def _call_later(self, work: Callable[[], None], delay_ns: int) -> None:
        self._work.call_at(work, self.clock.now_ns() + delay_ns)

    def _witness_ns(self, start_ns: int, stop_ns: int) -> int:
        if self.witness is None:
            return 0
        try:
            return self.witness.lateness_between(start_ns, stop_ns)
        except OutOfRangeError:
            # Older than it remembers: then it cannot be called as a witness.
            return 0
