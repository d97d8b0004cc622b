"""A report's pictures of how often and how long it broke, as SVG to stand in a page, and one of them as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from samplecache.clock import NS_PER_MS
from samplecache.lab.contest.drawing import (
    BROKEN,
    FINE,
    FONT_PT,
    INK,
    LETTER_IN,
    LINE,
    QUIET,
    READ,
    as_svg,
    figure_for,
    settings,
)
from samplecache.lab.contest.summary import Row, Table, labels_of, standing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS: Final = 3
LEAST_COLUMN_IN: Final = 1.75
TITLE_LETTER_IN: Final = 0.075
_TICKS_MS: Final = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)


# --- how often it broke ---


def overview(table: Table, name: str) -> str:
    """Return how many glitches each contender had in each repetition."""
    with settings():
        figure = figure_for(0.62 + 0.25 * len(table.rows), labels_of(table.rows))
        axes = figure.add_subplot()
        _dots(axes, table.rows, _limit([table]))
        _label(axes, labels_of(table.rows))
        return as_svg(figure, name, f"Glitches of each contender: {table.case}")


def picture(tables: Sequence[Table], title: str, path: Path) -> None:
    """Write the overview of all `tables` as one PNG: a column for each amount of memory, and the same order in all."""
    from matplotlib.figure import Figure

    memories = len({table.case.memory for table in tables})
    columns = memories if memories > 1 else min(MOST_COLUMNS, len(tables))
    lines = -(-len(tables) // columns)
    by_name = [{row.contender: row for row in table.rows} for table in tables]
    names = standing(tables)
    labels = labels_of([rows[name] for name in names for rows in by_name if name in rows])
    shown = dict.fromkeys(labels)
    titles = [f"{table.case.device}, memory {table.case.memory}" for table in tables]
    column_in = max(LEAST_COLUMN_IN, 0.3 + TITLE_LETTER_IN * max(map(len, titles)))
    width_in = LETTER_IN * max(map(len, shown)) + columns * column_in
    how = ", ".join(dict.fromkeys(table.case.label for table in tables))
    with settings():
        figure = Figure(figsize=(max(6.6, width_in), lines * (0.75 + 0.26 * len(names)) + 0.5), layout="constrained")
        figure.suptitle(f"{title} ({how})", x=0.01, ha="left", fontsize=FONT_PT + 2, fontweight="bold")
        figure.supxlabel(
            "Fewer are better. A dot is a repetition, a bar the median; green without a glitch in the median.",
            x=0.01, ha="left", fontsize=FONT_PT, color=QUIET,
        )  # fmt: skip
        limit = _limit(tables)
        for index, rows in enumerate(by_name):
            axes = figure.add_subplot(lines, columns, index + 1)
            _dots(axes, [rows.get(name) for name in names], limit)
            _label(axes, list(shown) if index % columns == 0 else [""] * len(names))
            axes.set_title(titles[index], loc="left", color=INK)
        figure.savefig(path, dpi=150)


def _limit(tables: Sequence[Table]) -> float:
    return max(
        [
            10.0,
            *(1.3 * (run.figures.glitches if run.figures else 0) for t in tables for row in t.rows for run in row.runs),
        ]
    )


def _dots(axes: Axes, rows: Sequence[Row | None], limit: float) -> None:
    """Draw a line for each contender: a dot for each repetition, and the median; nothing for who did not play."""
    for index, row in enumerate(rows):
        axes.plot([0, limit], [index, index], color=LINE, linewidth=0.6, zorder=0)
        if row is None:
            continue
        values = [run.figures.glitches for run in row.runs if run.figures]
        cell = row.cells["glitches"]
        middle = cell.median if cell else 0
        colour = BROKEN if middle else FINE
        # a little apart from each other, so that equal ones are seen to be several
        offsets = [(number % 5 - 2) * 0.07 for number in range(len(values))]
        heights = [index + offset for offset in offsets]
        axes.plot(values, heights, "o", color=colour, alpha=0.35, markersize=3.2, markeredgewidth=0, clip_on=False)
        axes.plot([middle], [index], "|", color=colour, markersize=10, markeredgewidth=2, clip_on=False)
    axes.set_xscale("symlog", linthresh=3)
    axes.set_xlim(-0.15, limit)
    ticks = [tick for tick in (0, 1, 3, 10, 30, 100, 300, 1000, 3000) if tick <= limit]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("glitches in a run")


def _label(axes: Axes, labels: Sequence[str]) -> None:
    """Name lines, one below the other."""
    axes.set_yticks(range(len(labels)), labels, color=INK)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def stalls(table: Table, name: str) -> str:
    """Return how long each contender's glitches were: all of them, of all repetitions."""
    rows = [(row, [stall.late_ns / NS_PER_MS for run in row.runs for stall in run.stalls]) for row in table.rows]
    return _distribution(rows, name, f"Lengths of glitches: {table.case}", "length of a glitch, ms", "none")


def firsts(table: Table, name: str) -> str:
    """Return how long each contender's sounds took to begin: all of them, of all repetitions."""
    rows = [
        (row, [value / NS_PER_MS for run in row.runs if run.figures for value in run.figures.first_ns])
        for row in table.rows
    ]
    return _distribution(rows, name, f"Times to first periods: {table.case}", "request to first period, ms", "never")


def _distribution(rows: Sequence[tuple[Row, list[float]]], name: str, title: str, axis: str, none: str) -> str:
    """Draw a line for each contender: a stroke for each value, and the median."""
    everything = [value for _, values in rows for value in values]
    low, high = max(0.1, min(everything, default=1) / 1.5), max([20.0, *everything]) * 1.5
    low = min(low, high / 20)
    with settings():
        figure = figure_for(0.62 + 0.25 * len(rows), labels_of([row for row, _ in rows]), right_in=0.48)
        axes = figure.add_subplot()
        for index, (_, values) in enumerate(rows):
            axes.plot([low, high], [index, index], color=LINE, linewidth=0.6, zorder=0)
            shown = [max(low, value) for value in values]
            strokes = _distinct(shown, high / low)
            xs = [x for value in strokes for x in (value, value, float("nan"))]
            axes.plot(xs, [index - 0.3, index + 0.3, float("nan")] * len(strokes), color=READ, alpha=0.6, linewidth=0.9)
            if shown:
                middle = sorted(shown)[len(shown) // 2]
                axes.plot([middle], [index], "o", color=INK, markersize=3.5)
            axes.text(
                1.01, index, f"{len(values):,}" if values else none, transform=axes.get_yaxis_transform(), va="center",
                color=QUIET, fontsize=FONT_PT - 1,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        ticks = [tick for tick in _TICKS_MS if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        _label(axes, labels_of([row for row, _ in rows]))
        axes.set_xlabel(axis)
        return as_svg(figure, name, title)


def _distinct(values: list[float], span: float, most: int = 300) -> list[float]:
    """Return those of `values` that can be told apart on a logarithmic axis that spans so many times its least."""
    step = span ** (1 / most)
    kept: list[float] = []
    for value in sorted(values):
        if not kept or value >= kept[-1] * step:
            kept.append(value)
    return kept
