"""lab compare, lab report."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from samplecache.cli.values import JsonFlag
from samplecache.errors import ConfigurationError, InvalidError, NotPermittedError, SamplecacheError, StateError

if TYPE_CHECKING:
    from samplecache.lab.contest.log import RunLog
    from samplecache.lab.contest.playing import Plan
    from samplecache.lab.contest.records import Run
    from samplecache.lab.contest.summary import Table
    from samplecache.lab.scenarios.reading import Play
    from samplecache.strategy.registry import StrategyRegistry

REPORT: Final = "report.html"
RESULTS_JSON: Final = "results.json"
RESULTS_CSV: Final = "results.csv"
RESULTS_MARKDOWN: Final = "results.md"
PICTURE: Final = "picture.png"
INTERRUPTED: Final = 130


class KernelName(enum.StrEnum):
    """Kernels to play on, by their names on the command line."""

    SIMULATED = "simulated"
    LINUX = "linux"
    BOTH = "both"


def register(lab: typer.Typer) -> None:
    """Add the commands."""
    lab.command("compare")(compare)
    lab.command("report")(report)
    lab.command("scenarios")(scenarios)


def scenarios(as_json: JsonFlag = False) -> None:
    """List the scenarios that ship with samplecache."""
    from samplecache.cli.document import print_json
    from samplecache.cli.render import duration, print_table, size
    from samplecache.lab.scenarios.reading import library, load

    rows = []
    for name in library():
        play = load(name)
        score = play.score()
        rows.append((name, play.scenario.title, len(score.sounds), score.stored_bytes, len(score.cues), score.stop_ns))
    columns = ("name", "what it is", "samples", "size", "played", "length")
    if as_json:
        keys = ("name", "title", "samples", "stored_bytes", "cues", "length_ns")
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    shown = [(*row[:3], size(row[3]), row[4], duration(row[5])) for row in rows]
    print_table(columns, shown, empty="none", numbers=columns[2:])


def compare(
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="See 'lab scenarios'; or a TOML file.")],
    kernel: Annotated[KernelName, typer.Option(help="Where to play; linux needs root.")] = KernelName.SIMULATED,
    device: Annotated[
        str, typer.Option(help="unthrottled, zram, 400iops, 2MB/s, with commas between; else the scenario's.")
    ] = "",
    memory: Annotated[
        str, typer.Option(help="ample, 0.5x (of the samples), 48MiB, with commas between; else the scenario's.")
    ] = "",
    strategies: Annotated[
        str | None, typer.Option(help="Names with commas between, or an empty text; else the scenario's.")
    ] = None,
    contenders: Annotated[
        str | None,
        typer.Option(help="What else plays on linux, with commas between, or an empty text; else the scenario's."),
    ] = None,
    repeat: Annotated[int, typer.Option(min=0, max=1000, help="Repetitions; 0 for the scenario's.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Of schedules; else the scenario's.")] = None,
    retries: Annotated[
        int, typer.Option(min=0, max=100, help="How often a run that the machine disturbed is played again.")
    ] = 2,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", file_okay=False, help="Directory; else named like the scenario.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Play a scenario over strategies, kernels, devices and memory limits, interleaved, and report on it.

    Runs go to the directory as they end. Called again with the same directory it plays what is missing, be it after
    an interruption or because more is asked for. A real kernel's swap, limits and sound servers are put back at the
    end of each run, however that comes.
    """
    from samplecache.lab.contest.drawing import require_matplotlib
    from samplecache.lab.contest.log import RunLog
    from samplecache.lab.scenarios.reading import load
    from samplecache.strategy.registry import StrategyRegistry

    require_matplotlib()
    play = load(scenario)
    registry = StrategyRegistry.discover()
    plan = _plan(play, registry, kernel, device, memory, strategies, contenders, repeat, seed)
    plan = dataclasses.replace(plan, retries=retries)
    directory = output or Path(f"{play.name}-report")
    identity = {"name": play.name, "seed": plan.seed, "text": play.text}
    log = RunLog.open(directory, identity)
    interrupted = False
    try:
        with _terminated_like_interrupted():
            _play(plan, log, registry)
    except KeyboardInterrupt:
        interrupted = True
        log = RunLog.read(directory)  # the last run may have been on disk already, and nowhere else
    if log.runs:
        _report(log, as_json=as_json)
    if interrupted:
        typer.echo(f"interrupted; {len(log.runs)} runs are kept, and the same command goes on from there", err=True)
        raise typer.Exit(INTERRUPTED)
    if not any(run.status.counts for run in log.runs):
        raise typer.Exit(1)


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A directory of 'lab compare'.")],
    as_json: JsonFlag = False,
) -> None:
    """Write the report anew from the runs in a directory; play nothing."""
    from samplecache.lab.contest.log import RunLog

    log = RunLog.read(directory)
    if not log.runs:
        raise ConfigurationError(f"{directory} has no runs", remedy="Have 'samplecache lab compare' play some")
    _report(log, as_json=as_json)


