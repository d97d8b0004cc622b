"""The table, the picture and the JSON of a comparison."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from rich.table import Table

from samplecache.clock import NS_PER_MS
from samplecache_demo.performance import Performance
from samplecache_demo.schedule import Cue

_GLITCH_COLOUR = "#c0392b"
_SOUND_COLOUR = "#9db8d2"
_LEAST_WIDTH_S = 0.02


class Results:
    """All performances of a comparison, in the order in which they were played.

    Parameters
    ----------
    strategies : sequence of str
        In the order of the table.
    label : str
        Which kernel, and whether measured or simulated.
    """

    def __init__(self, strategies: Sequence[str], label: str) -> None:
        self.strategies = tuple(strategies)
        self.label = label
        self.all: list[Performance] = []

    def add(self, performance: Performance) -> None:
        """Take in a performance."""
        self.all.append(performance)

    def quiet(self, strategy: str) -> list[Performance]:
        """Return the strategy's performances that the machine did not disturb; all of them if there is no such one."""
        mine = [performance for performance in self.all if performance.strategy == strategy]
        return [performance for performance in mine if not performance.noisy] or mine


class Run(Protocol):
    """What a table shows of a run, be it played or predicted."""

    @property
    def strategy(self) -> str:
        """The strategy asked for."""
        ...

    @property
    def bound(self) -> str:
        """The strategy that sessions got."""
        ...

    @property
    def glitches(self) -> int:
        """Gaps that voices suffered."""
        ...

    @property
    def late_blocks(self) -> int:
        """Blocks that were not ready when due."""
        ...

    @property
    def longest_stall_ns(self) -> int:
        """The longest that one was late."""
        ...

    @property
    def first_blocks_ns(self) -> list[int]:
        """For each cue, from the opening to its first block, ascending."""
        ...

    @property
    def major_faults(self) -> int:
        """Major faults of the threads that read blocks."""
        ...

    @property
    def minor_faults(self) -> int:
        """Their minor faults."""
        ...

    @property
    def swap_in_pages(self) -> int:
        """Pages that the machine read from swap."""
        ...

    @property
    def prefetches_ns(self) -> tuple[int, ...]:
        """How long each announcement's prefetch took."""
        ...


FIGURES: Final[dict[str, Callable[[Run], float]]] = {
    "glitches": lambda run: run.glitches,
    "late blocks": lambda run: run.late_blocks,
    "longest stall, ms": lambda run: run.longest_stall_ns / NS_PER_MS,
    "first block, median, ms": lambda run: statistics.median(run.first_blocks_ns) / NS_PER_MS,
    "first block, worst, ms": lambda run: run.first_blocks_ns[-1] / NS_PER_MS,
    "major faults": lambda run: run.major_faults,
    "minor faults": lambda run: run.minor_faults,
    "pages read in": lambda run: run.swap_in_pages,
    "prefetch, mean, ms": lambda run: statistics.fmean(run.prefetches_ns) / NS_PER_MS,
}
"""What is shown of a run, by its heading."""

_HEADINGS = (*FIGURES, "machine stall, ms")


def _figures(runs: Sequence[Performance]) -> list[list[float]]:
    """Return every run's figures, a list for each of `_HEADINGS`."""
    shown = [[figure(run) for run in runs] for figure in FIGURES.values()]
    return [*shown, [run.machine_ns / NS_PER_MS for run in runs]]


def shown(values: Sequence[float]) -> tuple[str, str]:
    """Return the median, and least to most unless they are all alike."""
    middle, least, most = (_number(value) for value in (statistics.median(values), min(values), max(values)))
    return middle, "" if least == most else f"{least}-{most}"


def _number(value: float) -> str:
    return f"{value:.1f}" if value % 1 and value < 100 else f"{value:.0f}"


def _rows(results: Results) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for strategy in results.strategies:
        if runs := results.quiet(strategy):
            yield _name(strategy, runs), [shown(values) for values in _figures(runs)]


def _name(strategy: str, runs: Sequence[Performance]) -> str:
    bound = runs[0].bound
    return strategy if bound == strategy else f"{strategy} → {bound}"


def _caption(results: Results) -> str:
    counts = sorted({len(runs) for strategy in results.strategies if (runs := results.quiet(strategy))})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    text = "one run each" if counts == [1] else f"median and range of {each} runs each"
    shown = [run for strategy in results.strategies for run in results.quiet(strategy)]
    if left_out := len(results.all) - len(shown):
        text += f"; {left_out} that the machine itself disturbed were repeated and are only in the JSON"
    if disturbed := sorted({run.strategy for run in shown if run.noisy}):
        text += f"; the machine disturbed all of {', '.join(disturbed)}"
    return text


