"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from samplecache import __version__
from samplecache.lab.contest import pictures
from samplecache.lab.contest.drawing import require_matplotlib
from samplecache.lab.contest.log import RunLog
from samplecache.lab.contest.reading import median_of, reading
from samplecache.lab.contest.records import Status
from samplecache.lab.contest.summary import (
    COLUMNS,
    HEARD,
    TOOK,
    Column,
    Row,
    Spread,
    Table,
    labels_of,
    number,
    standing,
)
from samplecache.lab.contest.timelines import timeline
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
    require_matplotlib()
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
        matrices=_matrices(tables),
        parts=[_part(table, f"m{index}") for index, table in enumerate(tables, 1)],
        players=_players(log),
        troubles=_troubles(log),
        columns=COLUMNS,
        broken=_broken,
    )


def _broken(name: str) -> Any:
    """Return a contender's name as HTML that may be broken where it has a joint."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[:-])", name))


def _part(table: Table, name: str) -> dict[str, Any]:
    from markupsafe import Markup

    def drawn(svg: str) -> Markup:
        return Markup(svg)  # noqa: S704 -- drawn here; its texts are escaped by matplotlib

    case = table.case
    labels = labels_of(table.rows)
    timelines = [
        timeline(row, label, f"{name}-t{index}")
        for index, (row, label) in enumerate(zip(table.rows, labels, strict=True))
    ]
    glitched = any(run.stalls for row in table.rows for run in row.runs)
    machine = f"{case.device}, memory {case.memory}"
    return {
        "id": name,
        "how": case.label,
        "measured": case.measured,
        "short_machine": machine,
        "title": f"Swap device {case.device}, memory {case.memory}",
        "machine": list(table.machine.items()),
        "tables": [_figures(table, "What was heard", HEARD), _figures(table, "What it took", TOOK)],
        "mapped_only": any(row.typical.timeline and row.typical.timeline.mapped_only for row in table.rows),
        "noisy": any(row.noisy for row in table.rows),
        "missing": table.missing,
        "overview": drawn(pictures.overview(table, f"{name}-o")) if table.rows else None,
        "stalls": drawn(pictures.stalls(table, f"{name}-s")) if glitched else None,
        "firsts": drawn(pictures.firsts(table, f"{name}-f")) if table.rows else None,
        "timelines": [drawn(svg) for svg in timelines if svg is not None],
        "reading": reading(table),
    }


def _figures(table: Table, title: str, part: tuple[Column, ...]) -> dict[str, Any]:
    """Return some of the columns of a table."""
    columns = [column for column in table.columns if column in part]
    return {
        "title": title,
        "columns": columns,
        "rows": [
            {
                "rank": row.rank,
                "tied": row.tied,
                "contender": row.contender,
                "bound": row.bound,
                "cells": [_Cell.of(row.cells[column.key]) for column in columns],
                "runs": len(row.runs),
                "noisy": row.noisy,
            }
            for row in table.rows
        ],
    }


def _matrices(tables: list[Table]) -> list[dict[str, Any]]:
    """Return all contenders' glitches on measured and on simulated machines, each a column."""
    numbered = list(enumerate(tables, 1))
    found = []
    for how in dict.fromkeys(table.case.label for table in tables):
        mine = [(index, table) for index, table in numbered if table.case.label == how]
        by_name = [{row.contender: row for row in table.rows} for _, table in mine]
        found.append(
            {
                "how": how,
                "machines": [(f"m{index}", table.case.device, table.case.memory) for index, table in mine],
                "rows": [
                    (name, [_mark(rows[name]) if name in rows else None for rows in by_name])
                    for name in standing([table for _, table in mine])
                ],
            }
        )
    return found


def _mark(row: Row) -> dict[str, Any]:
    glitches = row.cells["glitches"]
    return {
        "middle": number(median_of(row)),
        "rank": f"{row.rank}, a tie" if row.tied else f"{row.rank}",
        "best": glitches is not None and glitches.best,
    }


def _players(log: RunLog) -> list[tuple[str, str, str]]:
    """Return who played on the running kernel: name, what exactly that is, and what a reader must know of it."""
    told = {run.contender: run for run in log.runs if run.version}
    return [(name, run.version, "; ".join(run.notes)) for name, run in sorted(told.items())]


def _troubles(log: RunLog) -> list[tuple[int, str]]:
    """Return what kept runs from counting, or had them repeated, and how often."""
    repeated = "the machine itself stalled"
    counted = Counter(
        f"{run.contender} ({run.case}): {repeated if run.status is Status.NOISY else f'{run.status.value}, {run.why}'}"
        for run in log.runs
        if run.status is not Status.DONE
    )
    return [(count, what) for what, count in counted.items()]
