"""The kernel that the patch of 2008 was for: its fault path, and what it does not know."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import Any

import pytest
from simulated_process import THREAD, Process

from samplecache.clock import VirtualClock
from samplecache.errors import ConfigurationError, LockLimitError, NotPermittedError
from samplecache.kernel.port import Operation
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.device import device_profile
from samplecache.simulation.options import KernelModel, ReadaheadMode, SimulationOptions, SlotOrder, WillneedMode
from samplecache.simulation.pages import CACHED, LOCKED, PRESENT, SWAPPED, SimulatedRegion

OLD = SimulationOptions.linux_2_6_24("hdd-laptop-2008", memory_bytes=64 << 20, swap_bytes=64 << 20, patched=False)


def process(*, patched: bool = False, **changes: Any) -> Process:
    willneed = WillneedMode.PATCH_2008 if patched else WillneedMode.ABSENT
    old = replace(OLD, willneed=willneed, **changes)
    return Process(**{name: getattr(old, name) for name in SimulationOptions.__dataclass_fields__})


def swapped(own: Process, pages: int) -> SimulatedRegion:
    region = own.mapped(pages)
    own.squeeze()
    assert own.states(region) == [SWAPPED] * pages
    return region


class TestProfile:
    def test_it_is_that_kernel(self) -> None:
        assert (OLD.kernel, OLD.readahead, OLD.slot_order, OLD.willneed, OLD.lock_limit_bytes) == (
            KernelModel.LINUX_2_6_24,
            ReadaheadMode.FIXED,
            SlotOrder.SCAN,
            WillneedMode.ABSENT,
            32 << 10,
        )
        patched = SimulationOptions.linux_2_6_24(
            "ssd-sata", memory_bytes=1 << 20, swap_bytes=2 << 20, patched=True, seed=7
        )
        assert (patched.willneed, patched.seed, patched.memory_pages, patched.swap_slots) == (
            WillneedMode.PATCH_2008,
            7,
            256,
            512,
        )

    def test_it_reads_slot_neighbours_of_an_ssd_too(self) -> None:
        options = replace(OLD, device=device_profile("ssd-sata"), readahead=None)
        assert options.readahead_mode is ReadaheadMode.FIXED

    def test_it_has_no_synchronous_device(self) -> None:
        with pytest.raises(ConfigurationError, match="synchronous"):
            SimulationOptions.linux_2_6_24("zram-lz4", memory_bytes=1 << 20, swap_bytes=1 << 20, patched=False)


class TestFaults:
    def test_a_miss_is_major_and_a_hit_in_the_swap_cache_minor(self) -> None:
        own = process()
        region = swapped(own, 1023)
        assert own.cost(lambda: own.touch(region, 0, 1023)).trace == (128, 895, 1023, 895)

    def test_a_hit_that_is_still_being_read_is_minor_and_waits(self) -> None:
        own = process()
        region = swapped(own, 16)
        first = own.machine.touch(THREAD, region, 9, 10)
        wake_ns = next(first)
        cost = own.cost(lambda: own.touch(region, 10, 11))
        assert (cost.major, cost.minor) == (0, 1)
        assert own.clock.now_ns() >= wake_ns

    @pytest.mark.parametrize("name", ["populate", "lock"])
    def test_populating_and_locking_count_like_any_write(self, name: str) -> None:
        """``get_user_pages()`` counts what ``handle_mm_fault()`` says; nothing is retried."""
        own = process(cap_ipc_lock=True)
        region = swapped(own, 63)
        operation = getattr(own.machine, name)
        cost = own.cost(lambda: own.run(operation(THREAD, region, 0, 63)))
        assert (*cost.trace, cost.pgmajfault) == (8, 55, 63, 55, 8)
        assert own.cost(lambda: own.touch(region, 0, 63)).trace == (0, 0, 0, 0)

    def test_a_read_of_what_was_never_written_takes_a_frame(self) -> None:
        """2.6.24 had no zero page for anonymous memory."""
        for own, frames in ((process(), 8), (Process(), 0)):
            region = own.machine.map(8)
            assert own.cost(functools.partial(own.touch, region, 0, 8)).minor == 8
            assert own.machine.frames(region) == frames

    def test_zeros_go_to_the_device(self) -> None:
        own = process()
        region = own.machine.map(32)
        own.write(region, 0, 32, zeros=bytes([1]) * 32)
        cost = own.cost(own.squeeze)
        assert cost.pswpout == 32
        cost = own.cost(lambda: own.touch(region, 0, 32))
        assert (cost.pswpin, cost.swpin_zero) == (32, 0)


class TestSlots:
    def test_a_written_page_keeps_its_slot_and_goes_back_to_it(self) -> None:
        own = process()
        region = swapped(own, 16)
        slots = own.machine.page_slots(region, 0, 16)
        for _ in range(3):
            own.write(region, 4, 12)
            assert own.machine.page_slots(region, 0, 16) == slots
            assert own.cost(own.squeeze).pswpout == 8
        assert own.machine.page_slots(region, 0, 16) == slots == list(range(1, 17))

    def test_linux_6_18_gives_it_another(self) -> None:
        own = Process()
        region = swapped(own, 16)
        own.write(region, 0, 16)
        own.squeeze()
        assert own.machine.page_slots(region, 0, 16) == list(range(17, 33))

    def test_only_where_swap_is_over_half_full_is_it_given_back(self) -> None:
        """``vm_swap_full()``: of 20 slots, 11 and more are too many."""
        own = process(swap_slots=20, page_cluster=0)
        region = swapped(own, 12)
        own.write(region, 0, 1)
        own.touch(region, 1, 2)
        own.touch(region, 2, 3)
        assert own.machine.page_slots(region, 0, 4) == [0, 0, 3, 4]

    def test_a_locked_page_keeps_its_slot(self) -> None:
        own = process()
        region = swapped(own, 8)
        own.run(own.machine.lock(THREAD, region, 0, 8))
        assert own.machine.page_slots(region, 0, 8) == list(range(1, 9))
        own.machine.unlock(region, 0, 8)
        assert own.cost(own.squeeze).pswpout == 8

    def test_populating_makes_pages_dirty(self) -> None:
        """``make_pages_present()`` write-faults: what is evicted next has to be written."""
        own = process()
        region = swapped(own, 24)
        own.touch(region, 0, 8)
        own.run(own.machine.populate(THREAD, region, 0, 16))
        assert own.states(region)[:16] == [PRESENT] * 16
        own.touch(region, 16, 24)
        assert own.cost(own.squeeze).pswpout == 16

    def test_slots_lie_in_the_order_of_eviction(self) -> None:
        """Two programs whose pages age in turn: none has two neighbours in swap."""
        own = process()
        regions = [own.machine.map(50), own.machine.map(50)]
        for page, region in itertools.product(range(50), regions):
            own.write(region, page, page + 1)
        own.squeeze()
        assert own.machine.page_slots(regions[0], 0, 50) == list(range(1, 101, 2))
        assert own.cost(lambda: own.touch(regions[0], 0, 50)).major == 13  # four of them in a block of eight


class TestWhatItDoesNotKnow:
    @pytest.mark.parametrize("advice", ["cold", "pageout"])
    def test_advice_of_later_kernels_is_refused(self, advice: str) -> None:
        own = process()
        region = own.mapped(4)
        with pytest.raises(
            NotPermittedError, match=r"Linux 2\.6\.24 does not know .* Use Linux 5\.4 or later"
        ) as refusal:
            own.run(getattr(own.machine, advice)(THREAD, region, 0, 4))
        assert refusal.value.details["errno"] == "EINVAL"
        assert own.states(region) == [PRESENT] * 4

    def test_the_lab_evicts_all_the_same(self) -> None:
        own = process()
        region = own.cold(64)
        assert own.states(region) == [SWAPPED] * 64

    def test_willneed_of_anonymous_memory_is_ebadf(self) -> None:
        own = process()
        region = swapped(own, 4)
        with pytest.raises(NotPermittedError, match="EBADF"):
            own.willneed(region, 0, 4)
        assert own.states(region) == [SWAPPED] * 4

    def test_with_the_patch_it_reads_ahead(self) -> None:
        own = process(patched=True)
        region = swapped(own, 100)
        assert own.cost(lambda: own.willneed(region, 0, 100)).trace == (0, 0, 100, 0)
        own.wait()
        assert own.states(region) == [CACHED] * 100
        assert own.cost(lambda: own.touch(region, 0, 100)).trace == (0, 100, 0, 0)

    def test_no_more_than_32_kib_are_locked(self) -> None:
        own = process()
        region = own.mapped(9)
        with pytest.raises(LockLimitError):
            own.run(own.machine.lock(THREAD, region, 0, 9))
        own.run(own.machine.lock(THREAD, region, 0, 8))
        assert all(flags & LOCKED for flags in own.machine.page_flags(region, 0, 8))

    @pytest.mark.parametrize(
        ("patched", "release"), [(False, "2.6.24 model"), (True, "2.6.24 with the WILLNEED of 2008 model")]
    )
    def test_the_probe_says_so(self, patched: bool, release: str) -> None:
        options = replace(OLD, willneed=WillneedMode.PATCH_2008 if patched else WillneedMode.ABSENT)
        found = SimulatedKernel(options, VirtualClock()).probe()
        assert found.release.startswith(release)
        permitted = {operation for operation, capability in found.operations.items() if capability.permitted}
        refused = {Operation.COLD, Operation.PAGEOUT} | ({Operation.WILLNEED} if not patched else set())
        assert permitted == set(Operation) - refused
