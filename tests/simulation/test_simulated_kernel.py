"""The port over the model: limits, truthful answers, and real threads."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import pytest

from samplecache.clock import NS_PER_S, MonotonicClock, VirtualClock
from samplecache.errors import MappingError, NotPermittedError, UnmappedError
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Advice, FaultCounts, Operation, Span, Tier
from samplecache.kernel.signals import MemoryState, PressureCounts
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.device import device_profile
from samplecache.simulation.options import SimulationOptions, WillneedMode

PAGE = 4096
OPTIONS = SimulationOptions(device=device_profile("ssd-sata"), memory_pages=1024, swap_slots=4096)
JOIN_S = 30


def simulated(**changes: object) -> SimulatedKernel:
    return SimulatedKernel(replace(OPTIONS, **changes), VirtualClock())  # type: ignore[arg-type]


class TestMemory:
    def test_the_address_space_is_limited(self) -> None:
        kernel = simulated(address_space_bytes=10 * PAGE)
        region = kernel.map(6 * PAGE)
        with pytest.raises(MappingError, match="unmap something"):
            kernel.map(5 * PAGE)
        kernel.unmap(region)
        assert kernel.map(10 * PAGE).pages == 10

    def test_pages_of_zeros_are_found_also_where_a_write_covers_them_in_part(self) -> None:
        kernel = simulated()
        region = kernel.map(4 * PAGE)
        kernel.write(region, 0, b"\1" + bytes(3 * PAGE - 1) + b"\1" * PAGE)
        assert kernel.evict(region, region.span, NS_PER_S) == 0
        assert kernel.swap_counts().pswpout == 2
        kernel.write(region, 0, b"\0")  # now the first page is zeros too
        assert kernel.evict(region, region.span, NS_PER_S) == 0
        assert kernel.swap_counts().pswpout == 2
        assert kernel.read(region, 0, 4 * PAGE) == bytes(3 * PAGE) + b"\1" * PAGE

    def test_receive_waits_for_a_descriptor_that_does_not_block(self) -> None:
        kernel = simulated()
        region = kernel.map(PAGE)
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        sender = threading.Timer(0.02, os.write, (writer, b"late"))
        sender.start()
        try:
            assert kernel.receive(region, 0, reader, 100) == 4
        finally:
            sender.join()
            os.close(reader)
            os.close(writer)
        assert kernel.read(region, 0, 4) == b"late"

    def test_a_region_of_another_kernel_is_a_mistake(self) -> None:
        linux = LinuxKernel()
        region = linux.map(PAGE)
        with pytest.raises(TypeError, match="another kernel"):
            simulated().touch(region, region.span)
        linux.unmap(region)
        linux.close()


class TestProbe:
    @staticmethod
    def useless(kernel: SimulatedKernel) -> set[Operation]:
        capabilities = kernel.probe()
        return {operation for operation in Operation if not capabilities.useful(operation)}

    def test_a_whole_machine(self) -> None:
        capabilities = SimulatedKernel(
            SimulationOptions.for_device("hdd-laptop-2008", memory_bytes=1 << 20, swap_bytes=2 << 20), VirtualClock()
        ).probe()
        assert capabilities.kernel == "simulated"
        assert capabilities.release == "6.18 model, hdd-laptop-2008, seed 0"
        assert capabilities.swap_device == "simulated hdd-laptop-2008 (rotational)"
        assert (capabilities.swap_bytes, capabilities.lock_limit_bytes) == (2 << 20, 8 << 20)
        assert all(capabilities.useful(operation) for operation in Operation)

    def test_without_swap_prefetching_is_permitted_and_useless_and_evicting_is_refused(self) -> None:
        kernel = simulated(swap_slots=0)
        assert self.useless(kernel) == set(Operation) - {Operation.RESIDENCY, Operation.FAULT_COUNTS}
        willneed = kernel.probe().operations[Operation.WILLNEED]
        assert willneed.permitted
        assert "no swap is configured" in willneed.why
        assert "swap slots" in willneed.remedy
        assert not kernel.probe().permitted(Operation.EVICT)
        region = kernel.map(PAGE)
        kernel.advise(region, region.span, Advice.WILLNEED)
        with pytest.raises(NotPermittedError):
            kernel.evict(region, region.span, NS_PER_S)

    def test_willneed_that_is_absent_is_refused_as_the_probe_says(self) -> None:
        kernel = simulated(willneed=WillneedMode.ABSENT)
        assert self.useless(kernel) == {Operation.WILLNEED}
        region = kernel.map(PAGE)
        with pytest.raises(NotPermittedError) as caught:
            kernel.advise(region, region.span, Advice.WILLNEED)
        assert caught.value.remedy == kernel.probe().operations[Operation.WILLNEED].remedy

    def test_a_lock_limit_of_nothing_binds_unless_capable(self) -> None:
        assert self.useless(simulated(lock_limit_bytes=0)) == {Operation.LOCK}
        capable = simulated(lock_limit_bytes=0, cap_ipc_lock=True)
        assert self.useless(capable) == set()
        assert capable.probe().lock_limit_bytes is None

    def test_the_patch_of_2008_says_that_it_truncates(self) -> None:
        probed = simulated(willneed=WillneedMode.PATCH_2008).probe()
        assert "no more than half" in probed.operations[Operation.WILLNEED].why
        assert probed.release == "6.18 with the WILLNEED of 2008 model, ssd-sata, seed 0"


class TestThreads:
    def kernel(self, **changes: object) -> SimulatedKernel:
        return SimulatedKernel(replace(OPTIONS, **changes), MonotonicClock())  # type: ignore[arg-type]

    def test_real_threads_read_whole_data_under_pressure(self) -> None:
        kernel = self.kernel(memory_pages=64, device=device_profile("optane-p4800x"))
        data = [bytes([number + 1]) * (100 * PAGE) for number in range(4)]
        regions = [kernel.map(len(content)) for content in data]
        wrong: list[int] = []
        faults: list[FaultCounts] = []

        def use(number: int) -> None:
            kernel.write(regions[number], 0, data[number])
            copies = [kernel.read(regions[number], 0, len(data[number])) for _ in range(2)]
            if copies != [data[number]] * 2:
                wrong.append(number)
            faults.append(kernel.thread_faults())

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(JOIN_S)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []
        assert all(each.major > 0 for each in faults)
        assert kernel.machine.used_pages <= 64

    def test_a_waiting_thread_keeps_no_other_from_the_kernel(self) -> None:
        kernel = self.kernel(device=device_profile("unthrottled").throttled(iops=4))
        cold, resident = kernel.map(PAGE), kernel.map(PAGE)
        for region in (cold, resident):
            kernel.write(region, 0, b"x")
        assert kernel.evict(cold, cold.span, 5 * NS_PER_S) == 0
        reader = threading.Thread(target=kernel.touch, args=(cold, cold.span))
        pswpin = kernel.swap_counts().pswpin
        reader.start()
        deadline_ns = MonotonicClock().now_ns() + JOIN_S * NS_PER_S
        while kernel.swap_counts().pswpin == pswpin:
            assert MonotonicClock().now_ns() < deadline_ns
        assert kernel.read(resident, 0, 1) == b"x"
        assert kernel.residency(cold, cold.span).tiers == bytes([Tier.SWAPPED])
        reader.join(JOIN_S)
        assert kernel.residency(cold, cold.span).tiers == bytes([Tier.MAPPED])

    def test_unmapping_under_a_waiting_thread_is_an_error_of_that_thread(self) -> None:
        kernel = self.kernel(device=device_profile("unthrottled").throttled(iops=10))
        region = kernel.map(4 * PAGE)
        kernel.write(region, 0, b"x" * 4 * PAGE)
        assert kernel.evict(region, region.span, 5 * NS_PER_S) == 0
        pswpin = kernel.swap_counts().pswpin
        raised: list[BaseException] = []

        def read() -> None:
            try:
                kernel.read(region, 0, 4 * PAGE)
            except UnmappedError as error:
                raised.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        deadline_ns = MonotonicClock().now_ns() + JOIN_S * NS_PER_S
        while kernel.swap_counts().pswpin == pswpin:
            assert MonotonicClock().now_ns() < deadline_ns
        kernel.unmap(region)
        reader.join(JOIN_S)
        assert len(raised) == 1


def test_virtual_drivers_reach_the_same_machine() -> None:
    clock = VirtualClock()
    kernel = SimulatedKernel(OPTIONS, clock)
    region = kernel.map(4 * PAGE)
    kernel.write(region, 0, b"x" * 4 * PAGE)
    assert kernel.evict(region, region.span, NS_PER_S) == 0
    for wake_ns in kernel.machine.willneed(5, kernel.model(region), 0, 4):
        clock.sleep_until(wake_ns)
    assert not kernel.in_core(region, region.span)
    clock.sleep_until(NS_PER_S)
    assert kernel.in_core(region, region.span)
    assert kernel.residency(region, Span(0, 4)).count(Tier.SWAP_CACHE) == 4


class TestScarcity:
    def test_memory_is_what_the_model_has_less_what_it_uses(self) -> None:
        kernel = simulated(memory_pages=64)
        region = kernel.map(200 * PAGE)
        assert kernel.memory() == MemoryState(64 * PAGE, 64 * PAGE)
        kernel.write(region, 0, b"a" * (40 * PAGE))
        assert kernel.memory() == MemoryState(64 * PAGE, 24 * PAGE)
        assert kernel.pressure() == PressureCounts(some_ns=0, limit_events=0, refaults=0)

    def test_who_waits_for_reclaim_is_stalled_and_two_at_once_count_once(self) -> None:
        clock = VirtualClock()
        kernel = SimulatedKernel(replace(OPTIONS, memory_pages=64), clock)
        region = kernel.map(200 * PAGE)
        kernel.write(region, 0, b"a" * (64 * PAGE))
        began_ns = clock.now_ns()
        writer = kernel.machine.write(1, kernel.model(region), 64, 65)
        other = kernel.machine.write(2, kernel.model(region), 65, 66)
        wakes_ns = [next(writer), next(other)]
        pressure = kernel.pressure()
        assert pressure == PressureCounts(some_ns=max(wakes_ns) - began_ns, limit_events=2, refaults=0)

    @pytest.mark.parametrize(("device", "synchronous"), [("ssd-sata", False), ("zram-lz4", True)])
    def test_zram_is_read_synchronously(self, device: str, synchronous: bool) -> None:
        assert simulated(device=device_profile(device)).probe().swap_synchronous is synchronous
        assert simulated(device=device_profile(device), swap_slots=0).probe().swap_synchronous is False
