"""When a limit on reads lets pages pass, to the tick.

Linux 6.18 at 250 Hz was seen to let 20, 40 and 48 pages pass at once and as many every 100 ms after that, under 200 and
400 reads and 2 MB a second, and to count what had passed in the slice before.
"""

from __future__ import annotations

from typing import Any

import pytest

from samplecache.clock import NS_PER_MS
from samplecache.errors import ConfigurationError
from samplecache.simulation.device import Device, DeviceProfile
from samplecache.simulation.throttle import ReadLimit, Throttle

PAGE = 4096


def passed(limit: ReadLimit, *reads: tuple[int, int]) -> list[list[tuple[int, int]]]:
    """Return, for each ``(at_ms, pages)``, when how many pages pass, in milliseconds."""
    throttle = Throttle(limit, PAGE)
    return [
        [(pass_ns // NS_PER_MS, count) for pass_ns, count in throttle.admit(at_ms * NS_PER_MS, pages)]
        for at_ms, pages in reads
    ]


class TestSlices:
    def test_a_slice_passes_at_once_and_the_next_a_timer_tick_after_a_tenth_of_a_second(self) -> None:
        assert passed(ReadLimit(iops=200), (0, 50)) == [[(0, 20), (104, 20), (204, 10)]]
        assert passed(ReadLimit(iops=400), (0, 160)) == [[(0, 40), (104, 40), (204, 40), (304, 40)]]

    def test_bytes_wait_another_tick_and_what_is_left_of_a_page_is_kept(self) -> None:
        # 2 MB/s are 48.8 pages in a tenth of a second.
        assert passed(ReadLimit(bytes_per_s=2_000_000), (0, 160)) == [[(0, 48), (108, 49), (208, 49), (308, 14)]]

    def test_what_passed_in_the_slice_counts(self) -> None:
        assert passed(ReadLimit(iops=200), (0, 5), (60, 40)) == [[(0, 5)], [(60, 15), (104, 20), (204, 5)]]

    def test_a_pause_begins_a_new_slice(self) -> None:
        assert passed(ReadLimit(iops=200), (0, 20), (1000, 25)) == [[(0, 20)], [(1000, 20), (1104, 5)]]

    def test_reads_pass_in_the_order_in_which_they_come(self) -> None:
        assert passed(ReadLimit(iops=200), (0, 30), (10, 5)) == [[(0, 20), (104, 10)], [(104, 5)]]

    def test_the_tighter_of_two_limits_binds(self) -> None:
        assert passed(ReadLimit(iops=200, bytes_per_s=10**9), (0, 21)) == [[(0, 20), (104, 1)]]
        assert passed(ReadLimit(iops=10**6, bytes_per_s=40_960_000 // 50), (0, 21)) == [[(0, 20), (108, 1)]]

    def test_less_than_one_read_a_slice_waits_until_there_is_one(self) -> None:
        # 126 ticks: 250 a second by 2 reads a second, and one more. So far away the timer rounds up to eights.
        assert passed(ReadLimit(iops=2), (0, 2)) == [[(128 * 4, 1), (256 * 4, 1)]]

    @pytest.mark.parametrize(
        ("hz", "after_ns"), [(100, 110_000_000), (250, 104_000_000), (300, 103_333_334), (1000, 104_000_000)]
    )
    def test_the_next_slice_begins_with_a_tick_of_the_kernel(self, hz: int, after_ns: int) -> None:
        # 31 ticks of 300 a second do not end with a nanosecond. 100 ticks of 1000 are so far away that the timer
        # rounds up to eights.
        throttle = Throttle(ReadLimit(iops=200, hz=hz), PAGE)
        assert throttle.admit(0, 30) == [(0, 20), (after_ns, 10)]
        assert throttle.admit(after_ns, 10) == [(after_ns, 10)]

    @pytest.mark.parametrize("limit", [ReadLimit(iops=200), ReadLimit(bytes_per_s=819_200), ReadLimit(iops=1000)])
    def test_over_a_minute_the_rate_is_the_limit(self, limit: ReadLimit) -> None:
        rate = limit.iops or (limit.bytes_per_s or 0) // PAGE
        throttle = Throttle(limit, PAGE)
        assert throttle.admit(0, 60 * rate)[-1][0] == pytest.approx(60e9, rel=0.01)

    def test_steady_reading_below_the_limit_never_waits(self) -> None:
        throttle = Throttle(ReadLimit(iops=200), PAGE)
        for number in range(1000):
            at_ns = number * 6 * NS_PER_MS
            assert throttle.admit(at_ns, 1) == [(at_ns, 1)]


class TestDevice:
    LIMITED = DeviceProfile("limited", "made up", servers=8, latency_ns=1000, read_limit=ReadLimit(iops=200))

    def test_a_read_comes_in_pieces_and_a_write_does_not(self) -> None:
        device = Device(self.LIMITED, PAGE)
        assert device.submit_limited(0, slot=1, pages=25) == [(20, 1000), (5, 104 * NS_PER_MS + 1000)]
        assert device.submit(0, slot=100, pages=256) == 1000

    def test_what_waits_for_the_limit_takes_no_room_in_the_queue(self) -> None:
        device = Device(self.LIMITED, PAGE)
        device.submit_limited(0, slot=1, pages=1000)
        assert device.in_flight == []
        assert device.idle_ns == (104 + 48 * 100) * NS_PER_MS + 1000  # 20 at once, then 49 times 20

    def test_a_request_takes_its_time_whatever_its_length(self) -> None:
        device = Device(DeviceProfile("virtual", "made up", servers=8, latency_ns=1000, request_ns=100), PAGE)
        assert [device.submit(0, slot=slot, pages=8) for slot in (1, 50, 9)] == [1100, 1200, 1300]

    @pytest.mark.parametrize(
        "wrong",
        [{}, {"iops": 0}, {"bytes_per_s": -1}, *({"iops": 1, "hz": hz} for hz in (-10, 0, 256, 10**10))],
    )
    def test_impossible_limits_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError):
            ReadLimit(**wrong)

    def test_a_caller_that_reads_a_synchronous_device_itself_waits_for_the_limit(self) -> None:
        device = Device(DeviceProfile("zram", "made up", page_ns=1000, read_limit=ReadLimit(iops=200)), PAGE)
        assert not device.limits_reads
        assert device.read_directly(0, 20) == 20 * 1000
        assert device.read_directly(20 * 1000, 1) == 104 * NS_PER_MS + 1000
        assert Device(DeviceProfile("zram", "made up", page_ns=1000), PAGE).read_directly(5, 20) == 5 + 20 * 1000

    def test_a_synchronous_device_has_no_queue_for_a_smooth_limit(self) -> None:
        with pytest.raises(ConfigurationError, match="a smooth limit"):
            DeviceProfile("zram", "made up", page_ns=1, iops=1)
