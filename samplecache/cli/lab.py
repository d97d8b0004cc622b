"""Experiments that need no server."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from samplecache.cli import lab_compare, lab_ear, lab_listen, lab_thread_2008, lab_trace
from samplecache.cli.values import JsonFlag, check_writable, parse_size
from samplecache.errors import ConfigurationError

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
    lab_compare.register(lab)
    lab_ear.register(lab)
    lab_listen.register(lab)
    lab_trace.register(lab)
    lab_thread_2008.register(lab)
    app.add_typer(lab)


def _lab() -> None:
    """Experiments that need no server."""


def _simulate(
    device: Annotated[str, typer.Option(help="Swap device, or a file of 'samplecache calibrate'.")] = "hdd-laptop-2008",
    strategies: Annotated[str, typer.Option(help="Names, with commas between.")] = "none,willneed,touch,mlock,populate",
    kernel: Annotated[str, typer.Option(help="linux-6.18 or linux-2.6.24.")] = "linux-6.18",
    patched: Annotated[bool, typer.Option("--patched", help="Give linux-2.6.24 the WILLNEED patch.")] = False,
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
    from samplecache.strategy.registry import StrategyRegistry

    check_writable(trace)
    options = _machine(kernel, patched, device, memory_bytes=parse_size(memory), seed=seed)
    options = dataclasses.replace(options, log_events=TRACE_EVENTS if trace else 0)
    results = compare(options, [name.strip() for name in strategies.split(",")], StrategyRegistry.discover())
    rows = [row for row, _ in results]
    if trace is not None:
        trace.write_text("".join(f"# strategy {row.strategy}\n{text}" for row, text in results), encoding="utf-8")
    if as_json:
        print_json(_document(options, rows))
    else:
        _print(options, rows)


def _machine(kernel: str, patched: bool, device: str, *, memory_bytes: int, seed: int) -> SimulationOptions:
    from samplecache.kernel.machine_files import simulation_options
    from samplecache.simulation.options import KernelModel, kernel_model

    options = simulation_options(device, memory_bytes=memory_bytes, swap_bytes=SWAP_BYTES, seed=seed)
    if kernel_model(kernel) is KernelModel.LINUX_2_6_24:
        return options.as_linux_2_6_24(patched=patched)
    if patched:
        raise ConfigurationError(f"The patch is not for {kernel}", remedy="Add --kernel linux-2.6.24, or leave it out")
    return options


def _document(options: SimulationOptions, rows: list[Row]) -> dict[str, Any]:
    return {
        "how": "simulated",
        "kernel": options.kernel.value,
        "willneed": options.willneed.value,
        "device": options.device.name,
        "memory_bytes": options.memory_pages * options.page_bytes,
        "seed": options.seed,
        "strategies": [dataclasses.asdict(row) for row in rows],
    }


def _print(options: SimulationOptions, rows: list[Row]) -> None:
    from samplecache.cli.render import duration, print_table, size
    from samplecache.simulation.options import WillneedMode

    memory = size(options.memory_pages * options.page_bytes)
    kernel = options.kernel.value + " with the patch" * (options.willneed is WillneedMode.PATCH_2008)
    typer.echo(f"SIMULATED: {kernel}, {options.device.name}, memory {memory}, seed {options.seed}")
    columns = (
        "strategy",
        "late blocks",
        "longest stall",
        "readers",
        "workers",
        "prefetched",
        "useful",
        "late",
        "wasted",
        "read in",
        "locked",
    )
    print_table(
        columns,
        [
            (
                row.strategy if row.bound == row.strategy else f"{row.strategy} → {row.bound}",
                f"{row.late_blocks} of {row.blocks}",
                duration(row.longest_stall_ns) if row.late_blocks else "-",
                f"{row.reader_major_faults} + {row.reader_minor_faults}",
                f"{row.worker_major_faults} + {row.worker_minor_faults}",
                f"{row.pages_brought_in} of {row.pages_needed}",
                row.pages_useful,
                row.pages_late,
                row.pages_wasted,
                f"{row.pswpin} pages",
                size(row.peak_locked_bytes),
            )
            for row in rows
        ],
        empty="no strategy",
        numbers=columns[1:],
    )
    if any(row.bound != row.strategy for row in rows):
        typer.echo("→: the strategy that ran instead")
    typer.echo("readers, workers: their faults, major + minor; prefetched: of the pages announced that were not in RAM")
    typer.echo(
        "useful, late, wasted: what became of every page that was brought in ahead, by the time it was to be read"
    )
