"""``make demo``: plays one schedule of cold samples once per strategy, and shows what was heard."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.client import Client, sample_id_of
from samplecache.clock import NS_PER_S
from samplecache.errors import InvalidError, SamplecacheError, StateError, UnknownStrategyError
from samplecache.lab.calibrated import calibrate_in_rig
from samplecache.lab.workload import VirtualSample
from samplecache.strategy.registry import StrategyRegistry
from samplecache.v1 import audio_pb2
from samplecache_demo.devices import DEFAULT, UNTHROTTLED, DemoDevice
from samplecache_demo.machine import Stage, stage
from samplecache_demo.measured_service import measure_service
from samplecache_demo.performance import Performance, perform
from samplecache_demo.prediction import SEEDS, Forecast, Forecaster
from samplecache_demo.report import Results, markdown, picture, table, write_json
from samplecache_demo.schedule import Cue, make_schedule
from samplecache_demo.side_by_side import Trial, forecast_markdown, forecast_table, page, trial_table
from samplecache_demo.sounds import Kit, find_kit
from samplecache_player import open_output

STRATEGIES: Final = ("none", "willneed", "touch", "mlock", "window")
RETRIES: Final = 2
"""How often a performance that the machine disturbed is played again."""

EVICT_TIMEOUT_NS: Final = 60 * NS_PER_S

PICTURE: Final = "comparison.png"
FIGURES: Final = "comparison.json"
"""On disk whenever a performance has ended, so that nothing that comes after can lose it."""

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
    devices: Annotated[
        str, typer.Option(help="With --real: unthrottled, zram, 400iops, 2MB/s; several with commas between.")
    ] = DEFAULT,
    predict: Annotated[
        bool, typer.Option("--predict", help="With --real: calibrate, predict the table, and show both.")
    ] = False,
    page_file: Annotated[
        Path | None, typer.Option("--page", help="With --predict: write predictions and measurements to this page.")
    ] = None,
    output: Annotated[str, typer.Option(help="device[:NAME], null or wav:FILE.")] = "device",
    repeat: Annotated[int, typer.Option(min=1, help="Repetitions, strategies in a new order each time.")] = 1,
    strategies: Annotated[str, typer.Option(help="Strategies to compare, separated by commas.")] = ",".join(STRATEGIES),
    results_dir: Annotated[Path, typer.Option(help="Where the picture and the figures go.")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="Seed of the order of strategies.")] = 2008,
) -> None:
    """Compare strategies on cold samples."""
    try:
        if predict and not real:
            raise InvalidError("only the real machine is worth a prediction", remedy="Give --real with --predict")
        parsed = [DemoDevice.parse(name.strip()) for name in devices.split(",")] if real else [None]
        trials = []
        with tempfile.TemporaryDirectory(prefix="samplecache-kit-") as scratch:
            kit = find_kit(samples, Path(scratch))
            for device in parsed:
                folder = results_dir / device.name.replace("/", "-") if device and len(parsed) > 1 else results_dir
                comparison = Comparison(kit, strategies.split(","), output, repeat, folder, seed)
                if device is not None and predict:
                    trials.append(comparison.tried(device))
                else:
                    with stage(device) as playing_on:
                        comparison.compared(playing_on)
        _show_trials(trials, page_file)
    except SamplecacheError as error:
        console.print(f"[red]error:[/red] {error}", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("stopped; all that was set up is taken down")
        sys.exit(130)


def _show_trials(trials: list[Trial], page_file: Path | None) -> None:
    for trial in trials:
        console.print(trial_table(trial))
    if trials and page_file is not None:
        page_file.parent.mkdir(parents=True, exist_ok=True)
        page_file.write_text(page(trials, "make prediction"))
        console.print(f"page: {page_file}", highlight=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is to be played, whatever device it comes from.

    Attributes
    ----------
    kit : Kit
        The samples.
    strategies : list of str
        What to compare.
    output : str
        Where to play.
    repeat : int
        How often.
    results_dir : Path
        Where picture and figures go.
    seed : int
        Of the order of strategies.
    """

    kit: Kit
    strategies: list[str]
    output: str
    repeat: int
    results_dir: Path
    seed: int

    def tried(self, device: DemoDevice) -> Trial:
        """Calibrate `device`, predict, show and write the prediction; only then play."""
        calibrated = calibrate_in_rig(
            zram=device.zram, read_iops=device.read_iops, read_bytes_per_s=device.read_bytes_per_s
        )
        self.results_dir.mkdir(parents=True, exist_ok=True)
        (self.results_dir / "profile.toml").write_text(calibrated.text())
        label = f"SIMULATED: profile calibrated as {device.name} on {calibrated.label}; {SEEDS} seeds"
        forecasts: dict[str, list[Forecast]] = {}

        with stage(DemoDevice(UNTHROTTLED)) as measuring_on:  # its own, so that the other's swap area stays fresh
            service = measure_service(measuring_on.client, self.kit.sounds[0].path, self.strategies)

        def predict(client: Client, schedule: tuple[Cue, ...]) -> None:
            forecaster = Forecaster(
                calibrated.profile,
                service,
                _samples_of(client),
                schedule,
                self.kit.rate_hz,
                StrategyRegistry.discover(),
            )
            for strategy in self.strategies:
                forecasts[strategy] = [forecaster.forecast(strategy, seed) for seed in range(SEEDS)]
            console.print(forecast_table(label, forecasts))
            (self.results_dir / "prediction.md").write_text(forecast_markdown(label, forecasts))

        with stage(device) as playing_on:
            results = self.compared(playing_on, predict)
        return Trial(device.name, calibrated.profile, label, forecasts, results)

    def compared(
        self, playing_on: Stage, before: Callable[[Client, tuple[Cue, ...]], object] = lambda client, schedule: None
    ) -> Results:
        """Upload the kit, call `before`, play it under every strategy, show table and picture, and return the runs."""
        client = playing_on.client
        _check_strategies(client, self.strategies)
        output, note = _settle_output(self.output, self.kit.rate_hz)
        console.print(f"kernel:  {playing_on.kernel}", highlight=False)
        console.print(f"output:  {note}", highlight=False)
        sample_ids = _upload(client, self.kit)
        schedule = make_schedule(self.kit, sample_ids)
        pages = sum(sample.charged_bytes for sample in client.list_samples()) // client.capabilities().page_bytes
        console.print(f"samples: {len(sample_ids)} from {self.kit.origin}, {pages} pages", highlight=False)
        before(client, schedule)
        durations_s = _durations_s(client, schedule)
        results = Results(self.strategies, playing_on.label)
        about = {"samples": self.kit.origin, "pages": pages, "output": note}
        try:
            for performance in self._performances(playing_on, schedule, output):
                results.add(performance)
                write_json(results, self.results_dir / FIGURES, about)
        finally:  # an interruption loses nothing that was played to its end
            if results.all:
                self._show(results, schedule, durations_s)
        return results

    def _performances(self, playing_on: Stage, schedule: tuple[Cue, ...], output: str) -> Iterator[Performance]:
        """Play under every strategy, each repetition in an order of its own; yield whenever one has ended."""
        order = random.Random(self.seed)
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("playing", total=self.repeat * len(self.strategies))
            for _ in range(self.repeat):
                for strategy in order.sample(self.strategies, len(self.strategies)):
                    progress.update(task, description=f"playing under {strategy}")
                    yield from _play_until_quiet(playing_on, schedule, strategy, self.kit.rate_hz, output)
                    progress.advance(task)

    def _show(self, results: Results, schedule: tuple[Cue, ...], durations_s: dict[str, float]) -> None:
        """Show the table, and write it and the picture beside the figures."""
        console.print(table(results))
        picture(results, schedule, durations_s, self.results_dir / PICTURE)
        (self.results_dir / "comparison.md").write_text(markdown(results))
        console.print(
            f"picture: {self.results_dir / PICTURE}   figures: {self.results_dir / FIGURES}",
            highlight=False,
        )