def _plan(
    play: Play,
    registry: StrategyRegistry,
    kernel: KernelName,
    device: str,
    memory: str,
    strategies: str | None,
    contenders: str | None,
    repeat: int,
    seed: int | None,
) -> Plan:
    """Return what to play; all that can be wrong is found out here, before anything is set up."""
    from samplecache.audio.format import Encoding
    from samplecache.lab.contest.playing import Plan
    from samplecache.lab.contest.records import LINUX, SAMPLECACHE, SIMULATED, Case
    from samplecache.lab.scenarios.tables import parse_memory
    from samplecache.lab.swap_device import SwapDevice

    scenario = play.scenario
    devices = _names(device) or scenario.devices
    memories = _names(memory) or scenario.memory
    for name in devices:
        SwapDevice.parse(name)
    for name in memories:
        parse_memory(name)
    named = _known(strategies, scenario.strategies, registry.check, partial(play.complaint, "strategies"))
    kernels = {KernelName.SIMULATED: [SIMULATED], KernelName.LINUX: [LINUX]}.get(kernel, [LINUX, SIMULATED])
    others = _known(
        contenders, scenario.contenders, partial(_check_name, registry), partial(play.complaint, "contenders")
    )
    if LINUX in kernels:
        if os.geteuid() != 0:
            raise NotPermittedError(
                "Setting up swap and control groups needs root", remedy="Run as root, or with --kernel simulated"
            )
        _check_able(others, play)
    elif contenders:
        raise InvalidError(
            f"{contenders} cannot play on the simulated kernel", remedy="Add --kernel linux, or leave --contenders out"
        )
    else:
        others = []
    if not named and not others:
        raise InvalidError("nobody is to play", remedy="Name a strategy or a contender")
    encodings = {sound.sample.format.encoding for sound in play.sounds}
    suffix = ":f32" if encodings == {Encoding.F32} else ""
    return Plan(
        play,
        tuple(Case(kernel=k, device=d, memory=m) for k in kernels for d in devices for m in memories),
        (*(f"{SAMPLECACHE}{name}{suffix}" for name in named), *others),
        repeat or scenario.repetitions,
        scenario.seed if seed is None else seed,
    )


def _known(
    asked: str | None,
    of_file: list[str],
    check: Callable[[str], object],
    complaint: Callable[[SamplecacheError], ConfigurationError],
) -> list[str]:
    """Return the names asked for, else those of the file, whose line is told if one is not known."""
    names = of_file if asked is None else _names(asked)
    for name in names:
        try:
            check(name)
        except SamplecacheError as error:
            raise (complaint(error) if asked is None else error) from None
    return names


def _check_name(registry: StrategyRegistry, contender: str) -> None:
    """Raise unless there is such a contender, under such a strategy."""
    from samplecache.lab.contest.records import SAMPLECACHE
    from samplecache.lab.ear.contenders.registry import contender as make_contender

    make_contender(contender)
    if contender.startswith(SAMPLECACHE):
        registry.check(contender.split(":")[1])


