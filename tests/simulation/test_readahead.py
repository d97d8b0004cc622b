"""The window function, against the kernel's own text of it and its corners."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_process import Process

from samplecache.simulation.options import ReadaheadMode
from samplecache.simulation.pages import CACHED, PRESENT, SWAPPED
from samplecache.simulation.readahead import VMA_HITS_MAX, window_pages


@pytest.mark.parametrize(
    ("adjacent", "hits", "limit", "previous", "expected"),
    [
        (False, 0, 8, 0, 1),
        (True, 0, 8, 0, 2),
        (False, 1, 8, 0, 4),
        (False, 2, 8, 0, 4),
        (False, 3, 8, 0, 8),
        (False, 6, 8, 0, 8),
        (False, 7, 8, 0, 8),
        (False, 7, 32, 0, 16),
        (False, 0, 8, 8, 4),
        (False, 0, 8, 4, 2),
        (False, 0, 8, 2, 1),
        (True, 0, 8, 8, 4),
        (False, 1, 2, 0, 2),
        (False, 0, 2, 32, 16),
    ],
)
def test_window(adjacent: bool, hits: int, limit: int, previous: int, expected: int) -> None:
    assert window_pages(adjacent, hits, limit, previous) == expected


@given(
    st.booleans(),
    st.integers(0, VMA_HITS_MAX),
    st.integers(0, 6).map(lambda order: 1 << order),
    st.integers(0, 6).map(lambda order: 1 << order),
)
def test_window_is_a_power_of_two_and_shrinks_by_half_at_most(
    adjacent: bool, hits: int, limit: int, previous: int
) -> None:
    window = window_pages(adjacent, hits, limit, previous)
    assert window & (window - 1) == 0
    assert previous // 2 <= window <= max(limit, previous // 2)


def cached_by_one_touch(process: Process, page: int, pages: int) -> list[int]:
    """Touch `page` of a cold region; return the pages that came along."""
    region = process.cold(pages)
    process.touch(region, page, page + 1)
    states = process.states(region)
    assert states[page] == PRESENT
    assert set(states) <= {PRESENT, CACHED, SWAPPED}
    process.wait()
    return [each for each, state in enumerate(process.states(region)) if state == CACHED]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (100, [97, 98, 99, 101, 102, 103, 104]),
        (0, [1, 2, 3, 4]),
        (1023, [1020, 1021, 1022]),
        (511, [508, 509, 510]),  # the window ends with the PMD
        (512, [513, 514, 515, 516]),
    ],
)
def test_a_virtual_window_stays_in_its_region_and_pmd(page: int, expected: list[int]) -> None:
    assert cached_by_one_touch(Process(readahead=ReadaheadMode.VMA), page, 1024) == expected


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (0, [1, 2, 3, 4, 5, 6]),  # slots 1 to 7: slot 0 is the header
        (12, [7, 8, 9, 10, 11, 13, 14]),  # slots 8 to 15
        (19, [15, 16, 17, 18]),  # slot 20 of 20: the area ends
    ],
)
def test_a_window_of_slots_is_aligned_and_stays_in_the_area(page: int, expected: list[int]) -> None:
    process = Process(readahead=ReadaheadMode.CLUSTER, swap_slots=20)
    region = process.mapped(20)
    process.squeeze()
    process.touch(region, page, page + 1)
    process.wait()
    assert [each for each, state in enumerate(process.states(region)) if state == CACHED] == expected


def test_a_window_of_slots_reads_other_regions_and_skips_free_slots() -> None:
    process = Process(readahead=ReadaheadMode.CLUSTER)
    first, gone, last = process.cold(2), process.cold(2), process.cold(2)  # slots 1 to 6
    process.machine.unmap(gone)
    cost = process.cost(lambda: process.touch(first, 0, 1))
    assert (cost.pswpin, cost.swap_ra) == (4, 3)
    process.wait()
    assert process.states(last) == [CACHED, CACHED]


def test_each_region_has_a_virtual_window_of_its_own() -> None:
    process = Process(readahead=ReadaheadMode.VMA)
    sequential, scattered = process.cold(512), process.cold(512)
    process.touch_each(scattered, [500, 300, 100])
    assert process.cost(lambda: process.touch(sequential, 0, 512)).major == 65
