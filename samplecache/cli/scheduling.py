"""schedule."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from samplecache.cli.connect import connect
from samplecache.cli.values import JsonFlag, StrategyName
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import ConfigurationError

if TYPE_CHECKING:
    from samplecache.client import Client
    from samplecache.v1.schedule_pb2 import Cue, CueStatus

_CUE: Final = re.compile(
    r"(?P<sample>[^@\s]+)@\+(?P<time>\d+(?:\.\d+)?)(?P<unit>ms|s|)(?:\?(?P<sureness>\d+(?:\.\d+)?))?"
)
_LAST_NOTE: Final = 127
_UNITS_NS: Final = {"ms": NS_PER_MS, "s": NS_PER_S, "": NS_PER_S}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(schedule)


def schedule(
    context: typer.Context,
    cues: Annotated[
        list[str] | None, typer.Argument(metavar="[CUE...]", help="ID@+TIME[?SURENESS]: kick@+1.5s, pad@+800ms?0.6.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", dir_okay=False, help="Cues, a line each; # begins a comment. - for stdin.")
    ] = None,
    name: Annotated[str, typer.Option("--id", metavar="NAME", help="Name of the schedule, which is replaced.")] = "",
    midi: Annotated[Path | None, typer.Option("--midi", dir_okay=False, help="A MIDI file, from now on.")] = None,
    notes: Annotated[
        list[str] | None, typer.Option("--note", metavar="NOTE=ID", help="Sample of a MIDI note: 36=kick. Repeatable.")
    ] = None,
    strategy: StrategyName = "",
    keep_others: Annotated[bool, typer.Option("--keep-others", help="Keep its cues that are not named now.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the schedule --id.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all cues are settled, and tell of each.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Announce what will be played when, so that it is in RAM in time. With --id alone, show that schedule.

    Cues are named 1, 2, 3 ... in their order.
    """
    wanted = [parse_cue(text, strategy) for text in (*_lines(file), *(cues or ()))]
    if midi is not None:
        wanted += midi_cues(midi, notes or (), strategy)
    if not wanted and not name:
        raise typer.BadParameter("Give cues, such as kick@+1.5s, --file or --midi, or --id to see or cancel a schedule")
    if cancel and (wanted or not name):
        raise typer.BadParameter("--cancel goes with --id and nothing else")
    with connect(context) as client:
        if cancel:
            _print(name, client.cancel_schedule(name).cues, as_json=as_json)
        elif not wanted:
            _print(name, client.get_schedule(name).cues, as_json=as_json)
        elif wait:
            _announce_and_wait(client, wanted, name, keep_others=keep_others, as_json=as_json)
        else:
            response = client.schedule(wanted, schedule_id=name, keep_others=keep_others)
            _print(response.schedule_id, response.cues, as_json=as_json)


def parse_cue(text: str, strategy: str = "") -> Cue:
    """Return the cue that ``ID@+TIME[?SURENESS]`` says; times are in seconds unless they end in ``ms``.

    Raises
    ------
    typer.BadParameter
    """
    from samplecache.client import cue

    match = _CUE.fullmatch(text.strip())
    sureness = float(match["sureness"] or 1) if match else 2.0
    if match is None or sureness > 1:
        raise typer.BadParameter(f"{text!r} is no cue. Give ID@+TIME, such as kick@+1.5s; ?0.6 says how sure it is")
    after_ns = round(float(match["time"]) * _UNITS_NS[match["unit"]])
    return cue(match["sample"], after_ns, strategy=strategy, sureness=sureness)


def midi_cues(file: Path, notes: Iterable[str], strategy: str = "") -> list[Cue]:
    """Return the notes of a MIDI file as cues, from now on; those that no ``NOTE=ID`` names are left out.

    Raises
    ------
    typer.BadParameter
    ConfigurationError
        The file cannot be read, has none of these notes, or mido is not installed.
    """
    from samplecache.client import cue
    from samplecache.lab.scenarios.midi import strikes
    from samplecache.lab.scenarios.tables import ScenarioProblem

    samples: dict[int, str] = {}
    for text in notes:
        number, _, sample_id = text.partition("=")
        if not (number.isdecimal() and int(number) <= _LAST_NOTE and sample_id):
            raise typer.BadParameter(f"{text!r} is no note. Give NOTE=ID with a note of 0 to {_LAST_NOTE}: 36=kick")
        samples[int(number)] = sample_id
    try:
        struck = [(time_ns, samples[note]) for time_ns, note in strikes(file, ()) if note in samples]
    except ScenarioProblem as problem:
        raise ConfigurationError(problem.what, remedy=problem.remedy) from None
    if not struck:
        raise ConfigurationError(
            f"{file} strikes none of the notes that have a sample", remedy="Name them: --note 36=kick --note 38=snare"
        )
    return [cue(sample_id, time_ns, strategy=strategy) for time_ns, sample_id in struck]


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error}", remedy="Name a text file with a cue on each line"
        ) from error
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _announce_and_wait(client: Client, cues: list[Cue], name: str, *, keep_others: bool, as_json: bool) -> None:
    """Announce, then tell of every cue as it is settled."""
    from samplecache.cli.document import document, print_json_line
    from samplecache.v1 import samplecache_pb2 as pb

    # Watched first: a cue that is in RAM already is settled before the answer is here.
    with client.watch([pb.EVENT_KIND_CUE_SETTLED]) as events:
        next(iter(events))
        response = client.schedule(cues, schedule_id=name, keep_others=keep_others)
        open_cues = {status.cue_id for status in response.cues}
        for event in events:
            settled = event.cue_settled
            if settled.schedule_id != response.schedule_id:
                continue
            if as_json:
                print_json_line({"schedule_id": settled.schedule_id, **document(settled.cue)})
            else:
                typer.echo(cue_line(settled.cue))
            open_cues.discard(settled.cue.cue_id)
            if not open_cues:
                return


def cue_line(cue: CueStatus) -> str:
    """Return how a cue stands, in a line."""
    from samplecache.cli import render
    from samplecache.cli.document import enum_name
    from samplecache.v1.schedule_pb2 import CueState

    state = enum_name(CueState.DESCRIPTOR, cue.state).replace("_", " ")
    margin = f" {render.duration(cue.margin.ToNanoseconds())} before its time" if cue.HasField("margin") else ""
    pages = f", {cue.pages_brought_in} of {cue.pages_needed} pages" if cue.strategy else ""
    by = f", strategy {cue.strategy}" if cue.strategy else ""
    return f"cue {cue.cue_id} ({cue.sample_id}): {state}{margin}{pages}{by}{f': {cue.why}' if cue.why else ''}"


def _print(name: str, cues: Any, *, as_json: bool) -> None:
    from samplecache.cli import render
    from samplecache.cli.document import document, enum_name, print_json
    from samplecache.v1.schedule_pb2 import CueState

    if as_json:
        print_json({"schedule_id": name, "cues": [document(cue) for cue in cues]})
        return
    rows = [
        (
            cue.cue_id,
            cue.sample_id,
            cue.at.ToJsonString(),
            f"{cue.sureness:g}",
            enum_name(CueState.DESCRIPTOR, cue.state).replace("_", " "),
            f"{cue.pages_brought_in}/{cue.pages_needed}" if cue.strategy else "",
            cue.why,
        )
        for cue in cues
    ]
    render.stdout().print(f"schedule {name}")
    render.print_table(("cue", "sample", "at", "sure", "state", "pages in", "why"), rows, empty="No cues.")
