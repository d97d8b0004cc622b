"""The report's pictures, as SVG to stand in a page, and one of them as PNG. Drawn so that they read at a phone's width.

Needs matplotlib. Figures are about 380 pixels wide; a page lays as many side by side as fit.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import ConfigurationError
from samplecache.lab.contest.records import RESIDENCY_DIGITS, SAMPLECACHE, Run, Timeline
from samplecache.lab.contest.summary import Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#1c2530"
QUIET: Final = "#6b7785"
LINE: Final = "#d9dee4"
AWAY: Final = "#f1efe9"
IN_RAM: Final = "#2a7f86"
READ: Final = "#3b6ea8"
FAULT: Final = "#d08a1d"
BROKEN: Final = "#c8323f"
FINE: Final = "#2c7a4b"
WIDTH_IN: Final = 3.95
DPI: Final = 96
FONT_PT: Final = 8.6
LETTER_IN: Final = 0.066
FOOT_IN: Final = 0.46
"""Room for a letter, and for an axis and what it is called."""
MOST_NAMES: Final = 6
MOST_HEADS: Final = 64


def require_matplotlib() -> None:
    """Raise unless pictures can be drawn.

    Raises
    ------
    ConfigurationError
        matplotlib or jinja2 is not installed.
    """
    try:
        import jinja2
        import matplotlib
    except ImportError as error:
        raise ConfigurationError(
            f"The report needs {error.name}, which is not installed", remedy="Install samplecache[lab]"
        ) from error
    del jinja2, matplotlib


def _settings() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(
        {
            "font.size": FONT_PT,
            "axes.titlesize": FONT_PT + 1,
            "axes.edgecolor": LINE,
            "axes.labelcolor": QUIET,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": QUIET,
            "ytick.color": QUIET,
            "xtick.major.size": 2.5,
            "ytick.major.size": 2.5,
            "text.color": INK,
            "svg.fonttype": "none",
            "svg.hashsalt": "samplecache",
            "figure.dpi": DPI,
        }
    )


def _figure(height_in: float, labels: Sequence[str], *, right_in: float = 0.12, top_in: float = 0.1) -> Figure:
    """Return a figure with room for `labels` at its left. Margins are reckoned, which is a tenth of a layout's time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in))
    left_in = 0.16 + LETTER_IN * max(map(len, labels), default=0)
    figure.subplots_adjust(
        left=left_in / WIDTH_IN,
        right=1 - right_in / WIDTH_IN,
        bottom=FOOT_IN / height_in,
        top=1 - top_in / height_in,
    )
    return figure


