"""Calibrating the running kernel: that it works, not what the figures are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from quiet import in_a_quiet_window

from samplecache.clock import MonotonicClock
from samplecache.kernel import procfs
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.machine_files import MachineProfile
from samplecache.lab.calibrated import calibrate_as_it_stands, timer_hz
from samplecache.lab.calibration import DEPTHS, Calibration
from samplecache.lab.rig import Limits, Rig
from samplecache.simulation.throttle import ReadLimit

COMMAND = (sys.executable, "-m", "samplecache", "calibrate")


@pytest.fixture
def calibration(rig: Rig, kernel: LinuxKernel) -> Calibration:
    return Calibration(kernel, MonotonicClock(), repetitions=1)


class TestFigures:
    def test_every_repetition_took_the_faults_it_should_have(self, calibration: Calibration) -> None:
        # A figure is made of such repetitions only: to get one is to have seen them.
        measured = calibration.measure()
        assert not measured.synchronous
        assert list(measured.latency) == list(DEPTHS)
        assert all(len(figure.values) == 1 for figure in measured.figures)
        assert measured.bandwidth.median > measured.scattered_bandwidth.median

    def test_a_limit_lets_a_slice_pass_at_once(self, rig: Rig, calibration: Calibration) -> None:
        def passed() -> tuple[int, float]:
            return calibration.passed(lambda: rig.limit(Limits(read_iops=200)), lambda: rig.limit(Limits()))

        def check(found: tuple[int, float]) -> None:
            assert found == (20, 200)

        with rig.joined():
            in_a_quiet_window(passed, check)

    def test_existing_swap_makes_a_profile(self, rig: Rig, tmp_path: Path) -> None:
        calibrated = calibrate_as_it_stands(repetitions=1)
        file = tmp_path / "machine.toml"
        file.write_text(calibrated.text(), encoding="utf-8")
        assert MachineProfile.read(file) == calibrated.profile
        assert calibrated.profile.page_cluster == procfs.page_cluster()

    def test_a_slice_is_a_whole_number_of_ticks(self) -> None:
        assert ReadLimit(iops=1, hz=timer_hz()).hz >= 100


class TestCommand:
    def test_the_profile_goes_to_standard_output_and_the_table_does_not(self, rig: Rig, tmp_path: Path) -> None:
        done = subprocess.run(
            [*COMMAND, "--existing", "--repetitions", "1"], capture_output=True, text=True, check=True
        )
        file = tmp_path / "machine.toml"
        file.write_text(done.stdout)
        assert MachineProfile.read(file).device.source.startswith("samplecache calibrate on Linux")
        assert done.stderr.startswith("MEASURED: Linux")

    def test_limits_need_a_rig(self) -> None:
        done = subprocess.run([*COMMAND, "--existing", "--read-iops", "5"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: Existing swap stays as it is. Run as root")

    def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(self, tmp_path: Path) -> None:
        nowhere = tmp_path / "missing" / "machine.toml"
        done = subprocess.run([*COMMAND, "--output", nowhere], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == f"error: {nowhere} cannot be written. Name a file in a directory that you may write to.\n"
