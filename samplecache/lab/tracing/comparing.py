"""Where two runs of one program differ, column by column."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from samplecache.kernel.port import FaultCounts
from samplecache.lab.tracing.program import Program
from samplecache.lab.tracing.running import Observation, Recording
from samplecache.lab.tracing.steps import Agreement, Step

RANDOM_SHARE: Final = 0.02
Value = int | str


class Verdict(enum.Enum):
    """What comes of comparing one figure."""

    AGREE = "agree"
    TIMING = "timing"
    """Other figures, which depend on whether a read was over at a certain moment: with the same sum, or before all I/O
    was over."""
    OTHERS = "others"
    """The machine counted more major faults than the step's thread took, whose own agree: another process had them."""
    INTERPRETER = "interpreter"
    """The thread took minor faults in a step that maps no page of a region: the memory they were about is not one's."""
    DIFFER = "differ"


UNEQUAL: Final = tuple(verdict for verdict in Verdict if verdict is not Verdict.AGREE)
"""What is worth telling."""


@dataclass(frozen=True, slots=True)
class Column:
    """A figure that a step is compared by.

    Attributes
    ----------
    name : str
        Its name in tables and documents.
    value : Callable
        Takes it from an observation.
    pages : Callable or None
        Takes what it counts, page by page; all of that has to be equal, not just the count.
    """

    name: str
    value: Callable[[Observation], Value]
    pages: Callable[[Observation], object] | None = None


COLUMNS: Final = (
    Column("major", lambda step: step.faults.major),
    Column("minor", lambda step: step.faults.minor),
    Column("pgmajfault", lambda step: step.swap.pgmajfault),
    Column("pswpin", lambda step: step.swap.pswpin),
    Column("pswpout", lambda step: step.swap.pswpout),
    Column("swap_ra", lambda step: step.swap.swap_ra),
    Column("swap_ra_hit", lambda step: step.swap.swap_ra_hit),
    Column("swpin_zero", lambda step: step.swap.swpin_zero),
    Column("swpout_zero", lambda step: step.swap.swpout_zero),
    Column("mincore", lambda step: sum(step.in_core), lambda step: step.in_core),
    Column("present", lambda step: sum(step.present), lambda step: step.present),
    Column("swapped", lambda step: sum(step.swapped), lambda step: step.swapped),
    Column("slots", lambda step: sum(map(bool, step.slots)), lambda step: step.slots),
    Column("locked_bytes", lambda step: step.locked_bytes),
    Column("errno", lambda step: step.errno),
)
_SPLIT: Final = {"major", "minor"}
_IN_TIME: Final = {"mincore"}
_MACHINES: Final = "pgmajfault"
_THREADS: Final = "minor"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of one step, on both kernels.

    Attributes
    ----------
    column : str
        Its name.
    measured, simulated : int or str
        The running kernel's and the simulated one's.
    verdict : Verdict
        Whether they agree.
    """

    column: str
    measured: Value
    simulated: Value
    verdict: Verdict


def compare(program: Program, measured: Recording, simulated: Recording) -> list[list[Comparison]]:
    """Return every figure of every step of `program`, as two runs recorded it."""
    return [
        [
            Comparison(column.name, column.value(one), column.value(other), _judge(column, step, one, other))
            for column in COLUMNS
        ]
        for step, one, other in zip(program.steps, measured, simulated, strict=True)
    ]


def surprises(program: Program, recording: Recording) -> Iterator[tuple[int, str]]:
    """Yield the steps that did not end with the error that the program expects: index and what happened instead."""
    for index, (step, observation) in enumerate(zip(program.steps, recording, strict=True)):
        if step.errno != observation.errno:
            yield index, f"ended with {observation.errno or 'success'}, expected {step.errno or 'success'}"


def _judge(column: Column, step: Step, one: Observation, other: Observation) -> Verdict:
    value, other_value = column.value(one), column.value(other)
    equal = value == other_value and (column.pages is None or column.pages(one) == column.pages(other))
    if equal:
        return Verdict.AGREE
    if not step.settle and column.name in _IN_TIME:
        return Verdict.TIMING
    if column.name == _MACHINES and _others_faulted(step, one, other):
        return Verdict.OTHERS
    if column.name == _THREADS and _interpreter_faulted(step, one, other):
        return Verdict.INTERPRETER
    if column.name in _SPLIT and _faults(one) == _faults(other) and _waits_explain(step, one, other):
        return Verdict.TIMING
    if step.agreement is Agreement.RANDOM and isinstance(value, int) and isinstance(other_value, int):
        return Verdict.AGREE if abs(value - other_value) <= RANDOM_SHARE * max(value, other_value) else Verdict.DIFFER
    return Verdict.DIFFER


def _waits_explain(step: Step, measured: Observation, simulated: Observation) -> bool:
    """Return whether both took what major faults they took because they waited, or did not have to.

    A miss is one in either case. POPULATE_READ comes back after a wait and then counts a major fault, for a miss or not
    (FAULT_FLAG_TRIED); mlock comes back as if for the first time, and finds the page.
    """
    misses, majors = simulated.swap.pgmajfault, (measured.faults.major, simulated.faults.major)
    if step.agreement is Agreement.WAITS_MAJOR:
        return min(majors) >= misses
    return step.agreement is Agreement.WAITS_MINOR and max(majors) <= misses


def _others_faulted(step: Step, measured: Observation, simulated: Observation) -> bool:
    """Return whether what the machine counted beyond the simulated major faults must be others'.

    ``do_swap_page`` counts each of the thread's for the machine as well, so that the thread has no fewer than it caused
    there. Where waits blur the thread's, the reads tell: each miss reads its page, and readahead the rest.
    """
    more = measured.swap.pgmajfault > simulated.swap.pgmajfault
    if step.agreement in (Agreement.WAITS_MAJOR, Agreement.WAITS_MINOR):
        return more and _reads(measured) == _reads(simulated)
    return more and measured.faults.major == simulated.swap.pgmajfault


def _interpreter_faulted(step: Step, measured: Observation, simulated: Observation) -> bool:
    """Return whether the thread's minor faults must have been about other memory than the regions'.

    Who does not touch a region faults on it only where the kernel does it for him, and that maps pages.
    """
    nothing_mapped = simulated.faults == FaultCounts() and measured.present == simulated.present
    return not step.touches and nothing_mapped and not measured.faults.major


def _reads(observation: Observation) -> tuple[int, int, int]:
    return observation.swap.pswpin, observation.swap.swpin_zero, observation.swap.swap_ra


def _faults(observation: Observation) -> int:
    return observation.faults.major + observation.faults.minor
