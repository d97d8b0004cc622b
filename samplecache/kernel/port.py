"""The kernel port: what a process can ask of its kernel about its own anonymous memory.

Two kernels stand behind it: :class:`samplecache.kernel.linux.LinuxKernel`, which makes system calls, and
:class:`samplecache.kernel.simulated.SimulatedKernel`, which runs the paging model. Everything above this floor speaks
to the port only, so the same store, strategies and sessions run on both.

Spans are in pages of a region, half-open. Every method may be called from any thread. Whether a method may *fault*
(wait for a page to be read from swap on the calling thread) stands in its docstring; a method that may fault never
holds the GIL while it waits.
"""

from __future__ import annotations

import abc
import enum
import functools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from samplecache.errors import InvalidSpanError
from samplecache.kernel.signals import MemoryState, PressureCounts


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Pages ``[start, stop)`` of a region."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise InvalidSpanError(
                f"pages [{self.start}, {self.stop}) are not a span",
                remedy="Give 0 <= start <= stop",
                start=self.start,
                stop=self.stop,
            )

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def intersection(self, other: Span) -> Span:
        """Return the pages in both, an empty span if there are none."""
        start = max(self.start, other.start)
        return Span(start, max(start, min(self.stop, other.stop)))

    def chunks(self, pages: int) -> Iterator[Span]:
        """Cut the span into pieces of at most `pages` pages, in ascending order."""
        for start in range(self.start, self.stop, pages):
            yield Span(start, min(start + pages, self.stop))

    @classmethod
    def of_bytes(cls, start_bytes: int, stop_bytes: int, page_bytes: int) -> Span:
        """Return the pages that bytes ``[start_bytes, stop_bytes)`` lie in."""
        return cls(start_bytes // page_bytes, -(-stop_bytes // page_bytes))


class Tier(enum.IntEnum):
    """Where one page is, from furthest to nearest. Values are those in :attr:`Residency.tiers`."""

    ABSENT = 0
    """Never written: a read would find zeros."""
    SWAPPED = 1
    """On the swap device, or being read from it: a touch waits."""
    SWAP_CACHE = 2
    """In RAM, not mapped: a touch is a minor fault."""
    MAPPED = 3
    """In RAM and mapped: a touch costs nothing."""
    LOCKED = 4
    """Mapped, and mlock keeps it so."""


@dataclass(frozen=True, slots=True)
class Residency:
    """Where each page of a span was when asked; true only of that moment.

    Attributes
    ----------
    span : Span
        The pages asked about.
    tiers : bytes
        One :class:`Tier` value a page, shape ``(len(span),)``.
    exact : bool
        False where the kernel could not tell SWAP_CACHE from MAPPED, or ABSENT from SWAPPED (no readable pagemap).
    """

    span: Span
    tiers: bytes
    exact: bool = True

    def count(self, tier: Tier) -> int:
        """Return how many pages are in `tier`."""
        return self.tiers.count(tier)

    @property
    def in_core(self) -> int:
        """How many pages are in RAM."""
        return self.count(Tier.SWAP_CACHE) + self.count(Tier.MAPPED) + self.count(Tier.LOCKED)

    def part(self, span: Span) -> Residency:
        """Return what it tells of `span`, which lies inside of its own."""
        first = span.start - self.span.start
        return Residency(span, self.tiers[first : first + len(span)], self.exact)

    def spans_in(self, tier: Tier, *others: Tier) -> Iterator[Span]:
        """Yield the maximal runs of pages that are in `tier` or one of the `others`, ascending."""
        if not others and tier not in self.tiers:
            return
        for run in _runs_of(tier, *others).finditer(self.tiers):
            yield Span(self.span.start + run.start(), self.span.start + run.end())


@functools.cache
def _runs_of(*tiers: Tier) -> re.Pattern[bytes]:
    return re.compile(b"[%b]+" % bytes(tiers))


@dataclass(frozen=True, slots=True)
class FaultCounts:
    """Page faults of one thread since it began, as ``getrusage(RUSAGE_THREAD)`` counts them."""

    minor: int = 0
    major: int = 0

    def __sub__(self, earlier: FaultCounts) -> FaultCounts:
        return FaultCounts(self.minor - earlier.minor, self.major - earlier.major)

    def __add__(self, other: FaultCounts) -> FaultCounts:
        return FaultCounts(self.minor + other.minor, self.major + other.major)


NO_FAULTS: Final = FaultCounts()


@dataclass(frozen=True, slots=True)
class SwapCounts:
    """Swap traffic of the whole machine since it began, in pages; the names are those of ``/proc/vmstat``.

    Kernels before 6.13 do not count pages of zeros (`swpin_zero`, `swpout_zero`).
    """

    pswpin: int = 0
    pswpout: int = 0
    pgmajfault: int = 0
    swap_ra: int = 0
    swap_ra_hit: int = 0
    swpin_zero: int = 0
    swpout_zero: int = 0

    def __sub__(self, earlier: SwapCounts) -> SwapCounts:
        return SwapCounts(
            self.pswpin - earlier.pswpin,
            self.pswpout - earlier.pswpout,
            self.pgmajfault - earlier.pgmajfault,
            self.swap_ra - earlier.swap_ra,
            self.swap_ra_hit - earlier.swap_ra_hit,
            self.swpin_zero - earlier.swpin_zero,
            self.swpout_zero - earlier.swpout_zero,
        )


class Advice(enum.Enum):
    """What ``madvise(2)`` can be told of anonymous memory that does not lose it."""

    WILLNEED = "willneed"
    """Start reading swapped pages into the swap cache; do not wait."""
    COLD = "cold"
    """Let reclaim take these pages first."""
    PAGEOUT = "pageout"
    """Write these pages to swap now. One call does not evict on an asynchronous device: see :meth:`Kernel.evict`."""


class Operation(enum.Enum):
    """What :meth:`Kernel.probe` answers about."""

    WILLNEED = "willneed"
    COLD = "cold"
    PAGEOUT = "pageout"
    POPULATE = "populate"
    TOUCH = "touch"
    LOCK = "lock"
    EVICT = "evict"
    RESIDENCY = "residency"
    FAULT_COUNTS = "fault_counts"


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether an operation is *permitted* and whether it is *useful*, which are different things.

    Attributes
    ----------
    permitted : bool
        The kernel and the process's limits let it be called.
    useful : bool
        It has an effect here. ``MADV_WILLNEED`` without swap is permitted and useless.
    why : str
        The reason for both, in one sentence.
    remedy : str
        What would make it permitted and useful; empty if it is both.
    """

    permitted: bool
    useful: bool
    why: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kernel can do for this process.

    Attributes
    ----------
    kernel : str
        ``"linux"`` or ``"simulated"``.
    release : str
        The kernel's release, or the simulated profile and seed.
    operations : Mapping[Operation, Capability]
        An answer for every :class:`Operation`.
    swap_bytes : int
        Size of all swap areas, in bytes; 0 if there are none.
    swap_device : str
        What is under the swap, for people: ``"file /x on vda (rotational)"``, ``"zram0"``, a simulated device's name.
    lock_limit_bytes : int or None
        RLIMIT_MEMLOCK, in bytes; None if it does not bind (unlimited, or CAP_IPC_LOCK).
    swap_synchronous : bool
        Whether reads from swap are over when the call returns, because they are copies in memory (zram): WILLNEED then
        takes as long as reading does, and nothing is read ahead.
    """

    kernel: str
    release: str
    operations: Mapping[Operation, Capability]
    swap_bytes: int
    swap_device: str
    lock_limit_bytes: int | None
    swap_synchronous: bool = False

    def permitted(self, operation: Operation) -> bool:
        """Return whether `operation` may be called."""
        return self.operations[operation].permitted

    def useful(self, operation: Operation) -> bool:
        """Return whether `operation` may be called and does something."""
        capability = self.operations[operation]
        return capability.permitted and capability.useful


class Region:
    """Private anonymous memory of one process. Made by :meth:`Kernel.map`, freed by :meth:`Kernel.unmap`; a kernel
    subclasses it to keep what it needs to know.

    Attributes
    ----------
    pages : int
        Its length in pages.
    """

    __slots__ = ("pages",)

    def __init__(self, pages: int) -> None:
        self.pages = pages

    @property
    def span(self) -> Span:
        """All of its pages."""
        return Span(0, self.pages)

    def check(self, span: Span) -> None:
        """Raise unless `span` lies inside the region.

        Raises
        ------
        InvalidSpanError
            `span` ends after the region's last page.
        """
        if span.stop > self.pages:
            raise InvalidSpanError(
                f"pages [{span.start}, {span.stop}) reach past a region of {self.pages} pages",
                remedy=f"End the span at page {self.pages} at the latest",
                stop=span.stop,
                pages=self.pages,
            )


class ReadableMemory(Protocol):
    """Sample memory as those see it who only read it; see the same methods of :class:`Kernel`."""

    page_bytes: int

    def read(self, region: Region, offset_bytes: int, length_bytes: int) -> bytearray:
        """Return a copy. May fault."""

    def read_resident(
        self, region: Region, offset_bytes: int, length_bytes: int
    ) -> tuple[memoryview, FaultCounts] | None:
        """Return a copy and its faults if all is in RAM."""

    def in_core(self, region: Region, span: Span) -> bool:
        """Return whether every page is in RAM."""

    def thread_faults(self) -> FaultCounts:
        """Return the calling thread's faults."""


class Kernel(abc.ABC):
    """What samplecache asks of a kernel.

    Attributes
    ----------
    name : str
        ``"linux"`` or ``"simulated"``.
    page_bytes : int
        Size of a page, in bytes.
    """

    name: str
    page_bytes: int

    # --- memory ---

    @abc.abstractmethod
    def map(self, length_bytes: int, *, packed: bool = False) -> Region:
        """Map at least `length_bytes` of private anonymous memory, rounded up to pages, between guard pages.

        No huge pages, not in core dumps, not inherited by a forked child (a page that a child shares is not paged
        out). Touches no page. Does not fault.

        Parameters
        ----------
        length_bytes : int
            At least 1.
        packed : bool
            Whether a small region may lie next to others in one mapping, with guard pages round them all. The kernel
            bounds how many mappings there may be, and readahead may then bring in pages of a neighbour. Everything
            else is as for a region with a mapping of its own.

        Raises
        ------
        InvalidSpanError
            `length_bytes` is not positive.
        MappingError
            The kernel refuses; nothing is mapped.
        """

    @abc.abstractmethod
    def unmap(self, region: Region) -> None:
        """Give the region back, unlocking what is locked. Using it afterwards raises :class:`UnmappedError`.

        Its memory and its swap go at once, those of a packed one too.
        """

    def unmap_all(self, regions: Collection[Region]) -> None:
        """Give back many regions, as :meth:`unmap` does each; faster where they are all that a mapping is shared by."""
        for region in regions:
            self.unmap(region)

    @abc.abstractmethod
    def write(self, region: Region, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` into the region. May fault, and may wait for reclaim."""

    @abc.abstractmethod
    def receive(self, region: Region, offset_bytes: int, fd: int, limit_bytes: int) -> int:
        """Read at most `limit_bytes` from the file descriptor `fd` straight into the region, with one ``read(2)``.

        Returns the number of bytes read, 0 at end of file. Blocks until `fd` has data. May fault.

        Raises
        ------
        OSError
            As ``read(2)`` fails.
        """

    @abc.abstractmethod
    def read(self, region: Region, offset_bytes: int, length_bytes: int) -> bytearray:
        """Return a copy of ``[offset_bytes, offset_bytes + length_bytes)``. May fault.

        The faults that :meth:`thread_faults` counts for it are the region's own: those of the copy's fresh memory are
        left out.
        """

    def read_resident(
        self, region: Region, offset_bytes: int, length_bytes: int
    ) -> tuple[memoryview, FaultCounts] | None:
        """Return a copy as :meth:`read` does, and its faults, if :meth:`in_core` holds of its pages; None otherwise.

        Made to be called thousands of times a second: the copy is the calling thread's own, and only holds until its
        next call. May take minor faults, and a major one if a page is reclaimed that very moment.
        """
        if not self.in_core(region, Span.of_bytes(offset_bytes, offset_bytes + length_bytes, self.page_bytes)):
            return None
        before = self.thread_faults()
        copy = memoryview(self.read(region, offset_bytes, length_bytes))
        return copy, self.thread_faults() - before

    # --- paging ---

    @abc.abstractmethod
    def advise(self, region: Region, span: Span, advice: Advice) -> None:
        """``madvise(2)``. Does not fault, but WILLNEED and PAGEOUT may block while the device's queue is full.

        Raises
        ------
        NotPermittedError
            This kernel does not know the advice (MADV_COLD and MADV_PAGEOUT before 5.4; WILLNEED of anonymous memory
            before 3.9), or forbids it for this memory (PAGEOUT of locked pages).
        """

    @abc.abstractmethod
    def populate(self, region: Region, span: Span) -> None:
        """Fault every page in for reading and wait for it: MADV_POPULATE_READ, or a touch before 5.14. Faults."""

    @abc.abstractmethod
    def touch(self, region: Region, span: Span) -> None:
        """Read one byte of every page, ascending. Faults: that is its purpose."""

    @abc.abstractmethod
    def lock(self, region: Region, span: Span) -> None:
        """``mlock(2)``: bring all pages of `span` in and keep them. All or nothing. Faults.

        Does not nest: one :meth:`unlock` undoes any number of locks. :class:`samplecache.kernel.ledger.LockLedger`
        counts holders above it and shares out the limit.

        Raises
        ------
        LockLimitError
            RLIMIT_MEMLOCK does not allow it; no page is locked that was not before.
        NotPermittedError
            RLIMIT_MEMLOCK is 0 and the process lacks CAP_IPC_LOCK.
        """

    @abc.abstractmethod
    def unlock(self, region: Region, span: Span) -> None:
        """``munlock(2)``. Does not fault. Pages that are not locked are left as they are."""

    @abc.abstractmethod
    def evict(self, region: Region, span: Span, timeout_ns: int) -> int:
        """Push the pages of `span` out to swap until none is in RAM, for at most `timeout_ns`; skip locked ones.

        Returns the number of unlocked pages of `span` still in RAM: 0 if it is really cold. Blocks. Takes faults (it
        populates to settle writeback), so never call it on a reading thread.

        Raises
        ------
        NotPermittedError
            There is no swap, or no way to page out.
        """

    # --- observing ---

    @abc.abstractmethod
    def residency(self, region: Region, span: Span) -> Residency:
        """Tell where every page of `span` is. Changes nothing, does not fault."""

    @abc.abstractmethod
    def in_core(self, region: Region, span: Span) -> bool:
        """Return whether every written page of `span` is in RAM (mapped or in the swap cache). Does not fault.

        Cheaper than :meth:`residency`: one ``mincore(2)``.
        """

    @abc.abstractmethod
    def thread_faults(self) -> FaultCounts:
        """Return the calling thread's own fault counts, less those of the buffers that :meth:`read` makes.

        Does not fault.
        """

    @abc.abstractmethod
    def swap_counts(self) -> SwapCounts:
        """Return the machine's swap traffic so far. Does not fault."""

    @abc.abstractmethod
    def memory(self) -> MemoryState:
        """Tell how much memory this process may use and how much is left. Takes a millisecond or two."""

    @abc.abstractmethod
    def pressure(self) -> PressureCounts:
        """Return the signs of scarce memory so far. Takes a millisecond or two."""

    @abc.abstractmethod
    def probe(self) -> Capabilities:
        """Find out what is permitted and what is useful, with reason and remedy. Maps and unmaps a few pages."""

    def close(self) -> None:  # noqa: B027 -- most kernels have nothing to close
        """Release what the kernel object itself holds. Regions still mapped stay mapped."""
