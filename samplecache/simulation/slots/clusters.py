"""Slots in clusters, ascending, and scattered once some have been given back (``mm/swapfile.c`` of Linux 6.18)."""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final

from samplecache.simulation.chance import shuffled
from samplecache.simulation.slots.area import SwapSlots

CLUSTER_SLOTS: Final = 256
"""Slots in a cluster (``SWAPFILE_CLUSTER``)."""


class ClusterSlots(SwapSlots):
    """Each page goes to the next free slot of the current cluster.

    When that is used up, it goes to a cluster that is wholly free, and only then to one with gaps. A fresh area so
    hands out 1, 2, 3 ...

    Parameters
    ----------
    slots : int
        How many there are.
    shuffle_seed : int or None
        Hand them out in an order shuffled by this seed; None for the order above.
    """

    def __init__(self, slots: int, shuffle_seed: int | None = None) -> None:
        super().__init__(slots)
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
            self._handed_out = array("i", [0, *shuffled(range(1, slots + 1), shuffle_seed)])
            self._place = array("i", self._handed_out)
            for place, slot in enumerate(self._handed_out):
                self._place[slot] = place
        self._used_places = bytearray(slots + 1)
        self._used_places[0] = 1

    def _taken(self, slot: int) -> None:
        place = self._place[slot]
        self._used_places[place] = 1
        self._free_of_cluster[place // CLUSTER_SLOTS] -= 1

    def _released(self, slot: int) -> None:
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

    def _find(self, page: int) -> int:
        """Return the slot of the next free place, from another cluster if the current one has none left ahead."""
        while True:
            stop = min((self._current + 1) * CLUSTER_SLOTS, self.total + 1)
            place = self._used_places.find(0, self._position, stop) if self._current >= 0 else -1
            if place >= 0:
                self._position = place + 1
                return self._handed_out[place]
            self._leave_current()
            self._current = self._next_cluster()
            self._position = self._current * CLUSTER_SLOTS

    def _take_behind(self, slot: int, slots: int) -> int:
        """See :meth:`.SwapSlots._take_behind`. They are in the same cluster, and free as far as the next used one."""
        start = self._position
        if slot + 1 != start or self._place is not self._handed_out:
            return 0
        stop = min(start + slots, (self._current + 1) * CLUSTER_SLOTS, self.total + 1)
        used = self._used_places.find(1, start, stop)
        stop = max(start, stop) if used < 0 else used
        self._used_places[start:stop] = b"\x01" * (stop - start)
        self._free_of_cluster[self._current] -= stop - start
        self._position = stop
        return stop - start

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
