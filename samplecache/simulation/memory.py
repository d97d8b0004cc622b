"""Page frames: reading into them, writing out of them, and finding one when there is none left."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from typing import Final

from samplecache.errors import ExhaustedError
from samplecache.simulation.blockqueue import Request
from samplecache.simulation.counters import EventLog, MachineCounters, SimulatedThread
from samplecache.simulation.device import QUEUE_REQUESTS, Device
from samplecache.simulation.options import SimulationOptions
from samplecache.simulation.pages import (
    ACCESSED,
    CACHED,
    DIRTY,
    FILE,
    FRAME,
    IN_FLIGHT,
    LOCKED,
    LRU,
    NEVER_NS,
    PRESENT,
    READAHEAD,
    READING,
    STATE,
    SWAPPED,
    WRITEBACK,
    WRITING,
    ZERO,
    PageTable,
)
from samplecache.simulation.slots import swap_area

RECLAIM_PAGES: Final = 32
"""``SWAP_CLUSTER_MAX``: what one round of reclaim frees or starts to write."""
WRITEBACK_PAGES_MAX: Final = 256
"""Reclaim does not write ahead of the device by more than this; assumed, as many as the queue has requests."""
HELD_NS: Final = 10_000
"""How soon reclaim looks again, in nanoseconds, where another thread is about to use the last page; assumed."""

Steps = Generator[int, None, None]
"""An operation that may sleep: it yields the times, in nanoseconds, at which it wants to go on."""


def _ignore() -> None:
    """Do nothing."""


class Memory:
    """The frames of a machine and the traffic between them and swap.

    One LRU list with a second chance for pages that were accessed; there is no background reclaim, as under a memory
    control group: whoever needs a frame reclaims.

    Parameters
    ----------
    options : SimulationOptions
        The machine.
    now_ns : Callable
        The time, in nanoseconds.
    """

    def __init__(self, options: SimulationOptions, now_ns: Callable[[], int]) -> None:
        self.options = options
        self.table = PageTable()
        self.slots = swap_area(options)
        self.device = Device(options.device, options.page_bytes)
        self.counters = MachineCounters()
        self.log = EventLog(options.log_events) if options.log_events else None
        self.limit_pages = options.memory_pages
        self.used_pages = 0
        """Frames in use; the swap cache counts."""
        self.now_ns = now_ns
        self.on_unused: Callable[[], None] = _ignore
        """Called when a page that readahead brought is dropped before it was used."""
        self._held: dict[int, int] = {}

    # --- a thread's time ---

    def sleep(self, thread: SimulatedThread, until_ns: int = 0) -> Steps:
        """Flush the plug of `thread`; let it pay its CPU time, and sleep until `until_ns` if that is later."""
        self.flush(thread)
        now_ns = self.now_ns()
        wake_ns = max(until_ns, now_ns + thread.debt_ns)
        thread.debt_ns = 0
        if wake_ns > now_ns:
            yield wake_ns

    def hold(self, page: int) -> None:
        """Keep `page` from reclaim while a thread sleeps on it."""
        self._held[page] = self._held.get(page, 0) + 1

    def let_go(self, page: int) -> None:
        """Undo one :meth:`hold`."""
        left = self._held[page] - 1
        if left:
            self._held[page] = left
        else:
            del self._held[page]

    def held(self, page: int) -> bool:
        """Return whether a thread sleeps on `page`."""
        return page in self._held

    def note(self, thread: SimulatedThread, event: str, page: int) -> None:
        """Write `event` to the log, if there is one."""
        if self.log is not None:
            self.log.add(self.now_ns() + thread.debt_ns, thread.number, event, page, self.table.slot[page])

    # --- I/O ---

    def settle(self, page: int) -> None:
        """Take note of I/O of `page` that is complete."""
        table = self.table
        flags = table.flags[page]
        if not flags & IN_FLIGHT or table.done_ns[page] > self.now_ns():
            return
        if flags & READING:
            table.flags[page] = flags & ~READING
            return
        table.remove(page)
        table.flags[page] = flags = flags & ~WRITEBACK
        if flags & STATE == CACHED:
            table.append(page)  # PG_reclaim: written in order to be dropped
        elif flags & FRAME and not flags & LOCKED:
            table.insert(page, LRU)

    def start_read(self, thread: SimulatedThread, page: int, *, readahead: bool) -> None:
        """Begin to read a SWAPPED `page` into the swap cache; a frame must be free."""
        table, counters = self.table, self.counters
        flags = CACHED | (table.flags[page] & LOCKED)
        if readahead:
            flags |= READAHEAD
            counters.swap_ra += 1
        self.used_pages += 1
        thread.debt_ns += self.options.submit_ns
        table.insert(page, LRU)
        page_ns = self.options.device.page_ns
        if table.content[page] == ZERO:
            counters.swpin_zero += 1
            table.flags[page] = flags
            return
        if table.content[page] != FILE:
            counters.pswpin += 1
        if self.log is not None:
            self.note(thread, "readahead" if readahead else "read", page)
        if page_ns is not None:
            thread.debt_ns += page_ns
            table.flags[page] = flags
            return
        table.flags[page] = flags | READING
        self._enqueue(thread, page, write=False)

    def push_out(self, thread: SimulatedThread, page: int) -> bool:
        """Send an unlocked page with a frame and no I/O in flight on its way to swap.

        Returns False where it stays, for want of a slot.
        """
        table, counters = self.table, self.counters
        flags, slot = table.flags[page], table.slot[page]
        if flags & STATE == CACHED or (slot and not flags & DIRTY):
            self._drop(thread, page)
            return True
        if not slot:
            slot = self.slots.allocate(page)
            if not slot:
                return False
            table.slot[page] = slot
        thread.debt_ns += self.options.submit_ns
        if table.content[page] == ZERO:
            counters.swpout_zero += 1
            self._drop(thread, page)
            return True
        counters.pswpout += 1
        if self.log is not None:
            self.note(thread, "write", page)
        page_ns = self.options.device.page_ns
        if page_ns is not None:
            thread.debt_ns += page_ns
            self._drop(thread, page)
            return True
        table.remove(page)
        table.flags[page] = CACHED | WRITEBACK
        table.insert(page, WRITING)
        self._enqueue(thread, page, write=True)
        return True

    def release_slot(self, page: int) -> None:
        """Give the swap slot of `page` back, if it has one; a file's page keeps its place."""
        slot = self.table.slot[page]
        if slot and self.table.content[page] != FILE:
            self.slots.release(slot)
            self.table.slot[page] = 0

    def _drop(self, thread: SimulatedThread, page: int) -> None:
        """Give the frame of a page back that the disk holds too."""
        if self.table.flags[page] & READAHEAD:
            self.on_unused()
        self.table.remove(page)
        self.table.flags[page] = SWAPPED | self.table.flags[page] & LOCKED
        self.used_pages -= 1
        if self.log is not None:
            self.note(thread, "drop", page)

    def _enqueue(self, thread: SimulatedThread, page: int, *, write: bool) -> None:
        self.table.done_ns[page] = NEVER_NS
        first = thread.plug.add(self.table.slot[page], page, write=write)
        if first:
            self._submit(thread, first)

    def flush(self, thread: SimulatedThread) -> None:
        """Submit what the plug of `thread` holds."""
        if thread.plug.requests:
            self._submit(thread, thread.plug.take())

    def _submit(self, thread: SimulatedThread, requests: list[Request]) -> None:
        table, request_ns, time_ns = self.table, self.options.request_ns, self.now_ns() + thread.debt_ns
        for index in self.device.elevator_order([request.slot for request in requests]):
            request = requests[index]
            if self.device.limits_reads and not request.write:
                self._submit_limited(time_ns, request)
                continue
            time_ns += request_ns
            thread.debt_ns += request_ns
            done_ns = self.device.submit(time_ns, request.slot, len(request.pages))
            for page in request.pages:
                table.done_ns[page] = done_ns

    def _submit_limited(self, time_ns: int, request: Request) -> None:
        """Submit a read of which the device's limit lets a part pass now and the rest later."""
        pages = iter(request.pages)
        for count, done_ns in self.device.submit_limited(time_ns, request.slot, len(request.pages)):
            for page in itertools.islice(pages, count):
                self.table.done_ns[page] = done_ns

    def queue_full(self, thread: SimulatedThread) -> bool:
        """Return whether the device's queue may have no room for another request of `thread`."""
        return len(thread.plug.requests) + self.device.in_flight >= QUEUE_REQUESTS

    def await_queue(self, thread: SimulatedThread) -> Steps:
        """Sleep while the device's queue has no room for another request of `thread`."""
        while self.queue_full(thread):
            self.flush(thread)
            time_ns = self.now_ns() + thread.debt_ns
            ready_ns = self.device.ready_ns(time_ns)
            if ready_ns > time_ns:
                yield from self.sleep(thread, ready_ns)

    # --- reclaim ---

    def reclaim(self, thread: SimulatedThread, *, must: bool, room_pages: int = 1) -> Generator[int, None, bool]:
        """Free frames until `room_pages` fit under the limit; sleep for writeback where nothing is clean.

        Returns whether it worked out. Where it `must`, it also waits for reads to end.

        Raises
        ------
        ExhaustedError
            It must and cannot: all of memory is locked, or there is no swap left.
        """
        while self.used_pages + room_pages > self.limit_pages:
            used_pages = self.used_pages
            self._shrink(thread)
            if self.used_pages < used_pages:
                continue
            self.flush(thread)
            wake_ns = self._next_chance_ns(must)
            if wake_ns is None:
                if not must:
                    return False
                raise ExhaustedError(
                    f"All {self.limit_pages} pages of the simulated memory are locked or find no room in swap",
                    remedy="Give the machine more memory or swap, or lock less",
                    reason="OUT_OF_MEMORY",
                    limit_pages=self.limit_pages,
                )
            yield from self.sleep(thread, wake_ns)
        return True

    def _shrink(self, thread: SimulatedThread) -> None:
        """Look at the LRU list from its end, until a round's worth of pages is free or on its way out."""
        table = self.table
        now_ns = self.now_ns()
        while (page := table.last(WRITING)) != WRITING and table.done_ns[page] <= now_ns:
            self.settle(page)
        left = RECLAIM_PAGES
        for _ in range(2 * table.lru_pages):  # each page twice: the first look may only clear ACCESSED
            page = table.newer[LRU]
            if not left or page == LRU:
                return
            flags = table.flags[page]
            if flags & READING:
                self.settle(page)
                flags = table.flags[page]
            if not flags & (ACCESSED | READING) and page not in self._held:
                if table.writing_pages >= WRITEBACK_PAGES_MAX and self._needs_write(page):
                    return
                if self.push_out(thread, page):
                    left -= 1
                    continue
            table.flags[page] = flags & ~ACCESSED
            table.rotate(page)

    def _needs_write(self, page: int) -> bool:
        flags = self.table.flags[page]
        return flags & STATE == PRESENT and bool(flags & DIRTY or not self.table.slot[page])

    def _next_chance_ns(self, must: bool) -> int | None:
        """Return when a frame may come free by itself; None if none will."""
        table = self.table
        oldest = table.last(WRITING)
        if oldest != WRITING:
            return table.done_ns[oldest]
        if not must:
            return None
        chances = [table.done_ns[page] for page in table.lru() if table.flags[page] & READING]
        if self._held:
            chances.append(self.now_ns() + HELD_NS)
        return max(min(chances), self.now_ns() + 1) if chances else None
