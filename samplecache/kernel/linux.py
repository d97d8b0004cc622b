"""The Linux kernel behind the port: system calls made through ``ctypes``, which lets go of the GIL around each of them.

Sample memory is never touched in any other way. A slice, a ``bytes()`` or a small NumPy loop over a swapped page would
hold the GIL until the page has been read, and stop every stream.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import select
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import numpy.typing as npt

from samplecache.clock import NS_PER_MS, Clock, MonotonicClock
from samplecache.errors import (
    InvalidSpanError,
    LockLimitError,
    MappingError,
    NotPermittedError,
    SamplecacheError,
    UnavailableError,
)
from samplecache.kernel import memory_files, procfs
from samplecache.kernel.eviction import evict
from samplecache.kernel.inspection import InspectedKernel
from samplecache.kernel.linux_arenas import LinuxArenas, PackedRegion
from samplecache.kernel.linux_copies import CopyRoom
from samplecache.kernel.linux_errors import errno_name, shortage, unavailable
from samplecache.kernel.linux_region import LinuxRegion, call, declare, madvise, munlock
from samplecache.kernel.packing import LARGEST_PACKED_BYTES
from samplecache.kernel.port import (
    NO_FAULTS,
    Advice,
    Capabilities,
    FaultCounts,
    Region,
    Residency,
    Span,
    SwapCounts,
    Tier,
)
from samplecache.kernel.probe import probe_linux
from samplecache.kernel.runs import runs
from samplecache.kernel.signals import MemoryState, PressureCounts

MADV_POPULATE_READ = 22
"""From ``asm-generic/mman-common.h``, as are the two below: Python 3.11 does not name them."""
MADV_COLD = 20
MADV_PAGEOUT = 21

_ADVICE = {Advice.WILLNEED: mmap.MADV_WILLNEED, Advice.COLD: MADV_COLD, Advice.PAGEOUT: MADV_PAGEOUT}

PAGEMAP_SWAPPED = np.uint64(1 << 62)
PAGEMAP_MAPPED_ONCE = np.uint64(1 << 63 | 1 << 56)
"""Present, and mapped by nobody else; pages that were read but never written share the zero page."""

SETTLE_POLL_NS = NS_PER_MS // 4

_pointer, _size, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_mlock = declare("mlock", _int, _pointer, _size)
_mincore = declare("mincore", _int, _pointer, _size, _pointer)
_memmove = declare("memmove", _pointer, _pointer, _pointer, _size)
_read = declare("read", ctypes.c_ssize_t, _int, _pointer, _size)


class _Copies(threading.local):
    """What the calling thread's copies of sample memory have come to, and where it makes those that do not last."""

    faults = FaultCounts()
    """Faults of the memory that was copied into: not the sample's."""

    def __init__(self) -> None:
        self.room(1)

    def room(self, length_bytes: int) -> None:
        """Make room for that many bytes and a mincore vector for their pages, both written to, so that none faults."""
        self.copy, self.vector = CopyRoom(length_bytes), bytearray(length_bytes // mmap.PAGESIZE + 2)
        self.vector_address = ctypes.addressof(ctypes.c_char.from_buffer(self.vector))


class LinuxKernel(InspectedKernel):
    """The port over the running kernel, for the calling process's own memory. Every method is thread-safe.

    Parameters
    ----------
    clock : Clock
        What bounds the waits of :meth:`evict`.
    """

    name = "linux"

    def __init__(self, clock: Clock | None = None) -> None:
        self.page_bytes = mmap.PAGESIZE
        self._clock = clock or MonotonicClock()
        self._copies = _Copies()
        self._arenas = LinuxArenas(self.page_bytes)
        try:
            self._pagemap: int | None = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._pagemap = None

    # --- memory ---

    def map(self, length_bytes: int, *, packed: bool = False) -> LinuxRegion:
        """See :meth:`Kernel.map`.

        A region that is not packed begins at a PMD boundary, so that readahead windows do not depend on luck.
        """
        if length_bytes <= 0:
            raise InvalidSpanError(f"{length_bytes} bytes cannot be mapped", remedy="Ask for one byte at least")
        pages = -(-length_bytes // self.page_bytes)
        try:
            if packed and length_bytes <= LARGEST_PACKED_BYTES:
                with suppress(OSError):  # where there is no room for an arena, there may be for one region
                    return self._arenas.map(pages)
            return LinuxRegion.map(pages, self.page_bytes)
        except OSError as error:
            why, remedy = shortage(error, "Ask for less, or free memory or swap, or raise RLIMIT_AS")
            raise MappingError(
                f"The kernel would not map {length_bytes} bytes: {why}", remedy=remedy, length_bytes=length_bytes
            ) from error

    def unmap(self, region: Region) -> None:
        """See :meth:`Kernel.unmap`. Waits until no other thread is inside a call on the region."""
        _own(region).unmap()

    def unmap_all(self, regions: Collection[Region]) -> None:
        """See :meth:`Kernel.unmap_all`. Waits as :meth:`unmap` does."""
        self._arenas.unmap([region for region in regions if isinstance(region, PackedRegion)])
        super().unmap_all([region for region in regions if not isinstance(region, PackedRegion)])

    def write(self, region: Region, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        """See :meth:`Kernel.write`."""
        source = np.frombuffer(data, np.uint8)
        with self._bytes(region, offset_bytes, source.nbytes) as address:
            _memmove(address, source.ctypes.data, source.nbytes)

    def receive(self, region: Region, offset_bytes: int, fd: int, limit_bytes: int) -> int:
        """See :meth:`Kernel.receive`."""
        with self._bytes(region, offset_bytes, limit_bytes) as address:
            while (count := _read(fd, address, limit_bytes)) < 0:
                code = ctypes.get_errno()
                if code == errno.EAGAIN:
                    _wait_readable(fd)
                elif code != errno.EINTR:
                    raise OSError(code, os.strerror(code))
            return count

    def read(self, region: Region, offset_bytes: int, length_bytes: int) -> bytearray:
        """See :meth:`Kernel.read`. One ``memmove``: the order in which it touches the pages is the C library's."""
        own = self._check_bytes(region, offset_bytes, length_bytes)
        before = _thread_usage()
        copy = bytearray(length_bytes)  # writes its zeros at once: no fault is left for the copying
        after = _thread_usage()
        if after != before:
            self._copies.faults += after - before
        with own as base:
            if copy:
                _memmove(ctypes.addressof(ctypes.c_char.from_buffer(copy)), base + offset_bytes, length_bytes)
        return copy

    def read_resident(
        self, region: Region, offset_bytes: int, length_bytes: int
    ) -> tuple[memoryview, FaultCounts] | None:
        """See :meth:`Kernel.read_resident`. One ``mincore`` and one ``memmove``, into memory that is kept for it."""
        own, copies = self._check_bytes(region, offset_bytes, length_bytes), self._copies
        if length_bytes > copies.copy.length_bytes:
            copies.room(length_bytes)
        page_bytes = self.page_bytes
        first, stop = offset_bytes // page_bytes, -(-(offset_bytes + length_bytes) // page_bytes)
        with own as base:
            if length_bytes:
                call(_mincore, base + first * page_bytes, (stop - first) * page_bytes, copies.vector_address)
                if copies.vector.count(1, 0, stop - first) != stop - first and not self.in_core(own, Span(first, stop)):
                    return None
            address, copy = copies.copy.for_copy(base + offset_bytes, length_bytes)
            before = resource.getrusage(resource.RUSAGE_THREAD)
            _memmove(address, base + offset_bytes, length_bytes)
            after = resource.getrusage(resource.RUSAGE_THREAD)
        minor, major = after.ru_minflt - before.ru_minflt, after.ru_majflt - before.ru_majflt
        return copy, FaultCounts(minor, major) if minor or major else NO_FAULTS

    # --- paging ---

    def advise(self, region: Region, span: Span, advice: Advice) -> None:
        """See :meth:`Kernel.advise`."""
        own = _own(region)
        with self._pages(own, span) as address:
            locked = own.locked[span.start : span.stop]
            if advice is not Advice.WILLNEED and locked.any():
                # Asked of a locked page only: of all, the kernel would push out those before it first.
                first = span.start + int(locked.argmax())
                self._refuse_locked(address + (first - span.start) * self.page_bytes, advice)
            self._advise(address, span, _ADVICE[advice])

    def _refuse_locked(self, address: int, advice: Advice) -> None:
        try:
            call(madvise, address, self.page_bytes, _ADVICE[advice])
        except OSError as error:
            raise NotPermittedError(
                f"Locked pages cannot be advised {advice.name}",
                remedy="Unlock them first",
                advice=advice.value,
                errno=errno_name(error),
            ) from error

    def _advise(self, address: int, span: Span, advice: int) -> None:
        try:
            call(madvise, address, len(span) * self.page_bytes, advice)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EBADF):
                raise NotPermittedError(
                    f"This kernel does not know madvise({advice}) of anonymous memory",
                    remedy="Use Linux 5.4 or later",
                    advice=advice,
                    errno=errno_name(error),
                ) from error
            raise unavailable("madvise", error) from error

    def populate(self, region: Region, span: Span) -> None:
        """See :meth:`Kernel.populate`."""
        with self._pages(region, span) as address:
            try:
                self._advise(address, span, MADV_POPULATE_READ)
            except NotPermittedError:
                self._touch(address, span)

    def touch(self, region: Region, span: Span) -> None:
        """See :meth:`Kernel.touch`."""
        with self._pages(region, span) as address:
            self._touch(address, span)

    def _touch(self, address: int, span: Span) -> None:
        byte = ctypes.create_string_buffer(1)
        for page_address in range(address, address + len(span) * self.page_bytes, self.page_bytes):
            _memmove(ctypes.addressof(byte), page_address, 1)

    def lock(self, region: Region, span: Span) -> None:
        """See :meth:`Kernel.lock`."""
        own = _own(region)
        with self._pages(own, span) as address, own.locking:
            locked = own.locked[span.start : span.stop]
            try:
                call(_mlock, address, len(span) * self.page_bytes)
            except OSError as error:
                # Out of memory half-way leaves the whole range marked as locked.
                for run in runs(~locked):
                    munlock(address + run.start * self.page_bytes, len(run) * self.page_bytes)
                raise self._lock_error(int((~locked).sum()), error) from error
            locked[:] = True

    def _lock_error(self, pages: int, error: OSError) -> SamplecacheError:
        limit_bytes, asked_bytes = procfs.lock_limit_bytes(), pages * self.page_bytes
        remedy = "Raise RLIMIT_MEMLOCK (ulimit -l, or LimitMEMLOCK= of the unit), or grant CAP_IPC_LOCK"
        if error.errno == errno.EPERM:
            return NotPermittedError(
                "RLIMIT_MEMLOCK is 0 and CAP_IPC_LOCK is missing", remedy=remedy, errno=errno_name(error)
            )
        held_bytes = procfs.locked_bytes()
        if limit_bytes is not None and held_bytes + asked_bytes > limit_bytes:
            return LockLimitError(
                f"{asked_bytes} more bytes cannot be locked: the process holds {held_bytes} of {limit_bytes}",
                remedy=remedy,
                asked_bytes=asked_bytes,
                held_bytes=held_bytes,
                limit_bytes=limit_bytes,
                errno=errno_name(error),
            )
        return unavailable("mlock", error)

    def unlock(self, region: Region, span: Span) -> None:
        """See :meth:`Kernel.unlock`. Waits for a :meth:`lock` of the same region on another thread."""
        own = _own(region)
        with self._pages(own, span) as address, own.locking:
            try:
                call(munlock, address, len(span) * self.page_bytes)
            except OSError as error:
                for piece in own.pieces(span)[:1]:
                    if piece.start == span.start:  # what lies before a hole has been unlocked
                        own.locked[piece.start : piece.stop] = False
                raise unavailable("munlock", error) from error
            own.locked[span.start : span.stop] = False

    def evict(self, region: Region, span: Span, timeout_ns: int) -> int:
        """See :meth:`Kernel.evict`, and :mod:`samplecache.kernel.eviction` for how."""
        if not procfs.swap_areas():
            raise NotPermittedError("There is no swap to evict to", remedy="Add swap, for example a zram device")
        own = _own(region)
        with self._pages(own, span):
            return evict(
                self,
                own,
                span,
                timeout_ns,
                clock=self._clock,
                locking=own.locking,
                drain=lambda: drain_lru_batches(own.reserved[0]),
            )

    # --- observing ---

    def residency(self, region: Region, span: Span) -> Residency:
        """See :meth:`Kernel.residency`. One read of ``/proc/self/pagemap``; one ``mincore`` unless all is mapped."""
        own = _own(region)
        with self._pages(own, span) as address:
            entries, locked = self._page_entries(address, span), own.locked[span.start : span.stop]
            if entries is None:
                in_core = self._in_core(address, span)
                tiers = np.where(in_core, Tier.MAPPED, Tier.SWAPPED).astype(np.uint8)
            else:
                # What was read but never written is mapped to the one zero page, which takes no memory of its own.
                mapped = (entries & PAGEMAP_MAPPED_ONCE) == PAGEMAP_MAPPED_ONCE
                if mapped.all() and not locked.any():  # as most are: nothing is left to ask
                    return Residency(span, bytes([Tier.MAPPED]) * len(span))
                in_core, swapped = self._in_core(address, span), (entries & PAGEMAP_SWAPPED) != 0
                tiers = np.full(len(span), Tier.ABSENT, np.uint8)
                tiers[swapped] = Tier.SWAPPED
                tiers[in_core & swapped] = Tier.SWAP_CACHE
                tiers[mapped] = Tier.MAPPED
            tiers[in_core & locked] = Tier.LOCKED
            return Residency(span, tiers.tobytes(), exact=entries is not None)

    def in_core(self, region: Region, span: Span) -> bool:
        """See :meth:`Kernel.in_core`. Pages never written cost a look at the pagemap; without one they count as out."""
        own = _own(region)
        own.check(span)
        # By hand what `_pages` does, and without NumPy: this is asked before every block that is played.
        vector = ctypes.create_string_buffer(len(span) or 1)
        with own as base:
            address = base + span.start * self.page_bytes
            if span:
                call(_mincore, address, len(span) * self.page_bytes, ctypes.addressof(vector))
            if vector.raw.count(1) == len(span):
                return True
            entries = self._page_entries(address, span)
            if entries is None:
                return False
            # Asked again, later than the pagemap: a page that came in between is in.
            swapped = (entries & PAGEMAP_SWAPPED) != 0
            return not (swapped & ~self._in_core(address, span)).any()

    def _in_core(self, address: int, span: Span) -> npt.NDArray[np.bool_]:
        vector = np.zeros(len(span), np.uint8)
        if len(span):
            call(_mincore, address, len(span) * self.page_bytes, vector.ctypes.data)
        return (vector & 1).astype(np.bool_)

    def _page_entries(self, address: int, span: Span) -> npt.NDArray[np.uint64] | None:
        if self._pagemap is None:
            return None
        return np.frombuffer(os.pread(self._pagemap, 8 * len(span), 8 * (address // self.page_bytes)), np.uint64)

    def thread_faults(self) -> FaultCounts:
        """See :meth:`Kernel.thread_faults`."""
        return _thread_usage() - self._copies.faults

    def swap_counts(self) -> SwapCounts:
        """See :meth:`Kernel.swap_counts`."""
        return procfs.swap_counts()

    def memory(self) -> MemoryState:
        """See :meth:`Kernel.memory`."""
        return memory_files.memory_state()

    def pressure(self) -> PressureCounts:
        """See :meth:`Kernel.pressure`."""
        return memory_files.pressure_counts()

    # --- inspection ---

    def punch(self, region: Region, span: Span) -> None:
        """See :meth:`InspectedKernel.punch`."""
        own = _own(region)
        with self._pages(own, span), own.locking:
            own.punch(span)

    def mincore(self, region: Region, span: Span) -> bytes:
        """See :meth:`InspectedKernel.mincore`."""
        own = _own(region)
        with self._pages(own, span) as address:
            found = np.zeros(len(span), np.uint8)
            for piece in own.pieces(span):
                first = piece.start - span.start
                found[first : first + len(piece)] = self._in_core(address + first * self.page_bytes, piece)
            return found.tobytes()

    def page_entries(self, region: Region, span: Span) -> npt.NDArray[np.uint64]:
        """See :meth:`InspectedKernel.page_entries`."""
        own = _own(region)
        with self._pages(own, span) as address:
            found = np.zeros(len(span), np.uint64)
            for piece in own.pieces(span):
                first = piece.start - span.start
                entries = self._page_entries(address + first * self.page_bytes, piece)
                if entries is None:
                    raise NotPermittedError("/proc/self/pagemap cannot be read", remedy="Mount /proc, and run as root")
                found[first : first + len(piece)] = entries
            return found

    def locked_bytes(self) -> int:
        """See :meth:`InspectedKernel.locked_bytes`."""
        return procfs.locked_bytes()

    def settle(self, region: Region, timeout_ns: int) -> None:
        """See :meth:`InspectedKernel.settle`. Asks the disks under the swap areas; other users of theirs count too."""
        disks = {disk for area in procfs.swap_areas() if (disk := procfs.disk_under(area.path)) is not None}
        deadline_ns = self._clock.now_ns() + timeout_ns
        for disk in disks:
            while disk.in_flight:
                now_ns = self._clock.now_ns()
                if now_ns >= deadline_ns:
                    raise UnavailableError(
                        f"The disk {disk.name} under the swap is never at rest", remedy="Give it less other work"
                    )
                self._clock.sleep_until(now_ns + SETTLE_POLL_NS)
        with _own(region):
            drain_lru_batches(_own(region).reserved[0])

    def probe(self) -> Capabilities:
        """See :meth:`Kernel.probe`. Evicts a few pages and reads them back: takes up to a few seconds."""
        return probe_linux(self)

    def close(self) -> None:
        """See :meth:`Kernel.close`. Residency is no longer exact afterwards."""
        if self._pagemap is not None:
            os.close(self._pagemap)
            self._pagemap = None

    def address(self, region: Region) -> int:
        """Return where `region` begins in this process: for others that read it. Whoever does holds it mapped."""
        with _own(region) as base:
            return base

    # --- addresses ---

    @contextmanager
    def _pages(self, region: Region, span: Span) -> Iterator[int]:
        """Check `span` and give the address of its first page, mapped until the end of the block."""
        own = _own(region)
        own.check(span)
        with own as base:
            yield base + span.start * self.page_bytes

    @contextmanager
    def _bytes(self, region: Region, offset_bytes: int, length_bytes: int) -> Iterator[int]:
        """Check a range of bytes and give its address, mapped until the end of the block."""
        with self._check_bytes(region, offset_bytes, length_bytes) as base:
            yield base + offset_bytes

    def _check_bytes(self, region: Region, offset_bytes: int, length_bytes: int) -> LinuxRegion:
        if offset_bytes < 0 or length_bytes < 0:
            raise InvalidSpanError(
                f"{length_bytes} bytes at {offset_bytes} are not a range", remedy="Give neither a negative value"
            )
        own = _own(region)
        if offset_bytes + length_bytes > own.pages * self.page_bytes:
            own.check(Span.of_bytes(offset_bytes, offset_bytes + length_bytes, self.page_bytes))
        return own


def _own(region: Region) -> LinuxRegion:
    if not isinstance(region, LinuxRegion):
        raise TypeError(f"{region!r} is a region of another kernel")
    return region


def drain_lru_batches(page_address: int) -> None:
    """Have every CPU put its batch of new pages on the LRU lists, where MADV_PAGEOUT finds them.

    madvise begins by draining the batch of the CPU it runs on, so it runs on each in turn, over a page that may go: a
    guard page, say. On those that the process was asked to keep off, too: a disk's interrupts put pages there when they
    have been written.
    """
    allowed = os.sched_getaffinity(0)  # 0 is the calling thread, not the process
    try:
        for cpu in range(os.cpu_count() or 1):
            with suppress(OSError):  # one that a control group has not given
                os.sched_setaffinity(0, {cpu})
                madvise(page_address, mmap.PAGESIZE, MADV_PAGEOUT)
    finally:
        os.sched_setaffinity(0, allowed)


def _thread_usage() -> FaultCounts:
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return FaultCounts(usage.ru_minflt, usage.ru_majflt)


def _wait_readable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll()
