"""prefetch, residency, evict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from samplecache.cli.connect import connect
from samplecache.cli.values import FrameCount, JsonFlag, SampleId, StartFrame, StrategyName
from samplecache.clock import NS_PER_MS

if TYPE_CHECKING:
    from rich.text import Text

    from samplecache.client import PrefetchCall
    from samplecache.v1.samplecache_pb2 import PrefetchResult

BAR_CELLS: Final = 40
NARROW_BAR_CELLS: Final = 12
WIDE_COLUMNS: Final = 110
"""From here on a terminal has room for the long bar beside the counts."""
_TIERS: Final = (
    ("absent", "·", "dim"),
    ("swapped", "░", "red"),
    ("swap cache", "▒", "yellow"),
    ("mapped", "█", "green"),
    ("locked", "■", "cyan"),
)
"""Name, cell and colour by the number of the tier; cells differ without colours too."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (prefetch, residency, evict):
        app.command()(command)


def prefetch(
    context: typer.Context,
    sample_id: SampleId,
    start: StartFrame = 0,
    frames: FrameCount = 0,
    strategy: StrategyName = "",
    deadline_ms: Annotated[int | None, typer.Option(min=0, help="When the first frame will be played.")] = None,
    hold_ms: Annotated[int | None, typer.Option(min=0, help="How long locks are kept; default 10000.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring a sample's pages into RAM. With --json, a line for each event."""
    with (
        connect(context) as client,
        client.prefetch(
            sample_id,
            start_frame=start,
            frames=frames,
            strategy=strategy,
            deadline_ns=None if deadline_ms is None else deadline_ms * NS_PER_MS,
            hold_ns=None if hold_ms is None else hold_ms * NS_PER_MS,
        ) as call,
    ):
        if as_json:
            from samplecache.cli.document import event_document, print_json_line

            for event in call:
                print_json_line(event_document(event))
        else:
            _follow(call)


def residency(
    context: typer.Context,
    sample_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Samples; all if none.")] = None,
    with_map: Annotated[bool, typer.Option("--map", help="In JSON, the tier of each page too.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show where the pages of samples are."""
    from samplecache.cli import render
    from samplecache.cli.document import document, print_json

    with connect(context) as client:
        names = sample_ids or [sample.sample_id for sample in client.list_samples()]
        found = [(name, client.residency(name, with_map=with_map or not as_json)) for name in names]
    if as_json:
        print_json({"samples": [{"sample_id": name, "residency": document(where)} for name, where in found]})
        return
    columns = ("id", "pages", *(name for name, _, _ in _TIERS), "first to last")
    cells = BAR_CELLS if render.stdout().width >= WIDE_COLUMNS else NARROW_BAR_CELLS
    rows = [
        (
            name,
            sum(counts := (where.absent, where.swapped, where.swap_cache, where.mapped, where.locked)),
            *counts,
            page_bar(where.map, cells),
        )
        for name, where in found
    ]
    render.print_table(
        columns, rows, empty="No samples. Upload some with 'samplecache put FILE'.", numbers=columns[1:-1]
    )
    if rows:
        render.stdout().print("  ".join(f"{cell} {name}" for name, cell, _ in _TIERS))
    if any(not where.exact for _, where in found):
        render.stdout().print(
            "The kernel gave no pagemap: swap cache counts as mapped, and absent as swapped. See 'samplecache doctor'."
        )


def evict(
    context: typer.Context,
    sample_id: SampleId,
    timeout_ms: Annotated[int, typer.Option(min=1, help="How long to try.")] = 30_000,
    as_json: JsonFlag = False,
) -> None:
    """Page a sample out to swap, as an hour of disuse would."""
    from samplecache.cli.document import document, print_json

    with connect(context) as client:
        response = client.evict(sample_id, timeout_ns=timeout_ms * NS_PER_MS)
    if as_json:
        print_json({"sample_id": sample_id, **document(response)})
    elif response.pages_left:
        typer.echo(f"{sample_id}: {response.pages_left} of {response.pages} pages are still in RAM")
    else:
        typer.echo(f"{sample_id}: all {response.pages} pages are out of RAM, or locked")


def page_bar(tiers: bytes, cells: int) -> Text:
    """Return at most `cells` cells for pages in `tiers`; each shows the furthest tier of the pages it stands for."""
    from rich.text import Text

    cells = min(cells, len(tiers))
    bar = Text()
    for cell in range(cells):
        furthest = min(tiers[cell * len(tiers) // cells : (cell + 1) * len(tiers) // cells])
        _, character, colour = _TIERS[furthest]
        bar.append(character, colour)
    return bar


def _follow(call: PrefetchCall) -> None:
    from samplecache.cli import render
    from samplecache.v1.playback_pb2 import StrategyBinding
    from samplecache.v1.samplecache_pb2 import PrefetchProgress, PrefetchResult

    with render.progress(in_bytes=False) as shown:
        task = shown.add_task("pages", total=None)
        for event in call:
            match event:
                case StrategyBinding():
                    for line in render.binding(event):
                        shown.console.print(line)
                case PrefetchProgress():
                    shown.update(task, completed=event.pages_in, total=event.pages_needed)
                case PrefetchResult():
                    result = event
    _print_result(result)


def _print_result(result: PrefetchResult) -> None:
    from samplecache.cli import render

    typer.echo(
        f"{result.pages_brought_in} of {result.pages_needed} pages brought in within "
        f"{render.duration(result.elapsed.ToNanoseconds())}, {render.outcome(result)}"
        f"{f', {result.pages_locked} locked' if result.pages_locked else ''}"
    )
    for note in result.notes:
        typer.echo(f"note: {note}")
