"""Swap-ins of aligned blocks of slots: what Linux 2.6.24 did, and what the thread of 2008 proposed in its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from samplecache.simulation.pages import PageTable, SimulatedRegion
from samplecache.simulation.readahead import Owners
from samplecache.simulation.vmas import runs_of

GROW_SHARE: Final = 2
"""A block grows while one in this many of the pages that it brought gets used."""
SHRINK_SHARE: Final = 4
"""And shrinks while fewer than one in this many is."""


class FixedReadahead:
    """The block of ``1 << page_cluster`` slots round the missing page's, as far as its first free slot.

    That slot may come before the missing page's own, which then is read by itself, after the others
    (``valid_swaphandles()`` and ``swapin_readahead()`` of Linux 2.6.24). There is no feedback.

    Parameters
    ----------
    page_cluster : int
        ``vm.page-cluster``; 0 switches it off.
    table : PageTable
        Says which slot a page has.
    owner : Owners
        The page that each slot belongs to.
    """

    def __init__(self, page_cluster: int, table: PageTable, owner: Owners) -> None:
        self._block_pages = 1 << page_cluster
        self._table = table
        self._owner = owner

    def neighbours(self, region: SimulatedRegion, page: int) -> Iterable[range]:
        """See :meth:`.Readahead.neighbours`. Ascending on the device."""
        pages: list[int] = []
        if self._block_pages == 1:
            return ()
        for owner in _block(self._table.slot[page], self._block_pages, self._owner):
            if owner < 0:
                break
            pages.append(owner)
        return runs_of(pages)

    def hit(self, region: SimulatedRegion, start: int, stop: int, readahead: bool) -> None:
        """See :meth:`.Readahead.hit`. Nobody asks."""

    def unused(self, pages: int) -> None:
        """See :meth:`.Readahead.unused`. Nobody asks."""


class ChunkReadahead:
    """The whole chunk of slots round the missing page's; free slots are skipped.

    Parameters
    ----------
    chunk_pages : int
        Size of a chunk; a power of two.
    table : PageTable
        Says which slot a page has.
    owner : Owners
        The page that each slot belongs to.
    """

    def __init__(self, chunk_pages: int, table: PageTable, owner: Owners) -> None:
        self._chunk_pages = chunk_pages
        self._table = table
        self._owner = owner

    def neighbours(self, region: SimulatedRegion, page: int) -> Iterable[range]:
        """See :meth:`.Readahead.neighbours`. Ascending on the device."""
        slot = self._table.slot[page]
        return runs_of(owner for owner in _block(slot, self._chunk_pages, self._owner) if owner >= 0)

    def hit(self, region: SimulatedRegion, start: int, stop: int, readahead: bool) -> None:
        """See :meth:`.Readahead.hit`. Nobody asks."""

    def unused(self, pages: int) -> None:
        """See :meth:`.Readahead.unused`. Nobody asks."""


class AdaptiveReadahead:
    """A chunk whose size follows the use that was made of the pages read ahead; one size for the machine.

    The proposal was to count them by what became of them, used or evicted without use, and gave no rule. This is the
    rule here: once as many fates are known as a chunk has pages, the chunk doubles if half of those pages or more were
    used, halves if less than a quarter was, and counting begins anew. Twice the pages read for the same use is the
    worst that doubling can do: a share of a half becomes a quarter, so that a chunk which has just grown does not
    shrink at once, and a load that stays the same does not make it swing. It begins small, as the kernel of the time
    read, so that large chunks have to be earned.

    Parameters
    ----------
    page_cluster : int
        ``vm.page-cluster``, the binary logarithm of the least size; 0 switches readahead off.
    chunk_pages : int
        The largest size; a power of two.
    table : PageTable
        Says which slot a page has.
    owner : Owners
        The page that each slot belongs to.

    Attributes
    ----------
    chunk_pages : int
        The size now.
    """

    def __init__(self, page_cluster: int, chunk_pages: int, table: PageTable, owner: Owners) -> None:
        self.chunk_pages = self._least_pages = 1 << page_cluster
        self._most_pages = chunk_pages
        self._table = table
        self._owner = owner
        self._used = 0
        self._unused = 0

    def neighbours(self, region: SimulatedRegion, page: int) -> Iterable[range]:
        """See :meth:`.Readahead.neighbours`. Ascending on the device."""
        if self._least_pages == 1:
            return ()
        self._adapt()
        slot = self._table.slot[page]
        return runs_of(owner for owner in _block(slot, self.chunk_pages, self._owner) if owner >= 0)

    def _adapt(self) -> None:
        known = self._used + self._unused
        if known < self.chunk_pages:
            return
        if self._used * GROW_SHARE >= known:
            self.chunk_pages = min(2 * self.chunk_pages, self._most_pages)
        elif self._used * SHRINK_SHARE < known:
            self.chunk_pages = max(self.chunk_pages // 2, self._least_pages)
        self._used = self._unused = 0

    def hit(self, region: SimulatedRegion, start: int, stop: int, readahead: bool) -> None:
        """See :meth:`.Readahead.hit`. Only pages that readahead brought count."""
        self._used += (stop - start) * readahead

    def unused(self, pages: int) -> None:
        """See :meth:`.Readahead.unused`."""
        self._unused += pages


def _block(slot: int, pages: int, owner: Owners) -> list[int]:
    """Return the owners of the aligned block of slots round `slot`, without the header and what is past the end."""
    start = slot & -pages
    return [owner[each] for each in range(max(start, 1), min(start + pages, len(owner)))]