def _check_able(contenders: list[str], play: Play) -> None:
    """Raise unless all `contenders` are there and can play the scenario."""
    from samplecache.lab.contest.measured import check

    for name in contenders:
        try:
            check(name, play.score())
        except (NotPermittedError, StateError) as error:
            others = ",".join(other for other in contenders if other != name)
            raise type(error)(
                error.message, remedy=f"{error.remedy}, or leave it out: --contenders '{others}'"
            ) from None


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does for the length of the block, so that it is reported on what was played."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _play(plan: Plan, log: RunLog, registry: StrategyRegistry) -> None:
    from samplecache.cli.render import progress
    from samplecache.lab.contest.measured import measuring
    from samplecache.lab.contest.playing import play_all, simulating
    from samplecache.lab.contest.records import Case

    settled = log.settled()
    waiting = sum(
        (case, contender, repetition) not in settled for repetition, contender, cases in plan.turns() for case in cases
    )
    with progress(in_bytes=False) as shown:
        task = shown.add_task("playing", total=waiting)

        def before(repetition: int, case: Case, contender: str) -> None:
            shown.update(task, description=f"{contender}: {case}, repetition {repetition + 1}")

        def after(run: Run) -> None:
            if run.why:
                shown.console.print(f"{run.contender}, {run.case}: {run.status.value}: {run.why}")

        def over(repetition: int, case: Case, contender: str) -> None:
            shown.advance(task)

        play_all(plan, log, simulating(plan.play, registry), measuring, before, after, over)


def _report(log: RunLog, *, as_json: bool) -> None:
    """Write all that comes of the runs into their directory, and show the tables."""
    from samplecache.cli.document import print_json
    from samplecache.lab.contest.exporting import as_csv, as_document, as_markdown
    from samplecache.lab.contest.page import page
    from samplecache.lab.contest.pictures import picture
    from samplecache.lab.contest.summary import tables
    from samplecache.lab.scenarios.tables import Scenario
    from samplecache.lab.toml_file import TomlFile

    found = tables(log)
    scenario = Scenario.model_validate(TomlFile(log.scenario["text"], log.scenario["name"]).document)
    document = as_document(log, found)
    _write(log.directory / RESULTS_JSON, _json(document))
    _write(log.directory / RESULTS_CSV, as_csv(log))
    _write(log.directory / RESULTS_MARKDOWN, as_markdown(found))
    _write(log.directory / REPORT, page(log, found, scenario))
    drawable = [table for table in found if table.rows]
    # Measured and simulated figures never stand in one picture.
    if drawable := [table for table in drawable if table.case.measured] or drawable:
        picture(drawable, scenario.title, log.directory / PICTURE)
    if as_json:
        print_json(document)
        return
    for table in found:
        _print(table)
    figures = ", ".join((RESULTS_JSON, RESULTS_CSV, RESULTS_MARKDOWN))
    typer.echo(f"report: {log.directory / REPORT}   figures: {figures}   picture: {PICTURE}")


def _json(document: dict[str, Any]) -> str:
    import json

    return json.dumps(document, indent=1) + "\n"


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NotPermittedError(
            f"{file} cannot be written: {error.strerror}", remedy="Free space, or name another directory with -o"
        ) from error


def _print(table: Table) -> None:
    from samplecache.cli.render import print_table
    from samplecache.lab.contest.reading import reading

    typer.echo(f"{table.case}: {reading(table)}")
    if table.rows:
        shown = [column for column in table.columns if column.key in _SHOWN]
        print_table(
            ("rank", "contender", *(column.title for column in shown), "runs"),
            [
                (
                    f"{row.rank}{' (tie)' if row.tied else ''}",
                    f"{row.contender} → {row.bound}" if row.bound else row.contender,
                    *(str(row.cells[column.key] or "-") for column in shown),
                    len(row.runs),
                )
                for row in table.rows
            ],
            empty="nobody",
            numbers=("rank", *(column.title for column in shown), "runs"),
        )
    for name, why in table.missing:
        typer.echo(f"{name} is not in the table: {why}")


_SHOWN: Final = frozenset(
    {"glitches", "unheard", "longest_stall_ms", "first_p50_ms", "first_p99_ms", "major_faults", "swap_ins_a_page"}
)
