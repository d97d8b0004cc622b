"""A comparison's figures as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
from functools import partial
from typing import Any

from samplecache.lab.contest.log import RunLog
from samplecache.lab.contest.reading import reading
from samplecache.lab.contest.summary import COLUMNS, Row, Table


def as_csv(log: RunLog) -> str:
    """Return a line for each run, also for those whose figures do not count."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    keys = [column.key for column in COLUMNS]
    out.writerow(
        ["how", "device", "memory", "contender", "bound", "repetition", "seed", "status", "why", "began", *keys]
    )
    for run in log.runs:
        case = run.case
        values = [None if run.figures is None else column.value(run.figures) for column in COLUMNS]
        out.writerow(
            [
                *(case.label, case.device, case.memory, run.contender, run.bound, run.repetition, run.seed),
                *(run.status.value, run.why, run.began),
                *("" if value is None else f"{value:.6g}" for value in values),
            ]
        )
    return text.getvalue()


def as_document(log: RunLog, tables: list[Table]) -> dict[str, Any]:
    """Return all tables and all runs as a JSON object, without timelines."""
    return {
        "scenario": log.scenario,
        "tables": [
            {
                "how": table.case.label,
                "device": table.case.device,
                "memory": table.case.memory,
                "machine": table.machine,
                "rows": [
                    {
                        "contender": row.contender,
                        "bound": row.bound or None,
                        "rank": row.rank,
                        "tied": row.tied,
                        "repetitions": len(row.runs),
                        "noisy": row.noisy,
                        "figures": {
                            key: None
                            if cell is None
                            else {"median": cell.median, "least": cell.least, "most": cell.most, "best": cell.best}
                            for key, cell in row.cells.items()
                        },
                    }
                    for row in table.rows
                ],
                "missing": [{"contender": name, "why": why} for name, why in table.missing],
            }
            for table in tables
        ],
        "runs": [run.model_dump(mode="json", exclude={"timeline"}) for run in log.runs],
    }


def as_markdown(tables: list[Table]) -> str:
    """Return all tables for whoever writes about them: a heading, what it comes to and what it was measured on."""
    return "\n\n".join(map(_section, tables)) + "\n"


def _section(table: Table) -> str:
    case = table.case
    parts = [
        f"### {case.label}: swap device {case.device}, memory {case.memory}",
        reading(table),
        "; ".join(f"{what} {value}" for what, value in table.machine.items()),
    ]
    if table.rows:
        heads = ["rank", "contender", *(column.title for column in table.columns), "runs"]
        marks = ["---", "---", *["--:"] * len(table.columns), "---"]
        parts.append("\n".join(_line(cells) for cells in (heads, marks, *map(partial(_cells, table), table.rows))))
    parts += [f"{name} is not in the table: {why}" for name, why in table.missing]
    return "\n\n".join(part for part in parts if part)


def _cells(table: Table, row: Row) -> list[str]:
    return [
        f"{row.rank} (tie)" if row.tied else f"{row.rank}",
        f"`{row.contender}`" + (f" → `{row.bound}`" if row.bound else ""),
        *(str(row.cells[column.key] or "-") for column in table.columns),
        f"{len(row.runs)}, {row.noisy} noisy" if row.noisy else f"{len(row.runs)}",
    ]


def _line(cells: list[str]) -> str:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"
