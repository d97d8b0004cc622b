"""``python -m benchmarks.prefetch.page FIGURES.json ... > docs/prefetching.md``: figures as a page.

Every table says above it how its figures were got. Simulated and measured ones never share one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks.prefetch.figures import table

HEADING: Final = """# What prefetching achieves

Written by `python -m benchmarks.prefetch.page` from what `python -m benchmarks.prefetch` wrote with `--json`. Each cell
is the median over all repetitions, with the least and the greatest where they differ. *MEASURED* is a real server on
the running kernel, with real swap and limits of its own and gRPC clients outside of them, contenders taking turns in a
shuffled order; *SIMULATED* is the same cache in virtual time, where the service takes no time of its own. An underrun
is a block of 20 ms (100 ms in the crowd) that was not ready when due, 100 ms after it could have been sent.
`benchmarks/prefetch/cases.py` says exactly what is played.
"""


def main(files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False)]) -> None:
    """Print a page of the figures in FILES, case by case in the order in which they come."""
    results: list[dict[str, Any]] = [result for file in files for result in json.loads(file.read_text())]
    typer.echo(HEADING)
    for case in dict.fromkeys(result["case"] for result in results):
        those = [result for result in results if result["case"] == case]
        typer.echo(f"## `{case}`: {those[0]['about']}\n")
        for result in those:
            typer.echo(f"**{result['how'].replace(':', ':**', 1)}\n")
            typer.echo("\n".join(_markdown(*table(result["contenders"]))) + "\n")


def _markdown(columns: list[str], rows: list[list[str]]) -> list[str]:
    lines = [columns, ["---", *["--:"] * (len(columns) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


if __name__ == "__main__":
    typer.run(main)
