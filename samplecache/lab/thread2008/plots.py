"""The page's plots, in PNG. Needs matplotlib, which only the demo's dependencies bring."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from samplecache.errors import ConfigurationError
from samplecache.lab.thread2008.figures import LATE, PER_ACTION, USED, Measure, Results, Summary
from samplecache.lab.thread2008.lone import PAGE_BYTES, read_ns
from samplecache.lab.thread2008.rows import ROWS
from samplecache.simulation.device import device_profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#22303c"
OLD: Final = "#8a99a8"
AUDIO: Final = "#b5443c"
DESKTOP: Final = "#2f6f9f"
USE: Final = "#4f8a4c"
DPI: Final = 110
DIGIT_WIDTH: Final = 7
LINE_HEIGHT: Final = 11
"""Of numbers in plots, in pixels."""
DOT: Final = 5
"""Half a dot with what is to be free around it, in pixels. Dots that are nearer to one another share a number."""
SYMLOG_FROM: Final = 5
"""Late blocks from which their axis is logarithmic."""
CHUNK_ROWS: Final = (("stock", 8), ("chunks-64k", 16), ("chunks-256k", 64), ("chunks-1m", 256))
"""The kernel as it was reads 8 pages at the most."""


def require_matplotlib() -> None:
    """Raise unless plots can be drawn.

    Raises
    ------
    ConfigurationError
        matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "The plots need matplotlib, which is not installed", remedy="Install samplecache[lab]"
        ) from error


def draw(results: Results, directory: Path) -> list[Path]:
    """Write all plots into `directory`, which exists; return their files.

    Raises
    ------
    ConfigurationError
        matplotlib is not installed.
    """
    require_matplotlib()
    plots = {
        "late-blocks": _late_blocks(results),
        "read-cost": _read_cost(results),
        "chunks": _chunks(results),
        "trade": _trade(results),
    }
    written = []
    for name, figure in plots.items():
        written.append(directory / f"{name}.png")
        figure.savefig(written[-1], dpi=DPI, metadata={"Software": None})
    return written


def _figure(results: Results, title: str, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=INK, fontsize=12)
    figure.supxlabel(
        f"SIMULATED · seeds {', '.join(map(str, results.seeds))} · bars and dots: median, lines: least to most",
        fontsize=8,
        color=OLD,
    )
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=INK, labelsize=8)
        each.grid(alpha=0.25, linewidth=0.6)
        each.set_axisbelow(True)
    return figure, axes


def _spread(summary: Summary) -> list[list[float]]:
    return [[summary.median - summary.least], [summary.most - summary.median]]


def _rotating(results: Results) -> list[str]:
    return [device for device in results.devices if device_profile(device).rotational] or list(results.devices[:1])


def _late_blocks(results: Results) -> Figure:
    """Return bars of late blocks, a panel for each rotating disk."""
    devices = _rotating(results)
    rows = [row for row in ROWS.values() if results.of(row.key, devices[0])]
    figure, panels = _figure(results, "Late blocks by row", len(devices), 4.2 + 3.4 * len(devices), 7.6)
    for panel, device in zip(panels, devices, strict=True):
        for place, row in enumerate(rows):
            late = LATE.summary(results.of(row.key, device))
            colour = DESKTOP if row.today else OLD if row.key == "stock" else AUDIO
            panel.barh(place, late.median, color=colour, height=0.62)
            panel.errorbar(late.median, place, xerr=_spread(late), color=INK, linewidth=1, capsize=2)
        panel.set_title(device, fontsize=10, color=INK)
        panel.set_xlabel("late blocks in a run (25 ms each)", fontsize=9, color=INK)
        panel.set_yticks(range(len(rows)), [row.label for row in rows] if panel is panels[0] else [])
        panel.invert_yaxis()
    return figure


def _read_cost(results: Results) -> Figure:
    """Return curves of what a read of some size costs, in reads of 4 KiB."""
    figure, (panel,) = _figure(results, "What a read costs, in reads of 4 KiB", 1, 7.4, 4.6)
    figure.supxlabel("SIMULATED · from the device profiles alone, an idle device, no seeds", fontsize=8, color=OLD)
    sizes = [1 << power for power in range(9)]
    for device in results.devices:
        costs = [read_ns(device, pages) / read_ns(device, 1) for pages in sizes]
        panel.plot([pages * PAGE_BYTES / 1024 for pages in sizes], costs, marker="o", markersize=3, label=device)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks([4, 16, 64, 256, 1024], ["4", "16", "64", "256", "1024"])
    panel.set_xlabel("size of the read, KiB", fontsize=9, color=INK)
    panel.set_ylabel("time, as a multiple of 4 KiB", fontsize=9, color=INK)
    panel.legend(frameon=False, fontsize=8)
    return figure


