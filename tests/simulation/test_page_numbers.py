"""Numbers of pages, which unmapped regions give back for others to take."""

from __future__ import annotations

import random

from samplecache.simulation.pages import PageTable


class Counted(int):
    """A number that counts how often it is compared."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return int(self) == other

    def __lt__(self, other: int) -> bool:
        Counted.comparisons += 1
        return int(self) < other

    __hash__ = int.__hash__


def test_a_gap_joins_its_neighbours() -> None:
    table = PageTable()
    first = table.allocate(30)
    table.allocate(1)
    table.free(first, 10)
    table.free(first + 20, 10)
    assert table.allocate(11) == first + 31
    table.free(first + 10, 10)
    assert table.allocate(30) == first


def test_gaps_given_back_in_any_order_are_one_again() -> None:
    table = PageTable()
    first = table.allocate(100)
    for page in random.Random(1).sample(range(first, first + 100), 100):
        table.free(page, 1)
    assert table.allocate(100) == first


def test_giving_back_searches_the_gaps_and_does_not_go_through_them() -> None:
    table = PageTable()
    first = table.allocate(2000)
    for page in range(first, first + 2000, 2):
        table.free(Counted(page), 1)
    Counted.comparisons = 0
    table.free(Counted(first + 1), 1)
    assert 0 < Counted.comparisons < 100
