"""Predictions beside what was then measured, on one device after the other."""

from __future__ import annotations

import enum
import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.table import Table

from samplecache.kernel.machine_files import MachineProfile
from samplecache_demo.prediction import Forecast
from samplecache_demo.report import FIGURES, Results, shown

COUNTS_WITHIN: Final = 0.05
TIMES_WITHIN: Final = 0.25
"""How far a prediction may be off, as a part of what is measured: counts of faults and pages, and times."""
LEAST_WITHIN: Final = 1.0
"""How far it may be off in any case: a page, or a millisecond, which is what a thread's waking up varies by."""

_COUNTS: Final = ("major faults", "minor faults", "pages read in")
_TIMES: Final = ("longest stall, ms", "prefetch, mean, ms")
_RANKED: Final = ("glitches", "prefetch, mean, ms")


class Verdict(enum.Enum):
    """What a prediction was worth."""

    CLOSE = "close"
    """No further off than a figure may be."""
    TIE = "tie"
    """Further off the median, but inside the range of the runs themselves."""
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Pair:
    """A figure, predicted and measured; one value a run.

    Attributes
    ----------
    strategy, figure : str
        Of which strategy, and its heading.
    predicted, measured : tuple of float
        The values.
    """

    strategy: str
    figure: str
    predicted: tuple[float, ...]
    measured: tuple[float, ...]

    @property
    def off(self) -> float:
        """How far the predicted median is from the measured one, as a part of that; infinite if that is 0."""
        predicted, measured = statistics.median(self.predicted), statistics.median(self.measured)
        if predicted == measured:
            return 0.0
        return (predicted - measured) / measured if measured else float("inf")

    @property
    def verdict(self) -> Verdict | None:
        """What it was worth; None for figures that are only shown."""
        if self.figure not in (*_COUNTS, *_TIMES):
            return None
        predicted, measured = statistics.median(self.predicted), statistics.median(self.measured)
        within = COUNTS_WITHIN if self.figure in _COUNTS else TIMES_WITHIN
        if abs(predicted - measured) <= max(LEAST_WITHIN, within * measured):
            return Verdict.CLOSE
        return Verdict.TIE if min(self.measured) <= predicted <= max(self.measured) else Verdict.MISSED

    @property
    def nothing(self) -> bool:
        """Whether it was 0 in every run, predicted and measured: right, but no feat."""
        return not any((*self.predicted, *self.measured))


@dataclass(frozen=True, slots=True)
class Trial:
    """One device: what was predicted, and what came.

    Attributes
    ----------
    device : str
        The device's name.
    machine : MachineProfile
        What it was taken for.
    simulated : str
        The label of the prediction: simulated, on which profile.
    forecasts : dict
        Runs in virtual time, by strategy.
    results : Results
        Runs in real time.
    """

    device: str
    machine: MachineProfile
    simulated: str
    forecasts: dict[str, list[Forecast]]
    results: Results

    def pairs(self) -> Iterator[Pair]:
        """Yield every figure of every strategy."""
        for strategy, forecasts in self.forecasts.items():
            runs = self.results.quiet(strategy)
            for name, figure in FIGURES.items():
                yield Pair(strategy, name, tuple(figure(run) for run in forecasts), tuple(figure(run) for run in runs))

    def ranking(self, figure: str) -> tuple[int, int]:
        """Return how many pairs of strategies are in the order that was predicted, and how many are in any.

        A pair whose measured ranges overlap is in none: a tie.
        """
        pairs = [pair for pair in self.pairs() if pair.figure == figure]
        right = ordered = 0
        for one, other in itertools.permutations(pairs, 2):
            if max(one.measured) < min(other.measured):
                ordered += 1
                right += statistics.median(one.predicted) < statistics.median(other.predicted)
        return right, ordered


def forecast_table(label: str, forecasts: dict[str, list[Forecast]]) -> Table:
    """Return what is predicted, to be shown before anything is played."""
    drawn = Table(title=label, title_style="bold", caption=_caption(forecasts))
    drawn.add_column("strategy")
    for heading in FIGURES:
        drawn.add_column(heading, justify="right")
    for strategy, runs in forecasts.items():
        cells = (shown([figure(run) for run in runs]) for figure in FIGURES.values())
        drawn.add_row(strategy, *(f"{middle}\n[dim]{spread}[/dim]" if spread else middle for middle, spread in cells))
    return drawn


def trial_table(trial: Trial) -> Table:
    """Return prediction and measurement side by side."""
    drawn = Table(title=f"{trial.device}: predicted and measured", title_style="bold")
    for heading in ("strategy", "figure"):
        drawn.add_column(heading)
    for heading in ("SIMULATED", "MEASURED", "off", ""):
        drawn.add_column(heading, justify="right")
    for pair in trial.pairs():
        drawn.add_row(*_cells(pair), end_section=pair.figure == list(FIGURES)[-1])
    return drawn


