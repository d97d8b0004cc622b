"""What parts a region falls into, and what they remember, as VMAs of Linux 6.18 do."""

from __future__ import annotations

import pytest
from simulated_process import THREAD, Process

from samplecache.simulation.pages import CACHED, PRESENT, SWAPPED
from samplecache.simulation.readahead import VmaReadahead
from samplecache.simulation.vmas import Vma, Vmas, runs_of


def parts(vmas: Vmas, pages: int) -> list[tuple[int, int, bool]]:
    """The distinct parts of a region without holes that begins at page 0."""
    found = dict.fromkeys(vmas.at(page) for page in range(pages))
    return [(part.start, part.stop, part.locked) for part in found]


def test_a_part_in_the_middle_is_cut_out_and_joined_again() -> None:
    vmas = Vmas(0, 30)
    assert vmas.set_locked(10, 20, locked=True) == 20
    assert parts(vmas, 30) == [(0, 10, False), (10, 20, True), (20, 30, False)]
    assert vmas.set_locked(0, 30, locked=True) == 30
    assert parts(vmas, 30) == [(0, 30, True)]
    vmas.set_locked(0, 10, locked=False)
    vmas.set_locked(20, 30, locked=False)
    vmas.set_locked(10, 20, locked=False)
    assert parts(vmas, 30) == [(0, 30, False)]


def test_part_of_a_part_goes_over_to_a_neighbour() -> None:
    vmas = Vmas(0, 30)
    vmas.set_locked(0, 10, locked=True)
    vmas.set_locked(10, 15, locked=True)
    assert parts(vmas, 30) == [(0, 15, True), (15, 30, False)]
    vmas.set_locked(12, 15, locked=False)
    assert parts(vmas, 30) == [(0, 12, True), (12, 30, False)]


def test_a_cut_copies_the_memory_of_faults_and_a_join_keeps_the_lower_part_s() -> None:
    vmas = Vmas(0, 30)
    vmas.at(0).last_fault = 7
    vmas.set_locked(10, 20, locked=True)
    assert [vmas.at(page).last_fault for page in (0, 10, 20)] == [7, 7, 7]
    vmas.at(0).last_fault, vmas.at(10).last_fault, vmas.at(20).last_fault = 1, 11, 21
    vmas.set_locked(20, 30, locked=True)
    assert [vmas.at(page).last_fault for page in (0, 10, 20)] == [1, 11, 11]
    vmas.set_locked(5, 10, locked=True)
    assert [vmas.at(page).last_fault for page in (0, 5, 10)] == [1, 11, 11]
    vmas.set_locked(5, 30, locked=False)
    assert [vmas.at(page).last_fault for page in (0, 5, 10)] == [1, 1, 1]


def test_parts_that_got_their_first_pages_apart_are_never_joined() -> None:
    vmas = Vmas(0, 20)
    vmas.set_locked(0, 10, locked=True)
    vmas.join_family(0)
    vmas.join_family(10)
    vmas.set_locked(0, 10, locked=False)
    assert parts(vmas, 20) == [(0, 10, False), (10, 20, False)]


def test_parts_of_a_kind_share_a_family() -> None:
    vmas = Vmas(0, 30)
    vmas.set_locked(10, 20, locked=True)
    vmas.join_family(0)
    vmas.join_family(29)
    vmas.set_locked(10, 20, locked=False)
    assert parts(vmas, 30) == [(0, 20, False), (20, 30, False)]
    vmas.join_family(0)
    assert vmas.at(0).family != vmas.at(29).family


def test_a_part_is_searched_for_and_not_compared_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(one: Vma, other: object) -> bool:
        raise AssertionError("one part was compared with another")

    monkeypatch.setattr(Vma, "__eq__", compare)
    vmas = Vmas(0, 9)
    for page in (1, 3, 5, 7):
        vmas.set_locked(page, page + 1, locked=True)
        vmas.join_family(page)
    assert [vmas.at(page).locked for page in range(9)] == [False, True] * 4 + [False]


def test_locking_stops_at_a_hole() -> None:
    vmas = Vmas(0, 30)
    vmas.remove(10, 20)
    assert vmas.set_locked(5, 30, locked=True) == 10
    assert [vmas.at(page).locked for page in (0, 5, 20)] == [False, True, False]
    assert vmas.set_locked(12, 30, locked=True) == 12
    vmas.remove(0, 30)
    assert vmas.set_locked(0, 30, locked=True) == 0


def test_readahead_stops_at_the_end_of_a_locked_part() -> None:
    """As was seen: one page of three is locked, so that the window that began there ended there too."""
    process = Process()
    region = process.cold(3)
    process.run(process.machine.lock(THREAD, region, 0, 1))
    assert process.states(region) == [PRESENT, SWAPPED, SWAPPED]
    assert process.cost(lambda: process.touch(region, 2, 3)).trace == (1, 0, 2, 1)
    process.wait()
    assert process.states(region) == [PRESENT, CACHED, PRESENT]


def test_every_part_remembers_faults_of_its_own() -> None:
    process = Process()
    region = process.cold(64)
    process.machine.punch(region, 30, 34)
    process.touch(region, 0, 1)
    process.touch(region, 40, 41)
    assert isinstance(process.machine.readahead, VmaReadahead)
    assert [region.vmas.at(region.base + page).last_fault - region.base for page in (0, 40)] == [0, 40]


def test_runs() -> None:
    assert list(runs_of([])) == []
    assert list(runs_of([3, 4, 5, 9, 11, 12])) == [range(3, 6), range(9, 10), range(11, 13)]
