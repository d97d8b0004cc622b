"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from samplecache import __version__
from samplecache.lab.contest import pictures
from samplecache.lab.contest.log import RunLog
from samplecache.lab.contest.records import Status
from samplecache.lab.contest.summary import COLUMNS, Row, Spread, Table, number
from samplecache.lab.scenarios.tables import Scenario

_TEMPLATE: Final = "page.html.j2"


@dataclass(frozen=True, slots=True)
class _Cell:
    middle: str
    range: str
    best: bool

    @classmethod
    def of(cls, spread: Spread | None) -> _Cell | None:
        if spread is None:
            return None
        middle, least, most = map(number, (spread.median, spread.least, spread.most))
        return cls(middle, "" if least == most else f"{least} to {most}", spread.best)


def page(log: RunLog, tables: list[Table], scenario: Scenario) -> str:
    """Return the report as HTML.

    Raises
    ------
    ConfigurationError
        matplotlib or jinja2 is not installed.
    """
    pictures.require_matplotlib()
    from jinja2 import Environment, StrictUndefined

    source = (resources.files("samplecache.lab.contest") / _TEMPLATE).read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    days = sorted({run.began[:10] for run in log.runs if run.began})
    return environment.from_string(source).render(
        scenario=scenario,
        name=log.scenario["name"],
        seed=log.scenario["seed"],
        text=log.scenario["text"].strip(),
        runs=len(log.runs),
        when=" to ".join(dict.fromkeys((days[0], days[-1]))) if days else "no date",
        version=__version__,
        parts=[_part(table, f"m{index}") for index, table in enumerate(tables, 1)],
        troubles=_troubles(log),
        columns=COLUMNS,
    )


def _part(table: Table, name: str) -> dict[str, Any]:
    from markupsafe import Markup

    def drawn(svg: str) -> Markup:
        return Markup(svg)  # noqa: S704 -- drawn here; its texts are escaped by matplotlib

    case = table.case
    timelines = [pictures.timeline(row, f"{name}-t{index}") for index, row in enumerate(table.rows)]
    glitched = any(run.stalls for row in table.rows for run in row.runs)
    machine = f"{case.device}, memory {case.memory}"
    return {
        "id": name,
        "how": case.label,
        "short": f"{case.label.lower()}: {machine}",
        "short_machine": machine,
        "title": f"Swap device {case.device}, memory {case.memory}",
        "machine": list(table.machine.items()),
        "columns": table.columns,
        "rows": [
            {
                "rank": row.rank,
                "tied": row.tied,
                "contender": row.contender,
                "bound": row.bound,
                "cells": [_Cell.of(row.cells[column.key]) for column in table.columns],
                "runs": len(row.runs),
                "noisy": row.noisy,
            }
            for row in table.rows
        ],
        "noisy": any(row.noisy for row in table.rows),
        "missing": table.missing,
        "overview": drawn(pictures.overview(table, f"{name}-o")) if table.rows else None,
        "stalls": drawn(pictures.stalls(table, f"{name}-s")) if glitched else None,
        "firsts": drawn(pictures.firsts(table, f"{name}-f")) if table.rows else None,
        "timelines": [drawn(svg) for svg in timelines if svg is not None],
        "reading": reading(table),
    }


def reading(table: Table) -> str:
    """Return in a sentence or two who was heard best, and who was not: from ranks alone."""
    if not table.rows:
        return "nobody could play."
    first = [row for row in table.rows if row.rank == 1]
    rest = [row for row in table.rows if row.rank > 1]
    best = _names(first)
    clean = all(_median(row) == 0 for row in first)
    low, high = number(_median(first[0])), number(_median(first[-1]))
    how = "without a glitch in half of the runs at least" if clean else f"{low} glitches in the median"
    if not rest:
        few = min(len(row.runs) for row in table.rows) < 5
        why = "; fewer than five repetitions tell nobody apart" if few else ""
        spread = how if clean or low == high else f"{low} to {high} glitches in the median"
        return f"all are a tie ({spread}){why}."
    tie = "are a tie at the top" if len(first) > 1 else "is the best"
    after = "; ".join(f"{row.contender} {number(_median(row))}" for row in rest)
    return f"{best} {tie} ({how}). Told apart from that, with glitches in the median: {after}."


def _median(row: Row) -> float:
    glitches, unheard = row.cells["glitches"], row.cells.get("unheard")
    return (glitches.median if glitches else 0) + (unheard.median if unheard else 0)


def _names(rows: list[Row]) -> str:
    names = [row.contender for row in rows]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _troubles(log: RunLog) -> list[tuple[int, str]]:
    """Return what kept runs from counting, or was repeated, and how often."""
    repeated = "repeated because the machine itself stalled"
    counted = Counter(
        f"{run.contender} ({run.case}): {repeated if run.status is Status.NOISY else f'{run.status.value}, {run.why}'}"
        for run in log.runs
        if run.status is not Status.DONE
    )
    return [(count, what) for what, count in counted.items()]