def _svg(figure: Figure, name: str, title: str) -> str:
    """Return a figure as an SVG element whose ids are no other's, and which a screen reader can name."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)
    svg = re.sub(r'<svg height="[^"]*"', "<svg", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{_plain(title)}"', 1)


def _plain(text: str) -> str:
    return re.sub(r"[<>&\"]", " ", text)


# --- how often it broke ---


def overview(table: Table, name: str) -> str:
    """Return how many glitches each contender had in each repetition."""
    with _settings():
        figure = _figure(0.62 + 0.25 * len(table.rows), _labels(table.rows))
        _dots(figure.add_subplot(), table.rows, _limit([table]))
        return _svg(figure, name, f"Glitches of each contender: {table.case}")


def picture(tables: Sequence[Table], title: str, path: Path) -> None:
    """Write the overview of all `tables` as one PNG."""
    from matplotlib.figure import Figure

    columns = min(3, len(tables))
    rows = -(-len(tables) // columns)
    tallest = max(len(table.rows) for table in tables)
    longest = max(len(label) for table in tables for label in _labels(table.rows))
    width_in = max(6.6, columns * (2.2 + LETTER_IN * longest))
    how = ", ".join(dict.fromkeys(table.case.label for table in tables))
    with _settings():
        figure = Figure(figsize=(width_in, rows * (0.75 + 0.26 * tallest) + 0.35), layout="constrained")
        figure.suptitle(f"{title} ({how})", x=0.01, ha="left", fontsize=FONT_PT + 3, fontweight="bold")
        limit = _limit(tables)
        for index, table in enumerate(tables, 1):
            axes = figure.add_subplot(rows, columns, index)
            _dots(axes, table.rows, limit)
            axes.set_title(f"{table.case.device}, memory {table.case.memory}", loc="left", color=INK)
        figure.savefig(path, dpi=150)


def _limit(tables: Sequence[Table]) -> float:
    return max(
        [
            10.0,
            *(1.3 * (run.figures.glitches if run.figures else 0) for t in tables for row in t.rows for run in row.runs),
        ]
    )


def _dots(axes: Axes, rows: Sequence[Row], limit: float) -> None:
    """Draw a line for each contender: a dot for each repetition, and the median."""
    for index, row in enumerate(rows):
        values = [run.figures.glitches for run in row.runs if run.figures]
        cell = row.cells["glitches"]
        middle = cell.median if cell else 0
        colour = BROKEN if middle else FINE
        axes.plot([0, limit], [index, index], color=LINE, linewidth=0.6, zorder=0)
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
    axes.set_yticks(range(len(rows)), _labels(rows), color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("glitches in a run")


def _short(contender: str) -> str:
    return contender.removeprefix(SAMPLECACHE)


def _labels(rows: Sequence[Row]) -> list[str]:
    """Return what contenders are called beside each other: strategies by their names, unless others play, too."""
    names = [row.contender for row in rows]
    return [_short(name) for name in names] if all(name.startswith(SAMPLECACHE) for name in names) else names


# --- how long ---


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
    with _settings():
        figure = _figure(0.62 + 0.25 * len(rows), _labels([row for row, _ in rows]), right_in=0.48)
        axes = figure.add_subplot()
        for index, (row, values) in enumerate(rows):
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
            del row
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        ticks = [tick for tick in (0.1, 1, 10, 100, 1000, 10_000, 100_000) if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_yticks(range(len(rows)), _labels([row for row, _ in rows]), color=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(axis)
        return _svg(figure, name, title)


def _distinct(values: list[float], span: float, most: int = 300) -> list[float]:
    """Return those of `values` that can be told apart on a logarithmic axis that spans so many times its least."""
    step = span ** (1 / most)
    kept: list[float] = []
    for value in sorted(values):
        if not kept or value >= kept[-1] * step:
            kept.append(value)
    return kept


# --- what happened when ---


def timeline(row: Row, name: str) -> str | None:
    """Return what happened when in the contender's typical run; None if nobody looked."""
    run = row.typical
    if run.timeline is None or len(run.timeline.times_ns) < 2:
        return None
    with _settings():
        figure = _figure(3.4, _names(run.timeline), top_in=0.26)
        upper, read, faults = figure.subplots(3, 1, sharex=True, height_ratios=(6, 1.5, 1.3))
        _title(upper, run)
        _residency(upper, run, run.timeline)
        _rates(read, faults, run.timeline)
        for axes in (read, faults):
            _shade(axes, run)
        upper.set_xlim(0, run.timeline.times_ns[-1] / NS_PER_S)
        return _svg(figure, name, f"{run.contender}, {run.case}: what happened when")


def _order(seen: Timeline) -> list[str]:
    return [strip.sample_id for strip in seen.strips] or list(dict.fromkeys(head.sample_id for head in seen.heads))


def _names(seen: Timeline) -> list[str]:
    order = _order(seen)
    return ["read in", *(order if len(order) <= MOST_NAMES else ())]


def _title(axes: Axes, run: Run) -> None:
    broken = run.figures.glitches if run.figures else 0
    axes.set_title(_short(run.contender), loc="left", fontweight="bold")
    if run.timeline and run.timeline.strips and run.timeline.mapped_only:
        axes.set_title("pages that are mapped", loc="center", color=QUIET, fontsize=FONT_PT - 1)
    text = f"{broken} glitch{'' if broken == 1 else 'es'}" if broken else "no glitch"
    axes.set_title(text, loc="right", color=BROKEN if broken else FINE)