def _chunks(results: Results) -> Figure:
    """Return three panels over the size of chunks, on the foremost device; sizes that did not run are left out."""
    device = results.foremost
    sizes = [(row, pages) for row, pages in CHUNK_ROWS if results.of(row, device)]
    figure, panels = _figure(results, f"Chunks in and out, no prefetch, {device}", 3, 11.0, 4.2)
    shown: tuple[tuple[Measure, str], ...] = ((LATE, AUDIO), (PER_ACTION, DESKTOP), (USED, USE))
    for panel, (measure, colour) in zip(panels, shown, strict=True):
        summaries = [measure.summary(results.of(row, device)) for row, _ in sizes]
        places = range(len(sizes))
        panel.plot(places, [each.median for each in summaries], color=colour, marker="o", label="chunks of that size")
        for place, each in zip(places, summaries, strict=True):
            panel.errorbar(place, each.median, yerr=_spread(each), color=colour, linewidth=1, capsize=3)
        for row, style in (("adaptive", "--"), ("chunks-1m-tidy", ":")):
            if runs := results.of(row, device):
                level = measure.summary(runs).median
                panel.axhline(level, color=INK, linestyle=style, linewidth=1, label=ROWS[row].label)
        names = [f"{pages * 4} KiB" + ("\n(2.6.24)" if row == "stock" else "") for row, pages in sizes]
        panel.set_xticks(places, names)
        panel.set_title(measure.name, fontsize=9, color=INK)
        panel.set_ylim(bottom=0)
    panels[0].legend(frameon=False, fontsize=7)
    return figure


def _trade(results: Results) -> Figure:
    """Return rows as numbered points: late blocks against the desktop's waits, on the foremost device."""
    from matplotlib.ticker import LogLocator, ScalarFormatter

    device = results.foremost
    figure, (panel,) = _figure(results, f"Audio against desktop, {device}", 1, 11.5, 7.0)
    panel.set_xlabel(f"{PER_ACTION.name} (logarithmic)", fontsize=9, color=INK)
    panel.set_ylabel(f"{LATE.name} in a run (linear up to {SYMLOG_FROM}, logarithmic above)", fontsize=9, color=INK)
    panel.set_xscale("log")
    panel.set_yscale("symlog", linthresh=SYMLOG_FROM)
    points = []
    for number, row in enumerate((row for row in ROWS.values() if results.of(row.key, device)), 1):
        runs = results.of(row.key, device)
        late, wait = LATE.summary(runs), PER_ACTION.summary(runs)
        colour = DESKTOP if row.today else OLD if row.key == "stock" else AUDIO
        spread: dict[str, Any] = {"xerr": _spread(wait), "yerr": _spread(late)}
        panel.errorbar(wait.median, late.median, color=colour, alpha=0.3, linewidth=0.8, **spread)
        panel.plot(wait.median, late.median, "o", color=colour, markersize=5, label=f"{number}  {row.label}")
        points.append((wait.median, late.median))
    panel.set_ylim(bottom=-0.6)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(ScalarFormatter())
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_minor_formatter("")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8, labelcolor=INK)
    figure.canvas.draw()
    _number(panel, points)
    return figure


def _number(panel: Axes, points: list[tuple[float, float]]) -> None:
    """Write each point's number, from 1 on, beside it where neither a number nor another point is."""
    at: dict[tuple[float, float], list[int]] = {}
    for number, point in enumerate(points, 1):
        x, y = panel.transData.transform(point)
        near = next((one for one in at if max(abs(one[0] - x), abs(one[1] - y)) < DOT), (x, y))
        at.setdefault(near, []).append(number)
    taken = [(x - DOT, y - DOT, x + DOT, y + DOT) for x, y in at]
    for (x, y), numbers in at.items():
        text = ", ".join(map(str, numbers))
        width = DIGIT_WIDTH * len(text)
        places = [
            (left, low, left + width, low + LINE_HEIGHT)
            for far in (0, LINE_HEIGHT, 2 * LINE_HEIGHT)
            for low in (y + 2 + far, y - 2 - LINE_HEIGHT - far)
            for left in (x + DOT, x - DOT - width)
        ]
        place = next((one for one in places if not any(_overlap(one, other) for other in taken)), places[0])
        taken.append(place)
        offset = ((place[0] - x) * 72 / DPI, (place[1] - y) * 72 / DPI)
        arrow = {"arrowstyle": "-", "color": OLD, "linewidth": 0.4} if place not in places[:4] else None
        panel.annotate(
            text, points[numbers[0] - 1], offset, textcoords="offset points", fontsize=7, color=INK, arrowprops=arrow
        )


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Return whether two boxes, each left, low, right and high, have something in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
