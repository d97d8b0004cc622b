"""``python -m benchmarks [NAME ...] [--json]``."""

from __future__ import annotations

import importlib
import json
import os
import platform
from typing import Annotated, Final

import typer

from benchmarks.measuring import Figure
from samplecache.cli.render import print_table, stderr
from samplecache.cli.values import JsonFlag

BENCHMARKS: Final = ("paging", "playback", "store", "simulation")
"""Modules of this package with a function ``measure() -> list[Figure]``, in the order in which they run."""


def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help=f"Of {', '.join(BENCHMARKS)}.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure what is named, or everything, on this machine."""
    for name in names or ():
        if name not in BENCHMARKS:
            raise typer.BadParameter(f"{name!r} is no benchmark. Give some of {', '.join(BENCHMARKS)}")
    results: dict[str, list[Figure]] = {}
    for name in names or BENCHMARKS:
        stderr().print(f"measuring {name} ...")
        results[name] = importlib.import_module(f"benchmarks.{name}").measure()
    if as_json:
        figures = {name: [figure.document() for figure in measured] for name, measured in results.items()}
        typer.echo(json.dumps({"how": "measured", "machine": _machine(), "benchmarks": figures}, indent=2))
        return
    typer.echo(f"MEASURED on {', '.join(_machine().values())}")
    for name, measured in results.items():
        typer.echo(f"\n{name}")
        columns = ("what", "median", "unit", "spread", "repetitions")
        print_table(columns, [_row(figure) for figure in measured], empty="nothing", numbers=columns[1::2])


def _row(figure: Figure) -> tuple[str, ...]:
    repetitions = len(figure.values)
    median = f"{figure.median:,.0f}" if figure.median >= 100 else f"{figure.median:.1f}"
    return figure.name, median, figure.unit, f"{figure.spread:.0%}" if repetitions > 1 else "-", str(repetitions)


def _machine() -> dict[str, str]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "cpus": f"{os.cpu_count()} CPUs",
    }


if __name__ == "__main__":
    typer.run(main)