def _residency(axes: Axes, run: Run, seen: Timeline) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    order = _order(seen)
    heights = {strip.sample_id: float(len(strip.rows[0])) for strip in seen.strips if strip.rows}
    bottoms: dict[str, float] = {}
    total = 0.0
    for sample_id in order:
        bottoms[sample_id] = total
        total += heights.setdefault(sample_id, 8.0)
    end_s = seen.times_ns[-1] / NS_PER_S
    if seen.strips:
        columns = [
            "".join(strip.rows[index] for strip in seen.strips if strip.rows) for index in range(len(seen.times_ns))
        ]
        levels = [[RESIDENCY_DIGITS.index(column[part]) for column in columns] for part in range(len(columns[0]))]
        axes.imshow(
            levels,
            extent=(0, end_s, total, 0),
            aspect="auto",
            interpolation="nearest",
            cmap=LinearSegmentedColormap.from_list("ram", [AWAY, IN_RAM]),
            vmin=0,
            vmax=9,
        )
    else:
        axes.text(0.5, 0.5, "where its pages are, nobody can see", transform=axes.transAxes, ha="center", color=QUIET)
    for sample_id in order[1:]:
        axes.axhline(bottoms[sample_id], color="white" if seen.strips else LINE, linewidth=0.6)
    for head in seen.heads[:MOST_HEADS]:
        if head.sample_id in bottoms:
            _head(axes, head.times_ns, head.places, bottoms[head.sample_id], heights[head.sample_id])
    for sample_id, at_ns in seen.hints_ns:
        if sample_id in bottoms:
            middle = bottoms[sample_id] + heights[sample_id] / 2
            axes.plot([at_ns / NS_PER_S], [middle], ">", color=QUIET, markersize=3, markeredgewidth=0)
    places = [
        (stall.at_ns / NS_PER_S, bottoms[stall.sample_id] + heights[stall.sample_id] * stall.place)
        for stall in run.stalls
        if stall.sample_id in bottoms
    ]
    _spots(axes, places, end_s / 1000)
    axes.set_ylim(total, 0)
    if len(order) <= MOST_NAMES:
        middles = [bottoms[sample_id] + heights[sample_id] / 2 for sample_id in order]
        axes.set_yticks(middles, order, color=INK)
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(order)} samples")
    axes.tick_params(axis="y", length=0)


def _spots(axes: Axes, places: Sequence[tuple[float, float]], width_s: float) -> None:
    """Draw dots as one path, which is a tenth of the size of as many markers."""
    xs = [x for at_s, _ in places for x in (at_s, at_s + width_s, float("nan"))]
    ys = [y for _, height in places for y in (height, height, float("nan"))]
    for width, colour in ((4.6, "white"), (3.2, BROKEN)):
        axes.plot(xs, ys, color=colour, linewidth=width, solid_capstyle="round")


def _shade(axes: Axes, run: Run) -> None:
    """Shade the times at which there was silence, as one path."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    merged: list[list[float]] = []
    for stall in run.stalls:
        start_s, stop_s = stall.at_ns / NS_PER_S, (stall.at_ns + stall.late_ns) / NS_PER_S
        if merged and start_s <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop_s)
        else:
            merged.append([start_s, stop_s])
    if merged:
        boxes = [Outline([(a, 0), (a, 1), (b, 1), (b, 0), (a, 0)], closed=True) for a, b in merged]
        outline = Outline.make_compound_path(*boxes)
        axes.add_patch(
            PathPatch(outline, transform=axes.get_xaxis_transform(), color=BROKEN, alpha=0.22, linewidth=0, zorder=0)
        )


def _head(axes: Axes, times_ns: list[int], places: list[float], bottom: float, height: float) -> None:
    """Draw a playhead, with a gap where it jumps."""
    xs: list[float] = []
    ys: list[float] = []
    for index, (time_ns, place) in enumerate(zip(times_ns, places, strict=True)):
        if index and not -0.001 <= place - places[index - 1] < 0.2:
            xs.append(float("nan"))
            ys.append(float("nan"))
        xs.append(time_ns / NS_PER_S)
        ys.append(bottom + height * place)
    axes.plot(xs, ys, color=INK, linewidth=0.9)


def _rates(read: Axes, faults: Axes, seen: Timeline) -> None:
    """Draw what was read from swap, and the players' faults, in each interval."""
    times_s = [time_ns / NS_PER_S for time_ns in seen.times_ns]
    step_s = max(1e-9, (times_s[-1] - times_s[0]) / (len(times_s) - 1))
    for axes, values, colour, label, unit in (
        (read, seen.pages_in, READ, "read in", " pages/s"),
        (faults, seen.major_faults, FAULT, "faults", "/s"),
    ):
        rates = [value / step_s for value in values] or [0.0] * len(times_s)
        axes.fill_between(times_s, rates, step="pre", color=colour, linewidth=0, alpha=0.85)
        top = max(rates)
        axes.set_ylim(0, max(1.0, top) * 1.6)
        axes.set_yticks([])
        axes.set_ylabel(label, rotation=0, ha="right", va="center", color=colour)
        axes.text(
            0.995, 0.9, f"up to {top:,.0f}{unit}" if top else "none", transform=axes.transAxes, ha="right", va="top",
            fontsize=FONT_PT - 1, color=QUIET,
        )  # fmt: skip
    for _, start_ns, stop_ns in seen.prefetches:
        y = read.get_ylim()[1] * 0.04
        read.plot([start_ns / NS_PER_S, stop_ns / NS_PER_S], [y, y], color=IN_RAM, linewidth=2.2, alpha=0.7)
    faults.set_xlabel("seconds")
