"""Tables, figures and progress for people. Imported by commands when they print, since rich takes its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from samplecache.clock import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from samplecache.v1.audio_pb2 import AudioFormat
    from samplecache.v1.playback_pb2 import PrefetchedPages, StrategyBinding
    from samplecache.v1.samplecache_pb2 import PrefetchResult

_PIPE_COLUMNS: Final = 1000
"""Wide enough that no cell is cut where nobody has a width: in a pipe."""

_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def stdout() -> Console:
    """Return a console for what was asked for."""
    return _console(stderr=False)


def stderr() -> Console:
    """Return a console for what goes on meanwhile."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS
    return console


def size(size_bytes: int) -> str:
    """Return bytes for people: ``1.5 MiB``."""
    value, unit = float(size_bytes), 0
    while value >= 1024 and unit < len(_SIZES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{size_bytes} B" if unit == 0 else f"{value:.1f} {_SIZES[unit]}"


def outcome(result: PrefetchResult) -> str:
    """Return in a word or two how a prefetch ended."""
    if result.in_time:
        return "in time"
    return "not all of them" if result.pages_failed else "too late"


def prefetched(pages: PrefetchedPages) -> str:
    """Return what became of pages that were brought in ahead: ``120 useful, 3 late, 9 wasted, 2 ahead``."""
    ahead = f", {pages.outstanding} ahead" if pages.outstanding else ""
    return f"{pages.useful} useful, {pages.late} late, {pages.wasted} wasted{ahead}"


def swap_ins(asked: int, played: int) -> str:
    """Return how often a page was brought in for each time that one was played: ``1.02``."""
    return f"{asked / played:.2f}" if played else "-"


def duration(duration_ns: int) -> str:
    """Return a duration for people: ``820 ns``, ``12.3 ms``, ``4.20 s``, ``1:02:03``."""
    if duration_ns < 1000:
        return f"{duration_ns} ns"
    if duration_ns < NS_PER_MS:
        return f"{duration_ns / 1000:.1f} us"
    if duration_ns < NS_PER_S:
        return f"{duration_ns / NS_PER_MS:.1f} ms"
    if duration_ns < 60 * NS_PER_S:
        return f"{duration_ns / NS_PER_S:.2f} s"
    minutes, seconds = divmod(duration_ns // NS_PER_S, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def audio_format(wire: AudioFormat) -> str:
    """Return a format for people: ``48000 Hz stereo s16``."""
    from samplecache.audio.format import AudioFormat, Encoding

    return str(AudioFormat(wire.rate_hz, wire.channels, Encoding(encoding_name(wire))))


def encoding_name(wire: AudioFormat) -> str:
    """Return the name of a format's encoding: ``s16``."""
    from samplecache.cli.document import enum_name
    from samplecache.v1 import audio_pb2

    return enum_name(audio_pb2.Encoding.DESCRIPTOR, wire.encoding)


def binding(bound: StrategyBinding) -> list[str]:
    """Return the strategy that was bound, who chose it, and what came in the way, in lines."""
    from samplecache.cli.document import enum_name
    from samplecache.v1 import playback_pb2

    chosen_by = enum_name(playback_pb2.ChosenBy.DESCRIPTOR, bound.chosen_by)
    degraded = f", degraded from {bound.degraded_from}" if bound.degraded_from else ""
    lines = [f"strategy {bound.strategy} (chosen by {chosen_by}{degraded})"]
    if bound.why:
        lines.append(f"because {bound.why}")
    return [*lines, *(f"note: {note}" for note in bound.notes)]


def standing(permitted: bool, useful: bool) -> str:
    """Return what comes of an operation or a strategy here: being permitted is not yet being useful."""
    if not permitted:
        return "refused"
    return "useful" if useful else "no effect"


def yes_no(value: bool) -> str:
    """Return a truth for people."""
    return "yes" if value else "no"


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    empty: str,
    numbers: Sequence[str] = (),
    console: Console | None = None,
) -> None:
    """Print `rows` under `columns`, those in `numbers` to the right; `empty` if there are none."""
    console = console or stdout()
    if not rows:
        console.print(empty)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(
            *(cell if hasattr(cell, "__rich__") or hasattr(cell, "__rich_console__") else str(cell) for cell in row)
        )
    console.print(table)


def print_facts(facts: Sequence[tuple[str, object]], *, console: Console | None = None) -> None:
    """Print names and values in two columns."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name, str(value))
    (console or stdout()).print(grid)


@contextmanager
def progress(*, in_bytes: bool) -> Iterator[Progress]:
    """Show progress on stderr while the block runs, if that is a terminal."""
    console = stderr()
    count = DownloadColumn(binary_units=True) if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        yield shown


@contextmanager
def playing(title: str, start_frame: int, stop_frame: int, rate_hz: int) -> Iterator[Callable[[int], None]]:
    """Show where playback stands while the block runs, on stderr if that is a terminal; yields what moves it."""
    console = stderr()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[clock]}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(title, total=stop_frame - start_frame, clock="")

        def show(frame: int) -> None:
            at, end = (duration(frames * NS_PER_S // rate_hz) for frames in (frame, stop_frame))
            shown.update(task, completed=frame - start_frame, clock=f"{at} of {end}")

        yield show
