"""Files: they press on memory and keep the disk busy, and are no swap."""

from __future__ import annotations

import pytest
from simulated_process import THREAD, Process

from samplecache.errors import NotPermittedError
from samplecache.simulation.device import device_profile
from samplecache.simulation.options import ReadaheadMode
from samplecache.simulation.pages import PRESENT, SWAPPED

DISK = device_profile("hdd-laptop-2008")


def test_it_is_read_in_order_128_kib_at_a_time() -> None:
    process = Process(device=DISK)
    file = process.machine.map_file(100)
    before = process.machine.device_requests
    cost = process.cost(lambda: process.touch(file, 0, 100))
    assert cost.trace == (4, 96, 0, 0)
    assert process.machine.device_requests - before == 4
    assert process.machine.used_pages == 100


def test_it_takes_the_time_of_the_device_and_moves_its_head() -> None:
    process = Process(device=DISK, page_cluster=0, readahead=ReadaheadMode.CLUSTER)
    region = process.cold(4)
    file = process.machine.map_file(32)
    seek_ns = DISK.positioning_ns
    process.touch(region, 0, 1)
    assert process.cost(lambda: process.touch(region, 1, 2)).time_ns < seek_ns
    assert seek_ns < process.cost(lambda: process.touch(file, 0, 32)).time_ns < 2 * seek_ns
    assert process.cost(lambda: process.touch(region, 2, 3)).time_ns > seek_ns


def test_its_pages_are_dropped_without_a_write_and_read_again() -> None:
    process = Process(device=DISK)
    file = process.machine.map_file(64)
    places = process.machine.page_slots(file, 0, 64)
    assert min(places) > process.options.swap_slots
    for _ in range(2):
        process.touch(file, 0, 64)
        assert process.states(file) == [PRESENT] * 64
        cost = process.cost(process.squeeze)
        assert (cost.pswpout, cost.pswpin) == (0, 0)
        assert process.states(file) == [SWAPPED] * 64
        assert process.machine.page_slots(file, 0, 64) == places
    assert process.machine.free_slots == process.options.swap_slots


def test_it_pushes_anonymous_memory_out() -> None:
    process = Process(device=DISK, memory_pages=128)
    region = process.mapped(100)
    file = process.machine.map_file(200)
    process.touch(file, 0, 200)
    assert process.machine.counters.pswpout == 100
    assert process.states(region) == [SWAPPED] * 100


def test_it_keeps_its_place_where_swap_is_over_half_full() -> None:
    process = Process(device=DISK, swap_slots=20)
    process.mapped(15)
    process.squeeze()
    file = process.machine.map_file(4)
    process.touch(file, 0, 4)
    process.squeeze()
    assert process.cost(lambda: process.touch(file, 0, 4)).major == 1


@pytest.mark.parametrize("device", ["hdd-laptop-2008", "ssd-sata", "zram-lz4"])
def test_unmapping_gives_everything_back(device: str) -> None:
    process = Process(device=device_profile(device))
    file = process.machine.map_file(64)
    process.touch(file, 0, 40)
    process.machine.punch(file, 10, 20)
    process.machine.unmap(file)
    assert (process.machine.used_pages, process.machine.free_slots) == (0, process.options.swap_slots)
    region = process.cold(64)
    assert process.machine.counters.pswpin == 0
    assert sorted(process.machine.page_slots(region, 0, 64)) == list(range(1, 65))


def test_it_can_be_read_ahead_and_evicted() -> None:
    process = Process(device=DISK)
    file = process.machine.map_file(64)
    process.willneed(file, 0, 64)
    process.wait()
    assert process.cost(lambda: process.touch(file, 0, 64)).trace == (0, 64, 0, 0)
    process.evict(file)
    assert process.machine.used_pages == 0


@pytest.mark.parametrize(("name", "what"), [("write", "written"), ("lock", "locked")])
def test_it_is_neither_written_nor_locked(name: str, what: str) -> None:
    process = Process(device=DISK)
    file = process.machine.map_file(8)
    with pytest.raises(NotPermittedError, match=f"cannot be {what}.*Map memory instead"):
        process.run(getattr(process.machine, name)(THREAD, file, 0, 8))
    assert process.states(file) == [SWAPPED] * 8
    assert process.machine.locked_pages == 0
