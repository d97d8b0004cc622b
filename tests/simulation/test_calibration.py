"""Calibrating the simulated kernel gives back the machine that it was told to be."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from samplecache.clock import VirtualClock
from samplecache.errors import NotPermittedError, StateError
from samplecache.kernel.machine_files import MachineProfile
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.lab.calibration import REGION_PAGES, Calibration, Measured
from samplecache.lab.fitting import fit
from samplecache.simulation.device import DeviceProfile, device_profile
from samplecache.simulation.options import ReadaheadMode, SimulationOptions
from samplecache.simulation.throttle import ReadLimit

PAGE = 4096
MEMORY_BYTES = SWAP_BYTES = 64 << 20

VIRTUAL_DISK = MachineProfile(
    DeviceProfile(
        "virtual disk", "made up", servers=256, latency_ns=130_000, bandwidth_bytes_per_s=10**9, request_ns=9_000
    ),
    fault_ns=1_400,
    submit_ns=900,
    request_ns=1_800,
)


def options(machine: MachineProfile) -> SimulationOptions:
    return machine.options(memory_bytes=MEMORY_BYTES, swap_bytes=SWAP_BYTES)


def calibration(machine: SimulationOptions) -> Calibration:
    clock = VirtualClock()
    return Calibration(SimulatedKernel(machine, clock), clock, repetitions=1)


@cache
def measure(machine: MachineProfile) -> Measured:
    """What is measured of `machine`, which is the same each time: that of most of them is looked at more than once."""
    return calibration(options(machine)).measure()


def calibrated(machine: MachineProfile) -> MachineProfile:
    """Measure `machine` through the port, and return what it is taken for."""
    return fit(measure(machine), name="found", source="measured", page_bytes=PAGE, pages=REGION_PAGES)


class TestRecovery:
    def test_a_virtual_disk_to_two_per_cent(self) -> None:
        found = calibrated(VIRTUAL_DISK)
        assert found.device.latency_ns == pytest.approx(130_000, rel=0.02)
        assert found.device.bandwidth_bytes_per_s == pytest.approx(10**9, rel=0.02)
        assert found.device.request_ns == pytest.approx(9_000, rel=0.02)
        assert found.fault_ns == 1_400
        assert found.submit_ns == pytest.approx(900, rel=0.02)
        assert found.request_ns == pytest.approx(1_800, rel=0.02)

    def test_a_turning_disk_to_five_per_cent(self) -> None:
        found = calibrated(MachineProfile(device_profile("hdd-7200"), fault_ns=2_000, submit_ns=700))
        assert found.device.rotational
        assert found.device.positioning_ns == pytest.approx(12_360_000, rel=0.05)
        assert found.device.bandwidth_bytes_per_s == pytest.approx(138_000_000, rel=0.05)
        assert (found.device.servers, found.device.latency_ns, found.device.request_ns) == (1, 0, 0)
        assert (found.fault_ns, found.submit_ns) == (2_000, 700)

    @pytest.mark.parametrize("name", ["zram-lz4", "zram-zstd"])
    def test_zram_exactly(self, name: str) -> None:
        found = calibrated(MachineProfile(device_profile(name), fault_ns=1_100, submit_ns=300))
        assert found.device.page_ns == device_profile(name).page_ns
        assert (found.fault_ns, found.submit_ns) == (1_100, 300)

    def test_zram_beside_a_turning_disk_makes_a_machine(self) -> None:
        figures = measure(MachineProfile(device_profile("zram-lz4")))
        found = fit(
            figures,
            name="zram",
            source="measured",
            page_bytes=PAGE,
            pages=REGION_PAGES,
            readahead=ReadaheadMode.CLUSTER,
            page_cluster=4,
        )
        assert (options(found).readahead_mode, options(found).page_cluster) == (ReadaheadMode.VMA, 4)

    @pytest.mark.parametrize("name", ["ssd-sata", "nvme-p3700", "optane-p4800x"])
    def test_flash_with_its_servers(self, name: str) -> None:
        given = device_profile(name)
        found = calibrated(MachineProfile(given)).device
        assert found.servers == given.servers
        assert found.latency_ns == pytest.approx(given.latency_ns, rel=0.02)
        assert found.request_ns == 0

    @pytest.mark.parametrize("name", ["ssd-sata", "nvme-p3700", "optane-p4800x", "hdd-7200"])
    def test_what_is_found_measures_the_same(self, name: str) -> None:
        given = measure(MachineProfile(device_profile(name)))
        again = measure(calibrated(MachineProfile(device_profile(name))))
        for one, other in zip(given.figures, again.figures, strict=True):
            assert other.median == pytest.approx(one.median, rel=0.05), one.name


class TestFigures:
    def test_they_are_what_the_model_charges(self) -> None:
        figures = measure(VIRTUAL_DISK)
        assert not figures.synchronous
        assert figures.cached_fault.median == figures.fresh_fault.median == 1_400
        # Calls of 128 pages, each of which makes one request.
        assert figures.willneed.median == 900 + 1_800 / 128
        assert figures.willneed_scattered.median == 900 + 1_800
        # One page: queued, handed over, served, transferred, mapped.
        assert figures.latency[1].median == 900 + 1_800 + 130_000 + 9_000 + 4_096 + 1_400

    def test_as_many_as_asked_for(self) -> None:
        clock = VirtualClock()
        figures = Calibration(SimulatedKernel(options(VIRTUAL_DISK), clock), clock, repetitions=3).measure().figures
        assert {len(figure.values) for figure in figures} == {3}

    def test_nothing_stays_mapped_or_locked(self) -> None:
        clock = VirtualClock()
        kernel = SimulatedKernel(options(VIRTUAL_DISK), clock)
        Calibration(kernel, clock, repetitions=1).measure()
        assert kernel.machine.free_slots == SWAP_BYTES // PAGE
        assert kernel.machine.used_pages == 0


class TestLimit:
    @pytest.mark.parametrize(
        ("limit", "at_once", "pages_per_s"),
        [(ReadLimit(iops=400), 40, 400), (ReadLimit(iops=200), 20, 200), (ReadLimit(bytes_per_s=2_048_000), 50, 500)],
    )
    def test_it_lets_a_slice_pass_at_once_and_then_keeps_its_rate(
        self, limit: ReadLimit, at_once: int, pages_per_s: int
    ) -> None:
        device = replace(VIRTUAL_DISK.device, read_limit=limit)
        limited = calibration(options(replace(VIRTUAL_DISK, device=device)))
        assert limited.passed(lambda: None, lambda: None) == (at_once, pages_per_s)

    def test_it_reaches_zram_too_where_each_page_waits(self) -> None:
        device = replace(device_profile("zram-lz4"), read_limit=ReadLimit(iops=200))
        limited = calibration(options(MachineProfile(device)))
        assert limited.passed(lambda: None, lambda: None, synchronous=True) == (20, 200)


class TestRefusal:
    def test_without_swap(self) -> None:
        machine = VIRTUAL_DISK.options(memory_bytes=MEMORY_BYTES, swap_bytes=0)
        with pytest.raises(NotPermittedError, match="swap"):
            calibration(machine).measure()

    def test_where_pages_do_not_stay_in_ram_for_long_enough(self) -> None:
        # Half of a region fits: reclaim takes pages back before they are touched, and no fault count comes out right.
        machine = VIRTUAL_DISK.options(memory_bytes=REGION_PAGES * PAGE // 2, swap_bytes=SWAP_BYTES)
        with pytest.raises(StateError, match="found the pages where they should be"):
            calibration(machine).measure()
