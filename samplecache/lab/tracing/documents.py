"""Outcomes of traces as documents: JSON objects, and a page for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from samplecache.lab.tracing.bench import Outcome
from samplecache.lab.tracing.comparing import COLUMNS, Verdict
from samplecache.lab.tracing.program import Mode
from samplecache.lab.tracing.published import published_table
from samplecache.lab.tracing.running import Observation, Recording
from samplecache.lab.tracing.setting import State
from samplecache.lab.tracing.steps import AnyStep

MEASURED: Final = "MEASURED"
SIMULATED: Final = "SIMULATED"


def json_document(outcomes: Iterable[Outcome], kernel_release: str, why_simulated: str) -> dict[str, Any]:
    """Return outcomes as a JSON object; what was not compared neither agrees nor not (null)."""
    return {
        "kernel": kernel_release,
        "why_simulated_only": why_simulated or None,
        "traces": [
            {
                "name": outcome.name,
                "title": outcome.program.title,
                "mode": outcome.setting.mode.value,
                "page_cluster": outcome.setting.page_cluster,
                "state": outcome.setting.state.value,
                "agrees": outcome.agrees if outcome.compared else None,
                "runs": [
                    {
                        "agrees": run.agrees if run.compared else None,
                        "foreign_slots": run.foreign_slots,
                        "measured": run.measured and _steps(outcome.program.steps, run.measured),
                        "simulated": _steps(outcome.program.steps, run.simulated),
                        "verdicts": [{each.column: each.verdict.value for each in step} for step in run.comparisons],
                        "surprises": [{"step": index, "what": what} for index, what in run.surprises],
                    }
                    for run in outcome.runs
                ],
            }
            for outcome in outcomes
        ],
    }


def _steps(steps: Sequence[AnyStep], recording: Recording) -> list[dict[str, Any]]:
    return [
        {"thread": step.thread, "do": step.do, **figures(observation), "time_ns": observation.time_ns}
        for step, observation in zip(steps, recording, strict=True)
    ]


def figures(observation: Observation) -> dict[str, int | str]:
    """Return the figures that steps are compared by, by their names."""
    return {column.name: column.value(observation) for column in COLUMNS}


_REASONS: Final = {
    Verdict.TIMING: "a matter of time: whether a read was over when it was looked at",
    Verdict.OTHERS: "other processes' major faults: the thread's own agree",
    Verdict.INTERPRETER: "the interpreter's own minor faults: no page of a region was mapped",
}
_HEADINGS: Final = {
    Mode.VMA: "VMA mode",
    Mode.CLUSTER: "Cluster mode",
    Mode.ZRAM: "zram",
}


def markdown(outcomes: Sequence[Outcome], *, command: str, kernel_release: str, disk: str) -> str:
    """Return a page with the figures of every outcome, and how they were got.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Measured ones.
    command : str
        What gives such a page.
    kernel_release, disk : str
        The machine.
    """
    runs = sum(len(outcome.runs) for outcome in outcomes)
    lines = [
        "# Traces: the same program on both kernels",
        "",
        f"Written by `{command}` on Linux {kernel_release}; the swap file lay on {disk}.",
        "",
        "Each trace ran on the running kernel (a fresh swap area, `vm.page-cluster` as in the heading, whether the",
        "disk turns set before `swapon`, all put back afterwards) and then on the simulated one, which was told what",
        "is not its to decide: the swap slot that each page got, and the calls that each eviction took. All else is",
        "its own: which faults are major, what readahead reads, what is left where. Before a trace in cluster mode a",
        "prelude of faults brings the readahead state, which all processes share, to a known value: *scattered* (no",
        "hits, a window of one page) or *boot* (hits enough for a full window).",
        "",
        "Compared after every step, once all I/O was over: major and minor faults of the step's thread; the machine's",
        "pgmajfault, pswpin, pswpout, swap_ra, swap_ra_hit, swpin_zero, swpout_zero; mincore and the pagemap bits of",
        "every page; swap slots; locked bytes; the error number. Ordered steps have to agree exactly, shuffled ones",
        "within 2 %. What is a matter of time is listed apart and does not count: mincore after a step that does not",
        "settle (`settle = false`, as WILLNEED in trace 9), which is looked at while reads are under way; and whether",
        "a populate or a lock found a read of its own over when it came to the page, which makes a fault major or",
        "minor while their sum agrees. How to write traces of your own: [trace-files.md](trace-files.md).",
        "",
        f"**{sum(outcome.agrees for outcome in outcomes)} of {len(outcomes)} outcomes agree** (nothing differs in more "
        f"than half of their runs), {sum(outcome.agreeing for outcome in outcomes)} of {runs} single runs.",
        "",
        "Figures are MEASURED ones, major/minor/pswpin/swap_ra of all steps but the evictions, of the first run that",
        "is like most; behind them in how many runs the SIMULATED kernel agreed in every column of every step.",
    ]
    for mode in Mode:
        for state in State if mode is Mode.CLUSTER else (State.SCATTERED,):
            part = [each for each in outcomes if (each.setting.mode, each.setting.state) == (mode, state)]
            if part:
                lines += ["", f"## {_HEADINGS[mode]}{f', {state.value}' if mode is Mode.CLUSTER else ''}", ""]
                lines += _table(part)
    lines += published_table(outcomes)
    lines += ["", "## Every difference that counts against a run", ""]
    lines += [
        f"- {each.name}, {each.setting}: {what}" for each in outcomes for what in each.differences((Verdict.DIFFER,))
    ] or ["None."]
    lines += _set_aside(outcomes)
    return "\n".join(lines) + "\n"


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    clusters = sorted({outcome.setting.page_cluster for outcome in outcomes})
    cells = {(outcome.name, outcome.setting.page_cluster): _cell(outcome) for outcome in outcomes}
    names = list(dict.fromkeys(outcome.name for outcome in outcomes))
    rows = [f"| {name} | {' | '.join(cells.get((name, cluster), '') for cluster in clusters)} |" for name in names]
    heading = " | ".join(f"page_cluster {cluster}" for cluster in clusters)
    return [f"| trace | {heading} |", f"|---|{'---|' * len(clusters)}", *rows]


def _set_aside(outcomes: Sequence[Outcome]) -> list[str]:
    """Return which figures may differ for a stated reason, and by how much they did."""
    apart: dict[tuple[Verdict, str, str], list[int]] = {}
    for outcome in outcomes:
        for _, index, each in outcome.judged(_REASONS):
            kind = (each.verdict, outcome.program.steps[index].do, each.column)
            apart.setdefault(kind, []).append(int(each.measured) - int(each.simulated))
    if not apart:
        return []
    rows = [
        f"| {_REASONS[verdict]} | {do} | {column} | {len(values)} | {min(values):+} to {max(values):+} |"
        for (verdict, do, column), values in sorted(apart.items(), key=lambda item: (item[0][0].value, *item[0][1:]))
    ]
    heading = "| why | step | figure | times | MEASURED less SIMULATED |"
    return ["", "## What may differ, and by how much it did", "", heading, "|---|---|---|---|---|", *rows]


def _cell(outcome: Outcome) -> str:
    return f"{outcome.totals or '-'} ({outcome.agreeing} of {len(outcome.runs)})"
