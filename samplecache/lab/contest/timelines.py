"""A report's pictures of what happened when, as SVG to stand in a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from samplecache.clock import NS_PER_S
from samplecache.lab.contest.drawing import (
    AWAY,
    BROKEN,
    FAULT,
    FINE,
    FONT_PT,
    IN_RAM,
    INK,
    LINE,
    QUIET,
    READ,
    as_svg,
    figure_for,
    settings,
)
from samplecache.lab.contest.records import RESIDENCY_DIGITS, Run, Timeline
from samplecache.lab.contest.summary import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMES: Final = 6
MOST_HEADS: Final = 64


def timeline(row: Row, label: str, name: str) -> str | None:
    """Return what happened when in the contender's typical run; None if nobody looked.

    Parameters
    ----------
    row : Row
        The contender.
    label : str
        What it is called in the picture.
    name : str
        What the SVG's ids begin with.
    """
    run = row.typical
    if run.timeline is None or len(run.timeline.times_ns) < 2:
        return None
    with settings():
        figure = figure_for(3.4, _names(run.timeline), top_in=0.26)
        upper, read, faults = figure.subplots(3, 1, sharex=True, height_ratios=(6, 1.5, 1.3))
        _title(upper, run, label)
        _residency(upper, run, run.timeline)
        _rates(read, faults, run.timeline)
        for axes in (read, faults):
            _shade(axes, run)
        upper.set_xlim(0, run.timeline.times_ns[-1] / NS_PER_S)
        return as_svg(figure, name, f"{run.contender}, {run.case}: what happened when")


def _order(seen: Timeline) -> list[str]:
    return [strip.sample_id for strip in seen.strips] or list(dict.fromkeys(head.sample_id for head in seen.heads))


def _names(seen: Timeline) -> list[str]:
    order = _order(seen)
    return ["read in", *(order if len(order) <= MOST_NAMES else ())]


def _title(axes: Axes, run: Run, label: str) -> None:
    broken = run.figures.glitches if run.figures else 0
    axes.set_title(label, loc="left", fontweight="bold")
    if run.timeline and run.timeline.strips and run.timeline.mapped_only:
        axes.text(
            0.01, 0.02, "as far as mapped", transform=axes.transAxes, color=QUIET, fontsize=FONT_PT - 1, va="bottom"
        )
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
