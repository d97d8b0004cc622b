"""Which slots outgoing pages get."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecache.simulation.slots import FREE, SwapSlots
from samplecache.simulation.slots.chunks import ChunkSlots
from samplecache.simulation.slots.clusters import CLUSTER_SLOTS, ClusterSlots
from samplecache.simulation.slots.scan import ScanSlots, VirtualSlots


def test_a_fresh_area_hands_out_1_2_3_and_so_on() -> None:
    slots = ClusterSlots(1000)
    assert [slots.allocate(page) for page in range(1001)] == [*range(1, 1001), 0]
    assert slots.free == 0


def test_slots_given_back_wait_until_no_cluster_is_whole() -> None:
    slots = ClusterSlots(4 * CLUSTER_SLOTS - 1)
    for page in range(2 * CLUSTER_SLOTS):
        slots.allocate(page)
    for slot in (7, 3, 300):
        slots.release(slot)
    assert [slots.allocate(0) for _ in range(2 * CLUSTER_SLOTS - 1)] == list(range(513, 1024))
    assert slots.free == 3
    assert sorted(slots.allocate(0) for _ in range(3)) == [3, 7, 300]


def test_a_shuffled_area_hands_out_every_slot_once_in_an_order_that_the_seed_tells() -> None:
    order = {seed: [slots.allocate(0) for _ in range(600)] for seed in (1, 2) for slots in [ClusterSlots(600, seed)]}
    again = ClusterSlots(600, 1)
    assert [again.allocate(0) for _ in range(600)] == order[1] != order[2]
    assert sorted(order[1]) == list(range(1, 601))


def test_planned_slots_go_to_their_pages_and_the_others_round_them() -> None:
    slots = ClusterSlots(2 * CLUSTER_SLOTS - 1)
    slots.plan(7, 300)
    slots.plan(8, 300)
    slots.plan(9, 3)
    assert [slots.allocate(page) for page in range(6, 12)] == [1, 300, 2, 3, 4, 5]
    rest = [slots.allocate(page) for page in range(12, 12 + slots.free)]
    assert sorted(rest) == [*range(6, 300), *range(301, 512)]


def test_over_half_full() -> None:
    slots = ClusterSlots(4)
    seen = []
    for _ in range(4):
        slots.allocate(0)
        seen.append(slots.over_half_full)
    assert seen == [False, False, True, True]


@pytest.mark.parametrize(
    "make",
    [
        ClusterSlots,
        lambda total: ClusterSlots(total, 5),
        ScanSlots,
        VirtualSlots,
        lambda total: ChunkSlots(total, 8),
    ],
    ids=["clusters", "shuffled", "scan", "virtual", "chunks"],
)
@given(total=st.integers(0, 700), commands=st.lists(st.integers(0, 10**6), max_size=400), burst=st.integers(1, 9))
def test_no_slot_has_two_owners(make: Callable[[int], SwapSlots], total: int, commands: list[int], burst: int) -> None:
    slots = make(total)
    wasteful = isinstance(slots, ChunkSlots)
    owners: dict[int, int] = {}
    for page, command in enumerate(commands):
        if command % 3 and owners:
            slot = sorted(owners)[command % len(owners)]
            slots.release(slot)
            del owners[slot]
        for part in range(burst):
            slot = slots.allocate(page * burst + part)
            assert slot == 0 if len(owners) == total else slot or wasteful
            if slot:
                assert 1 <= slot <= total
                assert slot not in owners
                owners[slot] = page * burst + part
        assert slots.free == total - len(owners)
        assert {slot: owner for slot, owner in enumerate(slots.owner) if owner != FREE} == owners
