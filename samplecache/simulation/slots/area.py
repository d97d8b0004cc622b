"""A swap area: which slots are free, and whose the others are. In which order they go is for its subclasses."""

from __future__ import annotations

import abc
from array import array
from typing import Final

FREE: Final = -1


class SwapSlots(abc.ABC):
    """A swap area. Slots are numbered from 1: slot 0 is its header.

    A page for which a free slot is planned gets that one, any other the one that the subclass finds.

    Parameters
    ----------
    slots : int
        How many there are.

    Attributes
    ----------
    total, free : int
        How many there are, and how many no page has.
    owner : array of int
        The page that each slot belongs to, FREE if it belongs to none, shape ``(slots + 1,)``.
    """

    def __init__(self, slots: int) -> None:
        self.total = slots
        self.free = slots
        self.owner = array("i", [FREE]) * (slots + 1)
        self._planned: dict[int, int] = {}

    def plan(self, page: int, slot: int) -> None:
        """Have `page` get `slot` when it is given one next, if that is free then: what a real swap area did."""
        self._planned[page] = slot

    @property
    def over_half_full(self) -> bool:
        """Whether the kernel gives slots back as soon as their pages are read (``vm_swap_full()``)."""
        return self.free * 2 < self.total

    def allocate(self, page: int) -> int:
        """Give `page` a slot and return it; 0 if there is none for it."""
        if not self.free:
            return 0
        slot = self._planned.pop(page, 0) if self._planned else 0
        if not slot or self.owner[slot] != FREE:
            slot = self._find(page)
            if not slot:
                return 0
        self.free -= 1
        self.owner[slot] = page
        self._taken(slot)
        return slot

    def allocate_run(self, start: int, stop: int) -> range:
        """Give pages of ``[start, stop)``, ascending, a slot each, as long as one follows the other; return the slots.

        They are those that :meth:`allocate` would give, page by page; none if there is none for the first.
        """
        first = self.allocate(start)
        if not first:
            return range(0)
        pages = range(start + 1, stop)
        more = self._take_behind(first, len(pages)) if self._planned.keys().isdisjoint(pages) else 0
        if more:
            self.free -= more
            self.owner[first + 1 : first + 1 + more] = array("i", pages[:more])
        return range(first, first + 1 + more)

    def release(self, slot: int) -> None:
        """Take `slot` back."""
        self.owner[slot] = FREE
        self.free += 1
        self._released(slot)

    @abc.abstractmethod
    def _find(self, page: int) -> int:
        """Return a free slot for `page`, 0 if none is for it; asked only while some slot is free."""

    @abc.abstractmethod
    def _taken(self, slot: int) -> None:
        """Take note that `slot`, found or planned, is no longer free."""

    @abc.abstractmethod
    def _released(self, slot: int) -> None:
        """Take note that `slot` is free again."""

    def _take_behind(self, slot: int, slots: int) -> int:
        """Take those slots right behind `slot` that the next pages would be given, `slots` at most; return how many.

        An area that does not know takes none, and is asked page by page.
        """
        return 0
