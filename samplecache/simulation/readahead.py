"""Which pages a swap-in reads besides the one that is missing (``mm/swap_state.c`` of Linux 6.18)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from samplecache.simulation.pages import PageTable, SimulatedRegion
from samplecache.simulation.vmas import runs_of

VMA_ORDER_MAX: Final = 5
"""``SWAP_RA_ORDER_CEILING``: a virtual window has 32 pages at most."""
VMA_HITS_MAX: Final = 63
"""``SWAP_RA_HITS_MAX``: hits are kept in half the bits of a page offset."""
PMD_PAGES: Final = 512
"""Pages that one page-table page maps; a virtual window does not leave the fault's own."""


def window_pages(adjacent: bool, hits: int, limit_pages: int, previous_pages: int) -> int:
    """Return the size of the next window, in pages (``__swapin_nr_pages``).

    Parameters
    ----------
    adjacent : bool
        Whether the fault is next to the last one; asked only where there were no hits.
    hits : int
        Read-ahead pages that were used since the last miss.
    limit_pages : int
        ``1 << page_cluster``.
    previous_pages : int
        Size of the last window; the next is no less than half of it.
    """
    pages = hits + 2
    pages = (2 if adjacent else 1) if pages == 2 else max(4, 1 << (pages - 1).bit_length())
    return max(min(pages, limit_pages), previous_pages // 2)


class Readahead(Protocol):
    """A way to choose neighbours. Keeps its own feedback."""

    def neighbours(self, region: SimulatedRegion, page: int) -> Iterable[range]:
        """Return the pages to read for a miss of `page`, as runs in order of issue; some may need no reading.

        Where `page` is not among them, it is read after them.
        """
        ...

    def hit(self, region: SimulatedRegion, start: int, stop: int, readahead: bool) -> None:
        """Take note that pages ``[start, stop)`` were found in the swap cache, put there by readahead or otherwise."""
        ...

    def unused(self, pages: int) -> None:
        """Take note that `pages` which readahead put into the swap cache were dropped before anyone used them."""
        ...


class VmaReadahead:
    """Neighbours in virtual memory, inside the VMA and the PMD of the fault; each VMA has a state of its own.

    Parameters
    ----------
    page_cluster : int
        ``vm.page-cluster``.
    """

    def __init__(self, page_cluster: int) -> None:
        self._limit_pages = 1 << min(page_cluster, VMA_ORDER_MAX)

    def neighbours(self, region: SimulatedRegion, page: int) -> Iterable[range]:
        """See :meth:`Readahead.neighbours`. Ascending in virtual memory."""
        if self._limit_pages == 1:
            return ()
        vma = region.vmas.at(page)
        previous = vma.last_fault
        adjacent = abs(page - previous) == 1
        window = window_pages(adjacent, vma.readahead_hits, self._limit_pages, vma.readahead_pages)
        vma.last_fault, vma.readahead_pages, vma.readahead_hits = page, window, 0
        if window == 1:
            return ()
        if page == previous + 1:
            start = page
        elif page == previous - 1:
            start = page - window + 1
        else:
            start = page - (window - 1) // 2
        pmd = page - (page - region.origin) % PMD_PAGES
        stop = min(start + window, vma.stop, pmd + PMD_PAGES)
        return (range(max(start, vma.start, pmd), stop),)

    def hit(self, region: SimulatedRegion, start: int, stop: int, readahead: bool) -> None:
        """See :meth:`Readahead.hit`. Any hit moves the address that "adjacent" refers to."""
        while start < stop:
            vma = region.vmas.at(start)
            end = min(stop, vma.stop)
            vma.last_fault = end - 1
            if readahead:
                vma.readahead_hits = min(vma.readahead_hits + end - start, VMA_HITS_MAX)
            start = end

    def unused(self, pages: int) -> None:
        """See :meth:`Readahead.unused`. Linux 6.18 does not ask."""


class ClusterReadahead:
    """Neighbours on the swap device: the aligned block of slots round the missing page's. One state for the machine.

    Parameters
    ----------
    page_cluster : int
        ``vm.page-cluster``.
    table : PageTable
        Says which slot a page has.
    owner : Sequence[int]
        The page that has each slot, negative if none has; slot 0 is the area's header.
    hits, window : int
        The state that earlier faults left behind.
    """

    def __init__(self, page_cluster: int, table: PageTable, owner: Owners, hits: int, window: int) -> None:
        self.hits = hits
        self.window = window
        self._limit_pages = 1 << page_cluster
        self._previous_slot = 0
        self._table = table
        self._owner = owner

    def neighbours(self, region: SimulatedRegion, page: int) -> Iterable[range]:
        """See :meth:`Readahead.neighbours`. Ascending on the device; unused slots are skipped, not stopped at."""
        if self._limit_pages == 1:
            return ()
        slot = self._table.slot[page]
        hits, self.hits = self.hits, 0
        adjacent = abs(slot - self._previous_slot) == 1
        self.window = window_pages(adjacent, hits, self._limit_pages, self.window)
        if not hits:
            self._previous_slot = slot
        if self.window == 1:
            return ()
        mask = self.window - 1  # a window is a power of two
        block = range(max(slot & ~mask, 1), min(slot | mask, len(self._owner) - 1) + 1)
        return runs_of(owner for owner in map(self._owner.__getitem__, block) if owner >= 0)

    def hit(self, region: SimulatedRegion, start: int, stop: int, readahead: bool) -> None:
        """See :meth:`Readahead.hit`. Only pages that readahead brought count."""
        self.hits += (stop - start) * readahead

    def unused(self, pages: int) -> None:
        """See :meth:`Readahead.unused`. Linux 6.18 does not ask."""


class Owners(Protocol):
    """The page that each swap slot belongs to, negative if it belongs to none."""

    def __getitem__(self, slot: int, /) -> int: ...

    def __len__(self) -> int: ...
