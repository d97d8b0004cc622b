"""Areas that look for a free slot from some place on: for the next one of all, or from where a page belongs."""

from __future__ import annotations

from typing import Final

from samplecache.simulation.slots.area import SwapSlots

RUN_SLOTS: Final = 256
"""Slots in a row that :class:`ScanSlots` looks for (``SWAPFILE_CLUSTER`` of Linux 2.6.24)."""


class _MappedSlots(SwapSlots):
    """An area with a map of its used slots, one byte each (``swap_map``)."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._used = bytearray(slots + 1)
        self._used[0] = 1
        self._lowest = 1

    def _taken(self, slot: int) -> None:
        self._used[slot] = 1
        if slot == self._lowest:
            self._lowest += 1

    def _released(self, slot: int) -> None:
        self._used[slot] = 0
        self._lowest = min(self._lowest, slot)

    def _next_free(self, slot: int) -> int:
        """Return the first free slot from `slot` on, else the first of all; there is one."""
        found = self._used.find(0, slot)
        return found if found >= 0 else self._used.find(0, self._lowest)


class ScanSlots(_MappedSlots):
    """Slots in the order in which pages are evicted (``scan_swap_map()`` of Linux 2.6.24).

    For every 256 slots it takes the first run of as many free ones, aligned or not, and hands them out in order. Where
    there is no such run, it takes the first free slot and those that come free after it.
    """

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._next = 1
        self._left = 0

    def _find(self, page: int) -> int:
        if self._left:
            self._left -= 1
            slot = self._next_free(self._next)
        else:
            self._left = RUN_SLOTS - 1
            run = self._used.find(bytes(RUN_SLOTS), self._lowest) if self.free >= RUN_SLOTS else -1
            slot = run if run >= 0 else self._next_free(self._lowest)
        self._next = slot + 1
        return slot

    def _take_behind(self, slot: int, slots: int) -> int:
        """See :meth:`.SwapSlots._take_behind`. They are of the same 256, and free as far as the next used one."""
        start = self._next
        if slot + 1 != start:
            return 0
        stop = min(start + min(slots, self._left), self.total + 1)
        used = self._used.find(1, start, stop)
        stop = max(start, stop) if used < 0 else used
        self._used[start:stop] = b"\x01" * (stop - start)
        self._left -= stop - start
        self._next = stop
        if start == self._lowest:
            self._lowest = stop
        return stop - start


class VirtualSlots(_MappedSlots):
    """A slot for each virtual address: neighbours in memory are neighbours in swap, whenever they are evicted.

    The page numbered `p` gets slot ``1 + p % slots``, or the next free one after it where that is taken.
    """

    def _find(self, page: int) -> int:
        return self._next_free(1 + page % self.total)
