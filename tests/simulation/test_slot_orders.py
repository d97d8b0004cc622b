"""The orders that the thread of 2008 argued about, slot by slot."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from simulated_process import Process

from samplecache.errors import ConfigurationError
from samplecache.simulation.options import SlotOrder
from samplecache.simulation.slots import SwapSlots
from samplecache.simulation.slots.chunks import ChunkSlots
from samplecache.simulation.slots.scan import RUN_SLOTS, ScanSlots, VirtualSlots


def allocate(slots: SwapSlots, pages: Iterable[int]) -> list[int]:
    return [slots.allocate(page) for page in pages]


def release(slots: SwapSlots, numbers: Iterable[int]) -> None:
    for number in numbers:
        slots.release(number)


class TestScan:
    """``scan_swap_map()`` of Linux 2.6.24."""

    def test_a_fresh_area_goes_out_in_order(self) -> None:
        slots = ScanSlots(1000)
        assert allocate(slots, range(1001)) == [*range(1, 1001), 0]

    def test_what_is_freed_behind_waits_until_the_run_is_used_up(self) -> None:
        slots = ScanSlots(2000)
        allocate(slots, range(100))
        release(slots, range(1, 51))
        assert allocate(slots, range(RUN_SLOTS - 100)) == list(range(101, 257))
        # [1, 51) is no run of 256; the first that is begins at 257
        assert allocate(slots, range(3)) == [257, 258, 259]

    def test_the_next_run_is_the_first_empty_one_aligned_or_not(self) -> None:
        slots = ScanSlots(2000)
        allocate(slots, range(1024))
        release(slots, range(10, 100))
        release(slots, range(300, 557))
        assert allocate(slots, range(3)) == [300, 301, 302]

    def test_a_run_is_not_interrupted_by_a_better_one(self) -> None:
        slots = ScanSlots(2000)
        allocate(slots, range(257))
        release(slots, range(1, 257))
        assert allocate(slots, range(RUN_SLOTS)) == [*range(258, 513), 1]

    def test_without_a_run_it_takes_the_first_free_slot_and_goes_on_from_there(self) -> None:
        slots = ScanSlots(1024)
        allocate(slots, range(1024))
        release(slots, [*range(600, 800), 3, 5, *range(9, 100)])
        assert allocate(slots, range(5)) == [3, 5, 9, 10, 11]
        slots.release(4)
        assert slots.allocate(0) == 12

    def test_behind_the_last_free_slot_comes_the_first(self) -> None:
        slots = ScanSlots(512)
        allocate(slots, range(512))
        release(slots, [500, 7])
        assert allocate(slots, range(2)) == [7, 500]
        release(slots, [7, 300])
        assert allocate(slots, range(2)) == [7, 300]

    def test_a_run_that_others_were_planned_into_is_handed_out_round_them(self) -> None:
        slots = ScanSlots(512)
        slots.plan(1, 3)
        assert allocate(slots, [0, 1, 2, 3, 4]) == [1, 3, 2, 4, 5]

    def test_pages_lie_in_the_order_of_their_eviction(self) -> None:
        process = Process(slot_order=SlotOrder.SCAN)
        region = process.mapped(6)
        process.machine.cold(1, region, 4, 6)
        process.machine.cold(1, region, 2, 3)
        process.squeeze()
        assert process.machine.page_slots(region, 0, 6) == [4, 5, 3, 6, 1, 2]  # what became cold first goes first


class TestVirtual:
    def test_a_slot_is_told_by_the_page_whenever_it_goes(self) -> None:
        slots = VirtualSlots(100)
        assert allocate(slots, [40, 7, 39, 0, 99]) == [41, 8, 40, 1, 100]

    def test_a_taken_slot_gives_way_to_the_next_free_one(self) -> None:
        slots = VirtualSlots(100)
        assert allocate(slots, [140, 40, 41, 240]) == [41, 42, 43, 44]
        assert allocate(slots, [99, 199]) == [100, 1]
        slots.release(43)
        assert slots.allocate(340) == 43

    def test_neighbours_in_memory_are_neighbours_in_swap(self) -> None:
        process = Process(slot_order=SlotOrder.VIRTUAL)
        first, region = process.mapped(10), process.mapped(6)
        process.machine.cold(1, region, 4, 6)
        process.squeeze()
        slots = process.machine.page_slots(region, 0, 6)
        assert slots == list(range(1 + region.base, 7 + region.base))
        assert process.machine.page_slots(first, 9, 10) == [slots[0] - 1]


class TestChunks:
    def test_a_chunk_is_for_one_chunk_of_pages_and_in_their_order(self) -> None:
        slots = ChunkSlots(63, 8)  # chunks [8, 16), [16, 24) ... [56, 64)
        assert allocate(slots, [1, 3, 80, 0, 87, 7]) == [9, 11, 16, 8, 23, 15]

    def test_what_a_chunk_leaves_unused_is_wasted(self) -> None:
        slots = ChunkSlots(31, 8)
        assert allocate(slots, [0, 100, 200, 300, 1]) == [8, 20, 24, 0, 9]
        assert slots.free == 27

    def test_swap_is_over_half_full_by_chunks(self) -> None:
        slots = ChunkSlots(47, 8)  # five chunks
        seen = []
        for page in (0, 100, 1, 200):
            slots.allocate(page)
            seen.append(slots.over_half_full)
        assert seen == [False, False, False, True]

    def test_the_last_page_gives_the_chunk_back(self) -> None:
        slots = ChunkSlots(23, 8)
        allocate(slots, [0, 5, 100])
        slots.release(8)
        assert slots.allocate(200) == 0
        slots.release(13)
        assert allocate(slots, [200, 207, 5]) == [8, 15, 0]

    def test_a_planned_slot_takes_its_chunk(self) -> None:
        slots = ChunkSlots(31, 8)
        slots.plan(300, 9)
        assert allocate(slots, [300, 0, 100, 200]) == [9, 16, 28, 0]
        slots.release(9)
        assert slots.allocate(200) == 8

    def test_swap_is_full_sooner(self) -> None:
        """One page of every chunk: a sixteenth of the pages fills it all."""
        process = Process(slot_order=SlotOrder.CHUNKS, chunk_pages=16, swap_slots=16 * 9 - 1)
        region = process.machine.map(16 * 20)
        for page in range(0, 16 * 20, 16):
            process.write(region, page, page + 1)
        process.run(process.machine.pageout(1, region, 0, 16 * 20))
        assert sum(slot > 0 for slot in process.machine.page_slots(region, 0, 16 * 20)) == 8

    @pytest.mark.parametrize("wrong", [{"chunk_pages": 0}, {"chunk_pages": 48}, {"swap_slots": 510}])
    def test_impossible_chunks_are_refused(self, wrong: dict[str, int]) -> None:
        with pytest.raises(ConfigurationError, match="chunks of"):
            Process(slot_order=SlotOrder.CHUNKS, **wrong)
