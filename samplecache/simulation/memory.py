"""Page frames: reading into them, writing out of them, and finding one when there is none left."""

from __future__ import annotations

import itertools
from array import array
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
    RUN_PAGES,
    STATE,
    SWAPPED,
    WRITEBACK,
    WRITING,
    ZERO,
    PageTable,
    ascending,
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


def _ignore(pages: int) -> None:
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
        self._synchronous = options.device.synchronous
        self.device = Device(options.device, options.page_bytes)
        self.counters = MachineCounters()
        self.log = EventLog(options.log_events) if options.log_events else None
        self.limit_pages = options.memory_pages
        self.used_pages = 0
        """Frames in use; the swap cache counts."""
        self.now_ns = now_ns
        self.run_pages = 1 if self.log is not None else RUN_PAGES
        """The longest run. Where events have their lines in the log, each page is by itself."""
        self.on_unused: Callable[[int], None] = _ignore
        """Called with the number of pages that readahead brought and that are dropped before they were used."""
        self.limit_events = 0
        """How often memory was asked for and the limit was in the way."""
        self.stalled_ns = 0
        """How long at least one thread slept in reclaim, in nanoseconds. PSI's ``some`` has waits for pages in it, too,
        if they were in use when they went; that is not remembered here."""
        self._stalled_until_ns = 0
        self._held: dict[int, int] = {}

    # --- a thread's time ---

    def sleep(self, thread: SimulatedThread, until_ns: int = 0) -> Steps:
        """Do what :meth:`wake_ns` does, and sleep until then."""
        wake_ns = self.wake_ns(thread, until_ns)
        if wake_ns:
            yield wake_ns

    def wake_ns(self, thread: SimulatedThread, until_ns: int = 0) -> int:
        """Flush the plug of `thread` and let it pay its CPU time.

        Returns when that is over, or `until_ns` if that is later; 0 if there is nothing to sleep for.
        """
        if thread.plug.requests:
            self._submit(thread, thread.plug.take())
        now_ns = self.now_ns()
        wake_ns = now_ns + thread.debt_ns
        thread.debt_ns = 0
        if until_ns > wake_ns:
            return until_ns
        return wake_ns if wake_ns > now_ns else 0

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

    def held_from(self, start: int, stop: int) -> int:
        """Return the first of pages ``[start, stop)`` that a thread sleeps on; `stop` if none does."""
        return min((page for page in self._held if start <= page < stop), default=stop)

    def note(self, thread: SimulatedThread, event: str, page: int, ahead_ns: int = 0) -> None:
        """Write `event` to the log, if there is one; `ahead_ns` is CPU time that will be charged for it."""
        if self.log is not None:
            time_ns = self.now_ns() + thread.debt_ns + ahead_ns
            self.log.add(time_ns, thread.number, event, page, self.table.slot[page])

    # --- I/O ---

    def settle(self, start: int, stop: int) -> None:
        """Take note of I/O that is complete, of the pages ``[start, stop)``."""
        table = self.table
        now_ns = self.now_ns()
        while start < stop:
            end = table.run_stop(start, stop)
            if table.flags[start] & IN_FLIGHT:
                done_ns = table.done_ns[start:end]
                if max(done_ns) <= now_ns:
                    self.complete(start, end)
                elif min(done_ns) <= now_ns:
                    for page, page_done_ns in enumerate(done_ns, start):
                        if page_done_ns <= now_ns:
                            self.complete(page, page + 1)
            start = end

    def complete(self, start: int, stop: int) -> None:
        """Take note that the I/O of a run is complete."""
        table = self.table
        flags = table.flags[start]
        if flags & READING:
            table.set_flags(start, stop, flags & ~READING)
            return
        table.remove(start, stop)
        flags &= ~WRITEBACK
        table.set_flags(start, stop, flags)
        if flags & STATE == CACHED:
            table.append(start, stop)  # PG_reclaim: written in order to be dropped
        elif flags & FRAME and not flags & LOCKED:
            table.insert(start, stop, LRU)

    def start_read(self, thread: SimulatedThread, start: int, stop: int, target: int) -> int:
        """Begin to read SWAPPED pages into the swap cache: the run that `start` begins, as far as there are frames.

        `target` is the page that is missing, the others its neighbours; -1 if none is. One frame must be free. Returns
        where the run ends: at `stop` at the latest.
        """
        table, counters = self.table, self.counters
        content = table.content[start]
        if start + 1 < stop:
            stop = self._alike_stop(start, min(stop, start + self.limit_pages - self.used_pages))
        pages = stop - start
        flags = CACHED | (table.flags[start] & LOCKED)
        if content != ZERO and not self._synchronous:
            flags |= READING
        neighbours = 0
        if target >= 0:
            neighbours = pages - (start <= target < stop)
            counters.swap_ra += neighbours
        table.set_flags(start, stop, flags | READAHEAD if neighbours else flags)
        if start <= target < stop:
            table.flags[target] = flags
        self.used_pages += pages
        table.insert(start, stop, LRU)
        if content == ZERO:
            counters.swpin_zero += pages
            thread.debt_ns += pages * self.options.submit_ns
            return stop
        if content != FILE:
            counters.pswpin += pages
        self._transfer(thread, start, stop, "readahead" if neighbours else "read", write=False)
        return stop

    def push_out(self, thread: SimulatedThread, start: int, stop: int) -> int:
        """Send the run that `start` begins on its way to swap: unlocked pages with frames, the same flags and no I/O.

        Returns where the run ends, at `stop` at the latest; `start` where that page stays, for want of a slot.
        """
        table, counters = self.table, self.counters
        flags, slots = table.flags[start], table.slot
        stop = min(stop, start + self.run_pages)
        if flags & STATE == CACHED:
            self._drop(thread, start, stop)
            return stop
        if slots[start] and not flags & DIRTY:
            end = start + 1
            while end < stop and slots[end]:
                end += 1
            self._drop(thread, start, end)
            return end
        stop = self._alike_stop(start, stop)
        if not slots[start]:
            given = self.slots.allocate_run(start, stop)
            if not given:
                return start
            stop = start + len(given)
            slots[start:stop] = array("i", given)
        if table.content[start] == ZERO:
            counters.swpout_zero += stop - start
            thread.debt_ns += (stop - start) * self.options.submit_ns
            self._drop(thread, start, stop)
            return stop
        counters.pswpout += stop - start
        if self._synchronous:
            self._transfer(thread, start, stop, "write", write=True)
            self._drop(thread, start, stop)
            return stop
        table.remove(start, stop)
        table.set_flags(start, stop, CACHED | WRITEBACK)
        table.insert(start, stop, WRITING)
        self._transfer(thread, start, stop, "write", write=True)
        return stop

    def _alike_stop(self, start: int, stop: int) -> int:
        """Return where the run ends that `start` begins: pages of a kind, with consecutive slots or with none."""
        table = self.table
        end = start + 1
        stop = min(stop, start + self.run_pages)
        if end >= stop:
            return end
        stop = table.run_stop(start, stop)
        content, slots = table.content, table.slot
        first, slot = content[start], slots[start]
        step = 1 if slot else 0
        while end < stop and content[end] == first and slots[end] == slot + step:
            slot += step
            end += 1
        return end

    def release_slot(self, page: int) -> None:
        """Give the swap slot of `page` back, if it has one; a file's page keeps its place."""
        slot = self.table.slot[page]
        if slot and self.table.content[page] != FILE:
            self.slots.release(slot)
            self.table.slot[page] = 0

    def _drop(self, thread: SimulatedThread, start: int, stop: int) -> None:
        """Give the frames of a run back that the disk holds too."""
        table = self.table
        flags = table.flags[start]
        if flags & READAHEAD:
            self.on_unused(stop - start)
        table.remove(start, stop)
        table.set_flags(start, stop, SWAPPED | flags & LOCKED)
        self.used_pages -= stop - start
        if self.log is not None:
            for page in range(start, stop):
                self.note(thread, "drop", page)

    def _transfer(self, thread: SimulatedThread, start: int, stop: int, event: str, *, write: bool) -> None:
        """Read or write a run, or have the device do so. A page's CPU time is charged before it is queued."""
        submit_ns = self.options.submit_ns
        if self.log is not None:
            self.note(thread, event, start, submit_ns)
        if self._synchronous:
            pages = stop - start
            thread.debt_ns += pages * submit_ns
            if write:
                thread.debt_ns += pages * (self.options.device.page_ns or 0)
            else:
                self.read_directly(thread, pages)
            return
        self.table.set_done(start, stop, NEVER_NS)
        plug = thread.plug
        while start < stop:
            slot = self.table.slot[start]
            end = start + 1
            if end < stop:
                end = min(stop, start + plug.room(slot, write=write))
            thread.debt_ns += submit_ns
            before = plug.add(slot, start, end, write=write)
            if before:
                self._submit(thread, before)
            thread.debt_ns += (end - start - 1) * submit_ns
            start = end

    def read_directly(self, thread: SimulatedThread, pages: int) -> None:
        """Charge `thread` for reading pages of a synchronous device: it does the work itself, and waits for limits."""
        time_ns = self.now_ns() + thread.debt_ns
        thread.debt_ns += self.device.read_directly(time_ns, pages) - time_ns

    def flush(self, thread: SimulatedThread) -> None:
        """Submit what the plug of `thread` holds."""
        if thread.plug.requests:
            self._submit(thread, thread.plug.take())

    def _submit(self, thread: SimulatedThread, requests: list[Request]) -> None:
        table, device, request_ns = self.table, self.device, self.options.request_ns
        time_ns = self.now_ns() + thread.debt_ns
        if len(requests) > 1:
            requests = [requests[index] for index in device.elevator_order([request.slot for request in requests])]
        for request in requests:
            if device.limits_reads and not request.write:
                self._submit_limited(time_ns, request)
                continue
            time_ns += request_ns
            thread.debt_ns += request_ns
            done_ns = device.submit(time_ns, request.slot, request.pages)
            for start, stop in request.runs:
                table.set_done(start, stop, done_ns)

    def _submit_limited(self, time_ns: int, request: Request) -> None:
        """Submit a read of which the device's limit lets a part pass now and the rest later."""
        pages = itertools.chain.from_iterable(itertools.starmap(range, request.runs))
        for count, done_ns in self.device.submit_limited(time_ns, request.slot, request.pages):
            for page in itertools.islice(pages, count):
                self.table.done_ns[page] = done_ns

    def queue_room(self, thread: SimulatedThread) -> int:
        """Return how many more requests of `thread` the device's queue surely has room for."""
        return QUEUE_REQUESTS - len(thread.plug.requests) - len(self.device.in_flight)

    def await_queue(self, thread: SimulatedThread) -> Steps:
        """Sleep while the device's queue has no room for another request of `thread`."""
        while self.queue_room(thread) <= 0:
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
        self.limit_events += self.used_pages + room_pages > self.limit_pages
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
            self._note_stall(wake_ns)
            yield from self.sleep(thread, wake_ns)
        return True

    def _note_stall(self, wake_ns: int) -> None:
        """Count that a thread sleeps for memory until `wake_ns`; what others sleep at the same time counts once."""
        began_ns = max(self.now_ns(), self._stalled_until_ns)
        self.stalled_ns += max(0, wake_ns - began_ns)
        self._stalled_until_ns = max(self._stalled_until_ns, wake_ns)

    def _shrink(self, thread: SimulatedThread) -> None:
        """Look at the LRU list from its end, until a round's worth of pages is free or on its way out."""
        table = self.table
        self._end_writeback()
        left = RECLAIM_PAGES
        looks = 2 * table.lru_pages  # each page twice: the first look may only clear ACCESSED
        while left and looks and table.lru_pages:
            run = self._victims(min(left, looks))
            flags, gone = table.flags[run[0]], 0
            if not flags & (ACCESSED | READING) and run[0] not in self._held:
                run = run[: self.run_pages]
                if self._needs_write(run):
                    room = WRITEBACK_PAGES_MAX - table.writing_pages
                    run = run[: max(room, 1)] if run.step > 0 else run[:1]
                    if room <= 0 and self._needs_write(run):
                        return
                start, stop = ascending(run)
                gone = self.push_out(thread, start, stop) - start
                left -= gone
                looks -= gone
            if not gone:
                run = run if flags & (ACCESSED | READING) else run[:1]
                table.set_flags(*ascending(run), flags & ~ACCESSED)
                table.rotate(run)
                looks -= len(run)

    def _end_writeback(self) -> None:
        """Take note of writes that are complete, in their order."""
        table, now_ns = self.table, self.now_ns()
        while table.writing_pages:
            run = table.last_run(WRITING, self.run_pages)
            start, stop = ascending(run)
            if run.step < 0 or max(table.done_ns[start:stop]) > now_ns:
                start, stop = run[0], run[0] + 1
            if table.done_ns[start] > now_ns:
                return
            self.complete(start, stop)

    def _victims(self, limit: int) -> range:
        """Return the run of at most `limit` pages at the end of the LRU list, its reads settled.

        If a thread sleeps on any of them, it is the first, and alone.
        """
        table = self.table
        run = table.last_run(LRU, limit)
        if table.flags[run[0]] & READING:
            self.settle(*ascending(run))
            run = table.last_run(LRU, limit)
        for page in self._held:
            if page in run:
                run = run[: run.index(page) or 1]
        return run

    def _needs_write(self, run: range) -> bool:
        """Return whether some page of `run` cannot be dropped as it is."""
        table = self.table
        flags = table.flags[run[0]]
        if flags & STATE != PRESENT:
            return False
        start, stop = ascending(run)
        return bool(flags & DIRTY) or 0 in table.slot[start:stop]

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