def table(results: Results) -> Table:
    """Return the comparison as a table: medians, with least and most where there are several repetitions."""
    drawn = Table(title=results.label, title_style="bold", caption=_caption(results))
    drawn.add_column("strategy")
    for heading in _HEADINGS:
        drawn.add_column(heading, justify="right")
    for name, cells in _rows(results):
        drawn.add_row(name, *(f"{middle}\n[dim]{spread}[/dim]" if spread else middle for middle, spread in cells))
    return drawn


def markdown(results: Results) -> str:
    """Return the same table for a page."""
    lines = [
        f"**{results.label}**",
        "",
        f"| strategy | {' | '.join(_HEADINGS)} |",
        f"|---|{'--:|' * len(_HEADINGS)}",
    ]
    for name, cells in _rows(results):
        texts = [f"{middle} ({spread})" if spread else middle for middle, spread in cells]
        lines.append(f"| `{name}` | {' | '.join(texts)} |")
    caption = _caption(results)
    return "\n".join([*lines, "", f"{caption[0].upper()}{caption[1:]}."]) + "\n"


def picture(results: Results, schedule: Sequence[Cue], durations_s: dict[str, float], path: Path) -> None:
    """Draw every strategy's last undisturbed performance: what sounded, and in red what was missing.

    Parameters
    ----------
    results : Results
        What to draw.
    schedule : sequence of Cue
        What was played.
    durations_s : dict
        How long each cue sounds, by sample id.
    path : Path
        PNG to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    strategies = [strategy for strategy in results.strategies if results.quiet(strategy)]
    figure, axes = plt.subplots(
        len(strategies), 1, figsize=(11, 1.2 + 1.9 * len(strategies)), sharex=True, squeeze=False, layout="constrained"
    )
    for axis, strategy in zip(axes[:, 0], strategies, strict=True):
        run = results.quiet(strategy)[-1]
        for line, played in enumerate(run.played):
            start_s = played.cue.at_ns / 1e9
            gaps_s = played.voice.glitch_total_ns / 1e9
            axis.barh(line, durations_s[played.cue.sample_id] + gaps_s, left=start_s, height=0.8, color=_SOUND_COLOUR)
            for gap in played.voice.gaps:
                # A gap of some milliseconds is heard well; drawn to scale it would be less than a pixel wide.
                width_s = max(gap.length_frames / run.rate_hz, _LEAST_WIDTH_S)
                axis.barh(line, width_s, left=(gap.at_ns - run.start_ns) / 1e9, height=0.8, color=_GLITCH_COLOUR)
        axis.set_ylim(len(run.played) - 0.4, -0.6)
        axis.set_yticks([])
        axis.set_title(
            f"{_name(strategy, [run])}: {run.glitches} glitches, longest gap {run.longest_gap_ns / NS_PER_MS:.0f} ms, "
            f"{run.major_faults} major faults on the reading threads",
            loc="left",
            fontsize=10,
        )
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[-1, 0].set_xlabel(
        "seconds from the first beat; a line is a sample struck for the first time since it was cold"
    )
    figure.legend(
        handles=[Patch(color=_SOUND_COLOUR, label="sounds"), Patch(color=_GLITCH_COLOUR, label="missing")],
        loc="outside upper right",
        ncols=2,
        frameon=False,
    )
    figure.suptitle(results.label, x=0.01, ha="left", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_json(results: Results, path: Path, about: dict[str, Any]) -> None:
    """Write every performance's figures, disturbed ones too."""
    runs = [
        {
            "strategy": run.strategy,
            "bound": run.bound,
            "disturbed_by_machine": run.noisy,
            "glitches": run.glitches,
            "longest_gap_ns": run.longest_gap_ns,
            "late_blocks": run.late_blocks,
            "late_blocks_scheduling": run.scheduling_blocks,
            "longest_stall_ns": run.longest_stall_ns,
            "first_blocks_ns": run.first_blocks_ns,
            "major_faults": run.major_faults,
            "minor_faults": run.minor_faults,
            "swap_in_pages": run.swap_in_pages,
            "prefetches_ns": run.prefetches_ns,
            "machine_stall_ns": run.machine_ns,
            "output_lateness_ns": run.output_lateness_ns,
        }
        for run in results.all
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, "label": results.label, "runs": runs}, indent=2) + "\n")
