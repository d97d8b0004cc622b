"""The page table, and the lists in which reclaim finds pages: flat arrays, no object a page.

Pages of all regions are numbered together. A page costs 26 bytes: flags, content, slot, time of completion, two links,
and its number, from which the links of neighbours are copied.

Much is done to *runs*: pages of consecutive numbers that are alike, so that one slice of an array stands for a loop.
"""

from __future__ import annotations

from array import array
from bisect import bisect
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

RUN_PAGES: Final = 64
"""The longest run that is looked for at once. Looking costs what the run may be long, and few runs are longer."""

PRESENT_FLAGS: Final = bytes(flags for flags in range(256) if flags & STATE == PRESENT)
QUIET_FLAGS: Final = bytes(flags for flags in range(256) if not flags & IN_FLIGHT)
UNLOCKED_FLAGS: Final = bytes(flags for flags in range(256) if not flags & LOCKED)
WITH_ACCESSED: Final = bytes(flags | ACCESSED for flags in range(256))
WITH_WRITTEN: Final = bytes(flags | ACCESSED | DIRTY for flags in range(256))


def ascending(run: range) -> tuple[int, int]:
    """Return the span ``[start, stop)`` of a run that may be listed in descending order."""
    return (run[0], run[-1] + 1) if run.step > 0 else (run[-1], run[0] + 1)


