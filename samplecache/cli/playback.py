"""play."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from samplecache.audio.format import Encoding
from samplecache.cli.connect import connect
from samplecache.cli.values import EncodingName, FrameCount, JsonFlag, SampleId, StartFrame, StrategyName, encoding_of
from samplecache.clock import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from samplecache.cli.deck import Deck, Glitches, Window
    from samplecache.client import Client, PlayEvent, PlayStream, PrefetchCall
    from samplecache.v1.playback_pb2 import PlaybackStats

TO_STDOUT: Final = "-"
KEY_WAIT_NS: Final = 50 * NS_PER_MS
"""How often the display moves, and how soon the end is noticed."""


class Pace(StrEnum):
    """When blocks leave the server, by its name on the command line."""

    REALTIME = "realtime"
    UNLIMITED = "unlimited"


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What the session is asked for, whatever the output."""

    sample_id: str
    start_frame: int
    frames: int
    strategy: str
    rate_hz: int
    channels: int
    encoding: Encoding | None
    loop: bool
    gain: float
    block_ns: int
    lead_ns: int
    realtime: bool

    def open(self, client: Client) -> PlayStream:
        return client.play(**asdict(self))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(play)


def play(
    context: typer.Context,
    sample_id: SampleId,
    output: Annotated[
        str, typer.Option("--output", "-o", help="device, device:NAME, null, wav:FILE, or - for raw PCM on stdout.")
    ] = "device",
    strategy: StrategyName = "",
    start: StartFrame = 0,
    frames: FrameCount = 0,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again after the last frame.")] = False,
    gain: Annotated[float, typer.Option(min=0.0, max=16.0, help="Linear gain.")] = 1.0,
    rate: Annotated[int, typer.Option(min=0, help="Rate to deliver, in Hz; 0 as stored.")] = 0,
    channels: Annotated[int, typer.Option(min=0, help="Channels to deliver; 0 as stored.")] = 0,
    encoding: Annotated[EncodingName | None, typer.Option(help="Encoding to deliver; else what suits.")] = None,
    block_ms: Annotated[int, typer.Option(min=1, max=1000, help="Length of a block.")] = 20,
    lead_ms: Annotated[int, typer.Option(min=0, max=30_000, help="Buffer against jitter.")] = 100,
    pace: Annotated[
        Pace | None, typer.Option(help="Default: realtime; unlimited for wav:FILE and -.", show_default=False)
    ] = None,
    prefetch_ms: Annotated[
        int | None, typer.Option(min=0, help="Prefetch first, and play when that has ended or after so long.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Play a sample. Space pauses, arrows seek by 5 s, q stops. With --json, a line for each event but blocks."""
    if as_json and output == TO_STDOUT:
        raise typer.BadParameter("it excludes --output -, which has stdout for itself", param_hint="--json")
    realtime = pace is Pace.REALTIME if pace else not (output == TO_STDOUT or output.startswith("wav:"))
    wishes = _Wishes(
        sample_id=sample_id,
        start_frame=start,
        frames=frames,
        strategy=strategy,
        rate_hz=rate,
        channels=channels,
        encoding=encoding_of(encoding),
        loop=loop,
        gain=gain,
        block_ns=block_ms * NS_PER_MS,
        lead_ns=lead_ms * NS_PER_MS,
        realtime=realtime,
    )
    with connect(context) as client, _prefetched(client, wishes, prefetch_ms):
        if output == TO_STDOUT:
            _play_to_stdout(client, wishes)
        else:
            _play_through(client, wishes, output, as_json)


@contextlib.contextmanager
def _prefetched(client: Client, wishes: _Wishes, prefetch_ms: int | None) -> Iterator[None]:
    """Prefetch what is about to be played and wait for it, at most so long; it goes on during the block."""
    if prefetch_ms is None:
        yield
        return
    ended = threading.Event()
    with client.prefetch(
        wishes.sample_id,
        start_frame=wishes.start_frame,
        frames=wishes.frames,
        strategy=wishes.strategy,
        deadline_ns=prefetch_ms * NS_PER_MS,
    ) as call:
        thread = threading.Thread(target=_drain, args=(call, ended), name="samplecache-prefetch", daemon=True)
        thread.start()
        ended.wait(prefetch_ms / 1000)
        yield
    thread.join()


def _drain(call: PrefetchCall, ended: threading.Event) -> None:
    from samplecache.client import ClientError

    try:
        call.result()
    except ClientError as error:
        if error.code.name != "CANCELLED":  # as it is when playing has ended before it
            typer.echo(f"note: not prefetched: {error}", err=True)
    ended.set()


# --- raw PCM ---


def _play_to_stdout(client: Client, wishes: _Wishes) -> None:
    from samplecache.cli import render
    from samplecache.v1.playback_pb2 import PlayBlock, PlayStarted, PlaySummary

    console = render.stderr()
    with wishes.open(client) as stream:
        reader_left = False
        for event in stream:
            match event:
                case PlayStarted():
                    console.print(f"raw PCM: {render.audio_format(event.format)}")
                case PlayBlock() if not reader_left:
                    try:
                        sys.stdout.buffer.write(event.pcm)
                        sys.stdout.buffer.flush()
                    except BrokenPipeError:
                        reader_left = True
                        stream.stop()
                case PlaySummary():
                    render.print_facts(_facts([event.stats], None), console=console)
    if reader_left:
        sys.stdout = None  # so that Python does not flush into the broken pipe when it exits


# --- sound ---


def _play_through(client: Client, wishes: _Wishes, output: str, as_json: bool) -> None:
    from samplecache.audio.format import AudioFormat
    from samplecache.cli import render
    from samplecache.cli.deck import DTYPES, Deck, Window
    from samplecache_player import Player, open_output
    from samplecache_player.player import BUFFER_NS

    sample = client.get(wishes.sample_id)
    stored = Encoding(render.encoding_name(sample.format))
    encoding = wishes.encoding or (stored if stored in DTYPES else Encoding.F32)
    if encoding not in DTYPES:
        raise typer.BadParameter(
            f"{output} takes s16 and f32; {encoding.value} goes to --output -", param_hint="--encoding"
        )
    format = AudioFormat(wishes.rate_hz or sample.format.rate_hz, wishes.channels or sample.format.channels, encoding)
    stop_frame = wishes.start_frame + wishes.frames if wishes.frames else sample.frames
    window = Window(wishes.start_frame, stop_frame, sample.format.rate_hz, wishes.loop)
    opened, note = open_output(output, format, paced=wishes.realtime, strict=output.startswith("device:"))
    if note is not None:
        typer.echo(f"note: {note}", err=True)
    with Player(opened, buffer_ns=max(BUFFER_NS, 2 * wishes.lead_ns)) as player:
        deck = Deck(
            lambda: replace(wishes, encoding=encoding).open(client),
            window,
            format,
            player,
            lead_ns=wishes.lead_ns,
            realtime=wishes.realtime,
            on_event=_print_event_json if as_json else _print_event,
        )
        try:
            interrupted = _attend(deck, window, f"{sample.sample_id} to {output}")
            deck.check()
            if not interrupted:
                player.drain()
        finally:
            deck.close()
    if as_json:
        from samplecache.cli.document import print_json_line

        print_json_line(
            {
                "event": "player",
                "output": output,
                "glitches": deck.glitches.count,
                "glitch_total_ns": deck.glitches.total_ns,
                "glitch_longest_ns": deck.glitches.longest_ns,
                "output_underruns": player.report().underruns,
            }
        )
    else:
        render.print_facts(_facts(deck.stats, deck.glitches))
    if interrupted:
        raise typer.Exit(130)


def _attend(deck: Deck, window: Window, title: str) -> bool:
    """Play, obey keys and show the position until the end; return whether it was interrupted."""
    from samplecache.cli import render
    from samplecache_player import SEEK_STEP_NS, Command, Keys

    step_frames = SEEK_STEP_NS * window.rate_hz // NS_PER_S
    with Keys() as keys, render.playing(title, window.start, window.stop, window.rate_hz) as show:
        try:
            deck.start()  # only now: what is pressed before the terminal gives single keys is lost
            while not deck.finished:
                deck.check()
                match keys.read(KEY_WAIT_NS):
                    case Command.TOGGLE_PAUSE:
                        deck.toggle_pause()
                    case Command.SEEK_BACK:
                        deck.seek_by(-step_frames)
                    case Command.SEEK_FORWARD:
                        deck.seek_by(step_frames)
                    case Command.STOP:
                        deck.stop()
                        return False
                show(deck.position_frame)
        except KeyboardInterrupt:
            deck.stop()
            return True
    return False


def _print_event_json(event: PlayEvent) -> None:
    from samplecache.cli.document import event_document, print_json_line
    from samplecache.v1.playback_pb2 import PlayBlock

    if not isinstance(event, PlayBlock):
        print_json_line(event_document(event))


def _print_event(event: PlayEvent) -> None:
    from samplecache.cli import render
    from samplecache.v1.playback_pb2 import PlayStarted

    if isinstance(event, PlayStarted):
        for line in (render.audio_format(event.format), *render.binding(event.binding)):
            typer.echo(line, err=True)


# --- the end ---


def _facts(stats: list[PlaybackStats], glitches: Glitches | None) -> list[tuple[str, str]]:
    """Return what happened in the sessions of `stats`, taken together, and in the player."""
    from samplecache.cli import render
    from samplecache.cli.document import causes

    by_cause: dict[str, int] = {}
    for part in stats:
        for cause, count in causes(part.late_by_cause).items():
            by_cause[cause] = by_cause.get(cause, 0) + count
    late_blocks = sum(part.late_blocks for part in stats)
    why = ", ".join(f"{count} {cause.replace('_', ' ')}" for cause, count in by_cause.items())
    longest_ns = max((part.longest_stall.ToNanoseconds() for part in stats), default=0)
    facts = [
        ("blocks", f"{sum(part.blocks for part in stats)} ({sum(part.frames for part in stats)} frames)"),
        ("late blocks", f"{late_blocks} ({why})" if why else str(late_blocks)),
        ("longest stall", render.duration(longest_ns)),
        ("first block after", render.duration(stats[0].first_block.ToNanoseconds()) if stats else "never"),
        ("major faults", str(sum(part.faults.major for part in stats))),
        ("minor faults", str(sum(part.faults.minor for part in stats))),
        *_brought_in_ahead(stats),
    ]
    if glitches is not None:
        heard = f", {render.duration(glitches.total_ns)} in all, {render.duration(glitches.longest_ns)} at worst"
        facts.append(("glitches heard", f"{glitches.count}{heard if glitches.count else ''}"))
    return facts


def _brought_in_ahead(stats: list[PlaybackStats]) -> list[tuple[str, str]]:
    """Return what became of pages that were brought in ahead for the sessions of `stats`; nothing if none were."""
    from samplecache.cli import render
    from samplecache.v1.playback_pb2 import PrefetchedPages

    parts = [part.prefetched for part in stats]
    asked, played = sum(part.asked for part in parts), sum(part.played_pages for part in stats)
    if not asked:
        return []
    pages = PrefetchedPages(
        asked=asked,
        useful=sum(part.useful for part in parts),
        late=sum(part.late for part in parts),
        wasted=sum(part.wasted for part in parts),
        outstanding=sum(part.outstanding for part in parts),
    )
    return [("brought in ahead", render.prefetched(pages)), ("swap-ins a page", render.swap_ins(asked, played))]
