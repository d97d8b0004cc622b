"""Experiments that need no server."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from samplecache.cli import lab_thread_2008
from samplecache.cli.values import JsonFlag, parse_size

if TYPE_CHECKING:
    from samplecache.lab.comparison import Row
    from samplecache.simulation.options import SimulationOptions

SWAP_BYTES: Final = 256 << 20
"""Many times what the samples take."""
TRACE_EVENTS: Final = 1 << 20
"""The machine's log keeps more lines than such a run writes."""


def register(app: typer.Typer) -> None:
    """Add ``lab`` and its commands."""
    lab = typer.Typer(name="lab", help="Experiments that need no server.", no_args_is_help=True, rich_markup_mode=None)
    lab.callback()(_lab)
    lab.command("simulate")(_simulate)
    lab_thread_2008.register(lab)
    app.add_typer(lab)


def _lab() -> None:
    """Experiments that need no server."""


def _simulate(
    device: Annotated[str, typer.Option(help="Profile of the swap device.")] = "hdd-laptop-2008",
    strategies: Annotated[str, typer.Option(help="Names, with commas between.")] = "none,willneed,touch,mlock,populate",
    seed: Annotated[int, typer.Option(help="The same seed gives the same run.")] = 0,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory of the machine.")] = "64MiB",
    as_json: JsonFlag = False,
    trace: Annotated[Path | None, typer.Option(dir_okay=False, help="Write all events to this file.")] = None,
) -> None:
    """Play two pads and twelve hits from swap on a simulated machine, once with each strategy.

    Every sample is cold at first and announced two seconds before it is struck; a block is late 30 ms after its time.
    """
    from samplecache.cli.document import print_json
    from samplecache.lab.comparison import compare
    from samplecache.simulation.options import SimulationOptions
    from samplecache.strategy.registry import StrategyRegistry

    options = SimulationOptions.for_device(device, memory_bytes=parse_size(memory), swap_bytes=SWAP_BYTES, seed=seed)
    options = dataclasses.replace(options, log_events=TRACE_EVENTS if trace else 0)
    results = compare(options, strategies.split(","), StrategyRegistry.discover())
    rows = [row for row, _ in results]
    if trace is not None:
        trace.write_text("".join(f"# strategy {row.strategy}\n{text}" for row, text in results), encoding="utf-8")
    if as_json:
        print_json(_document(options, rows))
    else:
        _print(options, rows)


def _document(options: SimulationOptions, rows: list[Row]) -> dict[str, Any]:
    return {
        "how": "simulated",
        "device": options.device.name,
        "memory_bytes": options.memory_pages * options.page_bytes,
        "seed": options.seed,
        "strategies": [dataclasses.asdict(row) for row in rows],
    }


def _print(options: SimulationOptions, rows: list[Row]) -> None:
    from samplecache.cli.render import duration, print_table, size

    memory = size(options.memory_pages * options.page_bytes)
    typer.echo(f"SIMULATED: {options.device.name}, memory {memory}, seed {options.seed}")
    columns = (
        "strategy",
        "late blocks",
        "longest stall",
        "readers",
        "workers",
        "prefetched",
        "read in",
        "locked",
    )
    print_table(
        columns,
        [
            (
                row.strategy,
                f"{row.late_blocks} of {row.blocks}",
                duration(row.longest_stall_ns) if row.late_blocks else "-",
                f"{row.reader_major_faults} + {row.reader_minor_faults}",
                f"{row.worker_major_faults} + {row.worker_minor_faults}",
                f"{row.pages_brought_in} of {row.pages_needed}",
                f"{row.pswpin} pages",
                size(row.peak_locked_bytes),
            )
            for row in rows
        ],
        empty="no strategy",
        numbers=columns[1:],
    )
    typer.echo("readers, workers: their faults, major + minor; prefetched: of the pages announced that were not in RAM")
