"""Page faults (``do_swap_page`` of Linux 6.18) and who is charged for them."""

from __future__ import annotations

import enum
from collections.abc import Generator, Iterable
from typing import Final

from samplecache.errors import UnmappedError
from samplecache.simulation.counters import SimulatedThread
from samplecache.simulation.filepages import file_neighbours
from samplecache.simulation.memory import Memory, Steps
from samplecache.simulation.pages import (
    ACCESSED,
    CACHED,
    DIRTY,
    HOLE,
    IN_FLIGHT,
    LOCKED,
    LRU,
    NONE,
    PRESENT,
    READAHEAD,
    READING,
    SHARED_ZERO,
    STATE,
    SWAP_ENTRY,
    SWAPPED,
    WRITEBACK,
    ZERO,
    SimulatedRegion,
)
from samplecache.simulation.readahead import Readahead
from samplecache.simulation.readahead_choice import choose_readahead
from samplecache.simulation.rules import RULES


class Access(enum.Enum):
    """Why a page is faulted in."""

    READ = "read"
    WRITE = "write"
    POPULATE = "populate"
    """MADV_POPULATE_READ: a read, but waiting counts as a major fault of the caller."""
    LOCK = "lock"
    """mlock: a write, but a miss that has to wait does not count as a major fault of the caller."""


READS: Final = (Access.READ, Access.POPULATE)
"""Accesses that leave a page as it is."""


