"""The swap of this machine, measured and turned into a profile: in a rig made for it, or as it stands."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from samplecache.clock import MonotonicClock
from samplecache.errors import NotPermittedError
from samplecache.kernel import procfs
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.machine_files import MachineProfile
from samplecache.kernel.port import Operation
from samplecache.lab.calibration import REGION_PAGES, Calibration, Measured
from samplecache.lab.fitting import fit
from samplecache.lab.rig import Limits, Rig, RigOptions
from samplecache.simulation.options import ReadaheadMode
from samplecache.simulation.throttle import ReadLimit

SWAP_BYTES: Final = 256 << 20
PRIORITY: Final = 32_767
"""Before all other swap, so that nothing else is measured."""
COARSE_CLOCK: Final = 6
"""``CLOCK_MONOTONIC_COARSE`` of ``linux/time.h``, which advances with the timer tick."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What a limit on reads was seen to let pass.

    Attributes
    ----------
    at_once : int
        Pages that arrived at once after a pause.
    pages_per_s : float
        The rate of those after them.
    """

    at_once: int
    pages_per_s: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A machine that was measured.

    Attributes
    ----------
    profile : MachineProfile
        It.
    measured : Measured
        What was measured, without the limit on reads.
    passed : Passed or None
        What was measured of that limit, if there is one.
    label : str
        Of what and how, in one line.
    """

    profile: MachineProfile
    measured: Measured
    passed: Passed | None
    label: str

    def text(self) -> str:
        """Return the profile as the text of a file, with what was measured."""
        figures = {
            figure.name: f"{_number(figure.median)} {figure.unit} (median of {len(figure.values)}; "
            f"{_number(figure.spread[0])} to {_number(figure.spread[1])})"
            for figure in self.measured.figures
        }
        if self.passed is not None:
            figures["limit on reads"] = (
                f"{self.passed.at_once} pages at once, then {self.passed.pages_per_s:.0f} a second"
            )
        return self.profile.text(figures)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def calibrate_in_rig(
    *,
    zram: bool = False,
    read_iops: int | None = None,
    read_bytes_per_s: int | None = None,
    repetitions: int = 7,
    seed: int = 0,
) -> Calibrated:
    """Measure swap in a rig that is made for it and taken down again. The calling process is in it meanwhile.

    The device is measured at full speed, and the limit by what it lets pass: the one is the profile's device, the
    other its ``read_limit``.

    Raises
    ------
    NotPermittedError
        Not root, or the rig cannot be made.
    StateError
        The machine is too busy to be measured.
    """
    limited = read_iops is not None or read_bytes_per_s is not None
    limit = ReadLimit(read_iops, read_bytes_per_s, timer_hz()) if limited else None
    with (
        Rig(RigOptions(swap_bytes=SWAP_BYTES, swap_priority=PRIORITY, zram=zram)) as rig,
        rig.joined(),
        _kernel() as kernel,
    ):
        calibration = Calibration(kernel, MonotonicClock(), repetitions=repetitions, seed=seed)
        measured = calibration.measure()
        passed = None
        if limit is not None:
            slow = Limits(read_iops=read_iops, read_bytes_per_s=read_bytes_per_s)
            passed = Passed(
                *calibration.passed(
                    lambda: rig.limit(slow), lambda: rig.limit(Limits()), synchronous=measured.synchronous
                )
            )
        return _calibrated(kernel, measured, repetitions, limit, passed)


def calibrate_as_it_stands(*, repetitions: int = 7, seed: int = 0) -> Calibrated:
    """Measure the swap that the machine has, as any user may.

    Raises
    ------
    NotPermittedError
        There is none, or nothing can be paged out.
    StateError
        The machine is too busy to be measured.
    """
    with _kernel() as kernel:
        evict = kernel.probe().operations[Operation.EVICT]
        if not evict.useful:
            raise NotPermittedError(
                f"There is nothing to measure: {evict.why}",
                remedy="Run as root, to have a swap file made for the time of the measurement, or add swap",
            )
        measured = Calibration(kernel, MonotonicClock(), repetitions=repetitions, seed=seed).measure()
        return _calibrated(kernel, measured, repetitions, None, None)


def timer_hz() -> int:
    """Return the kernel's timer ticks a second, its CONFIG_HZ."""
    return round(1 / time.clock_getres(COARSE_CLOCK))


@contextlib.contextmanager
def _kernel() -> Iterator[LinuxKernel]:
    kernel = LinuxKernel()
    try:
        yield kernel
    finally:
        kernel.close()


def _calibrated(
    kernel: LinuxKernel, measured: Measured, repetitions: int, limit: ReadLimit | None, passed: Passed | None
) -> Calibrated:
    areas = procfs.swap_areas()
    disks = {disk.name: disk.rotational for area in areas if (disk := procfs.disk_under(area.path)) is not None}
    turning = any(disks.values())
    name = ", ".join(f"{disk} ({'rotational' if turns else 'not rotational'})" for disk, turns in disks.items())
    machine = f"Linux {platform.release()}, {os.cpu_count()} CPUs"
    profile = fit(
        measured,
        name=f"swap on {name}",
        source=f"samplecache calibrate on {machine}, medians of {repetitions}",
        page_bytes=kernel.page_bytes,
        pages=REGION_PAGES,
        read_limit=limit,
        readahead=ReadaheadMode.CLUSTER if turning else ReadaheadMode.VMA,
        page_cluster=procfs.page_cluster(),
    )
    return Calibrated(profile, measured, passed, f"{machine}, swap on {name}, medians of {repetitions}")
