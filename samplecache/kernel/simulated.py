"""The simulated kernel behind the port: contents in plain memory, paging in the model, waits on a clock."""

from __future__ import annotations

import mmap
import os
import select
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from samplecache.clock import Clock
from samplecache.errors import InvalidSpanError, MappingError, UnavailableError
from samplecache.kernel.inspection import ENTRY_EXCLUSIVE, ENTRY_PRESENT, ENTRY_SWAPPED, SLOT_SHIFT, InspectedKernel
from samplecache.kernel.packing import ARENA_BYTES, LARGEST_PACKED_BYTES, Packing, no_holes
from samplecache.kernel.port import (
    Advice,
    Capabilities,
    Capability,
    FaultCounts,
    Operation,
    Region,
    Residency,
    Span,
    SwapCounts,
    Tier,
)
from samplecache.kernel.signals import MemoryState, PressureCounts
from samplecache.simulation.machine import Machine
from samplecache.simulation.options import KernelModel, SimulationOptions, WillneedMode
from samplecache.simulation.pages import (
    CACHED,
    LOCKED,
    NONE,
    PRESENT,
    READING,
    SHARED_ZERO,
    STATE,
    SWAP_ENTRY,
    SimulatedRegion,
)

_T = TypeVar("_T")


def _tier(flags: int) -> Tier:
    state = flags & STATE
    if state == PRESENT:
        return Tier.LOCKED if flags & LOCKED else Tier.MAPPED
    if state == CACHED and not flags & READING:
        return Tier.SWAP_CACHE
    return Tier.ABSENT if state == NONE else Tier.SWAPPED


_TIERS: Final = bytes(_tier(flags) for flags in range(256))
"""The tier of a page by its flags."""
_IN_CORE: Final = bytes(_TIERS[flags] >= Tier.SWAP_CACHE for flags in range(256))
_NOT_SWAPPED: Final = bytes(flags for flags in range(256) if _TIERS[flags] != Tier.SWAPPED)


