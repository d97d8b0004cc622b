"""``python -m benchmarks.prefetch [CASE ...] [--kernel simulated|linux|both] [--repeat N] [--json FILE]``."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import platform
import random
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks.prefetch import real, simulated
from benchmarks.prefetch.cases import CASES, Case
from benchmarks.prefetch.figures import Run, Series, table
from samplecache.cli.render import print_table, stderr
from samplecache.errors import SamplecacheError

NOISY_MS: Final = 50
"""A machine that wakes a sleeping thread so late makes half a lead's lateness of its own: such a run is repeated."""
ATTEMPTS: Final = 5


class On(enum.StrEnum):
    """Which kernels to play on."""

    SIMULATED = "simulated"
    LINUX = "linux"
    BOTH = "both"


def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="[CASE]...", help=f"Of {', '.join(CASES)}.")] = None,
    kernel: Annotated[On, typer.Option(help="Where: linux needs root, and makes swap and limits of its own.")] = (
        On.SIMULATED
    ),
    repeat: Annotated[int, typer.Option(min=1, help="Repetitions; contenders take turns within each.")] = 10,
    contenders: Annotated[str, typer.Option(help="Only these, by label, with commas between.")] = "",
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write all single figures.")] = None,
) -> None:
    """Play cases under several strategies and print median (range) of what came of it."""
    for name in names or ():
        if name not in CASES:
            raise typer.BadParameter(f"{name!r} is no case. Give some of {', '.join(CASES)}")
    results: list[dict[str, Any]] = []
    for name in names or CASES:
        case = _only(CASES[name], contenders)
        for where in (On.SIMULATED, On.LINUX):
            if kernel in (where, On.BOTH):
                label, series = _simulate(case, repeat) if where is On.SIMULATED else _measure(case, repeat)
                _print(case, label, series)
                results.append(_document(case, label, series))
                if json_file is not None:
                    json_file.write_text(json.dumps(results, indent=1))


def _only(case: Case, labels: str) -> Case:
    if not labels:
        return case
    by_name = {contender.name: contender for contender in case.contenders}
    wanted = labels.split(",")
    if unknown := set(wanted) - by_name.keys():
        raise typer.BadParameter(f"{case.name} has no {min(unknown)!r}. Give some of {', '.join(by_name)}")
    return dataclasses.replace(case, contenders=tuple(c for name, c in by_name.items() if name in wanted))


def _simulate(case: Case, repeat: int) -> tuple[str, list[Series]]:
    series = [Series(contender.name) for contender in case.contenders]
    for seed in range(repeat):
        for contender, those in zip(case.contenders, series, strict=True):
            stderr().print(f"simulating {case.name}, {contender.name}, seed {seed} ...")
            those.runs.append(simulated.run(case, contender, seed))
    return f"SIMULATED: {case.simulated_device}, {case.device_line}; seeds 0 to {repeat - 1}", series


def _measure(case: Case, repeat: int) -> tuple[str, list[Series]]:
    series = [Series(contender.name) for contender in case.contenders]
    order = random.Random(0)  # noqa: S311 -- turns, no secret
    noisy, killed = 0, Counter[str]()
    with contextlib.ExitStack() as stage:
        server = stage.enter_context(real.serve(case, case.workload("", False)))
        for repetition in range(repeat):
            turns = list(zip(case.contenders, series, strict=True))
            order.shuffle(turns)  # so that none always follows the same one
            for contender, those in turns:
                stderr().print(f"measuring {case.name}, {contender.name}, {repetition + 1} of {repeat} ...")
                for attempt in range(ATTEMPTS):
                    try:
                        run: Run = real.run(case, contender, server)
                    except (ExceptionGroup, SamplecacheError):
                        if not server.killed:
                            raise
                        killed[contender.name] += 1
                        stage.close()
                        server = stage.enter_context(real.serve(case, case.workload("", False)))
                        continue
                    if run.machine_ns < NOISY_MS * 1_000_000 or attempt == ATTEMPTS - 1:
                        those.runs.append(run)
                        break
                    noisy += 1
    label = f"MEASURED: Linux {platform.release()}, fresh swap file, {case.device_line}; {repeat} turns"
    if noisy:
        label += f"; {noisy} runs that the machine itself stalled by over {NOISY_MS} ms were repeated"
    for name, times in killed.items():
        label += f"; under {name} the kernel's OOM killer ended the server {times} times, and it was tried again"
    return label, series


def _print(case: Case, label: str, series: list[Series]) -> None:
    typer.echo(f"\n{case.name}: {case.about}\n{label}; median (range)")
    columns, rows = table({those.contender: those.figures for those in series})
    print_table(columns, rows, empty="nothing", numbers=columns[1:])


def _document(case: Case, label: str, series: list[Series]) -> dict[str, Any]:
    return {
        "case": case.name,
        "about": case.about,
        "how": label,
        "contenders": {
            those.contender: [
                dataclasses.asdict(run) | figures for run, figures in zip(those.runs, those.figures, strict=True)
            ]
            for those in series
        },
    }


if __name__ == "__main__":
    typer.run(main)
