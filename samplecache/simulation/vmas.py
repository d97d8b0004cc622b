"""The parts that a region falls into once some of it is locked or unmapped (VMAs).

Readahead in virtual memory does not leave the part that a fault is in, and each part remembers its own faults. So it
matters what happens to parts: ``vma_modify()`` and ``vma_merge_existing_range()`` in mm/vma.c of Linux 6.18.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

NEVER_FAULTED: Final = -(1 << 40)
"""Address 0, which is next to no region."""
FIRST_HITS: Final = 4
"""``GET_SWAP_RA_VAL()`` of a state never set."""

_start = attrgetter("start")


class Vma:
    """Pages ``[start, stop)`` of the table, all locked or none, and what readahead remembers of their faults.

    Attributes
    ----------
    start, stop : int
        Its pages.
    locked : bool
        ``VM_LOCKED``.
    family : int
        Which ``anon_vma`` it has, 0 before its first page: parts of different ones are never joined.
    last_fault, readahead_pages, readahead_hits : int
        ``swap_readahead_info``: the page of the last fault, the last window, and its hits so far.
    """

    __slots__ = ("family", "last_fault", "locked", "readahead_hits", "readahead_pages", "start", "stop")

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.locked = False
        self.family = 0
        self.last_fault = NEVER_FAULTED
        self.readahead_pages = 0
        self.readahead_hits = FIRST_HITS

    def copy(self, start: int, stop: int) -> Vma:
        """Return a part for other pages that remembers the same (``vm_area_dup()``)."""
        new = Vma(start, stop)
        new.locked, new.family, new.last_fault = self.locked, self.family, self.last_fault
        new.readahead_pages, new.readahead_hits = self.readahead_pages, self.readahead_hits
        return new


class Vmas:
    """The parts of one region, ascending; what lies between them is unmapped.

    Parameters
    ----------
    start, stop : int
        The pages of the region, all in one part.
    """

    def __init__(self, start: int, stop: int) -> None:
        self._parts = [Vma(start, stop)]
        self._families = 0

    def at(self, page: int) -> Vma:
        """Return the part that `page`, which is mapped, lies in."""
        parts = self._parts
        return parts[0] if len(parts) == 1 else parts[self._index(page)]

    def _index(self, page: int) -> int:
        return bisect_right(self._parts, page, key=_start) - 1

    def join_family(self, page: int) -> None:
        """Give the part of `page` an ``anon_vma``: a neighbour's if that is of its kind (``anon_vma_prepare()``)."""
        part = self.at(page)
        if part.family:
            return
        index = self._index(page)
        for other in (*self._parts[index + 1 : index + 2], *self._parts[max(index - 1, 0) : index]):
            if (other.start == part.stop or other.stop == part.start) and other.locked is part.locked and other.family:
                part.family = other.family
                return
        self._families += 1
        part.family = self._families

    def remove(self, start: int, stop: int) -> None:
        """Unmap the pages ``[start, stop)``."""
        kept = []
        for part in self._parts:
            if part.start < start < part.stop:
                kept.append(part.copy(part.start, start))
            if part.start < stop < part.stop:
                kept.append(part.copy(stop, part.stop))
            elif part.stop <= start or part.start >= stop:
                kept.append(part)
        self._parts = kept

    def set_locked(self, start: int, stop: int, *, locked: bool) -> int:
        """Lock or unlock the pages ``[start, stop)`` up to the first hole; return where that is, `stop` for none."""
        while start < stop:
            part = self.at(start) if self._parts else None
            if part is None or not part.start <= start < part.stop:
                return start
            end = min(part.stop, stop)
            if part.locked is not locked:
                self._modify(part, start, end, locked)
            start = end
        return stop

    def _modify(self, part: Vma, start: int, stop: int, locked: bool) -> None:
        """Change the pages ``[start, stop)`` of `part`: join them to a neighbour that is alike now, or cut them out."""
        parts, index = self._parts, self._index(part.start)
        before = parts[index - 1] if index and parts[index - 1].stop == start else None
        after = parts[index + 1] if index + 1 < len(parts) and parts[index + 1].start == stop else None
        left = before if before is not None and before.locked is locked and _related(before, part) else None
        right = after if after is not None and after.locked is locked and _related(after, part) else None
        if left is not None and right is not None and _related(left, right):
            left.stop = right.stop
            left.family = left.family or part.family or right.family
            del parts[index : index + 2]
        elif left is not None:
            left.stop = part.start = stop
            left.family = left.family or part.family
            if part.start == part.stop:
                del parts[index]
        elif right is not None:
            right.start = part.stop = start
            right.family = right.family or part.family
            if part.start == part.stop:
                del parts[index]
        else:
            rest = [part.copy(part.start, start)] if part.start < start else []
            tail = [part.copy(stop, part.stop)] if stop < part.stop else []
            part.start, part.stop, part.locked = start, stop, locked
            parts[index : index + 1] = [*rest, part, *tail]


def _related(one: Vma, other: Vma) -> bool:
    return one.family == other.family or not one.family or not other.family


def runs_of(pages: Iterable[int]) -> Iterator[range]:
    """Yield the maximal runs of consecutive numbers in `pages`, which ascend."""
    start = stop = -1
    for page in pages:
        if page != stop:
            if stop > start:
                yield range(start, stop)
            start = page
        stop = page + 1
    if stop > start:
        yield range(start, stop)
