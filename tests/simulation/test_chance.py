"""A seed's order is the same for ever: what a run draws must not depend on the version of Python."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from samplecache.simulation.chance import Chance, shuffled


def test_orders_are_the_golden_ones() -> None:
    assert shuffled(range(10), 0) == [9, 4, 0, 5, 2, 7, 1, 3, 6, 8]
    assert shuffled("abcdef", 2008) == ["e", "d", "a", "b", "c", "f"]
    long = ",".join(map(str, shuffled(range(100_000), 1)))
    assert (
        hashlib.sha256(long.encode()).hexdigest() == "5450e4e651528991dfd97efaa14304336c0d94368682c02430aa22094422b1ae"
    )


@given(st.lists(st.integers()), st.integers(0, 2**64))
def test_nothing_is_lost_and_the_argument_is_left_alone(items: list[int], seed: int) -> None:
    before = list(items)
    assert sorted(shuffled(items, seed)) == sorted(items)
    assert items == before


def test_every_order_of_three_comes_up_about_as_often() -> None:
    orders = [tuple(shuffled(range(3), seed)) for seed in range(6000)]
    assert all(900 < orders.count(order) < 1100 for order in set(orders))
    assert len(set(orders)) == 6


def test_draws_are_the_golden_ones() -> None:
    chance = Chance(2008)
    assert [chance.one_of(range(100)) for _ in range(8)] == [89, 54, 38, 5, 74, 38, 91, 79]


def test_every_value_is_drawn_about_as_often() -> None:
    chance = Chance(1)
    drawn = [chance.one_of("abc") for _ in range(6000)]
    assert all(1900 < drawn.count(value) < 2100 for value in "abc")
