"""Calibrating in a rig of its own, which is put back whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from quiet import in_a_quiet_window
from waiting import wait_until

from samplecache.kernel import procfs
from samplecache.lab.calibrated import Calibrated, Passed, calibrate_in_rig
from samplecache.lab.rig import DEFAULT_DIRECTORY

pytestmark = pytest.mark.usefixtures("no_rig")

DEADLINE_S = 60
COMMAND = (sys.executable, "-m", "samplecache", "calibrate")


def test_zram_is_found_to_be_synchronous() -> None:
    before = paths()
    calibrated = calibrate_in_rig(zram=True, repetitions=1)
    assert calibrated.profile.device.synchronous
    assert paths() == before


def test_a_limit_reaches_zram_too() -> None:
    def check(calibrated: Calibrated) -> None:
        limit = calibrated.profile.device.read_limit
        assert limit is not None
        assert (calibrated.profile.device.synchronous, limit.iops) == (True, 200)
        assert calibrated.passed == Passed(20, 200)

    in_a_quiet_window(lambda: calibrate_in_rig(zram=True, read_iops=200, repetitions=1), check)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    areas, journals = paths(), set(DEFAULT_DIRECTORY.iterdir())
    output = tmp_path / "machine.toml"
    process = subprocess.Popen([*COMMAND, "--repetitions", "1000", "--output", output], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(paths()) > len(areas))
        process.send_signal(number)
        assert process.wait(DEADLINE_S) != 0
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: paths() == areas and set(DEFAULT_DIRECTORY.iterdir()) == journals)
    assert not output.exists()


def paths() -> set[Path]:
    """Where the machine swaps to."""
    return {area.path for area in procfs.swap_areas()}
