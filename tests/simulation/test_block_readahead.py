"""Blocks of slots: Linux 2.6.24's, and those that the thread of 2008 proposed."""

from __future__ import annotations

import pytest
from simulated_process import THREAD, Process

from samplecache.errors import ConfigurationError
from samplecache.simulation.blockreadahead import AdaptiveReadahead
from samplecache.simulation.device import device_profile
from samplecache.simulation.options import ReadaheadMode
from samplecache.simulation.pages import CACHED, SimulatedRegion


def swapped(mode: ReadaheadMode, pages: int, **changes: object) -> tuple[Process, SimulatedRegion]:
    """Return a region whose page `p` has slot ``p + 1``."""
    process = Process(readahead=mode, **changes)
    region = process.mapped(pages)
    process.squeeze()
    assert process.machine.page_slots(region, 0, pages) == list(range(1, pages + 1))
    return process, region


def cached_by(process: Process, region: SimulatedRegion, page: int) -> list[int]:
    """Touch `page`; return the pages that came along."""
    process.touch(region, page, page + 1)
    process.wait()
    return [each for each, state in enumerate(process.states(region)) if state == CACHED]


class TestFixed:
    """``valid_swaphandles()`` and ``swapin_readahead()`` of Linux 2.6.24."""

    @pytest.mark.parametrize(
        ("page", "expected"),
        [
            (3, [0, 1, 2, 4, 5, 6]),  # slots 1 to 7: slot 0 is the header
            (12, [7, 8, 9, 10, 11, 13, 14]),  # slots 8 to 15
            (19, [15, 16, 17, 18]),  # slot 20 of 20: the area ends
        ],
    )
    def test_it_reads_the_aligned_block(self, page: int, expected: list[int]) -> None:
        process, region = swapped(ReadaheadMode.FIXED, 20, swap_slots=20)
        assert cached_by(process, region, page) == expected

    @pytest.mark.parametrize(
        ("free", "page", "expected"),
        [
            (13, 10, [7, 8, 9, 11]),  # slot 13 is free, behind the target's: its block ends there
            (12, 14, [7, 8, 9, 10]),  # and before it: the target is read by itself, those after it are not
            (8, 14, []),  # the block begins with it
        ],
    )
    def test_it_stops_at_the_first_free_slot(self, free: int, page: int, expected: list[int]) -> None:
        process, region = swapped(ReadaheadMode.FIXED, 32)
        process.machine.punch(region, free - 1, free)
        cost = process.cost(lambda: process.touch(region, page, page + 1))
        process.wait()
        assert [each for each, state in enumerate(process.states(region)) if state == CACHED] == expected
        assert cost.trace == (1, 0, len(expected) + 1, len(expected))

    def test_the_target_is_a_request_of_its_own_where_the_block_stops_before_it(self) -> None:
        process, region = swapped(ReadaheadMode.FIXED, 32, device=device_profile("hdd-laptop-2008"))
        process.machine.punch(region, 10, 11)
        before = process.machine.device_requests
        process.touch(region, 13, 14)
        assert process.machine.device_requests - before == 2

    def test_it_has_no_feedback(self) -> None:
        """Sequential use does not widen it, and random use does not narrow it."""
        process, region = swapped(ReadaheadMode.FIXED, 1023)
        assert process.cost(lambda: process.touch(region, 0, 1023)).trace == (128, 895, 1023, 895)
        process.squeeze()
        cost = process.cost(lambda: process.touch_each(region, [800, 80, 400, 160]))
        assert cost.trace == (4, 0, 32, 28)

    def test_page_cluster_0_switches_it_off(self) -> None:
        process, region = swapped(ReadaheadMode.FIXED, 32, page_cluster=0)
        assert process.cost(lambda: process.touch(region, 0, 32)).trace == (32, 0, 32, 0)


class TestChunk:
    def test_it_reads_the_whole_chunk_and_skips_free_slots(self) -> None:
        process, region = swapped(ReadaheadMode.CHUNK, 600, chunk_pages=256)
        process.machine.punch(region, 300, 310)
        expected = [page for page in range(255, 511) if page not in range(300, 310) and page != 400]
        assert cached_by(process, region, 400) == expected

    def test_without_the_header(self) -> None:
        process, region = swapped(ReadaheadMode.CHUNK, 40, chunk_pages=16)
        assert cached_by(process, region, 3) == [page for page in range(15) if page != 3]

    def test_a_mebibyte_a_fault(self) -> None:
        process, region = swapped(ReadaheadMode.CHUNK, 1023)
        assert process.cost(lambda: process.touch(region, 0, 1023)).trace == (4, 1019, 1023, 1019)


