"""Random programs do the same on the running kernel and on the simulated one, whatever the swap is on.

By default a few in each kind of swap; to run more, drawn by another seed, and be told what came of them::

    SAMPLECACHE_RANDOM_TRACES=500 SAMPLECACHE_RANDOM_SEED=1 pytest tests/property/test_random_traces.py

A program that the kernels disagree about is made as small as it gets, and printed as a trace file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from random_programs import MOST_PAGES, MOST_REGIONS, programs

from samplecache.kernel import procfs
from samplecache.lab.tracing.bench import Bench, Outcome, bench
from samplecache.lab.tracing.program import Mode, Program
from samplecache.lab.tracing.setting import LEAST_SWAP_BYTES, PAGE_BYTES, SWAP_SHARE, Setting, State
from samplecache.lab.tracing.writing import text

COUNT = int(os.environ.get("SAMPLECACHE_RANDOM_TRACES", "50"))
SEED = int(os.environ.get("SAMPLECACHE_RANDOM_SEED", "2008"))
ENOUGH = 3
"""The machine's counters count what others do as well. So where a first run disagrees, this many have to agree before
as many disagree."""
SWAP_BYTES = max(LEAST_SWAP_BYTES, SWAP_SHARE * MOST_REGIONS * MOST_PAGES * PAGE_BYTES)

SETTINGS = [
    *(Setting(mode, page_cluster) for mode in (Mode.VMA, Mode.CLUSTER) for page_cluster in range(6)),
    Setting(Mode.CLUSTER, state=State.BOOT),
    Setting(Mode.ZRAM),
]


@dataclass
class Tally:
    """What came of the programs in one kind of swap."""

    programs: int = 0
    at_once: int = 0
    steps: int = 0
    major: int = 0
    pswpin: int = 0
    noise: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count a program that the kernels agree about."""
        self.programs += 1
        self.at_once += len(outcome.runs) == 1
        for observation in outcome.runs[-1].measured or ():
            self.steps += 1
            self.major += observation.faults.major
            self.pswpin += observation.swap.pswpin
        if len(outcome.runs) > 1:
            self.noise += [difference for difference in outcome.differences() if "matter of time" not in difference]


def tried(program: Program, machine: Bench) -> Outcome:
    """Run `program` once, and more often if the kernels disagree."""
    runs = [machine.run(program)]
    while not runs[0].agrees and max(sum(run.agrees is verdict for run in runs) for verdict in (True, False)) < ENOUGH:
        runs.append(machine.run(program))
    return Outcome("random", program, machine.setting, tuple(runs))


@pytest.fixture(params=SETTINGS, ids=str)
def setting(request: pytest.FixtureRequest) -> Setting:
    """A kind of swap."""
    chosen: Setting = request.param
    if chosen.mode is Mode.ZRAM and not procfs.ZRAM_CONTROL.exists():
        pytest.skip("needs a kernel with zram")
    return chosen


@pytest.fixture
def machine(setting: Setting, no_rig: None) -> Iterator[Bench]:
    """A rig of that kind."""
    with bench(setting, SWAP_BYTES) as made:
        yield made


@pytest.mark.timeout(1800)
def test_both_kernels_agree_about_any_program(
    machine: Bench, setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    place, tally = SETTINGS.index(setting), Tally()
    count = COUNT // len(SETTINGS) + (place < COUNT % len(SETTINGS))

    @seed(SEED * len(SETTINGS) + place)
    @settings(
        max_examples=max(count, 1),
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        database=None,
        deadline=None,
    )
    @given(programs())
    def agree(program: Program) -> None:
        outcome = tried(program, machine)
        note(f"# samplecache lab trace FILE --mode {setting.mode.value} --page-cluster {setting.page_cluster}")
        note(text(program))
        assert outcome.agrees, "\n".join(outcome.differences())
        tally.add(outcome)

    agree()
    if "SAMPLECACHE_RANDOM_TRACES" in os.environ:
        with capsys.disabled():
            print(
                f"\n{setting}: {tally.programs} programs agree ({tally.steps} steps, {tally.major} major faults, "
                f"{tally.pswpin} pages swapped in), {tally.at_once} of them at the first run"
            )
            print("".join(f"  {difference}\n" for difference in tally.noise), end="")


@settings(deadline=None, max_examples=max(COUNT // 3, 1))  # each of which is run nine times
@given(programs())
def test_the_simulated_kernel_does_the_same_every_time(program: Program) -> None:
    for place in (Setting(Mode.VMA), Setting(Mode.CLUSTER), Setting(Mode.ZRAM)):
        first = place.simulate(program, swap_bytes=SWAP_BYTES)
        assert place.simulate(program, swap_bytes=SWAP_BYTES) == first
        assert place.simulate(program, swap_bytes=SWAP_BYTES, following=first) == first
