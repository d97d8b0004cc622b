"""lab trace."""

from __future__ import annotations

import enum
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from samplecache.cli.values import JsonFlag, check_writable
from samplecache.errors import NotPermittedError

if TYPE_CHECKING:
    from samplecache.lab.tracing.bench import Outcome, Run
    from samplecache.lab.tracing.comparing import Column
    from samplecache.lab.tracing.program import Program
    from samplecache.lab.tracing.setting import Setting

PAGE_CLUSTERS: Final = range(6)
"""The window is at most 32 pages in VMA mode, so larger values tell nothing more."""
DEFAULT_PAGE_CLUSTER: Final = 3


class ModeName(enum.StrEnum):
    """Modes, by their names on the command line."""

    VMA = "vma"
    CLUSTER = "cluster"
    ZRAM = "zram"


class StateName(enum.StrEnum):
    """States of cluster readahead, likewise."""

    SCATTERED = "scattered"
    BOOT = "boot"


def register(lab: typer.Typer) -> None:
    """Add the command."""
    lab.command("trace")(trace)


def trace(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...|FILE]", help="Traces that ship with samplecache, or TOML files; all if none."),
    ] = None,
    modes: Annotated[
        list[ModeName] | None,
        typer.Option("--mode", help="Kind of swap, any number of times; the trace's own if none."),
    ] = None,
    page_clusters: Annotated[
        list[int] | None,
        typer.Option("--page-cluster", min=0, max=31, help="vm.page-cluster, likewise."),
    ] = None,
    state: Annotated[
        StateName, typer.Option(help="What cluster readahead is made to remember first.")
    ] = StateName.SCATTERED,
    all_modes: Annotated[
        bool, typer.Option("--all-modes", help="Every mode, state and page-cluster from 0 to 5. Takes minutes.")
    ] = False,
    repeat: Annotated[
        int, typer.Option(min=1, max=1000, help="Runs of each; they agree if more than half of them do.")
    ] = 3,
    simulated_only: Annotated[bool, typer.Option("--simulated-only", help="Leave the running kernel alone.")] = False,
    as_json: JsonFlag = False,
    markdown: Annotated[
        Path | None, typer.Option(dir_okay=False, metavar="FILE", help="Write a page with all figures to this file.")
    ] = None,
) -> None:
    """Run programs of paging operations on the running kernel and on the simulated one, and compare step by step.

    Needs root, since it makes swap; without, it runs on the simulated kernel only. Whatever it sets up is put back.
    Ends with code 1 if the kernels disagree.
    """
    from samplecache.cli.document import print_json
    from samplecache.lab.tracing.documents import json_document
    from samplecache.lab.tracing.reading import all_named, library

    if all_modes and (modes or page_clusters):
        raise typer.BadParameter("--all-modes stands for every --mode and --page-cluster; leave them out")
    programs = all_named(names or library())
    why_simulated = _why_simulated(simulated_only)
    if markdown is not None and why_simulated:
        raise NotPermittedError(
            f"There is nothing measured to write to {markdown}: {why_simulated}", remedy="Leave --markdown out"
        )
    check_writable(markdown)
    plan = _plan(programs, modes or [], page_clusters or [], state, all_modes=all_modes)
    outcomes = _run(plan, 1 if why_simulated else repeat, measuring=not why_simulated)
    if as_json:
        print_json(json_document(outcomes, platform.release(), why_simulated))
    else:
        if why_simulated:
            typer.echo(f"simulated only: {why_simulated}")
        for outcome in outcomes:
            _print(outcome)
        if not why_simulated:
            agreeing = sum(outcome.agrees for outcome in outcomes)
            typer.echo(f"{agreeing} of {len(outcomes)} agree")
    if markdown is not None:
        _write(markdown, outcomes)
    if any(not outcome.agrees for outcome in outcomes):
        raise typer.Exit(1)


def _why_simulated(asked: bool) -> str:
    """Return why only the simulated kernel runs; empty if both do."""
    if asked:
        return "as asked"
    return "" if os.geteuid() == 0 else "making swap needs root"


