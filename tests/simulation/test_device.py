"""How long requests take, to the nanosecond."""

from __future__ import annotations

import pytest

from samplecache.errors import ConfigurationError
from samplecache.simulation.blockqueue import Plug, Request
from samplecache.simulation.device import PROFILES, QUEUE_REQUESTS, Device, DeviceProfile, device_profile

PAGE = 4096


def device(name: str) -> Device:
    return Device(device_profile(name), PAGE)


class TestTiming:
    def test_a_laptop_disk_positions_once_for_a_run_of_slots(self) -> None:
        disk = device("hdd-laptop-2008")
        transfer_ns = 8 * PAGE * 20  # 50 MB/s is 20 ns a byte
        first_ns = disk.submit(0, slot=1, pages=8)
        assert first_ns == 17_500_000 + transfer_ns
        assert disk.submit(0, slot=9, pages=8) == first_ns + transfer_ns
        assert disk.submit(0, slot=100, pages=1) == first_ns + transfer_ns + 17_500_000 + PAGE * 20

    def test_an_idle_disk_stays_where_it_is(self) -> None:
        disk = device("hdd-7200")
        done_ns = disk.submit(0, slot=5, pages=1)
        assert done_ns == 12_360_000 + PAGE * 10**9 // 138_000_000
        later_ns = done_ns + 10**9
        assert disk.submit(later_ns, slot=6, pages=1) == later_ns + PAGE * 10**9 // 138_000_000

    def test_flash_serves_many_requests_at_once_over_one_wire(self) -> None:
        flash = device("ssd-sata")
        wire_ns = PAGE * 10**9 // 540_000_000
        done = [flash.submit(0, slot=100 * number, pages=1) for number in range(11)]
        assert done[:10] == [100_000 + wire_ns * (number + 1) for number in range(10)]
        # The eleventh waits for the first server, which is free as soon as data flows.
        assert done[10] == 200_000 + wire_ns

    def test_an_iops_limit_counts_pages(self) -> None:
        limited = Device(device_profile("unthrottled").throttled(iops=400), PAGE)
        assert limited.submit(0, slot=1, pages=1) == 2_500_000
        assert limited.submit(0, slot=2, pages=256) == 257 * 2_500_000

    def test_a_byte_limit_lets_merged_pages_pass_as_one(self) -> None:
        limited = Device(device_profile("ssd-sata").throttled(bytes_per_s=4_096_000), PAGE)
        one_ns = limited.submit(0, slot=1, pages=100)
        wire_ns = 100 * PAGE * 10**9 // 540_000_000
        assert one_ns == 100_000_000 + 100_000 + wire_ns
        assert limited.requests == 1

    def test_published_iops_are_met(self) -> None:
        for name, iops in (("nvme-p3700", 167_000), ("optane-p4800x", 585_000)):
            drive = device(name)
            done_ns = max(drive.submit(0, slot=number * 7, pages=1) for number in range(10_000))
            assert 10_000 * 10**9 / done_ns == pytest.approx(iops, rel=0.05)


class TestQueue:
    def test_the_queue_takes_256_requests(self) -> None:
        disk = device("hdd-7200")
        done = []
        for number in range(QUEUE_REQUESTS):
            assert disk.ready_ns(0) == 0
            done.append(disk.submit(0, slot=number * 2 + 1, pages=1))
        assert disk.ready_ns(0) == done[0]
        assert disk.ready_ns(done[0]) == done[0]

    def test_the_elevator_sweeps_upwards_from_the_head(self) -> None:
        disk = device("hdd-7200")
        disk.submit(0, slot=49, pages=1)
        assert disk.elevator_order([10, 90, 50, 30]) == [2, 1, 0, 3]
        assert device("ssd-sata").elevator_order([10, 90, 50]) == [0, 1, 2]


def pages_of(request: Request) -> list[int]:
    return [page for start, stop in request.runs for page in range(start, stop)]


class TestPlug:
    @staticmethod
    def submitted(slots: list[int]) -> list[tuple[int, int]]:
        """Return slot and length of the requests that queueing the last of `slots` flushes."""
        plug = Plug(PAGE)
        flushed = [plug.add(slot, slot + 1000, slot + 1001, write=False) for slot in slots]
        assert not any(flushed[:-1])
        return [(request.slot, request.pages) for request in flushed[-1]]

    def test_only_ascending_neighbours_of_the_last_are_merged(self) -> None:
        plug = Plug(PAGE)
        for slot in (5, 6, 7, 4, 9, 8, 10):
            assert plug.add(slot, slot + 1000, slot + 1001, write=False) == []
        assert [(request.slot, pages_of(request)) for request in plug.take()] == [
            (5, [1005, 1006, 1007]),
            (4, [1004]),
            (9, [1009]),
            (8, [1008]),
            (10, [1010]),
        ]
        assert plug.take() == []

    def test_reads_and_writes_are_not_merged(self) -> None:
        plug = Plug(PAGE)
        for slot, write in ((1, False), (2, True), (3, True)):
            plug.add(slot, slot, slot + 1, write=write)
        assert [(pages_of(request), request.write) for request in plug.take()] == [([1], False), ([2, 3], True)]

    def test_a_run_of_pages_is_queued_at_once_as_far_as_there_is_room(self) -> None:
        plug = Plug(PAGE)
        assert plug.room(5, write=False) == 256
        plug.add(5, 1005, 1105, write=False)
        assert plug.room(105, write=False) == 156
        assert (plug.room(106, write=False), plug.room(105, write=True)) == (256, 256)
        plug.add(105, 2000, 2156, write=False)
        assert plug.room(261, write=False) == 256
        (request,) = plug.take()
        assert (request.slot, request.pages) == (5, 256)
        assert pages_of(request) == [*range(1005, 1105), *range(2000, 2156)]

    def test_a_request_ends_at_1_mib_and_is_then_sent(self) -> None:
        assert self.submitted(list(range(1, 257))) == []
        assert self.submitted(list(range(1, 258))) == [(1, 256)]

    def test_it_is_flushed_at_32_requests(self) -> None:
        assert self.submitted(list(range(1, 64, 2))) == []
        assert self.submitted(list(range(1, 66, 2))) == [(slot, 1) for slot in range(1, 64, 2)]

    def test_it_is_flushed_when_its_first_request_has_128_kib(self) -> None:
        assert self.submitted([*range(1, 32), 100]) == []
        assert self.submitted([*range(1, 33), 100]) == [(1, 32)]


class TestProfiles:
    def test_all_have_a_source(self) -> None:
        assert all(profile.source for profile in PROFILES.values())

    @pytest.mark.parametrize("name", [name for name in PROFILES if name.startswith("zram")])
    def test_zram_cannot_be_throttled(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="not zram"):
            device_profile(name).throttled(iops=1)

    def test_an_unknown_name_lists_those_known(self) -> None:
        with pytest.raises(ConfigurationError, match="hdd-laptop-2008"):
            device_profile("floppy")

    @pytest.mark.parametrize("wrong", [{"servers": 0}, {"latency_ns": -1}, {"iops": 0}, {"bandwidth_bytes_per_s": 0}])
    def test_impossible_figures_are_refused(self, wrong: dict[str, int]) -> None:
        with pytest.raises(ConfigurationError):
            DeviceProfile("wrong", "nobody", **wrong)  # type: ignore[arg-type]
