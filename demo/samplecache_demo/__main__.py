"""``make demo``: plays one schedule of cold samples once per strategy, and shows what was heard."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.client import Client, sample_id_of
from samplecache.clock import NS_PER_S
from samplecache.errors import SamplecacheError, StateError, UnknownStrategyError
from samplecache_demo.machine import Stage, stage
from samplecache_demo.performance import Performance, perform
from samplecache_demo.report import Results, markdown, picture, table, write_json
from samplecache_demo.schedule import Cue, make_schedule
from samplecache_demo.sounds import Kit, find_kit
from samplecache_player import open_output

STRATEGIES: Final = ("none", "willneed", "touch", "mlock")
RETRIES: Final = 2
"""How often a performance that the machine disturbed is played again."""

EVICT_TIMEOUT_NS: Final = 60 * NS_PER_S

LEAST_WIDTH: Final = 118
"""Columns that the table needs; a pipe has as many as one likes."""

console = Console()
if not console.is_terminal:
    console = Console(width=LEAST_WIDTH)


def main(
    samples: Annotated[
        Path | None, typer.Option(help="Folder of audio files; default: the system's, else synthesised.")
    ] = None,
    real: Annotated[
        bool, typer.Option("--real", help="As root: make swap, a memory limit and a slow device here.")
    ] = False,
    output: Annotated[str, typer.Option(help="device[:NAME], null or wav:FILE.")] = "device",
    repeat: Annotated[int, typer.Option(min=1, help="Repetitions, strategies in a new order each time.")] = 1,
    strategies: Annotated[str, typer.Option(help="Strategies to compare, separated by commas.")] = ",".join(STRATEGIES),
    results_dir: Annotated[Path, typer.Option(help="Where the picture and the figures go.")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="Seed of the order of strategies.")] = 2008,
) -> None:
    """Compare strategies on cold samples."""
    try:
        with tempfile.TemporaryDirectory(prefix="samplecache-kit-") as scratch, stage(real=real) as playing_on:
            kit = find_kit(samples, Path(scratch))
            compare(playing_on, kit, strategies.split(","), output, repeat, results_dir, seed)
    except SamplecacheError as error:
        console.print(f"[red]error:[/red] {error}", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("stopped; all that was set up is taken down")
        sys.exit(130)


def compare(
    playing_on: Stage, kit: Kit, strategies: list[str], output: str, repeat: int, results_dir: Path, seed: int
) -> None:
    """Upload the kit, play it under every strategy `repeat` times, and show table and picture."""
    client = playing_on.client
    _check_strategies(client, strategies)
    output, note = _settle_output(output, kit.rate_hz)
    console.print(f"kernel:  {playing_on.kernel}", highlight=False)
    console.print(f"output:  {note}", highlight=False)
    sample_ids = _upload(client, kit)
    schedule = make_schedule(kit, sample_ids)
    pages = sum(sample.charged_bytes for sample in client.list_samples()) // client.capabilities().page_bytes
    console.print(f"samples: {len(sample_ids)} from {kit.origin}, {pages} pages", highlight=False)
    results = Results(strategies, playing_on.label)
    order = random.Random(seed)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("playing", total=repeat * len(strategies))
        for _ in range(repeat):
            for strategy in order.sample(strategies, len(strategies)):
                progress.update(task, description=f"playing under {strategy}")
                _play_until_quiet(playing_on, schedule, strategy, kit.rate_hz, output, results)
                progress.advance(task)
    console.print(table(results))
    durations_s = _durations_s(client, schedule)
    picture(results, schedule, durations_s, results_dir / "comparison.png")
    (results_dir / "comparison.md").write_text(markdown(results))
    write_json(results, results_dir / "comparison.json", {"samples": kit.origin, "pages": pages, "output": note})
    console.print(
        f"picture: {results_dir / 'comparison.png'}   figures: {results_dir / 'comparison.json'}", highlight=False
    )


def _check_strategies(client: Client, strategies: list[str]) -> None:
    known = ["auto", *(strategy.name for strategy in client.strategies().strategies)]
    for name in strategies:
        if name not in known:
            raise UnknownStrategyError(f"no strategy is called {name!r}", remedy=f"Choose from {', '.join(known)}")


def _play_until_quiet(
    playing_on: Stage, schedule: tuple[Cue, ...], strategy: str, rate_hz: int, output: str, results: Results
) -> Performance:
    """Play once, and again if the machine itself disturbed it; every performance is kept."""
    for _ in range(1 + RETRIES):
        _make_cold(playing_on)
        performance = perform(playing_on.client, schedule, strategy, rate_hz, output)
        results.add(performance)
        if not performance.noisy:
            break
    return performance


def _make_cold(playing_on: Stage) -> None:
    """Page every sample out, as an hour of disuse would.

    Raises
    ------
    StateError
        The kernel keeps more than a fiftieth of a sample in RAM.
    """
    with playing_on.full_speed():
        for sample in playing_on.client.list_samples():
            playing_on.client.evict(sample.sample_id, timeout_ns=EVICT_TIMEOUT_NS)
            where = playing_on.client.residency(sample.sample_id)
            warm = where.swap_cache + where.mapped + where.locked
            if warm > (warm + where.swapped) // 50:
                raise StateError(
                    f"{warm} of {warm + where.swapped} pages of {sample.sample_id} would not leave RAM",
                    remedy="See 'samplecache doctor' for whether swap works here and is large enough",
                )


def _settle_output(spec: str, rate_hz: int) -> tuple[str, str]:
    """Return the output that works here, and a line for people."""
    output, note = open_output(spec, AudioFormat(rate_hz, 2, Encoding.S16))
    del output
    return ("null", note) if note and spec.startswith("device") else (spec, note or spec)


def _upload(client: Client, kit: Kit) -> dict[str, str]:
    sample_ids = {}
    for number, sound in enumerate(kit.sounds):
        sample_id = f"{number:02d}-{sample_id_of(sound.path)}"[:63]
        client.put_file(sound.path, sample_id, tags=["demo"], replace=True)
        sample_ids[str(sound.path)] = sample_id
    return sample_ids


def _durations_s(client: Client, schedule: tuple[Cue, ...]) -> dict[str, float]:
    durations_s = {}
    for cue in schedule:
        sample = client.get(cue.sample_id)
        durations_s[cue.sample_id] = (cue.frames or sample.frames) / sample.format.rate_hz
    return durations_s


if __name__ == "__main__":
    typer.run(main)
