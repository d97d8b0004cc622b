"""A run that disuse makes cold: loads before the beginning, and samples that are locked all along."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_S
from samplecache.errors import InvalidError
from samplecache.lab.loads import Stage
from samplecache.lab.virtual import VirtualCache
from samplecache.lab.workload import Cue, VirtualSample, Workload
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.registry import StrategyRegistry

STEREO = AudioFormat(48_000, 2, Encoding.S16)
OPTIONS = SimulationOptions.for_device("ssd-sata", memory_bytes=1 << 20, swap_bytes=16 << 20)


class Writer:
    """Writes a buffer once, halfway through the warm-up, and looks where the samples are just before the first cue."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.ahead_ns = -1
        self.look: Callable[[], list[int]] = list
        self.in_ram: list[int] = []

    def run(self, stage: Stage) -> Generator[int, None, None]:
        machine = stage.kernel.machine
        self.ahead_ns = stage.began_ns - stage.clock.now_ns()
        yield stage.clock.now_ns() + self.ahead_ns // 2
        region = machine.map(self.pages)
        yield from machine.write(stage.thread, region, 0, self.pages)
        yield max(stage.clock.now_ns(), stage.began_ns - 1)
        self.in_ram = self.look()


def run(writer: Writer, *, warm_up_ns: int = NS_PER_S, locked: bool = False) -> int:
    """Run; return how many major faults the reader of the older sample took."""
    samples = (VirtualSample("old", STEREO, STEREO.rate_hz, locked), VirtualSample("young", STEREO, STEREO.rate_hz))
    workload = Workload(samples, (Cue("old", 0),), (writer,), warm_up_ns=warm_up_ns)
    virtual = VirtualCache(OPTIONS, workload, StrategyRegistry())
    writer.look = lambda: [virtual.cache.residency(sample.sample_id).in_core for sample in samples]
    faults = virtual.run().reader_faults.major
    virtual.close()
    return faults


def test_without_one_everything_is_cold_and_loads_begin_with_the_cues() -> None:
    writer = Writer(1)
    assert run(writer, warm_up_ns=0) > 0
    assert writer.ahead_ns == 0


def test_loads_run_ahead_of_the_beginning_and_make_cold_what_is_oldest() -> None:
    # Of 256 frames, two samples of 47 pages and 200 others want 294: 38 pages of the oldest go, reclaimed 32 at a time.
    calm, pressing = Writer(100), Writer(200)
    assert run(calm) == 0
    assert (calm.ahead_ns, calm.in_ram) == (NS_PER_S, [47, 47])
    assert run(pressing) > 0
    assert pressing.in_ram[0] <= 47 - 38 + 32
    assert pressing.in_ram[0] < pressing.in_ram[1]


def test_a_locked_sample_stays() -> None:
    writer = Writer(200)
    assert run(writer, locked=True) == 0
    assert writer.in_ram[0] == 47
    assert writer.in_ram[1] < 47


def test_a_locked_sample_needs_one() -> None:
    with pytest.raises(InvalidError, match="warm-up"):
        run(Writer(1), warm_up_ns=0, locked=True)
