"""``python -m samplecache.lab.simulate``: strategies compared on a simulated machine, the same on any real one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from samplecache.cli.render import duration, print_table, size
from samplecache.cli.values import JsonFlag, parse_size
from samplecache.errors import SamplecacheError
from samplecache.lab.virtual import Outcome, VirtualCache
from samplecache.lab.workload import beat
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.registry import StrategyRegistry

SWAP_BYTES: Final = 256 << 20
"""Many times what the samples take."""
TRACE_EVENTS: Final = 1 << 20
"""The machine's log keeps more lines than such a run writes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What one strategy came to; times in nanoseconds. The fields are the columns, and the keys of ``--json``."""

    strategy: str
    blocks: int
    late_blocks: int
    longest_stall_ns: int
    reader_major_faults: int
    reader_minor_faults: int
    worker_major_faults: int
    worker_minor_faults: int
    prefetches: int
    prefetches_in_time: int
    pages_needed: int
    pages_brought_in: int
    pswpin: int
    peak_locked_bytes: int

    @classmethod
    def of(cls, strategy: str, outcome: Outcome) -> Row:
        """Return the row for what came of a run."""
        prefetches = outcome.prefetches
        return cls(
            strategy=strategy,
            blocks=sum(performance.stats.blocks for performance in outcome.performances),
            late_blocks=outcome.late_blocks,
            longest_stall_ns=outcome.longest_stall_ns,
            reader_major_faults=outcome.reader_faults.major,
            reader_minor_faults=outcome.reader_faults.minor,
            worker_major_faults=outcome.worker_faults.major,
            worker_minor_faults=outcome.worker_faults.minor,
            prefetches=len(prefetches),
            prefetches_in_time=sum(prefetch.in_time for prefetch in prefetches),
            pages_needed=sum(prefetch.pages_needed for prefetch in prefetches),
            pages_brought_in=sum(prefetch.pages_brought_in for prefetch in prefetches),
            pswpin=outcome.swap.pswpin,
            peak_locked_bytes=outcome.peak_locked_bytes,
        )


def compare(options: SimulationOptions, strategies: list[str], registry: StrategyRegistry) -> list[tuple[Row, str]]:
    """Play the beat once with each strategy, each on a fresh machine; return what came of it, and the trace.

    Raises
    ------
    UnknownStrategyError
        A name that nobody registered.
    ExhaustedError
        The machine is too small.
    """
    for strategy in strategies:
        registry.check(strategy)
    results = []
    for strategy in strategies:
        virtual = VirtualCache(options, beat(strategy, options.seed), registry)
        outcome = virtual.run()
        results.append((Row.of(strategy, outcome), virtual.trace() if options.log_events else ""))
        virtual.close()
    return results


def main(
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
    try:
        options = SimulationOptions.for_device(
            device, memory_bytes=parse_size(memory), swap_bytes=SWAP_BYTES, seed=seed
        )
        options = dataclasses.replace(options, log_events=TRACE_EVENTS if trace else 0)
        results = compare(options, strategies.split(","), StrategyRegistry.discover())
    except SamplecacheError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    rows = [row for row, _ in results]
    if trace is not None:
        trace.write_text("".join(f"# strategy {row.strategy}\n{text}" for row, text in results), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(_document(options, rows), indent=2))
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


if __name__ == "__main__":
    typer.run(main)