def _samples_of(client: Client) -> tuple[VirtualSample, ...]:
    """Return the samples of a server as the simulated one is to have them."""
    return tuple(
        VirtualSample(
            sample.sample_id,
            AudioFormat(sample.format.rate_hz, sample.format.channels, _encoding(sample.format.encoding)),
            sample.frames,
        )
        for sample in client.list_samples()
    )


def _encoding(number: audio_pb2.Encoding.ValueType) -> Encoding:
    return Encoding[audio_pb2.Encoding.Name(number).removeprefix("ENCODING_")]


def _check_strategies(client: Client, strategies: list[str]) -> None:
    known = ["auto", *(strategy.name for strategy in client.strategies().strategies)]
    for name in strategies:
        if name not in known:
            raise UnknownStrategyError(f"no strategy is called {name!r}", remedy=f"Choose from {', '.join(known)}")


def _play_until_quiet(
    playing_on: Stage, schedule: tuple[Cue, ...], strategy: str, rate_hz: int, output: str
) -> Iterator[Performance]:
    """Play once, and again if the machine itself disturbed it; yield every performance."""
    for _ in range(1 + RETRIES):
        _make_cold(playing_on)
        performance = perform(playing_on.client, schedule, strategy, rate_hz, output)
        yield performance
        if not performance.noisy:
            break


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
