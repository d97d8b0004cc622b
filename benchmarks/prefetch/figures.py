"""What one run of a case comes to, on either kernel."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Heard:
    """One cue as the service accounted for it; times in nanoseconds.

    Attributes
    ----------
    sample_id : str
        What was played.
    strategy : str
        The strategy that the session got.
    blocks, late_blocks : int
        Blocks delivered, and those of them that were not ready when due: underruns.
    late_first_second : int
        Underruns in the first second of audio.
    longest_stall_ns : int
        The longest that a block was late.
    first_block_ns : int
        From the session's opening to its first block's being ready.
    major_faults, minor_faults : int
        Of the threads that read its blocks, while they did.
    told_after_ns : int or None
        When it was told that the device cannot carry it, from its opening; None if it was not.
    """

    sample_id: str
    strategy: str
    blocks: int
    late_blocks: int
    late_first_second: int
    longest_stall_ns: int
    first_block_ns: int
    major_faults: int
    minor_faults: int
    told_after_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One repetition of a case under one contender.

    Attributes
    ----------
    heard : tuple of Heard
        One a cue.
    pages_in : int
        Pages that the machine read from swap.
    pages_played : int
        Different pages of samples that were played.
    peak_outstanding_bytes : int or None
        The most that was brought in ahead of playing within the prefetch budget, at a time; None where only an earlier
        run's is known.
    cpu_ns : int or None
        CPU time that the server took; not known of a simulation.
    elapsed_ns : int
        From the first announcement to the last block.
    machine_ns : int
        How late threads that only sleep were at worst: the machine's own stalls. 0 in virtual time.
    """

    heard: tuple[Heard, ...]
    pages_in: int
    pages_played: int
    peak_outstanding_bytes: int | None = None
    cpu_ns: int | None = None
    elapsed_ns: int = 0
    machine_ns: int = 0

    @property
    def swap_ins_per_page(self) -> float:
        """How many pages the machine read for each page that was played."""
        return self.pages_in / self.pages_played

    def total(self, name: str) -> int:
        """Return the sum of an attribute of :class:`Heard` over all cues."""
        return sum(getattr(heard, name) for heard in self.heard)

    @property
    def clean(self) -> int:
        """How many cues were played without an underrun."""
        return sum(not heard.late_blocks for heard in self.heard)

    def first_block_ms(self, percentile: int) -> float:
        """Return the first block's time, in milliseconds, that so many percent of the cues do not exceed."""
        ordered = sorted(heard.first_block_ns for heard in self.heard)
        return ordered[min(len(ordered) - 1, len(ordered) * percentile // 100)] / 1e6


@dataclass(slots=True)
class Series:
    """The repetitions of one contender in one case."""

    contender: str
    runs: list[Run] = field(default_factory=list)

    @property
    def figures(self) -> list[dict[str, float | None]]:
        """All figures of each repetition, by name."""
        return [{name: figure(run) for name, figure in FIGURES.items()} for run in self.runs]


def table(contenders: Mapping[str, Sequence[Mapping[str, float | None]]]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of a table of each contender's repetitions, as :attr:`Series.figures` gives them.

    A column in which all are alike tells nothing, unless there is nobody to be compared with.
    """
    rows = {name: [cell([run.get(figure) for run in runs]) for figure in FIGURES] for name, runs in contenders.items()}
    told = [
        figure in ALWAYS or len({row[column] for row in rows.values()}) > (len(rows) > 1)
        for column, figure in enumerate(FIGURES)
    ]
    columns = ["played by", *itertools.compress(FIGURES, told)]
    return columns, [[name, *itertools.compress(row, told)] for name, row in rows.items()]


def cell(figures: Sequence[float | None]) -> str:
    """Return the median of the figures that are known and, where they differ, their range, as tables show them."""
    values = [figure for figure in figures if figure is not None]
    if not values:
        return "-"
    low, median, high = (_number(value) for value in (min(values), statistics.median(values), max(values)))
    return median if low == high else f"{median} ({low}-{high})"


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


FIGURES = {
    "underruns": lambda run: run.total("late_blocks"),
    "in the first second": lambda run: run.total("late_first_second"),
    "clean streams": lambda run: run.clean,
    "longest stall, ms": lambda run: max(heard.longest_stall_ns for heard in run.heard) / 1e6,
    "first block p50, ms": lambda run: run.first_block_ms(50),
    "first block p99, ms": lambda run: run.first_block_ms(99),
    "major faults": lambda run: run.total("major_faults"),
    "minor faults": lambda run: run.total("minor_faults"),
    "swap-ins a page": lambda run: run.swap_ins_per_page,
    "told": lambda run: sum(heard.told_after_ns is not None for heard in run.heard),
    "told last after, s": lambda run: max(
        (heard.told_after_ns / 1e9 for heard in run.heard if heard.told_after_ns is not None), default=None
    ),
    "most ahead, MiB": lambda run: (
        None if run.peak_outstanding_bytes is None else run.peak_outstanding_bytes / (1 << 20)
    ),
    "server CPU, % of a core": lambda run: None if run.cpu_ns is None else 100 * run.cpu_ns / run.elapsed_ns,
    "machine stall, ms": lambda run: run.machine_ns / 1e6,
}
"""The columns, by name. None where a run does not know."""

ALWAYS: Final = ("underruns", "major faults", "minor faults", "swap-ins a page")
"""Shown also where all are alike."""
