"""What an experiment asks of a kernel beyond the port: the raw observers, holes, and a moment without I/O.

Nothing above the lab needs these. Both kernels answer in the same form, so that an experiment compares them bit by bit.
"""

from __future__ import annotations

import abc

import numpy as np
import numpy.typing as npt

from samplecache.errors import SamplecacheError
from samplecache.kernel.port import Kernel, Region, Span

ENTRY_PRESENT = 1 << 63
"""Bits of an entry of ``/proc/PID/pagemap`` (Documentation/admin-guide/mm/pagemap.rst): the page is mapped."""
ENTRY_SWAPPED = 1 << 62
"""The page-table entry is a swap entry; the page may be in the swap cache all the same."""
ENTRY_EXCLUSIVE = 1 << 56
"""Mapped by nobody else."""
AREA_MASK = (1 << 5) - 1
SLOT_SHIFT = 5
"""Bits 0-4 are the number of the swap area, bits 5-54 the slot in it; both are zeros without CAP_SYS_ADMIN."""
SLOT_MASK = (1 << 50) - 1


class InspectedKernel(Kernel):
    """A kernel that can be looked into. Spans and threads are as in :class:`Kernel`."""

    @abc.abstractmethod
    def punch(self, region: Region, span: Span) -> None:
        """Unmap a part of `region`: a hole, until the region is unmapped.

        Touching it is a segmentation fault on the running kernel, an :class:`UnmappedError` on the simulated one.
        Other memory of the process may come to lie in the hole.

        Raises
        ------
        NotPermittedError
            It is a packed region.
        """

    @abc.abstractmethod
    def mincore(self, region: Region, span: Span) -> bytes:
        """Return what ``mincore(2)`` says of each page, 1 in RAM or 0, shape ``(len(span),)``; 0 in holes."""

    @abc.abstractmethod
    def page_entries(self, region: Region, span: Span) -> npt.NDArray[np.uint64]:
        """Return the pagemap entry of each page, shape ``(len(span),)``; 0 in holes.

        Raises
        ------
        NotPermittedError
            There is no readable pagemap.
        """

    @abc.abstractmethod
    def locked_bytes(self) -> int:
        """Return how much memory the process has locked, in bytes (``VmLck``)."""

    @abc.abstractmethod
    def settle(self, region: Region, timeout_ns: int) -> None:
        """Wait until no read and no write of the swap devices is in flight. Does not fault.

        Then have every CPU put the pages that it holds in its own LRU batch on the lists, where reclaim and
        MADV_PAGEOUT find them. `region` is any that is mapped.

        Raises
        ------
        UnavailableError
            There was no such moment within `timeout_ns`.
        """


def slots(entries: npt.NDArray[np.uint64]) -> list[int]:
    """Return the swap slot that each pagemap entry names, 0 where it is no swap entry."""
    found = (entries >> np.uint64(SLOT_SHIFT)) & np.uint64(SLOT_MASK)
    found[(entries & np.uint64(ENTRY_SWAPPED)) == 0] = 0
    values: list[int] = found.tolist()
    return values


def areas(entries: npt.NDArray[np.uint64]) -> set[int]:
    """Return the numbers of the swap areas that pagemap entries name."""
    return set((entries[(entries & np.uint64(ENTRY_SWAPPED)) != 0] & np.uint64(AREA_MASK)).tolist())


def errno_name(error: SamplecacheError) -> str | None:
    """Return the error number that the kernel's call ended with, by name (``"ENOMEM"``); None if no call did."""
    return error.details.get("errno")