class SimulatedRegion:
    """Pages ``[base, base + pages)`` of the table, and the parts they fall into.

    It is anonymous memory, or a `file`; a mapping of its own, which begins at a PMD boundary, or a piece `of` another
    region, with which it shares its parts.
    """

    __slots__ = ("base", "file", "lent", "mapped", "origin", "pages", "vmas")

    def __init__(self, base: int, pages: int, *, file: bool = False, of: SimulatedRegion | None = None) -> None:
        self.base = base
        self.pages = pages
        self.file = file
        self.lent = of is not None
        self.mapped = True
        self.origin: int = base if of is None else of.origin
        """A page that begins at a PMD boundary."""
        self.vmas: Vmas = Vmas(base, base + pages) if of is None else of.vmas

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
        self._newest_cold = LRU
        """The last page of the end of the LRU list that was put there by :meth:`chill`; its head if there is none."""
        self._numbers = array("i", range(_HEADS))
        self._unlisted = array("i", [UNLISTED]) * RUN_PAGES
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
        self._numbers.extend(range(len(self._numbers), len(self._numbers) + pages))

    def clear(self, start: int, pages: int) -> None:
        """Make the pages from `start` on NONE again. They are in no list and have no slot."""
        self.flags[start : start + pages] = bytes(pages)
        self.content[start : start + pages] = bytes(pages)

    def free(self, start: int, pages: int) -> None:
        """Take the numbers from `start` on back; their pages are NONE again. They are in no list and have no slot."""
        stop = start + pages
        self.clear(start, pages)
        gaps = self._free
        first = last = bisect(gaps, (start, stop))
        if first and gaps[first - 1][1] == start:
            first -= 1
            start = gaps[first][0]
        if last < len(gaps) and gaps[last][0] == stop:
            stop = gaps[last][1]
            last += 1
        gaps[first:last] = [(start, stop)]

    # --- runs: pages [start, stop) ---

    def run_stop(self, start: int, stop: int) -> int:
        """Return where the run of pages ends that have the flags of `start`: at `stop` at the latest."""
        flags = self.flags
        if stop - start < 2 or flags[start] != flags[start + 1]:
            return start + 1
        if stop - start > RUN_PAGES:
            stop = start + RUN_PAGES
        return stop - len(flags[start:stop].lstrip(flags[start : start + 1]))

    def set_flags(self, start: int, stop: int, flags: int) -> None:
        """Give all pages of a run the same flags."""
        if stop - start == 1:
            self.flags[start] = flags
        else:
            self.flags[start:stop] = bytes((flags,)) * (stop - start)

    def set_done(self, start: int, stop: int, done_ns: int) -> None:
        """Have the I/O of all pages of a run end at the same time, in nanoseconds."""
        if stop - start == 1:
            self.done_ns[start] = done_ns
        else:
            self.done_ns[start:stop] = array("q", (done_ns,)) * (stop - start)

    def insert(self, start: int, stop: int, head: int) -> None:
        """Put a run in front of a list, in its order: the last to be taken from it."""
        newer, older = self.newer, self.older
        newest, last = older[head], stop - 1
        newer[newest] = start
        older[start] = newest
        if start < last:
            newer[start:last] = self._numbers[start + 1 : stop]
            older[start + 1 : stop] = self._numbers[start:last]
        newer[last] = head
        older[head] = last
        if head == LRU:
            self.lru_pages += stop - start
        else:
            self.writing_pages += stop - start

    def append(self, start: int, stop: int) -> None:
        """Put a run at the end of the LRU list, each page behind the one before: the last is the next victim."""
        newer, older = self.newer, self.older
        oldest, last = newer[LRU], stop - 1
        older[oldest] = start
        newer[start] = oldest
        if start < last:
            older[start:last] = self._numbers[start + 1 : stop]
            newer[start + 1 : stop] = self._numbers[start:last]
        older[last] = LRU
        newer[LRU] = last
        self.lru_pages += stop - start

    def chill(self, page: int) -> None:
        """Move a page to the end of the LRU list, but before those that were moved there earlier."""
        self.remove(page, page + 1)
        newer, older, colder = self.newer, self.older, self._newest_cold
        warmer = newer[colder]
        newer[colder] = older[warmer] = page
        older[page], newer[page] = colder, warmer
        self._newest_cold = page
        self.lru_pages += 1

    def remove(self, start: int, stop: int) -> None:
        """Take a run out of the list it is in, if any: the writeback list if its WRITEBACK flags (still) say so."""
        newer, older = self.newer, self.older
        last = stop - 1
        if start == last or newer[start:last] == self._numbers[start + 1 : stop]:
            after, before = newer[last], older[start]
        elif newer[start + 1 : stop] == self._numbers[start:last]:
            after, before = newer[start], older[last]
        else:
            for page in range(start, stop):
                self.remove(page, page + 1)
            return
        if after == UNLISTED:
            return
        if start <= self._newest_cold < stop:
            self._newest_cold = before
        older[after] = before
        newer[before] = after
        newer[start:stop] = self._unlisted[: stop - start]
        if self.flags[start] & WRITEBACK:
            self.writing_pages -= stop - start
        else:
            self.lru_pages -= stop - start

    def last_run(self, head: int, limit: int) -> range:
        """Return the last pages of a list that have the same flags and neighbouring numbers: `limit` of them at most.

        In the order of the list, which may be descending.
        """
        newer, flags = self.newer, self.flags
        page = first = newer[head]
        step = 1 if newer[first] == first + 1 else -1
        stop = first + step * min(limit, RUN_PAGES)
        while newer[page] == page + step != stop and flags[page + step] == flags[first]:
            page += step
        return range(first, page + step, step)

    def rotate(self, run: range) -> None:
        """Move the last pages of the LRU list to its front, in their order."""
        newer, older = self.newer, self.older
        oldest, newest = run[0], run[-1]
        rest = newer[newest]
        if rest == LRU:
            return
        if self._newest_cold in run:
            self._newest_cold = LRU
        newer[LRU] = rest
        older[rest] = LRU
        front = older[LRU]
        newer[front] = oldest
        older[oldest] = front
        newer[newest] = LRU
        older[LRU] = newest

    def last(self, head: int) -> int:
        """Return the last page of a list; the head itself if it is empty."""
        return self.newer[head]

    def lru(self) -> Iterator[int]:
        """Yield the pages of the LRU list, the next victim first."""
        page = self.newer[LRU]
        while page != LRU:
            yield page
            page = self.newer[page]
