"""Planning of heads: who gets how many pages."""

from __future__ import annotations

import pytest

from samplecache.cache.ahead.heads import HALF_LIFE_NS, MOST_NS, UNMEASURED_NS, Head, Trigger, Use, cover_ns, plan
from samplecache.clock import NS_PER_MS
from samplecache.strategy.view import PageInFigures

PAGE_BYTES = 4096
RATE = 50 * PAGE_BYTES
"""Fifty pages a second: a page is 20 ms, a first block."""

SLOW = PageInFigures(latency_ns=100 * NS_PER_MS, bytes_per_s=256 << 10)
"""A batch takes a second."""


def trigger(key: str, uses: float = 0.0, pages: int = 1000, bytes_per_s: int = RATE) -> Trigger:
    return Trigger(key, pages, bytes_per_s, uses)


def planned(*triggers: Trigger, lock: int = 0, warm: int = 0, figures: PageInFigures = SLOW) -> dict[object, Head]:
    return dict(plan(triggers, figures, PAGE_BYTES, lock, warm))


@pytest.mark.parametrize(
    ("figures", "expected_ns"),
    [
        (PageInFigures(), UNMEASURED_NS),
        (PageInFigures(latency_ns=5 * NS_PER_MS), UNMEASURED_NS),
        (SLOW, 1100 * NS_PER_MS),
        (PageInFigures(1, 1 << 30, 50 * NS_PER_MS, 1 << 20), 300 * NS_PER_MS),
        (PageInFigures(bytes_per_s=1 << 20), 250 * NS_PER_MS),
        (PageInFigures(latency_ns=1, bytes_per_s=1000), MOST_NS),
    ],
)
def test_a_head_covers_the_latency_and_the_first_batch(figures: PageInFigures, expected_ns: int) -> None:
    assert cover_ns(figures) == expected_ns


def test_a_use_counts_half_after_a_half_life() -> None:
    use = Use().again(0).again(0)
    assert use.count_at(0) == 2
    assert use.count_at(HALF_LIFE_NS) == 1
    assert use.again(HALF_LIFE_NS) == Use(2.0, HALF_LIFE_NS)
    assert use.count_at(-5) == 2  # a clock that another thread has read earlier


def test_where_there_is_room_all_is_locked_that_is_needed() -> None:
    assert planned(trigger("kick"), trigger("snare"), lock=1000) == {"kick": Head(55, 55), "snare": Head(55, 55)}


def test_a_short_sample_is_all_head() -> None:
    assert planned(trigger("click", pages=3), lock=1000) == {"click": Head(3, 3)}


def test_a_head_is_a_page_at_least_however_fast_the_device_is() -> None:
    fast = PageInFigures(latency_ns=1000, bytes_per_s=10 << 30)
    assert planned(trigger("kick"), lock=1000, figures=fast) == {"kick": Head(1, 1)}


def test_of_equal_use_all_get_the_same() -> None:
    hits = [trigger(f"hit-{number}") for number in range(500)]
    assert set(planned(*hits, lock=2048).values()) == {Head(4, 4), Head(5, 5)}
    assert sum(head.locked_pages for head in planned(*hits, lock=2048).values()) == 2048


def test_beyond_the_first_block_heads_share_in_proportion_to_their_use() -> None:
    assert planned(trigger("rare", 0), trigger("often", 3), lock=25) == {"often": Head(20, 20), "rare": Head(5, 5)}


def test_what_the_most_used_does_not_need_the_others_get() -> None:
    assert planned(trigger("rare"), trigger("often", 99, pages=10), lock=30) == {
        "often": Head(10, 10),
        "rare": Head(20, 20),
    }


def test_where_not_every_first_block_fits_the_most_used_have_one() -> None:
    hits = [trigger(f"hit-{number}", uses=number) for number in range(10)]
    assert planned(*hits, lock=3) == {"hit-9": Head(1, 1), "hit-8": Head(1, 1), "hit-7": Head(1, 1)}


def test_what_is_not_locked_is_kept_warm() -> None:
    assert planned(trigger("kick"), lock=10, warm=1000) == {"kick": Head(10, 55)}
    assert planned(trigger("kick"), lock=0, warm=7) == {"kick": Head(0, 7)}


def test_first_blocks_that_nobody_locked_are_kept_warm_before_anything_else() -> None:
    assert planned(trigger("often", 9), trigger("rare"), lock=1, warm=1) == {"often": Head(1, 1), "rare": Head(0, 1)}


def test_nothing_comes_of_nothing() -> None:
    assert planned(lock=10, warm=10) == {}
    assert planned(trigger("kick")) == {}


def test_a_budget_is_used_up_and_never_exceeded() -> None:
    hits = [trigger(f"hit-{number}", number % 5 * 1.5, 5 + number, RATE + 999 * number) for number in range(20)]
    firsts, wanted = 39, sum(head.pages for head in planned(*hits, lock=10_000).values())
    for lock in range(400):
        heads = planned(*hits, lock=lock, warm=50).values()
        # Half of a first block is worth nothing, so as long as not all have theirs a page may be left over.
        left = 1 if lock < firsts else 0
        assert min(lock, wanted) - left <= sum(head.locked_pages for head in heads) <= min(lock, wanted)
        assert sum(head.pages for head in heads) <= min(lock + 50, wanted)
