"""Which swap slot an outgoing page gets: in clusters, ascending, and scattered once slots have been given back."""

from __future__ import annotations

import random
from array import array
from collections import deque
from typing import Final

CLUSTER_SLOTS: Final = 256
"""Slots in a cluster (``SWAPFILE_CLUSTER``)."""
FREE: Final = -1


class SwapSlots:
    """A swap area. Slots are numbered from 1: slot 0 is its header.

    A page goes to the next free slot of the current cluster; when that is used up, to a cluster that is wholly free,
    and only then to one with gaps. A fresh area so hands out 1, 2, 3 ... A page for which a free slot is planned gets
    that one.

    Parameters
    ----------
    slots : int
        How many there are.
    shuffle_seed : int or None
        Hand them out in an order shuffled by this seed; None for the order above.
    """

    def __init__(self, slots: int, shuffle_seed: int | None = None) -> None:
        self.total = slots
        self.free = slots
        self.owner = array("i", [FREE]) * (slots + 1)
        """The page that has each slot, FREE if none has."""
        self._free_of_cluster = array("H", [CLUSTER_SLOTS]) * (slots // CLUSTER_SLOTS + 1)
        self._free_of_cluster[-1] = slots % CLUSTER_SLOTS + 1
        self._free_of_cluster[0] -= 1
        self._capacity = array("H", self._free_of_cluster)
        self._free_clusters = deque(cluster for cluster, free in enumerate(self._free_of_cluster) if free)
        self._gapped_clusters: deque[int] = deque()
        self._current = -1
        self._position = 0
        self._handed_out = array("i", range(slots + 1))
        self._place = self._handed_out
        if shuffle_seed is not None:
            order = list(range(1, slots + 1))
            random.Random(shuffle_seed).shuffle(order)  # noqa: S311 -- a model's randomness, not a secret's
            self._handed_out = array("i", [0, *order])
            self._place = array("i", self._handed_out)
            for place, slot in enumerate(self._handed_out):
                self._place[slot] = place
        self._used_places = bytearray(slots + 1)
        self._used_places[0] = 1
        self._planned: dict[int, int] = {}

    def plan(self, page: int, slot: int) -> None:
        """Have `page` get `slot` when it is given one next, if that is free then: what a real swap area did."""
        self._planned[page] = slot

    @property
    def over_half_full(self) -> bool:
        """Whether the kernel gives slots back as soon as their pages are read (``vm_swap_full()``)."""
        return self.free * 2 < self.total

    def allocate(self, page: int) -> int:
        """Give `page` a slot and return it; 0 if none is free."""
        if not self.free:
            return 0
        planned = self._planned.pop(page, 0) if self._planned else 0
        if planned and self.owner[planned] == FREE:
            place = self._place[planned]
        else:
            place = self._find()
            self._position = place + 1
        self._used_places[place] = 1
        self._free_of_cluster[place // CLUSTER_SLOTS] -= 1
        self.free -= 1
        slot = self._handed_out[place]
        self.owner[slot] = page
        return slot

    def release(self, slot: int) -> None:
        """Take `slot` back."""
        self.owner[slot] = FREE
        self.free += 1
        place = self._place[slot]
        self._used_places[place] = 0
        cluster = place // CLUSTER_SLOTS
        free = self._free_of_cluster[cluster] = self._free_of_cluster[cluster] + 1
        if cluster == self._current:
            return
        if free == self._capacity[cluster]:
            self._free_clusters.append(cluster)
        elif free == 1:
            self._gapped_clusters.append(cluster)

    def _find(self) -> int:
        """Return the next free place, from another cluster if the current one has none left ahead."""
        while True:
            stop = min((self._current + 1) * CLUSTER_SLOTS, self.total + 1)
            place = self._used_places.find(0, self._position, stop) if self._current >= 0 else -1
            if place >= 0:
                return place
            self._leave_current()
            self._current = self._next_cluster()
            self._position = self._current * CLUSTER_SLOTS

    def _leave_current(self) -> None:
        """Put the current cluster where the slots given back behind its position will be found."""
        cluster, self._current = self._current, -1
        if cluster < 0 or not self._free_of_cluster[cluster]:
            return
        whole = self._free_of_cluster[cluster] == self._capacity[cluster]
        (self._free_clusters if whole else self._gapped_clusters).append(cluster)

    def _next_cluster(self) -> int:
        while self._free_clusters:
            cluster = self._free_clusters.popleft()
            if self._free_of_cluster[cluster] == self._capacity[cluster]:
                return cluster
            self._gapped_clusters.append(cluster)
        while self._gapped_clusters:
            cluster = self._gapped_clusters.popleft()
            if self._free_of_cluster[cluster]:
                return cluster
        raise AssertionError("free slots that no list knows")