class _Mapping:
    """What one or many regions lie in.

    Contents take memory of this machine as far as they have been written: a driver may write pages in the model only.
    """

    def __init__(self, model: SimulatedRegion, page_bytes: int) -> None:
        self.model = model
        self.contents = mmap.mmap(-1, model.pages * page_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class _Region(Region):
    """A region, its contents, and where the model keeps its pages; what it lies in, if that holds others too."""

    __slots__ = ("arena", "contents", "model")

    def __init__(self, model: SimulatedRegion, contents: memoryview, arena: _Mapping | None = None) -> None:
        super().__init__(model.pages)
        self.model = model
        self.contents = contents
        self.arena = arena


class SimulatedKernel(InspectedKernel):
    """The port over a simulated machine. Every method is thread-safe; threads sleep on `clock` without a lock held.

    With a :class:`~samplecache.clock.MonotonicClock` it serves real threads at the speed of the simulated device; with
    a :class:`~samplecache.clock.VirtualClock`, one thread, without waiting.

    Parameters
    ----------
    options : SimulationOptions
        The machine.
    clock : Clock
        Its time.

    Attributes
    ----------
    machine : Machine
        The model, for drivers that run its operations as virtual threads, with the regions of :meth:`model`.
    """

    name = "simulated"

    def __init__(self, options: SimulationOptions, clock: Clock) -> None:
        self.page_bytes = options.page_bytes
        self.machine = Machine(options, clock.now_ns)
        self._options = options
        self._clock = clock
        self._lock = threading.Lock()
        self._mapped_bytes = 0
        self._packing: Packing[_Mapping] = Packing(ARENA_BYTES // self.page_bytes)

    @staticmethod
    def model(region: Region) -> SimulatedRegion:
        """Return what :attr:`machine` calls `region`."""
        return _own(region).model

    # --- memory ---

    def map(self, length_bytes: int, *, packed: bool = False) -> Region:
        """See :meth:`Kernel.map`. The limit is ``address_space_bytes`` of the options."""
        if length_bytes <= 0:
            raise InvalidSpanError(f"{length_bytes} bytes cannot be mapped", remedy="Ask for one byte at least")
        pages = -(-length_bytes // self.page_bytes)
        with self._lock:
            if packed and length_bytes <= LARGEST_PACKED_BYTES:
                with suppress(MappingError):  # where there is no room for an arena, there may be for one region
                    return self._map_packed(pages)
            mapping = self._map(pages)
            return _Region(mapping.model, memoryview(mapping.contents))

    def _map(self, pages: int) -> _Mapping:
        length_bytes, limit_bytes = pages * self.page_bytes, self._options.address_space_bytes
        if limit_bytes is not None and self._mapped_bytes + length_bytes > limit_bytes:
            raise MappingError(
                f"{length_bytes} bytes would not fit into the {limit_bytes} of the simulated address space",
                remedy="Ask for less, unmap something, or raise the simulated limit",
                length_bytes=length_bytes,
                limit_bytes=limit_bytes,
            )
        mapping = _Mapping(self.machine.map(pages), self.page_bytes)
        self._mapped_bytes += length_bytes
        return mapping

    def _map_packed(self, pages: int) -> _Region:
        while (taken := self._packing.take(pages)) is None:
            self._packing.add(self._map(ARENA_BYTES // self.page_bytes))
        arena, first = taken
        contents = memoryview(arena.contents)[first * self.page_bytes : (first + pages) * self.page_bytes]
        return _Region(self.machine.lend(arena.model, first, first + pages), contents, arena)

    def unmap(self, region: Region) -> None:
        """See :meth:`Kernel.unmap`. Threads that are waiting for its pages get :class:`UnmappedError`."""
        own = _own(region)
        with self._lock:
            if own.arena is None:
                self.machine.unmap(own.model)
                self._mapped_bytes -= len(own.contents)
                own.contents = memoryview(b"")  # the mapping goes with its last view
                return
            arena, first = own.arena, own.model.base - own.arena.model.base
            self.machine.unmap(own.model)
            own.contents = memoryview(b"")
            arena.contents.madvise(mmap.MADV_DONTNEED, first * self.page_bytes, own.pages * self.page_bytes)
            if self._packing.give_back(arena, first, own.pages):
                self.machine.unmap(arena.model)
                self._mapped_bytes -= len(arena.contents)

    def write(self, region: Region, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        """See :meth:`Kernel.write`. Contents change when every page is there, or not at all."""
        own, source = _own(region), memoryview(data).cast("B")
        span = self._span(own, offset_bytes, len(source))
        if source:
            self._act(self._store(own, span, offset_bytes, source))

    def _store(self, region: _Region, span: Span, offset_bytes: int, data: memoryview) -> Generator[int, None, None]:
        region.model.check()
        zeros = self._zero_pages(region, span, offset_bytes, data)
        yield from self.machine.write(self._thread(), region.model, span.start, span.stop, zeros)
        region.model.check()
        region.contents[offset_bytes : offset_bytes + len(data)] = data

    def _zero_pages(self, region: _Region, span: Span, offset_bytes: int, data: memoryview) -> bytes:
        """Return which pages of `span` will be all zeros with `data` in them, one byte a page."""
        start_bytes, stop_bytes = span.start * self.page_bytes, span.stop * self.page_bytes
        after = bytearray(region.contents[start_bytes:offset_bytes])
        after += data
        after += region.contents[offset_bytes + len(data) : stop_bytes]
        zeros = bytes(self.page_bytes)
        return bytes(
            after[at : at + self.page_bytes] == zeros for at in range(0, stop_bytes - start_bytes, self.page_bytes)
        )

    def receive(self, region: Region, offset_bytes: int, fd: int, limit_bytes: int) -> int:
        """See :meth:`Kernel.receive`. The bytes pass through a buffer."""
        own = _own(region)
        self._span(own, offset_bytes, limit_bytes)
        own.model.check()
        while True:
            try:
                data = os.read(fd, limit_bytes)
                break
            except BlockingIOError:
                _wait_readable(fd)
        self.write(own, offset_bytes, data)
        return len(data)

    def read(self, region: Region, offset_bytes: int, length_bytes: int) -> bytearray:
        """See :meth:`Kernel.read`. Touches the pages in ascending order."""
        own = _own(region)
        return self._run(self._load(own, self._span(own, offset_bytes, length_bytes), offset_bytes, length_bytes))

    def _load(
        self, region: _Region, span: Span, offset_bytes: int, length_bytes: int
    ) -> Generator[int, None, bytearray]:
        yield from self.machine.touch(self._thread(), region.model, span.start, span.stop)
        region.model.check()
        return bytearray(region.contents[offset_bytes : offset_bytes + length_bytes])

    # --- paging ---

    def advise(self, region: Region, span: Span, advice: Advice) -> None:
        """See :meth:`Kernel.advise`."""
        model, thread = self._checked(region, span), self._thread()
        if advice is Advice.WILLNEED:
            self._act(self.machine.willneed(thread, model, span.start, span.stop))
        elif advice is Advice.PAGEOUT:
            self._act(self.machine.pageout(thread, model, span.start, span.stop))
        else:
            with self._lock:
                self.machine.cold(thread, model, span.start, span.stop)

    def populate(self, region: Region, span: Span) -> None:
        """See :meth:`Kernel.populate`."""
        model = self._checked(region, span)
        self._act(self.machine.populate(self._thread(), model, span.start, span.stop))

    def touch(self, region: Region, span: Span) -> None:
        """See :meth:`Kernel.touch`."""
        model = self._checked(region, span)
        self._act(self.machine.touch(self._thread(), model, span.start, span.stop))

    def lock(self, region: Region, span: Span) -> None:
        """See :meth:`Kernel.lock`."""
        model = self._checked(region, span)
        self._act(self.machine.lock(self._thread(), model, span.start, span.stop))

    def unlock(self, region: Region, span: Span) -> None:
        """See :meth:`Kernel.unlock`."""
        model = self._checked(region, span)
        with self._lock:
            self.machine.unlock(model, span.start, span.stop)

    def evict(self, region: Region, span: Span, timeout_ns: int) -> int:
        """See :meth:`Kernel.evict`. Gives up before the timeout where nothing more can be written."""
        model = self._checked(region, span)
        return self._run(self.machine.evict(self._thread(), model, span.start, span.stop, timeout_ns))

    # --- observing ---

    def residency(self, region: Region, span: Span) -> Residency:
        """See :meth:`Kernel.residency`. Exact."""
        model = self._checked(region, span)
        with self._lock:
            tiers = self.machine.page_flags(model, span.start, span.stop).translate(_TIERS)
            contents = self.machine.page_contents(model, span.start, span.stop)
        if SHARED_ZERO in contents:  # read but never written: no memory of its own
            pairs = zip(tiers, contents, strict=True)
            tiers = bytes(Tier.ABSENT if content == SHARED_ZERO else tier for tier, content in pairs)
        return Residency(span, tiers)

    def in_core(self, region: Region, span: Span) -> bool:
        """See :meth:`Kernel.in_core`."""
        model = self._checked(region, span)
        with self._lock:
            return not self.machine.page_flags(model, span.start, span.stop).translate(None, _NOT_SWAPPED)

    def thread_faults(self) -> FaultCounts:
        """See :meth:`Kernel.thread_faults`."""
        with self._lock:
            minor, major = self.machine.thread_faults(self._thread())
        return FaultCounts(minor=minor, major=major)

    def swap_counts(self) -> SwapCounts:
        """See :meth:`Kernel.swap_counts`."""
        with self._lock:
            counters = self.machine.counters
            return SwapCounts(
                pswpin=counters.pswpin,
                pswpout=counters.pswpout,
                pgmajfault=counters.pgmajfault,
                swap_ra=counters.swap_ra,
                swap_ra_hit=counters.swap_ra_hit,
                swpin_zero=counters.swpin_zero,
                swpout_zero=counters.swpout_zero,
            )

    def memory(self) -> MemoryState:
        """See :meth:`Kernel.memory`. The model's memory is the limit of a control group, of anonymous pages only."""
        with self._lock:
            limit_pages, used_pages = self.machine.memory_pages, self.machine.used_pages
        return MemoryState(limit_pages * self.page_bytes, max(0, limit_pages - used_pages) * self.page_bytes)

    def pressure(self) -> PressureCounts:
        """See :meth:`Kernel.pressure`. The model does not know which threads are idle, so there is no ``full``."""
        with self._lock:
            counters = self.machine.counters
            return PressureCounts(
                some_ns=self.machine.stalled_ns,
                limit_events=self.machine.limit_events,
                refaults=counters.pswpin + counters.swpin_zero,
            )

    # --- inspection ---

    def punch(self, region: Region, span: Span) -> None:
        """See :meth:`InspectedKernel.punch`."""
        model = self._checked(region, span)
        if _own(region).arena is not None:
            raise no_holes()
        with self._lock:
            self.machine.punch(model, span.start, span.stop)

    def mincore(self, region: Region, span: Span) -> bytes:
        """See :meth:`InspectedKernel.mincore`."""
        model = self._checked(region, span)
        with self._lock:
            return self.machine.page_flags(model, span.start, span.stop).translate(_IN_CORE)

    def page_entries(self, region: Region, span: Span) -> npt.NDArray[np.uint64]:
        """See :meth:`InspectedKernel.page_entries`. Mapped pages have no frame number."""
        model = self._checked(region, span)
        with self._lock:
            flags = np.frombuffer(self.machine.page_flags(model, span.start, span.stop), np.uint8)
            slots = np.array(self.machine.page_slots(model, span.start, span.stop), np.uint64)
        entries = np.zeros(len(span), np.uint64)
        swapped, present = (flags & SWAP_ENTRY) != 0, (flags & STATE) == PRESENT
        entries[swapped] = np.uint64(ENTRY_SWAPPED) | slots[swapped] << np.uint64(SLOT_SHIFT)
        entries[present] = np.uint64(ENTRY_PRESENT | ENTRY_EXCLUSIVE)
        return entries

    def locked_bytes(self) -> int:
        """See :meth:`InspectedKernel.locked_bytes`."""
        with self._lock:
            return self.machine.locked_pages * self.page_bytes

    def settle(self, region: Region, timeout_ns: int) -> None:
        """See :meth:`InspectedKernel.settle`."""
        with self._lock:
            idle_ns = self.machine.idle_ns
        if idle_ns > self._clock.now_ns() + timeout_ns:
            raise UnavailableError("The simulated device has more to do than that", remedy="Wait longer")
        self._clock.sleep_until(idle_ns)

    def plan_slots(self, region: Region, slots: Sequence[int]) -> None:
        """Have the pages of `region` get these swap slots when they are next given one; 0 leaves it to the area."""
        model = self._checked(region, region.span)
        with self._lock:
            self.machine.plan_slots(model, 0, slots)

    def probe(self) -> Capabilities:
        """See :meth:`Kernel.probe`. Answers from the options; maps nothing."""
        options = self._options
        rotational = " (rotational)" if options.device.rotational else ""
        return Capabilities(
            kernel=self.name,
            release=f"{_release(options)} model, {options.device.name}, seed {options.seed}",
            operations={operation: _judge(options, operation) for operation in Operation},
            swap_bytes=options.swap_slots * options.page_bytes,
            swap_device=f"simulated {options.device.name}{rotational}" if options.swap_slots else "none",
            lock_limit_bytes=None if options.cap_ipc_lock else options.lock_limit_bytes,
            swap_synchronous=bool(options.swap_slots) and options.device.synchronous,
        )

    # --- running the model; a kernel for virtual threads has other ways ---

    def _thread(self) -> int:
        """Return what tells the calling thread from others."""
        return threading.get_ident()

    def _act(self, operation: Generator[int, None, None]) -> None:
        """Do for the calling thread what only takes its time."""
        self._run(operation)

    def _run(self, operation: Generator[int, None, _T]) -> _T:
        """Run `operation` on the calling thread: each step under the lock, each sleep without it."""
        while True:
            with self._lock:
                try:
                    wake_ns = next(operation)
                except StopIteration as done:
                    value: _T = done.value
                    return value
            self._clock.sleep_until(wake_ns)

    def _checked(self, region: Region, span: Span) -> SimulatedRegion:
        own = _own(region)
        own.model.check()
        own.check(span)
        return own.model

    def _span(self, region: _Region, offset_bytes: int, length_bytes: int) -> Span:
        """Return the pages of a range of bytes, inside the region."""
        if offset_bytes < 0 or length_bytes < 0:
            raise InvalidSpanError(
                f"{length_bytes} bytes at {offset_bytes} are not a range", remedy="Give neither a negative value"
            )
        span = Span.of_bytes(offset_bytes, offset_bytes + length_bytes, self.page_bytes)
        self._checked(region, span)
        return span


_OWN_WILLNEED: Final = {
    KernelModel.LINUX_6_18: WillneedMode.LINUX,
    KernelModel.LINUX_2_6_24: WillneedMode.ABSENT,
}
_OTHER_WILLNEED: Final = {
    WillneedMode.LINUX: " with the WILLNEED of 6.18",
    WillneedMode.PATCH_2008: " with the WILLNEED of 2008",
    WillneedMode.ABSENT: " without WILLNEED",
}


def _release(options: SimulationOptions) -> str:
    other = options.willneed is not _OWN_WILLNEED[options.kernel]
    return options.kernel.value.removeprefix("linux-") + (_OTHER_WILLNEED[options.willneed] if other else "")


_ADD_SWAP: Final = "Give the simulated machine swap slots"
_MEANS: Final = {
    Operation.WILLNEED: "MADV_WILLNEED reads swapped pages into the swap cache",
    Operation.COLD: "MADV_COLD makes pages the next victims of reclaim",
    Operation.PAGEOUT: "MADV_PAGEOUT writes pages to swap",
    Operation.POPULATE: "MADV_POPULATE_READ faults swapped pages in",
    Operation.TOUCH: "A touch faults a swapped page in",
    Operation.LOCK: "mlock brings pages in and keeps them",
    Operation.EVICT: "Pages can be pushed out to swap",
}


def _judge(options: SimulationOptions, operation: Operation) -> Capability:
    if operation is Operation.RESIDENCY:
        return Capability(True, True, "The model knows where every page is")
    if operation is Operation.FAULT_COUNTS:
        return Capability(True, True, "The model counts each thread's faults")
    if operation is Operation.WILLNEED and options.willneed is WillneedMode.ABSENT:
        return Capability(
            False, False, "This kernel does not know MADV_WILLNEED of anonymous memory", "Use Linux 3.9 or later"
        )
    old = options.kernel is KernelModel.LINUX_2_6_24
    if old and operation in (Operation.COLD, Operation.PAGEOUT):
        return Capability(
            False, False, f"Linux 2.6.24 does not know MADV_{operation.name}", "Use Linux 5.4 or later, or evict"
        )
    lock_limit_pages = options.lock_limit_pages
    if operation is Operation.LOCK and lock_limit_pages == 0:
        return Capability(
            False,
            False,
            "RLIMIT_MEMLOCK is less than a page and CAP_IPC_LOCK is missing",
            "Raise the lock limit of the simulated machine, or give it CAP_IPC_LOCK",
        )
    means = _MEANS[operation]
    if not options.swap_slots:
        why = f"{means}; no swap is configured, so it does nothing for anonymous memory"
        return Capability(operation is not Operation.EVICT, False, why, _ADD_SWAP)
    if operation is Operation.WILLNEED and options.willneed is WillneedMode.PATCH_2008:
        means += ", in silence no more than half of what is free or inactive"
    if operation is Operation.POPULATE and old:
        means = "make_pages_present() faults swapped pages in, for writing"
    return Capability(True, True, means)


def _own(region: Region) -> _Region:
    if not isinstance(region, _Region):
        raise TypeError(f"{region!r} is a region of another kernel")
    return region


def _wait_readable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll()
