"""``python -m benchmarks.prefetch.page FIGURES.json ... > docs/prefetching.md``: figures as a page.

Every table says above it how its figures were got. Simulated and measured ones never share one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks.prefetch.figures import FIGURES, cell

HEADING: Final = """# What prefetching achieves

Written by `python -m benchmarks.prefetch.page` from what `python -m benchmarks.prefetch` wrote with `--json`. Each cell
is the median over all repetitions, with the least and the greatest where they differ. *MEASURED* is a real server on
the running kernel, with real swap and limits of its own and gRPC clients outside of them, contenders taking turns in a
shuffled order; *SIMULATED* is the same cache in virtual time, where the service takes no time of its own. An underrun
is a block of 20 ms (100 ms in the crowd) that was not ready when due, 100 ms after it could have been sent.
`benchmarks/prefetch/cases.py` says exactly what is played.
"""

ALWAYS: Final = ("underruns", "major faults", "minor faults", "swap-ins a page")
"""Shown also where all are alike; other columns only where they tell contenders apart."""


def main(files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False)]) -> None:
    """Print a page of the figures in FILES, case by case in the order in which they come."""
    results: list[dict[str, Any]] = [result for file in files for result in json.loads(file.read_text())]
    typer.echo(HEADING)
    for case in dict.fromkeys(result["case"] for result in results):
        those = [result for result in results if result["case"] == case]
        typer.echo(f"## `{case}`: {those[0]['about']}\n")
        for result in those:
            typer.echo(f"**{result['how'].replace(':', ':**', 1)}\n")
            typer.echo("\n".join(_table(result["contenders"])) + "\n")


def _table(contenders: dict[str, list[dict[str, Any]]]) -> list[str]:
    rows = {name: [cell([run.get(figure) for run in runs]) for figure in FIGURES] for name, runs in contenders.items()}
    shown = [
        column
        for column, figure in enumerate(FIGURES)
        if figure in ALWAYS or len(rows) == 1 or len({row[column] for row in rows.values()}) > 1
    ]
    titles = [list(FIGURES)[column] for column in shown]
    lines = [f"| played by | {' | '.join(titles)} |", f"|---|{'--:|' * len(titles)}"]
    return lines + [f"| {name} | {' | '.join(row[column] for column in shown)} |" for name, row in rows.items()]


if __name__ == "__main__":
    typer.run(main)