def _cells(pair: Pair) -> list[str]:
    verdict = pair.verdict
    both = map(shown, (pair.predicted, pair.measured))
    sides = (f"{middle} ({spread})" if spread else middle for middle, spread in both)
    off = "" if pair.off == 0 else "from 0" if pair.off == float("inf") else f"{pair.off:+.0%}"
    return [pair.strategy, pair.figure, *sides, off, "" if verdict is None else verdict.value]


def _caption(forecasts: dict[str, list[Forecast]]) -> str:
    return f"median and range of {max(map(len, forecasts.values()))} runs each in virtual time, seeds from 0"


def forecast_markdown(trial_label: str, forecasts: dict[str, list[Forecast]]) -> str:
    """Return the prediction alone, for a page that is written before anything is played."""
    lines = [f"**{trial_label}**", "", f"| strategy | {' | '.join(FIGURES)} |", f"|---|{'--:|' * len(FIGURES)}"]
    for strategy, runs in forecasts.items():
        cells = (shown([figure(run) for run in runs]) for figure in FIGURES.values())
        lines.append(f"| `{strategy}` | {' | '.join(f'{m} ({s})' if s else m for m, s in cells)} |")
    return "\n".join([*lines, "", f"{_caption(forecasts).capitalize()}.", ""])


def page(trials: Sequence[Trial], command: str) -> str:
    """Return all trials as a page."""
    parts = [_INTRODUCTION.format(command=command), _summary(trials)]
    for trial in trials:
        parts.append(f"## {trial.device}\n\n- {trial.simulated}\n- {trial.results.label}\n")
        parts.append(f"```toml\n{trial.machine.text()}```\n")
        lines = ["| strategy | figure | SIMULATED | MEASURED | off | |", "|---|---|--:|--:|--:|---|"]
        lines += [f"| `{cells[0]}` | {' | '.join(cells[1:])} |" for cells in map(_cells, trial.pairs())]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _summary(trials: Sequence[Trial]) -> str:
    columns = ["close", "of them 0 anyway", "tie", "missed", *(f"order by {figure}" for figure in _RANKED)]
    lines = [f"| device | runs each | {' | '.join(columns)} |", f"|---|{'--:|' * (1 + len(columns))}"]
    for trial in trials:
        judged = [pair for pair in trial.pairs() if pair.verdict is not None]
        close, tie, missed = (sum(pair.verdict is verdict for pair in judged) for verdict in Verdict)
        counts = map(str, (close, sum(pair.nothing for pair in judged), tie, missed))
        orders = [f"{right} of {of}" if of else "all tie" for right, of in map(trial.ranking, _RANKED)]
        runs = min(len(trial.results.quiet(strategy)) for strategy in trial.forecasts)
        lines.append(f"| {trial.device} | {runs} | {' | '.join([*counts, *orders])} |")
    return "\n".join([*lines, ""])


_INTRODUCTION = """# What the simulated kernel predicts

Written by `{command}`. For each device this machine's swap was measured into a profile, and the service's own time
through a real server: with silence in RAM, and with silence paged out, which takes the whole path of cold pages but no
I/O. Every call draws one of the measured values. Then the demo was predicted: the same cache, strategies, schedule and
mixer in virtual time, on a simulated machine of that profile, in the same readahead mode, with the same memory limit
and slots in the order in which samples get cold on a fresh swap area. The prediction was printed and written before the
first sample was played for real.

A figure is *close* if the predicted median is within 5 % or one page of the measured one (faults and pages), or within
25 % or one millisecond (longest stall, prefetch time); a *tie* if it is further off but inside the range of the real
runs; else *missed*. Other figures are shown without a verdict. The last columns count the pairs of strategies whose
measured ranges do not overlap, and how many of them were predicted in that order. In brackets: least and most.

What is known to differ: a limit counts in slices of 100 ms, and in which of them a run begins is left to chance, in the
predictions as on the machine. Which stream's fault comes first is chance too, and cluster readahead keeps one state for
all of them, so the major faults of `none` vary by a tenth from run to run. A look at arriving pages is followed by a
pause of twenty times its length, so that on a machine with other work prefetches seem to take longer. Where the
machine runs a scheme of DAMON's, prefetched pages can be taken back before they are used. MADV_POPULATE_READ, once seen
to take 3.5 ms a miss on a machine with other work, has no cost of its own: measured again, 1024 pages in order took
34 ms, touched 33.
"""