class FaultHandler:
    """Brings pages in.

    Parameters
    ----------
    memory : Memory
        The frames.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        options = memory.options
        self._synchronous = options.device.synchronous
        self._rules = RULES[options.kernel]
        self.readahead: Readahead = choose_readahead(options, memory.table, memory.slots.owner)
        memory.on_unused = self.readahead.unused

    def fault(self, thread: SimulatedThread, region: SimulatedRegion, page: int, access: Access) -> Steps:
        """Map `page`, which is not, or not to a frame that `access` may write. Counts one fault.

        Raises
        ------
        UnmappedError
            `page` is in a hole, or the region is unmapped meanwhile.
        ExhaustedError
            There is no frame for it.
        """
        memory, table = self._memory, self._memory.table
        write = access not in READS
        major = missed = waited = looked_up = False
        while True:
            region.check()
            flags = table.flags[page]
            if flags & IN_FLIGHT and table.done_ns[page] <= memory.now_ns():
                memory.complete(page, page + 1)
                flags = table.flags[page]
            state = flags & STATE
            if state == CACHED:
                if not missed and not looked_up:
                    looked_up = True
                    self._found(region, page, page + 1)
                if not flags & READING:
                    major = major or (missed and not waited)
                    self._map(page, page + 1, write)
                    break
                if access is Access.POPULATE and table.done_ns[page] > memory.now_ns() + thread.debt_ns:
                    major = True
                waited = True
                memory.hold(page)
                try:
                    wake_ns = memory.wake_ns(thread, table.done_ns[page])
                    if wake_ns:
                        yield wake_ns
                finally:
                    memory.let_go(page)
            elif state == PRESENT:  # another thread was faster, or a write to the shared zero page
                if (
                    not write
                    or table.content[page] != SHARED_ZERO
                    or (yield from self._new_frame(thread, region, page))
                ):
                    break
            elif state == NONE:
                if table.content[page] == HOLE:
                    raise UnmappedError(
                        f"Page {page - region.base} is not mapped", remedy="Stay inside what is mapped", errno="ENOMEM"
                    )
                if not write and self._rules.shared_zero_page:
                    table.flags[page] |= PRESENT
                    table.content[page] = SHARED_ZERO
                    break
                if (yield from self._new_frame(thread, region, page)):
                    break
            else:
                if not missed:
                    memory.counters.pgmajfault += 1
                    memory.note(thread, "major", page)
                missed = True
                major = major or access is not Access.LOCK or self._synchronous
                if self._synchronous:
                    yield from self._swap_in_directly(thread, region, page)
                else:
                    yield from self._swap_in(thread, region, page)
        thread.debt_ns += memory.options.fault_ns
        if major:
            thread.major += 1
        else:
            thread.minor += 1

    def map_run(self, thread: SimulatedThread, region: SimulatedRegion, start: int, stop: int, access: Access) -> int:
        """Do the minor faults of the run that `start` begins, if it is cached, or new and written, and needs no wait.

        Returns where the run ends, at `stop` at the latest; `start` where that page needs a :meth:`fault`.
        """
        memory, table = self._memory, self._memory.table
        flags = table.flags[start]
        if flags & STATE == NONE and access not in READS and table.content[start] != HOLE:
            free = memory.limit_pages - memory.used_pages
            stop = min(table.run_stop(start, stop), start + free, region.vmas.at(start).stop)
            if stop <= start:
                return start
            self._give_frames(region, start, stop)
            return self._charge(thread, start, stop)
        if flags & STATE != CACHED:
            return start
        stop = table.run_stop(start, stop)
        if flags & (READING if access in READS else IN_FLIGHT):
            if max(table.done_ns[start:stop]) > memory.now_ns():
                return start
            memory.complete(start, stop)
        self._found(region, start, stop)
        self._map(start, stop, access not in READS)
        return self._charge(thread, start, stop)

    def _charge(self, thread: SimulatedThread, start: int, stop: int) -> int:
        """Charge `thread` for the minor faults of a run; return its end."""
        thread.debt_ns += (stop - start) * self._memory.options.fault_ns
        thread.minor += stop - start
        return stop

    def read_ahead(self, thread: SimulatedThread, runs: Iterable[range], target: int) -> Steps:
        """Read those pages of `runs`, which ascend, that are on the device only, as far as there are frames.

        `target` is the page that is missing, the others its neighbours; WILLNEED, for which none is missing, says -1.
        """
        memory = self._memory
        flags = memory.table.flags
        for run in runs:
            page, stop = run.start, run.stop
            while page < stop:
                if flags[page] & STATE != SWAPPED:
                    page += 1
                    continue
                if memory.queue_room(thread) <= 0:
                    yield from memory.await_queue(thread)
                # A failed charge is silent; until the thread sleeps, no page after this one gets a frame either.
                if memory.used_pages >= memory.limit_pages and not (yield from memory.reclaim(thread, must=False)):
                    if memory.queue_room(thread) > 0:
                        return
                    page += 1
                elif flags[page] & STATE == SWAPPED:  # still, after sleeping
                    room = max(memory.queue_room(thread), 1)  # reclaim, which does not ask, may have filled it
                    page = memory.start_read(thread, page, min(stop, page + room), target)
        memory.flush(thread)

    def _found(self, region: SimulatedRegion, start: int, stop: int) -> None:
        """Give readahead its feedback of a run (``swap_update_readahead``)."""
        memory = self._memory
        flags = memory.table.flags[start]
        marked = bool(flags & READAHEAD)
        if marked:
            memory.table.set_flags(start, stop, flags & ~READAHEAD)
            memory.counters.swap_ra_hit += stop - start
        self.readahead.hit(region, start, stop, marked)

    def _map(self, start: int, stop: int, write: bool) -> None:
        """Replace the swap entries of a run by its pages; give its slots back where the kernel does."""
        memory, table = self._memory, self._memory.table
        flags = table.flags[start] & ~(SWAP_ENTRY | READAHEAD) | ACCESSED
        if write:
            flags |= DIRTY
        if flags & LOCKED and not flags & WRITEBACK:
            table.remove(start, stop)
        table.set_flags(start, stop, flags)
        used_up = (write or flags & LOCKED) and not self._rules.use_keeps_slot
        if (used_up or memory.slots.over_half_full) and not flags & WRITEBACK:
            for page in range(start, stop):
                if used_up or memory.slots.over_half_full:  # still, with those slots free
                    memory.release_slot(page)

    def _reserve(self, thread: SimulatedThread, region: SimulatedRegion) -> Steps:
        """Have a frame free for a page of `region`, which may lose its turn or its mapping meanwhile."""
        memory = self._memory
        if memory.used_pages >= memory.limit_pages:
            yield from memory.reclaim(thread, must=True)
            region.check()

    def _new_frame(self, thread: SimulatedThread, region: SimulatedRegion, page: int) -> Generator[int, None, bool]:
        """Give a page that has none a frame of zeros; return False if another thread did meanwhile."""
        table = self._memory.table
        yield from self._reserve(thread, region)
        flags, content = table.flags[page], table.content[page]
        if content == HOLE or (flags & STATE != NONE and content != SHARED_ZERO):
            return False
        self._give_frames(region, page, page + 1)
        return True

    def _give_frames(self, region: SimulatedRegion, start: int, stop: int) -> None:
        """Give each page of a run in one part of `region` a frame of zeros, of those that are free."""
        memory, table = self._memory, self._memory.table
        locked = table.flags[start] & LOCKED
        table.set_flags(start, stop, locked | PRESENT | DIRTY | ACCESSED)
        table.content[start:stop] = bytes((self._rules.zero_content,)) * (stop - start)
        region.vmas.join_family(start)
        memory.used_pages += stop - start
        if not locked:
            table.insert(start, stop, LRU)

    def _swap_in_directly(self, thread: SimulatedThread, region: SimulatedRegion, page: int) -> Steps:
        """Read `page` past the swap cache and give its slot back, as is done where reading does not wait."""
        memory, table, counters = self._memory, self._memory.table, self._memory.counters
        yield from self._reserve(thread, region)
        if table.flags[page] & STATE != SWAPPED:
            return
        if table.content[page] == ZERO:
            counters.swpin_zero += 1
        else:
            counters.pswpin += not region.file
            memory.note(thread, "read", page)
            memory.read_directly(thread, 1)
        memory.used_pages += 1
        table.insert(page, page + 1, LRU)
        table.flags[page] |= CACHED
        self._map(page, page + 1, write=False)
        memory.release_slot(page)

    def _swap_in(self, thread: SimulatedThread, region: SimulatedRegion, page: int) -> Steps:
        """Start to read `page` and the neighbours that readahead chooses."""
        memory, flags = self._memory, self._memory.table.flags
        if region.file:
            yield from self.read_ahead(thread, (file_neighbours(region, page, memory.options.page_bytes),), -1)
        elif runs := self.readahead.neighbours(region, page):
            yield from self.read_ahead(thread, runs, page)
        else:
            memory.flush(thread)  # as a readahead of nothing does
        if flags[page] & STATE != SWAPPED:
            return
        if memory.queue_room(thread) <= 0:
            yield from memory.await_queue(thread)
        if memory.used_pages >= memory.limit_pages:
            yield from self._reserve(thread, region)
        if flags[page] & STATE == SWAPPED:  # still, after sleeping
            memory.start_read(thread, page, page + 1, page)
            memory.flush(thread)
