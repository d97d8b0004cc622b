"""``python -m benchmarks [NAME ...] [--json]``."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import platform
import statistics
import time
from typing import Annotated, Final

import typer

from benchmarks.measuring import Figure
from samplecache.cli.render import print_table, stderr
from samplecache.cli.values import JsonFlag
from samplecache.clock import NS_PER_MS

BENCHMARKS: Final = ("paging", "playback", "store", "scaling", "simulation", "streaming", "isolation")
"""Modules of this package with a function ``measure() -> list[Figure]``, in the order in which they run.

Some take ``quick=True``: they then only show that they run.
"""


def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help=f"Of {', '.join(BENCHMARKS)}.")] = None,
    as_json: JsonFlag = False,
    quick: Annotated[bool, typer.Option(help="Only see whether they run; the figures mean nothing.")] = False,
) -> None:
    """Measure what is named, or everything, on this machine."""
    for name in names or ():
        if name not in BENCHMARKS:
            raise typer.BadParameter(f"{name!r} is no benchmark. Give some of {', '.join(BENCHMARKS)}")
    results: dict[str, list[Figure]] = {}
    took_s: dict[str, float] = {}
    for name in names or BENCHMARKS:
        stderr().print(f"measuring {name} ...")
        measure = importlib.import_module(f"benchmarks.{name}").measure
        began_s = time.monotonic()
        results[name] = measure(quick=True) if quick and "quick" in inspect.signature(measure).parameters else measure()
        took_s[name] = round(time.monotonic() - began_s, 1)
        stderr().print(f"{name} took {took_s[name]:.0f} s")
    if as_json:
        figures = {name: [figure.document() for figure in measured] for name, measured in results.items()}
        document = {"how": "measured", "machine": _machine(), "took_s": took_s, "benchmarks": figures}
        typer.echo(json.dumps(document, indent=2))
        return
    typer.echo(f"MEASURED on {', '.join(_machine().values())}, in {sum(took_s.values()):.0f} s")
    for name, measured in results.items():
        typer.echo(f"\n{name}, {took_s[name]:.0f} s")
        columns = ("what", "median", "unit", "spread", "repetitions", "witness", "steal")
        print_table(columns, [_row(figure) for figure in measured], empty="nothing", numbers=columns[1::2])


def _row(figure: Figure) -> tuple[str, ...]:
    repetitions = len(figure.values)
    median = f"{figure.median:,.0f}" if abs(figure.median) >= 100 else f"{figure.median:.3g}"
    watched = figure.machine
    return (
        figure.name,
        median,
        figure.unit,
        f"{figure.spread:.0%}" if repetitions > 1 else "-",
        str(repetitions),
        f"{statistics.median(each.late_p999_ns for each in watched) / NS_PER_MS:.1f} ms" if watched else "-",
        f"{sum(each.steal_ns for each in watched) / NS_PER_MS:.0f} ms" if watched else "-",
    )


def _machine() -> dict[str, str]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "cpus": f"{os.cpu_count()} CPUs",
    }


if __name__ == "__main__":
    typer.run(main)
