"""How pages leave RAM because their process wants them to."""

from __future__ import annotations

from collections.abc import Generator

from samplecache.simulation.counters import SimulatedThread
from samplecache.simulation.faults import Access, FaultHandler
from samplecache.simulation.memory import Memory, Steps
from samplecache.simulation.pages import (
    ACCESSED,
    CACHED,
    FRAME,
    IN_FLIGHT,
    LOCKED,
    PRESENT,
    SHARED_ZERO,
    STATE,
    SimulatedRegion,
)


class Evictor:
    """Pushes pages out of RAM.

    Parameters
    ----------
    memory : Memory
        The frames.
    faults : FaultHandler
        Maps what lingers in the swap cache.
    """

    def __init__(self, memory: Memory, faults: FaultHandler) -> None:
        self._memory = memory
        self._table = memory.table
        self._faults = faults

    def make_cold(self, pages: range) -> None:
        """Make mapped pages the next victims, after those that are already; others stay as they are.

        ``folio_deactivate()`` puts a page at the head of the inactive list, from whose tail reclaim takes.
        """
        table = self._table
        for page in pages:
            if self._evictable(page):
                table.flags[page] &= ~ACCESSED
                table.chill(page)

    def push_out(self, thread: SimulatedThread, region: SimulatedRegion, pages: range, deadline_ns: int) -> Steps:
        """Drop or start to write mapped pages, in their order; begin no new sleep after `deadline_ns`."""
        memory, page = self._memory, pages.start
        while page < pages.stop:
            if not self._evictable(page):
                page += 1
                continue
            if memory.queue_room(thread) <= 0:
                yield from memory.await_queue(thread)
                region.check()
                if memory.now_ns() >= deadline_ns:
                    break
                if not self._evictable(page):  # any longer, after sleeping
                    page += 1
                    continue
            stop = self._evictable_stop(page, min(pages.stop, page + memory.queue_room(thread)))
            page = max(memory.push_out(thread, page, stop), page + 1)  # a page that finds no slot stays
        memory.flush(thread)

    def evict(
        self, thread: SimulatedThread, region: SimulatedRegion, pages: range, timeout_ns: int
    ) -> Generator[int, None, int]:
        """Page out, wait for writeback, map what is cached (minor faults) and page out again, now without a write.

        Gives up after `timeout_ns`. Returns the number of unlocked pages still in RAM.
        """
        memory, flags = self._memory, self._table.flags
        deadline_ns = memory.now_ns() + timeout_ns
        while True:
            memory.settle(pages.start, pages.stop)
            page = pages.start
            while page < pages.stop:
                if flags[page] & (STATE | IN_FLIGHT | LOCKED) == CACHED:
                    page = self._faults.map_run(thread, region, page, pages.stop, Access.READ)
                else:
                    page = self._table.run_stop(page, pages.stop)
            yield from self.push_out(thread, region, pages, deadline_ns)
            left = [page for page in pages if self._is_left(page)]
            in_flight = [self._table.done_ns[page] for page in left if flags[page] & IN_FLIGHT]
            if not in_flight or memory.now_ns() >= deadline_ns:
                yield from memory.sleep(thread)
                return len(left)
            yield from memory.sleep(thread, min(max(in_flight), deadline_ns))
            region.check()

    def _is_left(self, page: int) -> bool:
        """Return whether `page` has a frame of its own and is not locked."""
        return self._table.flags[page] & (FRAME | LOCKED) == FRAME and self._table.content[page] != SHARED_ZERO

    def _evictable(self, page: int) -> bool:
        """Return whether `page` is mapped to a frame of its own that is neither locked nor under I/O nor slept on."""
        table = self._table
        if table.flags[page] & STATE != PRESENT or table.content[page] == SHARED_ZERO:
            return False
        if table.flags[page] & IN_FLIGHT:
            self._memory.settle(page, page + 1)
        return not table.flags[page] & (LOCKED | IN_FLIGHT) and not self._memory.held(page)

    def _evictable_stop(self, start: int, stop: int) -> int:
        """Return where the run of evictable pages ends that `start` begins."""
        stop = self._table.run_stop(start, stop)
        shared = self._table.content.find(SHARED_ZERO, start, stop)
        return self._memory.held_from(start, stop if shared < 0 else shared)
