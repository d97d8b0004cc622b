"""Programs on both kernels: a rig of the running machine, and the simulated one that follows what was seen there."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from samplecache.clock import MonotonicClock
from samplecache.kernel import procfs
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import FaultCounts
from samplecache.lab.rig import Rig
from samplecache.lab.tracing.comparing import UNEQUAL, Comparison, Verdict, compare, surprises
from samplecache.lab.tracing.program import Program, RegionPlan
from samplecache.lab.tracing.running import Recording, run
from samplecache.lab.tracing.setting import Setting
from samplecache.lab.tracing.steps import AnyStep, Evict, Touch

_REMARKS: Final = {
    Verdict.TIMING: " (a matter of time)",
    Verdict.OTHERS: " (others' faults: the thread's own agree)",
    Verdict.INTERPRETER: " (the interpreter's own: no page of a region was mapped)",
    Verdict.DIFFER: "",
}
_WARM_UP: Final = Program(
    title="warm-up", regions=(RegionPlan(name="sample", pages=256),), steps=(Evict(), Touch(), Evict())
)
"""Has the interpreter fault its own memory in, which it would otherwise do in the first program's steps."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a program on both kernels, without the prelude.

    Attributes
    ----------
    measured : Recording or None
        What the running kernel did; None if it was not asked.
    simulated : Recording
        What the simulated one did.
    comparisons : list of list of Comparison
        Every figure of every step; empty if there is nothing to compare.
    surprises : list of tuple
        Steps that did not end as the program expects: index, and what happened.
    foreign_slots : int
        Swap slots that others had when the program began: cluster readahead may have read them.
    """

    measured: Recording | None
    simulated: Recording
    comparisons: list[list[Comparison]]
    surprises: list[tuple[int, str]]
    foreign_slots: int = 0

    @property
    def compared(self) -> bool:
        """Whether both kernels ran."""
        return self.measured is not None

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        differing = any(each.verdict is Verdict.DIFFER for step in self.comparisons for each in step)
        return not differing and not self.surprises


class Bench:
    """A machine in which programs run on both kernels. Made by :func:`bench`."""

    def __init__(self, setting: Setting, kernel: LinuxKernel, rig: Rig, swap_bytes: int) -> None:
        self.setting = setting
        self._kernel = kernel
        self._rig = rig
        self._swap_bytes = swap_bytes

    def run(self, program: Program) -> Run:
        """Run `program` on the running kernel and then on the simulated one. Blocks."""
        foreign_slots = self._slots_used()
        measured = run(self.setting.whole(program), self._kernel, MonotonicClock())
        simulated = self.setting.simulate(program, swap_bytes=self._swap_bytes, following=measured)
        own, other = self.setting.own(measured), self.setting.own(simulated)
        return Run(
            own,
            other,
            compare(program, own, other),
            [*surprises(program, own), *surprises(program, other)],
            foreign_slots,
        )

    def _slots_used(self) -> int:
        used_bytes = sum(area.used_bytes for area in procfs.swap_areas() if area.path == self._rig.swap_file)
        return used_bytes // self._kernel.page_bytes


@contextlib.contextmanager
def bench(setting: Setting, swap_bytes: int) -> Iterator[Bench]:
    """Make a rig that is `setting`, for the length of the block. Needs root; takes a second or so.

    Raises
    ------
    SamplecacheError
        See :meth:`samplecache.lab.rig.Rig.__enter__`.
    """
    with Rig(setting.rig_options(swap_bytes)) as rig, contextlib.closing(LinuxKernel()) as kernel:
        run(_WARM_UP, kernel, MonotonicClock())
        yield Bench(setting, kernel, rig, swap_bytes)


def simulate(program: Program, setting: Setting, swap_bytes: int) -> Run:
    """Run `program` on the simulated kernel only."""
    simulated = setting.own(setting.simulate(program, swap_bytes=swap_bytes))
    return Run(None, simulated, [], list(surprises(program, simulated)))


def totals(steps: Sequence[AnyStep], recording: Recording) -> str:
    """Return the columns of the published figures, major/minor/pswpin/swap_ra, of all steps but evictions together."""
    own = [seen for step, seen in zip(steps, recording, strict=True) if not isinstance(step, Evict)]
    faults = sum((seen.faults for seen in own), FaultCounts())
    reads = (sum(seen.swap.pswpin for seen in own), sum(seen.swap.swap_ra for seen in own))
    return "/".join(map(str, (faults.major, faults.minor, *reads)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """All runs of one program in one setting.

    Attributes
    ----------
    name : str
        What the program is called: its file's name.
    program : Program
        The program.
    setting : Setting
        The machine.
    runs : tuple of Run
        One at least.
    """

    name: str
    program: Program
    setting: Setting
    runs: tuple[Run, ...]

    @property
    def compared(self) -> bool:
        """Whether both kernels ran."""
        return any(run.compared for run in self.runs)

    @property
    def agreeing(self) -> int:
        """In how many runs nothing differs."""
        return sum(run.agrees for run in self.runs)

    @property
    def agrees(self) -> bool:
        """Whether nothing differs in most runs: the machine's counters count what others do as well."""
        return 2 * self.agreeing > len(self.runs)

    @property
    def shown(self) -> Run:
        """The first run that is like most."""
        return next(run for run in self.runs if run.agrees is self.agrees)

    @property
    def totals(self) -> str:
        """The totals that were MEASURED in the run shown; empty if nothing was."""
        return totals(self.program.steps, self.shown.measured) if self.shown.measured is not None else ""

    def judged(self, verdicts: Collection[Verdict]) -> Iterator[tuple[int, int, Comparison]]:
        """Yield the figures with one of `verdicts`, of all runs: the run's number, the step's index, the figure."""
        for number, one in enumerate(self.runs, 1):
            for index, compared in enumerate(one.comparisons):
                for each in compared:
                    if each.verdict in verdicts:
                        yield number, index, each

    def differences(self, verdicts: Collection[Verdict] = UNEQUAL) -> list[str]:
        """Return the figures with one of `verdicts` and the steps that ended otherwise than expected, for people."""
        return [
            *(
                f"run {number}, step {index + 1} ({self.program.steps[index].do}): {each.column} measured "
                f"{each.measured}, simulated {each.simulated}{_REMARKS[each.verdict]}"
                for number, index, each in self.judged(verdicts)
            ),
            *(
                f"run {number}, step {index + 1} ({self.program.steps[index].do}) {what}"
                for number, run in enumerate(self.runs, 1)
                for index, what in run.surprises
            ),
        ]
