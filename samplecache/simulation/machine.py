"""A machine with one process: the operations that the process has on its memory.

Operations that may sleep are generators. They yield the time, in nanoseconds, at which the calling thread wants to go
on, and have to be resumed at that time or later. Between two resumptions the machine is consistent, so that any number
of threads may be in the middle of an operation. CPU time is paid in lumps, before a sleep and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from samplecache.errors import ConfigurationError, ExhaustedError, NotPermittedError, UnmappedError
from samplecache.simulation.counters import MachineCounters, SimulatedThread
from samplecache.simulation.evictor import Evictor
from samplecache.simulation.faults import Access, FaultHandler
from samplecache.simulation.filepages import lay_out, refuse_file
from samplecache.simulation.locks import Locks
from samplecache.simulation.memory import Memory, Steps
from samplecache.simulation.options import SimulationOptions
from samplecache.simulation.pages import (
    ACCESSED,
    CACHED,
    DATA,
    DIRTY,
    FRAME,
    HOLE,
    LOCKED,
    NEVER_NS,
    PRESENT,
    PRESENT_FLAGS,
    QUIET_FLAGS,
    SHARED_ZERO,
    STATE,
    UNLOCKED_FLAGS,
    WITH_ACCESSED,
    WITH_WRITTEN,
    SimulatedRegion,
)
from samplecache.simulation.readahead import Readahead
from samplecache.simulation.rules import RULES
from samplecache.simulation.vmas import runs_of
from samplecache.simulation.willneed import willneed_pages


class Machine:
    """Memory, swap and a process with many threads.

    Threads are told apart by any integer; spans are half-open, in pages of a region.

    Parameters
    ----------
    options : SimulationOptions
        What it is like.
    now_ns : Callable
        The time, in nanoseconds; must not go back.
    """

    def __init__(self, options: SimulationOptions, now_ns: Callable[[], int]) -> None:
        self.options = options
        self._memory = Memory(options, now_ns)
        self._table = self._memory.table
        self._faults = FaultHandler(self._memory)
        self._evictor = Evictor(self._memory, self._faults)
        self._locks = Locks(self._memory)
        self._rules = RULES[options.kernel]
        # Where faults are not retried, those of populating and locking count as any other's.
        self._populating = Access.POPULATE if self._rules.retried_faults else Access.READ
        self._locking = Access.LOCK if self._rules.retried_faults else Access.WRITE
        self._threads: dict[int, SimulatedThread] = {}

    # --- memory ---

    def map(self, pages: int) -> SimulatedRegion:
        """Map `pages` pages, none of them written."""
        return SimulatedRegion(self._table.allocate(pages), pages)

    def map_file(self, pages: int) -> SimulatedRegion:
        """Map a file of `pages` pages, none of them in memory, on the disk that swap is on.

        Touching it reads it in order, 128 KiB at a time, into frames that reclaim takes back without a write. Its reads
        take the device's time and are no swap-ins. It can be touched, populated, advised, evicted and unmapped.
        """
        region = SimulatedRegion(self._table.allocate(pages), pages, file=True)
        lay_out(self._table, region, self.options.swap_slots)
        return region

    def unmap(self, region: SimulatedRegion) -> None:
        """Give a region back with its frames, slots and locks. What was lent stays mapped, its pages NONE.

        Raises
        ------
        UnmappedError
            It has been unmapped before.
        """
        region.check()
        region.mapped = False
        stop = region.base + region.pages
        self._release(range(region.base, stop))
        if region.lent:
            self._table.clear(region.base, region.pages)
            region.vmas.set_locked(region.base, stop, locked=False)
        else:
            self._table.free(region.base, region.pages)

    def lend(self, region: SimulatedRegion, start: int, stop: int) -> SimulatedRegion:
        """Return a part of a region as a region, whose neighbours are the rest."""
        pages = self._pages(region, start, stop)
        return SimulatedRegion(pages.start, len(pages), of=region)

    def punch(self, region: SimulatedRegion, start: int, stop: int) -> None:
        """Unmap a part of a region. Touching it is an error from then on."""
        pages = self._pages(region, start, stop)
        self._release(pages)
        region.vmas.remove(pages.start, pages.stop)
        self._table.flags[pages.start : pages.stop] = bytes(len(pages))
        self._table.content[pages.start : pages.stop] = bytes((HOLE,)) * len(pages)

    def _release(self, pages: range) -> None:
        table, memory = self._table, self._memory
        for page in pages:
            flags = table.flags[page]
            if not flags:
                continue
            table.remove(page, page + 1)
            if flags & FRAME and table.content[page] != SHARED_ZERO:
                memory.used_pages -= 1
            if flags & LOCKED:
                self._locks.pages -= 1
            memory.release_slot(page)
            table.slot[page] = 0

    def write(self, thread: int, region: SimulatedRegion, start: int, stop: int, zeros: bytes | None = None) -> Steps:
        """Store to every page, ascending. Faults.

        Parameters
        ----------
        zeros : bytes, optional
            For each page, 1 if it is all zeros afterwards, else 0, shape ``(stop - start,)``; without it, none is.

        Raises
        ------
        NotPermittedError
            It is a file.
        """
        refuse_file(region, "written")
        own, as_content = self._thread(thread), bytes((DATA, *(self._rules.zero_content,) * 255))
        table = self._table
        flags, content = table.flags, table.content
        pages = self._pages(region, start, stop)
        page = start = pages.start
        while page < pages.stop:
            first = page
            if flags[page] & STATE == PRESENT and content[page] != SHARED_ZERO:
                page = table.run_stop(page, pages.stop)
                if SHARED_ZERO in content[first:page]:
                    page = content.index(SHARED_ZERO, first)
            else:
                page = self._faults.map_run(own, region, page, pages.stop, Access.WRITE)
                if page == first:
                    yield from self._faults.fault(own, region, page, Access.WRITE)
                    page += 1
            flags[first:page] = flags[first:page].translate(WITH_WRITTEN)
            if zeros is None:
                content[first:page] = bytes((DATA,)) * (page - first)
            else:
                content[first:page] = zeros[first - start : page - start].translate(as_content)
        yield from self._memory.sleep(own)

    def resize_memory(self, thread: int, pages: int) -> Steps:
        """Change the limit of memory; reclaim until it is kept.

        Raises
        ------
        ExhaustedError
            Not so much can be reclaimed; the limit stays as it was.
        """
        own, before_pages = self._thread(thread), self._memory.limit_pages
        self._memory.limit_pages = pages
        try:
            yield from self._memory.reclaim(own, must=True, room_pages=0)
        except ExhaustedError:
            self._memory.limit_pages = before_pages
            raise
        yield from self._memory.sleep(own)

    # --- paging ---

    def touch(self, thread: int, region: SimulatedRegion, start: int, stop: int) -> Steps:
        """Read every page, ascending. Faults."""
        return self._fault_in(thread, region, start, stop, Access.READ)

    def populate(self, thread: int, region: SimulatedRegion, start: int, stop: int) -> Steps:
        """MADV_POPULATE_READ: fault every page in for reading; ``make_pages_present()``, for writing. Faults.

        Raises
        ------
        UnmappedError
            There is a hole; the pages before it are populated.
        """
        if self._rules.populate_writes and not region.file:
            return self._make_present(thread, region, start, stop)
        return self._fault_in(thread, region, start, stop, self._populating)

    def _make_present(self, thread: int, region: SimulatedRegion, start: int, stop: int) -> Steps:
        own, flags = self._thread(thread), self._table.flags
        for page in self._pages(region, start, stop):
            if flags[page] & STATE != PRESENT:
                yield from self._faults.fault(own, region, page, Access.WRITE)
            flags[page] |= DIRTY | ACCESSED
        yield from self._memory.sleep(own)

    def plan_slots(self, region: SimulatedRegion, start: int, slots: Sequence[int]) -> None:
        """Have the pages from `start` on get these swap slots when they are next given one; 0 leaves it to the area.

        Raises
        ------
        ConfigurationError
            A slot lies outside the swap area.
        """
        for page, slot in zip(self._pages(region, start, start + len(slots)), slots, strict=True):
            if not 0 <= slot <= self.options.swap_slots:
                raise ConfigurationError(
                    f"Slot {slot} lies outside a swap area of {self.options.swap_slots} slots",
                    remedy="Give the simulated machine as much swap as the slots come from",
                )
            if slot:
                self._memory.slots.plan(page, slot)

    def _fault_in(self, thread: int, region: SimulatedRegion, start: int, stop: int, access: Access) -> Steps:
        own, faults, flags = self._thread(thread), self._faults, self._table.flags
        pages = self._pages(region, start, stop)
        now = flags[pages.start : pages.stop]
        if not now.translate(None, PRESENT_FLAGS):
            flags[pages.start : pages.stop] = now.translate(WITH_ACCESSED)
            return
        page = pages.start
        while page < pages.stop:
            first = page
            if flags[page] & STATE == PRESENT:
                page = self._table.run_stop(page, pages.stop)
                flags[first:page] = flags[first:page].translate(WITH_ACCESSED)
                continue
            if flags[page] & STATE == CACHED:
                page = faults.map_run(own, region, page, pages.stop, access)
            if page == first:
                yield from faults.fault(own, region, page, access)
                page += 1
        yield from self._memory.sleep(own)

    def willneed(self, thread: int, region: SimulatedRegion, start: int, stop: int) -> Steps:
        """MADV_WILLNEED: start to read what is swapped. Sleeps while the queue is full or there is no frame.

        Raises
        ------
        NotPermittedError
            This machine's kernel does not know it of anonymous memory.
        UnmappedError
            There is a hole; everything round it is being read.
        """
        own, pages = self._thread(thread), self._pages(region, start, stop)
        wanted = (pages,) if region.file else willneed_pages(self._memory, pages)
        yield from self._faults.read_ahead(own, wanted, -1)
        yield from self._memory.sleep(own)
        self._check_holes(pages)

    def cold(self, thread: int, region: SimulatedRegion, start: int, stop: int) -> None:
        """MADV_COLD: make mapped pages the next victims. Does not fault.

        Raises
        ------
        NotPermittedError
            A page is locked, or this machine's kernel does not know the advice.
        UnmappedError
            There is a hole; the rest is done.
        """
        self._check_knows("MADV_COLD")
        pages = self._unlocked(region, start, stop)
        self._evictor.make_cold(pages)
        self._check_holes(pages)

    def pageout(self, thread: int, region: SimulatedRegion, start: int, stop: int) -> Steps:
        """MADV_PAGEOUT: start to write mapped pages, in their order. Sleeps while the queue is full.

        Pages stay in the swap cache until something drops them, unless the device is synchronous or they are clean.

        Raises
        ------
        NotPermittedError
            A page is locked, or this machine's kernel does not know the advice.
        UnmappedError
            There is a hole; the rest is done.
        """
        self._check_knows("MADV_PAGEOUT")
        own, pages = self._thread(thread), self._unlocked(region, start, stop)
        yield from self._evictor.push_out(own, region, pages, NEVER_NS)
        yield from self._memory.sleep(own)
        self._check_holes(pages)

    def evict(
        self, thread: int, region: SimulatedRegion, start: int, stop: int, timeout_ns: int
    ) -> Generator[int, None, int]:
        """Push every page that is not locked out of RAM; give up after `timeout_ns`.

        Pages out, waits for writeback, maps what is cached (minor faults) and pages out again, now without a write.
        Returns the number of unlocked pages still in RAM.

        Raises
        ------
        NotPermittedError
            There is no swap.
        """
        if not self.options.swap_slots:
            raise NotPermittedError("There is no swap to evict to", remedy="Give the simulated machine swap slots")
        own, pages = self._thread(thread), self._pages(region, start, stop)
        return (yield from self._evictor.evict(own, region, pages, timeout_ns))

    def lock(self, thread: int, region: SimulatedRegion, start: int, stop: int) -> Steps:
        """Bring in and keep every page, with write faults, which give their slots back. All or nothing.

        Raises
        ------
        NotPermittedError
            The limit is 0 and the process has not CAP_IPC_LOCK.
        LockLimitError
            More would be locked than the limit allows.
        ExhaustedError
            Memory cannot hold what is locked.
        UnmappedError
            There is a hole.
        """
        refuse_file(region, "locked")
        own, table = self._thread(thread), self._table
        pages = self._pages(region, start, stop)
        fresh = [page for page in pages if not table.flags[page] & LOCKED]
        self._locks.check_limit(len(fresh))
        try:
            region.vmas.set_locked(pages.start, pages.stop, locked=True)
            self._check_holes(pages)
            self._locks.mark(fresh)
            page = pages.start
            while page < pages.stop:
                if table.flags[page] & STATE == PRESENT and table.content[page] != SHARED_ZERO:
                    page += 1
                    continue
                first = page
                page = self._faults.map_run(own, region, page, pages.stop, self._locking)
                if page == first:
                    yield from self._faults.fault(own, region, page, self._locking)
                    region.check()
                    page += 1
        except BaseException:
            if region.mapped:
                self._locks.unmark(fresh)
                for run in runs_of(fresh):
                    region.vmas.set_locked(run.start, run.stop, locked=False)
            raise
        yield from self._memory.sleep(own)

    def unlock(self, region: SimulatedRegion, start: int, stop: int) -> None:
        """Undo any number of locks. Does not fault.

        Raises
        ------
        UnmappedError
            There is a hole; what lies before it is unlocked.
        """
        pages = self._pages(region, start, stop)
        hole = self._table.content.find(HOLE, pages.start, pages.stop)
        self._locks.unmark(pages if hole < 0 else range(pages.start, hole))
        region.vmas.set_locked(pages.start, pages.stop, locked=False)
        self._check_holes(pages)

    # --- observing ---

    def page_flags(self, region: SimulatedRegion, start: int, stop: int) -> bytes:
        """Return the flags of each page as they are now, shape ``(stop - start,)``; see :mod:`.pages`."""
        pages, flags = self._pages(region, start, stop), self._table.flags
        if flags[pages.start : pages.stop].translate(None, QUIET_FLAGS):
            self._memory.settle(pages.start, pages.stop)
        return bytes(flags[pages.start : pages.stop])

    def page_contents(self, region: SimulatedRegion, start: int, stop: int) -> bytes:
        """Return what each page holds, shape ``(stop - start,)``; see :mod:`.pages`."""
        pages = self._pages(region, start, stop)
        return bytes(self._table.content[pages.start : pages.stop])

    def page_slots(self, region: SimulatedRegion, start: int, stop: int) -> list[int]:
        """Return the swap slot of each page, 0 for none."""
        pages = self._pages(region, start, stop)
        return self._table.slot[pages.start : pages.stop].tolist()

    def frames(self, region: SimulatedRegion) -> int:
        """Return how many frames the region has, reads in flight among them."""
        pages = self._pages(region, 0, region.pages)
        return sum(
            flags & FRAME and content != SHARED_ZERO
            for flags, content in zip(
                self._table.flags[pages.start : pages.stop],
                self._table.content[pages.start : pages.stop],
                strict=True,
            )
        )

    def thread_faults(self, thread: int) -> tuple[int, int]:
        """Return the minor and the major faults of a thread."""
        own = self._thread(thread)
        return own.minor, own.major

    @property
    def counters(self) -> MachineCounters:
        """What the machine has counted so far; it goes on counting."""
        return self._memory.counters

    @property
    def readahead(self) -> Readahead:
        """The readahead in use, with the state that it keeps."""
        return self._faults.readahead

    @property
    def used_pages(self) -> int:
        """Frames in use."""
        return self._memory.used_pages

    @property
    def limit_events(self) -> int:
        """How often memory was asked for and the limit was in the way."""
        return self._memory.limit_events

    @property
    def stalled_ns(self) -> int:
        """How long at least one thread slept in reclaim, in nanoseconds."""
        return self._memory.stalled_ns

    @property
    def locked_pages(self) -> int:
        """Pages in locked spans."""
        return self._locks.pages

    @property
    def memory_pages(self) -> int:
        """The limit of frames."""
        return self._memory.limit_pages

    @property
    def free_slots(self) -> int:
        """Swap slots that no page has."""
        return self._memory.slots.free

    @property
    def idle_ns(self) -> int:
        """When all I/O that was submitted is over; a time that has passed if it is."""
        return self._memory.device.idle_ns

    @property
    def device_requests(self) -> int:
        """Requests that the swap device was sent."""
        return self._memory.device.requests

    def log_text(self) -> str:
        """Return the event log; empty if the options ask for none."""
        return self._memory.log.text() if self._memory.log is not None else ""

    # --- arguments ---

    def _check_knows(self, advice: str) -> None:
        if not self._rules.knows_pageout:
            raise NotPermittedError(
                f"Linux 2.6.24 does not know {advice}",
                remedy="Use Linux 5.4 or later, or evict the pages",
                errno="EINVAL",
            )

    def _thread(self, thread: int) -> SimulatedThread:
        own = self._threads.get(thread)
        if own is None:
            own = self._threads[thread] = SimulatedThread(len(self._threads), self.options.page_bytes)
        return own

    def _pages(self, region: SimulatedRegion, start: int, stop: int) -> range:
        region.check()
        if not 0 <= start <= stop <= region.pages:
            raise UnmappedError(f"Pages [{start}, {stop}) are not mapped", remedy=f"Stay inside [0, {region.pages})")
        return range(region.base + start, region.base + stop)

    def _unlocked(self, region: SimulatedRegion, start: int, stop: int) -> range:
        pages = self._pages(region, start, stop)
        if self._table.flags[pages.start : pages.stop].translate(None, UNLOCKED_FLAGS):
            raise NotPermittedError("Locked pages cannot be paged out", remedy="Unlock them first", errno="EINVAL")
        return pages

    def _check_holes(self, pages: range) -> None:
        if HOLE in self._table.content[pages.start : pages.stop]:
            raise UnmappedError("A part of the span is not mapped", remedy="Stay inside what is mapped", errno="ENOMEM")
