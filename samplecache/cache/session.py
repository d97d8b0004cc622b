"""A playback session: reads blocks out of sample memory and accounts for what that cost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from samplecache.audio.convert import Converter
from samplecache.cache.accounting.accounts import Account
from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.accounting.playback import Block, Playback
from samplecache.cache.device.shedding import Place
from samplecache.cache.prefetching.orders import Moment, Order, Playhead
from samplecache.cache.prefetching.prefetch import Prefetch
from samplecache.cache.prefetching.prefetcher import Prefetcher
from samplecache.cache.reading import BlockReader, ReadBatch, ReadBlock, ReaderFloor
from samplecache.cache.samples.store import Lease
from samplecache.clock import NS_PER_S, Clock
from samplecache.errors import StateError
from samplecache.kernel.port import Kernel, Residency, Span
from samplecache.strategy.actions import Recheck
from samplecache.strategy.events import Event, SessionEnded, Underrun
from samplecache.strategy.registry import Binding
from samplecache.strategy.view import Stretch

MOST_SEEN_PAGES: Final = 4096
"""The most pages that are looked at where nothing may take long: in RAM they take mincore some 30 us."""

WRAP_AHEAD_NS: Final = 2 * NS_PER_S
"""How long before a loop begins again its pages are looked after: some may have gone since they were played."""


@dataclass(frozen=True, slots=True)
class SessionFloor:
    """What all sessions of a cache stand on.

    Attributes
    ----------
    kernel, clock, prefetcher, meter
        The cache's.
    witness_ns : Callable
        Returns how late sleeping threads were between two times, at worst.
    publish : Callable
        Told of events.
    """

    kernel: Kernel
    clock: Clock
    prefetcher: Prefetcher
    meter: PageInMeter
    witness_ns: Callable[[int, int], int]
    publish: Callable[[Event], None]


class Session:
    """One client's playing of one sample. Made by :meth:`samplecache.cache.cache.SampleCache.open_session`.

    Used by one thread at a time, which need not always be the same. Only :meth:`read` may fault.

    Parameters
    ----------
    session_id : str
        Its name in events.
    lease : Lease
        Keeps the content mapped; the session releases it in the end.
    binding : Binding
        The strategy.
    playback : Playback
        Cursor and deadlines.
    converter : Converter
        From the stored format to the delivered one.
    account : Account
        What became of pages that were brought in for it.
    floor : SessionFloor
        What it stands on.
    on_started : Callable
        Called once, when it is started.
    on_closed : Callable
        Called once, on a worker, when it is closed and its last prefetch has ended.
    """

    def __init__(
        self,
        session_id: str,
        lease: Lease,
        binding: Binding,
        playback: Playback,
        converter: Converter,
        account: Account,
        floor: SessionFloor,
        on_started: Callable[[Session], None],
        on_closed: Callable[[Session], None],
    ) -> None:
        self.session_id = session_id
        self.sample = lease.sample
        self.binding = binding
        self.playback = playback
        self.converter = converter
        self.account = account
        self._lease = lease
        self._kernel = floor.kernel
        self._clock = floor.clock
        self._prefetcher = floor.prefetcher
        reading = ReaderFloor(floor.kernel, floor.clock, floor.meter, floor.witness_ns)
        self._reader = BlockReader(lease.content, playback, converter, account, reading)
        self._publish = floor.publish
        self._on_started = on_started
        self._on_closed = on_closed
        self.place = Place()
        self._advances = Moment.ADVANCE.overridden_by(binding.strategy)
        self._rechecks = 0
        self._told = (0, 0)
        self._started = False
        self._wrap_prepared = False
        self._lock = threading.Lock()
        self._closed = False
        self._prefetches: list[Prefetch] = []
        self._running = 0

    def start(self) -> None:
        """Have the strategy prepare, and all else that can wait for a first block, once. Does not block."""
        if not (self._started or self._closed):
            self._started = True
            self._on_started(self)
            self._order(Moment.PREPARE)

    # --- blocks ---

    def next_block(self) -> Block | None:
        """Return the block to read next, or None at the end. Does not fault."""
        return self.playback.next_block()

    def is_resident(self, block: Block) -> bool:
        """Return whether reading the block would not wait for a device, as far as can be known. Does not fault."""
        return self._kernel.in_core(self._lease.content.region, self._pages(block.frames))

    def may_read(self, block: Block) -> bool:
        """Return whether the block may be read now, in RAM or not; see :meth:`.device.shedding.Place.may_read`."""
        place = self.place
        return not place.shed or place.may_read(block.frames.start, self._clock.now_ns()) or self.is_resident(block)

    def about_to_read(self, frames: range) -> None:
        """Settle what became of the pages of `frames`, if they were brought in ahead: reading does it. Does not fault.

        Who reads sample memory in another way, in virtual time, calls it before.
        """
        self._reader.about_to_read(frames)

    def resident(self, block: Block) -> range | None:
        """Return the frames that :meth:`read_resident` would read now, None if it would refuse. Does not fault.

        For who reads sample memory in another way, in virtual time.
        """
        return self._reader.resident(block)

    def read(self, block: Block, client_ns: int = 0) -> ReadBlock:
        """Copy the block out of sample memory and convert it. May fault, with the GIL released.

        Parameters
        ----------
        block : Block
            From :meth:`next_block`.
        client_ns : int
            How long the client kept the block before from being sent.

        Raises
        ------
        StateError
            The session was closed. While a read is under way, closing waits with giving the memory up.
        """
        self._begin_reading()
        try:
            return self._reader.read(block, client_ns)
        finally:
            self._one_less()

    def read_resident(self, block: Block, client_ns: int = 0, *, alone: bool = False) -> ReadBatch | None:
        """Read the block if it needs no device, as far as can be known; return None if it might.

        In the same go blocks after it are read whose pages are in RAM too: asking where pages are, and letting go of
        the GIL meanwhile, costs as much for one block as for many. What is not in RAM is never read ahead: that would
        hide what memory does. Takes some microseconds, and may take minor faults.

        Parameters
        ----------
        block : Block
            From :meth:`next_block`.
        client_ns : int
            How long the client kept the block before from being sent.
        alone : bool
            Whether to read it alone, because it is wanted at once.

        Raises
        ------
        StateError
            The session was closed.
        """
        self._begin_reading()
        try:
            return self._reader.read_resident(block, client_ns, alone=alone)
        finally:
            self._one_less()

    def _begin_reading(self) -> None:
        """Keep the content mapped until there is one less. No context manager: a generator costs as much as a read."""
        with self._lock:
            if self._closed:
                raise StateError("the session has ended", remedy="Open another one", reason="SESSION_ENDED")
            self._running += 1

    def delivered(self, read: ReadBlock) -> Underrun | None:
        """Account for a block that was read, and return its underrun."""
        late = self.playback.delivered(read.block, read.reading)
        if not self._advances:
            self._prepare_wrap(read.block)
        if late is None:
            return None
        underrun = Underrun(
            self._clock.now_ns(),
            self.session_id,
            self.sample.sample_id,
            self.strategy,
            late.offset_frames,
            late.late_ns,
            late.cause,
            late.faults,
        )
        self._publish(underrun)
        return underrun

    def delivered_in_time(self, frames: range) -> None:
        """Account for blocks that were read with one before them, and were ready when they were due."""
        self.playback.delivered_in_time(frames)

    # --- commands ---

    @property
    def strategy(self) -> str:
        """Name of the strategy bound."""
        return self.binding.strategy.name

    @property
    def bytes_per_s(self) -> int:
        """What it reads, in bytes per second of sample memory."""
        return self.sample.view(self._kernel.page_bytes).bytes_per_s

    @property
    def is_cold(self) -> bool:
        """Whether its next block is not in RAM."""
        block = self.next_block()
        return block is not None and not self.is_resident(block)

    @property
    def can_yield(self) -> bool:
        """Whether its strategy brings in a bit at a time, so that it can be kept from it."""
        return self._advances and self.binding.strategy.budgeted

    @property
    def played_pages(self) -> int:
        """Pages of the frames delivered, each once a round."""
        return round(self.playback.stats.frames * self.sample.content.format.frame_bytes / self._kernel.page_bytes)

    def residency(self) -> Residency | None:
        """Tell where the pages of all of its sample are; None once it is closed. Does not fault. Any thread."""
        with self._lock:
            if self._closed:
                return None
            self._running += 1
        try:
            region = self._lease.content.region
            return self._kernel.residency(region, region.span)
        finally:
            self._one_less()

    def ending(self) -> SessionEnded:
        """Return what it came to, now that it has ended and its account is closed."""
        stats, prefetched = self.playback.stats, self.playback.stats.prefetched
        return SessionEnded(
            self._clock.now_ns(),
            self.session_id,
            self.sample.sample_id,
            self.strategy,
            stats.blocks,
            stats.late_blocks,
            self.played_pages,
            prefetched.asked,
            prefetched.useful,
            prefetched.late,
            prefetched.wasted,
        )

    def was_read(self, block: Block, *, in_core: bool) -> None:
        """Settle what became of a block's pages, which another process has read: whether they were there in time."""
        if self.account.outstanding:
            self.account.read(self._pages(block.frames), lambda pages: in_core)

    def seek(self, frame: int, now_ns: int | None = None) -> None:
        """Go on at `frame`; the strategy prepares what is to come from there. Does not fault.

        Parameters
        ----------
        frame : int
            Where to go on.
        now_ns : int, optional
            When that was, on the cache's clock; now if not given.

        Raises
        ------
        OutOfRangeError
            There is no such frame; the session goes on as it was.
        """
        with self._lock:  # a recheck may be looking where playing stands
            self.playback.seek(frame, self._clock.now_ns() if now_ns is None else now_ns)
            self._rechecks += 1
        self.converter.reset()
        self._reader.seeked()
        self._cancel()
        self.account.keep_only(self._pages(frames) for frames, _ in self.playback.path)
        self._order(Moment.PREPARE)

    def close(self) -> None:
        """End the session: its prefetches stop; when they have, its locks are released, on a worker. Never blocks."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._rechecks += 1
            self._running += 1
        self._cancel()
        self._one_less()

    def _cancel(self) -> None:
        with self._lock:
            prefetches, self._prefetches = self._prefetches, []
        for prefetch in prefetches:
            prefetch.cancel()

    # --- the strategy ---

    def _recheck(self, recheck: Recheck) -> None:
        """Have the strategy asked again at a time that it named, unless it names another before."""
        with self._lock:
            if self._closed:
                return
            self._rechecks += 1
            number = self._rechecks
        at_ns = self._prefetcher.again_ns(recheck.deadline_ns)
        self._prefetcher.look_at(lambda: self._rechecked(number, recheck.span), at_ns)

    def _rechecked(self, number: int, look: Span) -> Iterator[None]:
        with self._lock:
            if number != self._rechecks:
                return iter(())
            self._running += 1
            for before in self._prefetches:
                before.supersede()
        return self._prefetch(Moment.ADVANCE, look=look).run()

    def _prepare_wrap(self, block: Block) -> None:
        """Have the strategy prepare a loop's next round, once each round, some time before it begins."""
        if (wrap := self.playback.wrap) is None:
            return
        frames, time_ns = wrap
        if block.frames.start == frames.start:
            self._wrap_prepared = False
        if not self._wrap_prepared and time_ns - self._clock.now_ns() <= WRAP_AHEAD_NS:
            self._wrap_prepared = True
            self._order(Moment.PREPARE, self._pages(frames), time_ns)

    def _order(self, moment: Moment, wanted: Span | None = None, deadline_ns: int | None = None) -> None:
        if not moment.overridden_by(self.binding.strategy) or self._has_all(wanted):
            return  # nobody would answer: no thread need wake up and look where pages are
        with self._lock:
            if self._closed:
                return
            self._running += 1
        self._prefetch(moment, wanted, deadline_ns).start()

    def _has_all(self, wanted: Span | None) -> bool:
        """Return whether the strategy would find all of `wanted` in RAM, or what is left to play, and say nothing."""
        if not self.binding.strategy.only_missing:
            return False
        pages = self._pages(self.playback.path[0][0]) if wanted is None else wanted
        return len(pages) <= MOST_SEEN_PAGES and self._kernel.in_core(self._lease.content.region, pages)

    def _prefetch(
        self,
        moment: Moment,
        wanted: Span | None = None,
        deadline_ns: int | None = None,
        look: Span | None = None,
    ) -> Prefetch:
        """Return a prefetch that counts as one of those that are running."""
        # Each prefetch has a lease of its own: it may be at work for a while after it was cancelled.
        lease = self._lease.share()

        def on_end(prefetch: Prefetch) -> None:
            lease.release()
            self._one_less()

        prefetch = Prefetch(self._prefetcher, self._new_order(moment, wanted, deadline_ns, look), on_end)
        with self._lock:
            self._prefetches = [other for other in self._prefetches if not other.progress.done]
            self._prefetches.append(prefetch)
            over = self._closed
        if over:  # closing may have missed it
            prefetch.cancel()
        return prefetch

    def _new_order(
        self, moment: Moment, wanted: Span | None = None, deadline_ns: int | None = None, look: Span | None = None
    ) -> Order:
        """Return an order for `wanted` by `deadline_ns`; without them, for what is left to play by when it is due."""
        playhead = self._playhead()
        if wanted is None:
            wanted, deadline_ns = playhead.path[0]
        return Order(
            self.sample,
            wanted,
            self.binding,
            deadline_ns,
            self.session_id,
            self.account,
            moment,
            playhead,
            look,
            self._recheck if self._advances else None,
            place=self.place,
        )

    def path(self) -> tuple[Stretch, ...]:
        """Return what will be read, in order, and when. Any thread; does not fault."""
        with self._lock:
            return tuple(Stretch(self._pages(frames), due_ns) for frames, due_ns in self.playback.path)

    def _playhead(self) -> Playhead:
        playback, path = self.playback, self.path()
        with self._lock:
            begun = self._pages(playback.played).start
            now = playback.stats.near_misses, playback.stats.late_for_pages
            before, self._told = self._told, now
        start = path[0].span.start
        played = Span(min(begun, start), start)
        return Playhead(path, played, playback.lead_ns, now[0] - before[0], now[1] - before[1])

    def _one_less(self) -> None:
        with self._lock:
            self._running -= 1
            last = self._closed and not self._running
        if not last:
            return
        # Only now: a lock being taken while the strategy finishes would outlive the session.
        if Moment.FINISH.overridden_by(self.binding.strategy):
            Prefetch(self._prefetcher, self._new_order(Moment.FINISH), lambda prefetch: self._finish()).start()
        else:
            self._prefetcher.submit(self._finish, None)

    def _finish(self) -> None:
        try:
            self._prefetcher.release(self.session_id, self._lease.content.region)
        finally:
            self._lease.release()
            self._on_closed(self)

    def _pages(self, frames: range) -> Span:
        return self._lease.content.pages_of(frames, self._kernel.page_bytes)
