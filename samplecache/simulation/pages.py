"""The page table, and the lists in which reclaim finds pages: flat arrays, no object a page.

Pages of all regions are numbered together. A page costs 22 bytes: flags, content, slot, time of completion, two links.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

from samplecache.errors import UnmappedError
from samplecache.simulation.vmas import Vmas

FRAME: Final = 1
"""It has a page frame: it is in RAM, or being read into it."""
SWAP_ENTRY: Final = 2
"""Its page-table entry is a swap entry."""
STATE: Final = FRAME | SWAP_ENTRY
NONE: Final = 0
"""Never written."""
PRESENT: Final = FRAME
"""Mapped."""
SWAPPED: Final = SWAP_ENTRY
"""On the device only."""
CACHED: Final = SWAP_ENTRY | FRAME
"""In the swap cache, not mapped."""

READING: Final = 4
"""A read is in flight until :attr:`PageTable.done_ns`."""
WRITEBACK: Final = 8
"""A write is in flight until :attr:`PageTable.done_ns`; the page is in the writeback list."""
DIRTY: Final = 16
"""Differs from what its slot holds."""
READAHEAD: Final = 32
"""Read as a neighbour and not used yet (``PG_readahead``)."""
LOCKED: Final = 64
"""In a locked part of its region (``VM_LOCKED``); in no list when it has a frame."""
ACCESSED: Final = 128
"""Used since reclaim looked last."""

IN_FLIGHT: Final = READING | WRITEBACK

DATA: Final = 0
"""Content that has to go to the device."""
ZERO: Final = 1
"""Content of zeros: swap notes that in its zero map and does no I/O."""
SHARED_ZERO: Final = 2
"""Mapped to the one zero page by a read, with no frame of its own."""
HOLE: Final = 3
"""Not mapped any more."""
FILE: Final = 4
"""Content of a file, which lies elsewhere on the disk: no slot of the swap area, never written."""

LRU: Final = 0
"""The list of evictable pages, next victim last. Its head takes the place of page 0."""
WRITING: Final = 1
"""The list of pages under writeback, oldest last. Its head takes the place of page 1."""
UNLISTED: Final = -1
_HEADS: Final = 2

NEVER_NS: Final = (1 << 63) - 1
"""A time that does not come: of I/O that has not been submitted yet."""

PRESENT_FLAGS: Final = bytes(flags for flags in range(256) if flags & STATE == PRESENT)
QUIET_FLAGS: Final = bytes(flags for flags in range(256) if not flags & IN_FLIGHT)
UNLOCKED_FLAGS: Final = bytes(flags for flags in range(256) if not flags & LOCKED)
WITH_ACCESSED: Final = bytes(flags | ACCESSED for flags in range(256))


class SimulatedRegion:
    """Pages ``[base, base + pages)`` of the table, and the parts they fall into. Begins at a PMD boundary.

    It is anonymous memory, or a `file`.
    """

    __slots__ = ("base", "file", "mapped", "pages", "vmas")

    def __init__(self, base: int, pages: int, *, file: bool = False) -> None:
        self.base = base
        self.pages = pages
        self.file = file
        self.mapped = True
        self.vmas = Vmas(base, base + pages)

    def check(self) -> None:
        """Raise unless it is mapped.

        Raises
        ------
        UnmappedError
            It has been unmapped, perhaps while the caller slept.
        """
        if not self.mapped:
            raise UnmappedError("The region has been unmapped", remedy="Map a new one")


class PageTable:
    """Every page's state. Grows with what is mapped at one time, and reuses what is unmapped."""

    def __init__(self) -> None:
        self.flags = bytearray(_HEADS)
        self.content = bytearray(_HEADS)
        self.slot = array("i", [0] * _HEADS)
        self.done_ns = array("q", [0] * _HEADS)
        self.newer = array("i", range(_HEADS))
        self.older = array("i", range(_HEADS))
        self.lru_pages = 0
        """Length of the LRU list."""
        self.writing_pages = 0
        """Length of the writeback list."""
        self._free: list[tuple[int, int]] = []

    def allocate(self, pages: int) -> int:
        """Return the first of `pages` consecutive page numbers, all NONE."""
        for index, (start, stop) in enumerate(self._free):
            if stop - start >= pages:
                self._free[index : index + 1] = [(start + pages, stop)] if stop - start > pages else []
                break
        else:
            start = len(self.flags)
            self._extend(pages)
        return start

    def _extend(self, pages: int) -> None:
        self.flags.extend(bytes(pages))
        self.content.extend(bytes(pages))
        self.slot.extend(array("i", [0]) * pages)
        self.done_ns.extend(array("q", [0]) * pages)
        self.newer.extend(array("i", [UNLISTED]) * pages)
        self.older.extend(array("i", [UNLISTED]) * pages)

    def free(self, start: int, pages: int) -> None:
        """Take the numbers from `start` on back; their pages are NONE again. They are in no list and have no slot."""
        stop = start + pages
        self.flags[start:stop] = bytes(pages)
        self.content[start:stop] = bytes(pages)
        joined: list[tuple[int, int]] = []
        for piece in sorted([*self._free, (start, stop)]):
            if joined and joined[-1][1] == piece[0]:
                joined[-1] = (joined[-1][0], piece[1])
            else:
                joined.append(piece)
        self._free = joined

    def insert(self, page: int, head: int) -> None:
        """Put `page` in front of a list: the last to be taken from it."""
        newest = self.older[head]
        self.older[head] = page
        self.newer[page] = head
        self.older[page] = newest
        self.newer[newest] = page
        if head == LRU:
            self.lru_pages += 1
        else:
            self.writing_pages += 1

    def append(self, page: int) -> None:
        """Put `page` at the end of the LRU list: the next victim."""
        oldest = self.newer[LRU]
        self.newer[LRU] = page
        self.older[page] = LRU
        self.newer[page] = oldest
        self.older[oldest] = page
        self.lru_pages += 1

    def remove(self, page: int) -> None:
        """Take `page` out of the list it is in, if any: the writeback list if its WRITEBACK flag (still) says so."""
        newer, older = self.newer[page], self.older[page]
        if newer == UNLISTED:
            return
        self.older[newer] = older
        self.newer[older] = newer
        self.newer[page] = UNLISTED
        if self.flags[page] & WRITEBACK:
            self.writing_pages -= 1
        else:
            self.lru_pages -= 1

    def rotate(self, page: int) -> None:
        """Move the last page of the LRU list to its front."""
        newer, older = self.newer, self.older
        last = newer[page]
        newer[LRU] = last
        older[last] = LRU
        newest = older[LRU]
        older[LRU] = page
        newer[page] = LRU
        older[page] = newest
        newer[newest] = page

    def last(self, head: int) -> int:
        """Return the last page of a list; the head itself if it is empty."""
        return self.newer[head]

    def lru(self) -> Iterator[int]:
        """Yield the pages of the LRU list, the next victim first."""
        page = self.newer[LRU]
        while page != LRU:
            yield page
            page = self.newer[page]
