"""What is advised behind a playhead is what goes, and not what was brought in ahead: on both kernels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import played_behind
import pytest
from played_behind import LIMIT_PAGES, Played, play

from samplecache.clock import VirtualClock
from samplecache.kernel.port import Advice
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.lab.rig import Rig
from samplecache.simulation.options import SimulationOptions


@pytest.mark.parametrize("advice", [Advice.COLD, Advice.PAGEOUT])
def test_simulated_each_page_is_read_once_a_round(advice: Advice) -> None:
    options = SimulationOptions.for_device("ssd-sata", memory_bytes=LIMIT_PAGES * 4096, swap_bytes=128 << 20)
    clock = VirtualClock()
    assert play(SimulatedKernel(options, clock), clock, advice) == Played(1.0, 0)


@pytest.mark.parametrize("advice", [Advice.COLD, Advice.PAGEOUT])
def test_the_running_kernel_does_the_same_within_a_few_percent(rig: Rig, advice: Advice) -> None:
    """Other memory of the process is in the same group, and its swap traffic in the same count.

    A page that was in a CPU's LRU batch when it was advised stays in RAM, and need not be read again.
    """
    names = ("memory.limit_in_bytes", "memory.max")
    control = next(file for group in rig.groups for name in names if (file := group / name).exists())
    script = [sys.executable, str(Path(played_behind.__file__)), advice.value, str(control)]
    player = rig.popen(script, stdout=subprocess.PIPE, text=True)
    output, _ = player.communicate(timeout=120)
    assert player.returncode == 0, output
    swap_ins_a_page, major = output.split()
    assert 0.99 <= float(swap_ins_a_page) <= 1.05
    assert int(major) <= 10
