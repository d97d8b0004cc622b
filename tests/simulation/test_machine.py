"""What the machine does with memory, locks and time, and whom it charges for faults."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest
from simulated_process import THREAD, Process

from samplecache.errors import ConfigurationError, ExhaustedError, LockLimitError, NotPermittedError, UnmappedError
from samplecache.simulation.device import device_profile
from samplecache.simulation.machine import Machine
from samplecache.simulation.options import ReadaheadMode, SimulationOptions, SlotOrder, WillneedMode
from samplecache.simulation.pages import (
    CACHED,
    LOCKED,
    LRU,
    NONE,
    PRESENT,
    READING,
    SWAPPED,
    PageTable,
    SimulatedRegion,
)
from samplecache.simulation.scheduler import Scheduler

SLOW = device_profile("unthrottled").throttled(iops=1000)
"""One page a millisecond."""
ZRAM = device_profile("zram-lz4")

Operation = Callable[[Machine, SimulatedRegion], Generator[int, None, None]]


def touch(machine: Machine, region: SimulatedRegion) -> Generator[int, None, None]:
    return machine.touch(THREAD, region, 0, 1)


def populate(machine: Machine, region: SimulatedRegion) -> Generator[int, None, None]:
    return machine.populate(THREAD, region, 0, 1)


def write(machine: Machine, region: SimulatedRegion) -> Generator[int, None, None]:
    return machine.write(THREAD, region, 0, 1)


def lock(machine: Machine, region: SimulatedRegion) -> Generator[int, None, None]:
    return machine.lock(THREAD, region, 0, 1)


class TestFaultAccounting:
    @pytest.mark.parametrize(
        ("operation", "major", "pgmajfault"),
        [(touch, 1, 1), (write, 1, 1), (populate, 1, 1), (lock, 0, 1)],
    )
    def test_a_miss(self, operation: Operation, major: int, pgmajfault: int) -> None:
        process = Process(device=SLOW)
        region = process.cold(1)
        cost = process.cost(lambda: process.run(operation(process.machine, region)))
        assert (cost.major, cost.minor, cost.pgmajfault) == (major, 1 - major, pgmajfault)
        assert cost.time_ns >= 1_000_000

    @pytest.mark.parametrize("operation", [touch, write, populate, lock])
    def test_a_hit_that_is_up_to_date(self, operation: Operation) -> None:
        process = Process(device=SLOW)
        region = process.cold(1)
        process.willneed(region, 0, 1)
        process.wait()
        cost = process.cost(lambda: process.run(operation(process.machine, region)))
        assert (cost.major, cost.minor, cost.pgmajfault, cost.time_ns) == (0, 1, 0, process.options.fault_ns)

    @pytest.mark.parametrize(("operation", "major"), [(touch, 0), (write, 0), (populate, 1), (lock, 0)])
    def test_a_hit_that_is_in_flight_sleeps(self, operation: Operation, major: int) -> None:
        process = Process(device=SLOW)
        region = process.cold(1)
        process.willneed(region, 0, 1)
        cost = process.cost(lambda: process.run(operation(process.machine, region)))
        assert (cost.major, cost.minor, cost.pgmajfault) == (major, 1 - major, 0)
        assert 900_000 < cost.time_ns < 1_100_000

    @pytest.mark.parametrize("operation", [touch, write, populate, lock])
    def test_a_miss_on_a_synchronous_device_is_major_for_everyone(self, operation: Operation) -> None:
        process = Process(device=ZRAM)
        region = process.cold(1)
        cost = process.cost(lambda: process.run(operation(process.machine, region)))
        assert (cost.major, cost.minor, cost.pgmajfault) == (1, 0, 1)
        assert cost.time_ns == 1_710 + process.options.fault_ns

    def test_each_thread_has_its_own_account(self) -> None:
        process = Process()
        region = process.cold(8)
        process.run(process.machine.touch(7, region, 0, 8))
        assert process.machine.thread_faults(7) == (6, 2)
        assert process.machine.thread_faults(8) == (0, 0)

    def test_two_threads_share_one_read(self) -> None:
        process = Process(device=SLOW)
        region = process.cold(1)
        scheduler = Scheduler(process.clock)
        for thread in (10, 11):
            scheduler.start(process.machine.touch(thread, region, 0, 1))
        before = process.machine.counters.pswpin
        scheduler.run()
        assert process.machine.counters.pswpin - before == 1
        assert [process.machine.thread_faults(thread) for thread in (10, 11)] == [(0, 1), (1, 0)]

    def test_reading_what_was_never_written_takes_no_memory(self) -> None:
        process = Process()
        region = process.machine.map(4)
        assert process.cost(lambda: process.touch(region, 0, 4)).trace == (0, 4, 0, 0)
        assert process.machine.used_pages == 0
        process.write(region, 0, 4)
        assert process.machine.used_pages == 4


class TestSlots:
    @pytest.mark.parametrize(("operation", "kept"), [(touch, True), (populate, True), (write, False), (lock, False)])
    def test_reading_keeps_the_slot_and_writing_gives_it_back(self, operation: Operation, kept: bool) -> None:
        process = Process()
        region = process.cold(1)
        process.run(operation(process.machine, region))
        assert (process.machine.page_slots(region, 0, 1) == [1]) is kept
        process.machine.unlock(region, 0, 1)
        assert process.cost(lambda: process.evict(region)).pswpout == (0 if kept else 1)

    def test_a_read_page_that_is_written_later_is_written_to_its_slot_again(self) -> None:
        process = Process()
        region = process.cold(2)
        process.touch(region, 0, 2)
        process.write(region, 0, 1)
        assert process.cost(lambda: process.evict(region)).pswpout == 1
        assert process.machine.page_slots(region, 0, 2) == [1, 2]

    def test_reading_gives_slots_back_when_swap_is_over_half_full(self) -> None:
        process = Process(swap_slots=4)
        region = process.mapped(3)
        process.squeeze()
        process.touch(region, 0, 3)
        assert process.machine.page_slots(region, 0, 3) == [0, 2, 3]

    def test_a_full_swap_area_keeps_pages_in_memory(self) -> None:
        process = Process(swap_slots=3)
        region = process.mapped(5)
        process.run(process.machine.pageout(THREAD, region, 0, 5))
        assert process.states(region) == [CACHED] * 3 + [PRESENT] * 2

    def test_a_synchronous_device_evicts_at_once_and_reads_past_the_cache(self) -> None:
        process = Process(device=ZRAM)
        region = process.mapped(4)
        process.run(process.machine.pageout(THREAD, region, 0, 4))
        assert process.states(region) == [SWAPPED] * 4
        process.touch(region, 0, 4)
        assert process.machine.page_slots(region, 0, 4) == [0] * 4


class TestReclaim:
    def test_the_least_recently_used_pages_go_first(self) -> None:
        process = Process(memory_pages=96)
        region = process.mapped(96)
        process.run(process.machine.resize_memory(THREAD, 64))  # every page was accessed: the oldest go
        assert process.states(region) == [SWAPPED] * 32 + [PRESENT] * 64
        process.touch(region, 32, 48)
        process.run(process.machine.resize_memory(THREAD, 32))
        assert process.states(region) == [SWAPPED] * 32 + [PRESENT] * 16 + [SWAPPED] * 32 + [PRESENT] * 16

    def test_cold_pages_go_before_others(self) -> None:
        process = Process(memory_pages=64)
        region = process.mapped(64)
        process.machine.cold(THREAD, region, 40, 50)
        process.run(process.machine.resize_memory(THREAD, 54))
        assert [page for page, state in enumerate(process.states(region)) if state != PRESENT][-10:] == [*range(40, 50)]

    def test_of_cold_pages_those_that_became_so_first_go_first(self) -> None:
        table = PageTable()
        base = table.allocate(64)
        table.set_flags(base, base + 64, PRESENT)
        table.insert(base, base + 64, LRU)

        def chill(*pages: int) -> list[int]:
            for page in pages:
                table.chill(base + page)
            return [page - base for page in table.lru()][:5]

        assert chill(40, 41, 10) == [40, 41, 10, 0, 1]
        table.remove(base + 10, base + 11)  # the newest of them goes
        assert chill(50) == [40, 41, 50, 0, 1]
        table.rotate(range(base + 40, base + 42))  # used again: back to the front
        assert chill(60, 61) == [50, 60, 61, 0, 1]
        table.rotate(table.last_run(LRU, 1))
        table.rotate(range(base + 60, base + 62))
        assert chill(7) == [7, 0, 1, 2, 3]
        assert table.lru_pages == len(list(table.lru())) == 63

    def test_dirty_pages_cost_a_write_and_a_wait(self) -> None:
        process = Process(device=SLOW, memory_pages=32)
        process.mapped(32)
        cost = process.cost(lambda: process.mapped(32))
        assert cost.pswpout == 32
        assert cost.time_ns >= 32_000_000
        assert process.machine.used_pages == 32

    def test_prefetched_pages_are_dropped_again_without_io(self) -> None:
        process = Process(memory_pages=64, page_cluster=0)
        region = process.cold(64)
        process.willneed(region, 0, 64)
        process.wait()
        cost = process.cost(lambda: process.mapped(32))
        assert cost.pswpout == 0
        assert process.states(region).count(SWAPPED) == 32

    def test_locked_pages_stay(self) -> None:
        process = Process(memory_pages=64)
        region = process.mapped(32)
        process.run(process.machine.lock(THREAD, region, 0, 32))
        process.mapped(100)
        assert process.states(region) == [PRESENT] * 32

    def test_memory_that_cannot_be_reclaimed_is_an_error(self) -> None:
        process = Process(memory_pages=8, swap_slots=0)
        region = process.mapped(8)
        with pytest.raises(ExhaustedError, match="more memory or swap") as caught:
            process.mapped(1)
        assert caught.value.reason_code == "OUT_OF_MEMORY"
        assert process.states(region) == [PRESENT] * 8

    def test_prefetching_into_locked_memory_is_silent(self) -> None:
        process = Process(memory_pages=16, lock_limit_bytes=None)
        region = process.cold(8)
        other = process.mapped(14)
        process.run(process.machine.lock(THREAD, other, 0, 14))
        process.willneed(region, 0, 8)
        process.wait()
        assert process.states(region).count(CACHED) >= 2
        assert process.machine.used_pages <= 16

    def test_a_limit_that_cannot_be_kept_is_not_set(self) -> None:
        process = Process(swap_slots=0)
        process.mapped(8)
        with pytest.raises(ExhaustedError):
            process.run(process.machine.resize_memory(THREAD, 4))
        assert process.machine.memory_pages == 1 << 16

    def test_a_touch_makes_progress_in_one_page_of_memory(self) -> None:
        process = Process(memory_pages=1)
        region = process.mapped(20)
        process.touch(region, 0, 20)
        assert process.machine.used_pages == 1

    def test_two_threads_make_progress_in_one_page_of_memory(self) -> None:
        process = Process(memory_pages=1)
        region = process.mapped(20)
        scheduler = Scheduler(process.clock)
        threads = [scheduler.start(process.machine.touch(number, region, 0, 20)) for number in range(2)]
        scheduler.run()
        assert all(thread.finished for thread in threads)
        assert process.machine.used_pages == 1


class TestLocks:
    def limited(self, pages: int, **changes: object) -> Process:
        return Process(lock_limit_bytes=pages * 4096, **changes)

    def test_the_limit_counts_each_page_once(self) -> None:
        process = self.limited(4)
        region = process.mapped(8)
        process.run(process.machine.lock(THREAD, region, 0, 4))
        process.run(process.machine.lock(THREAD, region, 1, 3))
        with pytest.raises(LockLimitError) as caught:
            process.run(process.machine.lock(THREAD, region, 3, 5))
        assert caught.value.details == {"asked_pages": "1", "held_pages": "4", "limit_pages": "4", "errno": "ENOMEM"}
        assert process.machine.locked_pages == 4
        process.machine.unlock(region, 0, 2)
        process.run(process.machine.lock(THREAD, region, 3, 5))
        assert [bool(flags & LOCKED) for flags in process.machine.page_flags(region, 0, 8)] == (
            [False] * 2 + [True] * 3 + [False] * 3
        )

    def test_a_limit_of_nothing_is_a_matter_of_permission(self) -> None:
        process = self.limited(0)
        region = process.mapped(1)
        with pytest.raises(NotPermittedError, match="CAP_IPC_LOCK"):
            process.run(process.machine.lock(THREAD, region, 0, 1))

    def test_the_capability_lifts_the_limit(self) -> None:
        process = self.limited(0, cap_ipc_lock=True)
        region = process.mapped(4)
        process.run(process.machine.lock(THREAD, region, 0, 4))
        assert process.machine.locked_pages == 4

    def test_a_lock_that_memory_cannot_hold_leaves_nothing_locked(self) -> None:
        process = Process(memory_pages=8)
        region = process.mapped(16)
        with pytest.raises(ExhaustedError):
            process.run(process.machine.lock(THREAD, region, 0, 16))
        assert process.machine.locked_pages == 0
        assert not any(flags & LOCKED for flags in process.machine.page_flags(region, 0, 16))
        process.evict(region)

    def test_a_lock_that_is_given_up_leaves_nothing_locked(self) -> None:
        process = Process(device=SLOW)
        region = process.cold(16)
        steps = process.machine.lock(THREAD, region, 0, 16)
        next(steps)
        assert process.machine.locked_pages == 16
        steps.close()
        assert process.machine.locked_pages == 0

    @pytest.mark.parametrize("advice", ["pageout", "cold"])
    def test_locked_pages_cannot_be_advised_away(self, advice: str) -> None:
        process = Process()
        region = process.mapped(4)
        process.run(process.machine.lock(THREAD, region, 2, 3))
        with pytest.raises(NotPermittedError, match="Unlock them first") as refused:
            process.run(getattr(process.machine, advice)(THREAD, region, 0, 4))
        assert refused.value.details["errno"] == "EINVAL"
        assert process.states(region) == [PRESENT] * 4


class TestWillneedOf2008:
    def process(self, memory_pages: int) -> Process:
        return Process(willneed=WillneedMode.PATCH_2008, memory_pages=memory_pages)

    def test_it_silently_reads_no_more_than_half_of_what_is_free_or_inactive(self) -> None:
        process = self.process(100)
        region = process.cold(90)
        process.willneed(region, 0, 90)
        process.wait()
        assert process.states(region) == [CACHED] * 50 + [SWAPPED] * 40

    def test_locked_memory_lowers_the_cap(self) -> None:
        process = self.process(100)
        region = process.cold(90)
        locked = process.mapped(60)
        process.run(process.machine.lock(THREAD, locked, 0, 60))
        process.willneed(region, 0, 90)
        process.wait()
        assert process.states(region) == [CACHED] * 20 + [SWAPPED] * 70

    def test_it_reads_all_of_a_short_span_and_nothing_else(self) -> None:
        process = self.process(400)
        region = process.cold(100)
        assert process.cost(lambda: process.willneed(region, 10, 80)).trace == (0, 0, 70, 0)

    def test_before_the_patch_it_is_refused(self) -> None:
        process = Process(willneed=WillneedMode.ABSENT)
        region = process.cold(4)
        with pytest.raises(NotPermittedError, match=r"EBADF.*Linux 3\.9"):
            process.willneed(region, 0, 4)
        assert process.states(region) == [SWAPPED] * 4


class TestTime:
    def test_a_full_queue_makes_willneed_sleep(self) -> None:
        """256 single-page requests are in flight at a time; the others wait for tags."""
        process = Process(device=SLOW, slot_order=SlotOrder.SHUFFLED)
        region = process.cold(1000)
        cost = process.cost(lambda: process.willneed(region, 0, 1000))
        assert 740_000_000 < cost.time_ns < 746_000_000

    def test_one_request_a_mebibyte(self) -> None:
        process = Process()
        region = process.cold(1024)
        before = process.machine.device_requests
        process.willneed(region, 0, 1024)
        assert process.machine.device_requests - before == 4

    def test_pages_are_in_core_when_their_request_is_done(self) -> None:
        process = Process(device=SLOW, slot_order=SlotOrder.SHUFFLED)
        region = process.cold(8)
        process.willneed(region, 0, 8)
        start_ns = process.clock.now_ns()
        process.clock.sleep_until(start_ns + 4_500_000)
        reading = [bool(flags & READING) for flags in process.machine.page_flags(region, 0, 8)]
        assert reading == [False] * 4 + [True] * 4

    def test_a_disk_reads_a_merged_request_after_one_seek(self) -> None:
        process = Process(device=device_profile("hdd-laptop-2008"), readahead=ReadaheadMode.CLUSTER, page_cluster=0)
        region = process.cold(8)
        process.machine.unmap(process.cold(8))
        cost = process.cost(lambda: process.touch(region, 0, 1))
        assert cost.time_ns == 17_500_000 + 4096 * 20 + process.options.submit_ns + process.options.fault_ns

    def test_resident_pages_cost_nothing(self) -> None:
        process = Process()
        region = process.mapped(1000)
        assert process.cost(lambda: process.touch(region, 0, 1000)).time_ns == 0

    def test_an_abandoned_prefetch_leaves_nothing_in_flight_for_ever(self) -> None:
        process = Process(device=SLOW, slot_order=SlotOrder.SHUFFLED)
        region = process.cold(600)
        steps = process.machine.willneed(THREAD, region, 0, 600)
        next(steps)
        steps.close()
        process.wait()
        assert not any(flags & READING for flags in process.machine.page_flags(region, 0, 600))


class TestUnmapping:
    def test_everything_is_given_back(self) -> None:
        process = Process()
        regions = [process.cold(32), process.mapped(32), process.cold(32)]
        process.run(process.machine.lock(THREAD, regions[1], 0, 16))
        process.willneed(regions[2], 0, 32)
        process.wait()
        for region in regions:
            process.machine.unmap(region)
        assert (process.machine.used_pages, process.machine.locked_pages) == (0, 0)
        assert process.machine.free_slots == process.options.swap_slots

    def test_numbers_are_used_again_and_pages_begin_afresh(self) -> None:
        process = Process()
        first = process.cold(32)
        process.machine.unmap(first)
        again = process.machine.map(16)
        assert again.base == first.base
        assert process.states(again) == [NONE] * 16

    def test_a_thread_that_sleeps_on_it_is_told(self) -> None:
        process = Process(device=SLOW)
        region = process.cold(4)
        steps = process.machine.touch(THREAD, region, 0, 4)
        process.clock.sleep_until(next(steps))
        process.machine.unmap(region)
        with pytest.raises(UnmappedError):
            process.run(steps)

    def test_populate_stops_at_a_hole(self) -> None:
        process = Process()
        region = process.cold(64)
        process.machine.punch(region, 40, 44)
        with pytest.raises(UnmappedError):
            process.run(process.machine.populate(THREAD, region, 0, 64))
        states = process.states(region)
        assert (states[:44], states[-1]) == ([PRESENT] * 40 + [NONE] * 4, SWAPPED)


class TestOptions:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"memory_pages": 0},
            {"swap_slots": -1},
            {"page_bytes": 5000},
            {"page_cluster": 32},
            {"lock_limit_bytes": -1},
            {"address_space_bytes": -1},
            {"fault_ns": -1},
            {"cluster_hits": -1},
            {"log_events": -1},
            {"device": ZRAM, "readahead": ReadaheadMode.CLUSTER},
            {"slot_order": SlotOrder.SHUFFLED, "swap_slots": 0},
        ],
    )
    def test_contradictions_are_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ConfigurationError):
            Process(**wrong)

    def test_the_device_leads_to_the_readahead(self) -> None:
        for name, mode in (("hdd-laptop-2008", ReadaheadMode.CLUSTER), ("ssd-sata", ReadaheadMode.VMA)):
            options = SimulationOptions.for_device(name, memory_bytes=1 << 20, swap_bytes=2 << 20, seed=3)
            assert options.readahead_mode is mode
            assert (options.memory_pages, options.swap_slots, options.seed) == (256, 512, 3)


class TestDeterminism:
    @staticmethod
    def log(seed: int) -> str:
        process = Process(
            device=device_profile("hdd-7200"),
            memory_pages=64,
            slot_order=SlotOrder.SHUFFLED,
            seed=seed,
            log_events=10_000,
        )
        region = process.mapped(200)
        scheduler = Scheduler(process.clock)
        for number in range(3):
            scheduler.start(process.machine.touch(100 + number, region, 50 * number, 50 * number + 100))
        scheduler.run()
        return process.machine.log_text()

    def test_one_seed_gives_one_log_to_the_byte(self) -> None:
        assert self.log(1) == self.log(1)
        assert self.log(1).startswith("time_ns thread event page slot\n")

    def test_other_seeds_give_other_logs(self) -> None:
        assert self.log(1) != self.log(2)

    def test_the_log_keeps_the_last_events(self) -> None:
        process = Process(log_events=3)
        process.cold(8)
        assert len(process.machine.log_text().splitlines()) == 1 + 3
        assert Process().machine.log_text() == ""
