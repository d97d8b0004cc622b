"""Which pages of which mapping are taken, where many small regions share one. Bookkeeping only: no memory, no calls.

A mapping for each region would cost two guard pages, up to three of the ``vm.max_map_count`` (65 530 by default) parts
that a process may have, and a page of page table: as soon as there are 22 000, the kernel would map no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from sortedcontainers import SortedList

from samplecache.errors import NotPermittedError

ARENA_BYTES: Final = 64 << 20
"""Size of a shared mapping. 160 of them hold 10 GiB; what is not written yet takes no memory."""

LARGEST_PACKED_BYTES: Final = 4 << 20
"""Longer regions get a mapping of their own, whose cost is then nothing beside its memory."""

_Arena = TypeVar("_Arena")


def no_holes() -> NotPermittedError:
    """Return what to raise where somebody asks for a hole in a packed region."""
    return NotPermittedError("a packed region cannot have holes", remedy="Map it without packed=True")


class Packing(Generic[_Arena]):
    """Free runs of pages over all arenas. Every operation is O(log runs). Not thread-safe.

    Parameters
    ----------
    arena_pages : int
        Length of every arena, in pages.
    """

    def __init__(self, arena_pages: int) -> None:
        self._arena_pages = arena_pages
        # Pages of all arenas are numbered together; the arena with the number n has those from n * stride on. The page
        # in between keeps runs of neighbours apart.
        self._stride = arena_pages + 1
        self._arenas: dict[int, _Arena] = {}
        self._numbers: dict[_Arena, int] = {}
        self._by_size: SortedList[tuple[int, int]] = SortedList()
        self._by_start: dict[int, int] = {}
        self._by_stop: dict[int, int] = {}

    def add(self, arena: _Arena) -> None:
        """Offer an arena, all of it free."""
        number = next(number for number in range(len(self._arenas) + 1) if number not in self._arenas)
        self._arenas[number] = arena
        self._numbers[arena] = number
        self._insert(number * self._stride, number * self._stride + self._arena_pages)

    def take(self, pages: int) -> tuple[_Arena, int] | None:
        """Take the shortest free run that is long enough, and of those the first; return its arena and its first page.

        None if there is none: add an arena then.
        """
        index = self._by_size.bisect_left((pages, 0))
        if index == len(self._by_size):
            return None
        length, start = self._by_size[index]
        self._remove(start, start + length)
        if length > pages:
            self._insert(start + pages, start + length)
        number, first = divmod(start, self._stride)
        return self._arenas[number], first

    def give_back(self, arena: _Arena, first: int, pages: int) -> bool:
        """Take back what :meth:`take` gave; return whether the whole arena is free now, and forgotten."""
        number = self._numbers[arena]
        start = number * self._stride + first
        stop = start + pages
        if (before := self._by_stop.get(start)) is not None:
            self._remove(before, start)
            start = before
        if (after := self._by_start.get(stop)) is not None:
            self._remove(stop, after)
            stop = after
        if stop - start == self._arena_pages:
            del self._arenas[number], self._numbers[arena]
            return True
        self._insert(start, stop)
        return False

    def forget(self, arena: _Arena, taken: Iterable[tuple[int, int]]) -> bool:
        """Forget an arena if nothing of it is taken but `taken`, each a first page and how many; return whether.

        Else nothing changes.
        """
        number = self._numbers[arena]
        at = first_page = number * self._stride
        free = []
        for first, pages in sorted(taken):
            if first_page + first > at:
                free.append((at, first_page + first))
            at = first_page + first + pages
        if at < first_page + self._arena_pages:
            free.append((at, first_page + self._arena_pages))
        if any(self._by_start.get(start) != stop for start, stop in free):
            return False
        for start, stop in free:
            self._remove(start, stop)
        del self._arenas[number], self._numbers[arena]
        return True

    def _insert(self, start: int, stop: int) -> None:
        self._by_size.add((stop - start, start))
        self._by_start[start] = stop
        self._by_stop[stop] = start

    def _remove(self, start: int, stop: int) -> None:
        self._by_size.remove((stop - start, start))
        del self._by_start[start]
        del self._by_stop[stop]