def _plan(
    programs: dict[str, Program],
    modes: Sequence[ModeName],
    page_clusters: Sequence[int],
    state: StateName,
    *,
    all_modes: bool,
) -> dict[Setting, dict[str, Program]]:
    """Return what to run in which machine."""
    from samplecache.lab.tracing.program import Mode
    from samplecache.lab.tracing.setting import Setting, State

    plan: dict[Setting, dict[str, Program]] = {}
    if all_modes:
        settings = [
            *(Setting(Mode.VMA, cluster) for cluster in PAGE_CLUSTERS),
            *(Setting(Mode.CLUSTER, cluster, each) for each in State for cluster in PAGE_CLUSTERS),
            Setting(Mode.ZRAM, DEFAULT_PAGE_CLUSTER),
        ]
        return dict.fromkeys(settings, programs)
    for name, program in programs.items():
        for mode in [Mode(each.value) for each in modes] or program.modes:
            for cluster in page_clusters or program.page_clusters:
                own_state = State(state.value) if mode is Mode.CLUSTER else State.SCATTERED
                plan.setdefault(Setting(mode, cluster, own_state), {})[name] = program
    return plan


def _run(plan: dict[Setting, dict[str, Program]], repeat: int, *, measuring: bool) -> list[Outcome]:
    from samplecache.cli.render import progress
    from samplecache.lab.tracing.bench import Outcome, bench, simulate
    from samplecache.lab.tracing.setting import swap_bytes_for

    outcomes: list[Outcome] = []
    with progress(in_bytes=False) as shown:
        task = shown.add_task("traces", total=sum(map(len, plan.values())))
        for setting, programs in plan.items():
            swap_bytes = swap_bytes_for(*programs.values())

            def run_all(run: Callable[[Program], Run]) -> None:
                for name, program in programs.items():  # noqa: B023 -- called before the next turn
                    runs = tuple(run(program) for _ in range(repeat))
                    outcomes.append(Outcome(name, program, setting, runs))  # noqa: B023
                    shown.advance(task)

            if measuring:
                with bench(setting, swap_bytes) as machine:
                    run_all(machine.run)
            else:
                run_all(partial(simulate, setting=setting, swap_bytes=swap_bytes))
    return outcomes


def _print(outcome: Outcome) -> None:
    from samplecache.cli.render import print_table
    from samplecache.lab.tracing.comparing import COLUMNS

    run, program = outcome.shown, outcome.program
    standing = f": agree in {outcome.agreeing} of {len(outcome.runs)} runs" if run.measured is not None else ""
    typer.echo(f"{outcome.name} ({outcome.setting}){standing}. {program.about or program.title}.")
    recordings = [each for each in (run.measured, run.simulated) if each is not None]
    telling = [
        column for column in COLUMNS if any(column.value(observation) for each in recordings for observation in each)
    ]
    columns = ("step", "by", "", *(column.name for column in telling), "time")
    print_table(columns, list(_rows(program, run, telling)), empty="no step", numbers=columns[3:])
    for what in outcome.differences():
        typer.echo(what)
    if run.foreign_slots:
        typer.echo(f"{run.foreign_slots} swap slots were others' when the run began; clusters may have read them")
    typer.echo()


def _rows(program: Program, run: Run, telling: Sequence[Column]) -> Iterator[tuple[object, ...]]:
    """Yield the rows of each step: what both kernels did, and whether that is the same."""
    from samplecache.cli.render import duration
    from samplecache.lab.tracing.documents import MEASURED, SIMULATED

    for index, step in enumerate(program.steps):
        label: tuple[str, str] = (f"{index + 1} {step.do}", step.thread)
        for how, recording in ((MEASURED, run.measured), (SIMULATED, run.simulated)):
            if recording is not None:
                seen = recording[index]
                yield *label, how, *(column.value(seen) for column in telling), duration(seen.time_ns)
                label = ("", "")
        if run.comparisons:
            verdicts = {each.column: each.verdict.value for each in run.comparisons[index]}
            yield "", "", "", *(verdicts[column.name] for column in telling), ""


def _write(file: Path, outcomes: Sequence[Outcome]) -> None:
    import sys

    from samplecache.kernel import procfs
    from samplecache.lab.rig import DEFAULT_DIRECTORY
    from samplecache.lab.tracing.documents import markdown

    disk = procfs.disk_under(DEFAULT_DIRECTORY)
    command = " ".join(["samplecache", *sys.argv[1:]])
    page = markdown(
        outcomes,
        command=command,
        kernel_release=platform.release(),
        disk=f"the disk {disk.name}" if disk else "no disk",
    )
    file.write_text(page, encoding="utf-8")
