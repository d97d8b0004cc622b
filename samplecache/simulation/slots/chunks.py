"""Swap space in chunks, each of which holds neighbours in virtual memory only."""

from __future__ import annotations

import heapq
from array import array

from samplecache.simulation.slots.area import FREE, SwapSlots

_NOBODY = -1


class ChunkSlots(SwapSlots):
    """Aligned chunks of slots, each for one aligned chunk of virtual pages and in their order.

    What a chunk's pages leave unused is of use to no other page until the last of them gives its slot back; swap so is
    full sooner. The header's own chunk and a last one that is not whole are not handed out.

    Parameters
    ----------
    slots : int
        How many there are.
    chunk_slots : int
        Size of a chunk; a power of two.
    """

    def __init__(self, slots: int, chunk_slots: int) -> None:
        super().__init__(slots)
        self._chunk_slots = chunk_slots
        chunks = (slots + 1) // chunk_slots
        self._used_of_chunk = array("i", [0]) * (slots // chunk_slots + 1)
        self._holder = array("i", [_NOBODY]) * (slots // chunk_slots + 1)
        """The chunk of virtual pages that has each chunk of slots."""
        self._chunk_of: dict[int, int] = {}
        self._free_chunks = list(range(1, chunks))
        self._chunks = len(self._free_chunks)
        self._used_chunks = 0

    @property
    def over_half_full(self) -> bool:
        """Whether more than half of the chunks are handed out: what is wasted is not free."""
        return self._used_chunks * 2 > self._chunks

    def _find(self, page: int) -> int:
        """Return the slot of `page` in its chunk; 0 where no chunk is left for it."""
        virtual, place = divmod(page, self._chunk_slots)
        chunk = self._chunk_of.get(virtual)
        if chunk is None:
            chunk = self._free_chunk()
            if not chunk:
                return 0
            self._chunk_of[virtual] = chunk
            self._holder[chunk] = virtual
        slot = chunk * self._chunk_slots + place
        # A slot that was planned for another page may have taken the place.
        return slot if self.owner[slot] == FREE else 0

    def _free_chunk(self) -> int:
        """Return the first chunk that is wholly free, taken out of the heap; 0 if there is none."""
        while self._free_chunks:
            chunk = heapq.heappop(self._free_chunks)
            if not self._used_of_chunk[chunk]:  # none of its slots has been planned for some page
                return chunk
        return 0

    def _taken(self, slot: int) -> None:
        chunk = slot // self._chunk_slots
        if not self._used_of_chunk[chunk]:
            self._used_chunks += 1
        self._used_of_chunk[chunk] += 1

    def _released(self, slot: int) -> None:
        chunk = slot // self._chunk_slots
        self._used_of_chunk[chunk] -= 1
        if self._used_of_chunk[chunk]:
            return
        self._used_chunks -= 1
        virtual = self._holder[chunk]
        if virtual != _NOBODY:
            del self._chunk_of[virtual]
            self._holder[chunk] = _NOBODY
        if 1 <= chunk <= self._chunks:
            heapq.heappush(self._free_chunks, chunk)