class TestAdaptive:
    @staticmethod
    def sized(process: Process) -> int:
        readahead = process.machine.readahead
        assert isinstance(readahead, AdaptiveReadahead)
        return readahead.chunk_pages

    def test_it_grows_while_what_it_brings_gets_used(self) -> None:
        """Each size takes two misses, or more where a chunk begins in the middle of the last one."""
        process, region = swapped(ReadaheadMode.ADAPTIVE, 4095, chunk_pages=64)
        sizes = []
        for page in range(4095):
            before = process.machine.counters.pgmajfault
            process.touch(region, page, page + 1)
            if process.machine.counters.pgmajfault > before:
                sizes.append(self.sized(process))
        assert sizes[:10] == [8, 8, 16, 16, 32, 32, 64, 64, 64, 64]
        assert set(sizes[10:]) == {64}
        assert sum(sizes) - sizes[0] < 4095 + 64 + 32 + 16

    def test_it_shrinks_where_what_it_brings_is_dropped(self) -> None:
        process, region = swapped(ReadaheadMode.ADAPTIVE, 4095, chunk_pages=64)
        process.touch(region, 0, 2048)
        assert self.sized(process) == 64
        process.squeeze()
        sizes = []
        for page in range(32, 4095, 512):
            process.touch(region, page, page + 1)
            sizes.append(self.sized(process))
            process.squeeze()
        assert sizes == [64, 64, 32, 32, 16, 16, 8, 8]

    @pytest.mark.parametrize(
        ("used", "unused", "expected"),
        [
            (16, 0, 32),
            (8, 8, 32),  # a half
            (7, 9, 16),
            (4, 12, 16),  # a quarter
            (3, 13, 8),
            (0, 16, 8),
            (15, 0, 16),  # too few fates are known
            (0, 15, 16),
        ],
    )
    def test_half_used_doubles_it_and_less_than_a_quarter_halves_it(
        self, used: int, unused: int, expected: int
    ) -> None:
        process, region = swapped(ReadaheadMode.ADAPTIVE, 63, chunk_pages=32)
        readahead = process.machine.readahead

        def learn(used: int, unused: int) -> int:
            for _ in range(used):
                readahead.hit(region, region.base, region.base + 1, True)
            for _ in range(unused):
                readahead.unused(1)
            readahead.neighbours(region, region.base)
            return self.sized(process)

        assert learn(8, 0) == 16
        assert learn(used, unused) == expected

    def test_page_cluster_0_switches_it_off(self) -> None:
        process, region = swapped(ReadaheadMode.ADAPTIVE, 32, page_cluster=0)
        assert process.cost(lambda: process.touch(region, 0, 32)).trace == (32, 0, 32, 0)

    def test_pages_that_are_unmapped_are_neither_used_nor_unused(self) -> None:
        process, region = swapped(ReadaheadMode.ADAPTIVE, 16)
        other = process.cold(64)
        process.touch(region, 0, 1)
        process.wait()
        process.machine.unmap(region)
        for page in range(16, 64, 16):
            process.touch(other, page, page + 1)
        assert self.sized(process) == 8

    def test_it_cannot_be_smaller_than_its_least(self) -> None:
        with pytest.raises(ConfigurationError, match="adaptive readahead from 32 up to 16 pages"):
            Process(readahead=ReadaheadMode.ADAPTIVE, page_cluster=5, chunk_pages=16)


@pytest.mark.parametrize("mode", [ReadaheadMode.FIXED, ReadaheadMode.CHUNK, ReadaheadMode.ADAPTIVE])
class TestAll:
    def test_a_synchronous_device_has_none(self, mode: ReadaheadMode) -> None:
        with pytest.raises(ConfigurationError, match=f"{mode.value} readahead on a synchronous device"):
            Process(readahead=mode, device=device_profile("zram-lz4"))

    def test_neighbours_of_other_regions_come_along(self, mode: ReadaheadMode) -> None:
        process = Process(readahead=mode)
        first, second = process.mapped(3), process.mapped(4)
        process.squeeze()
        process.run(process.machine.touch(THREAD, first, 1, 2))
        process.wait()
        assert process.states(second) == [CACHED] * 4
