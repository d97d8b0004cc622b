"""``samplecache lab listen``: contenders heard by hand, one case at a time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from samplecache.cli.values import JsonFlag, parse_size
from samplecache.errors import InvalidError

if TYPE_CHECKING:
    from samplecache.lab.ear.contender import Sound
    from samplecache.lab.ear.heard import Heard

SWAP_BYTES: Final = 512 << 20
SECONDS: Final = 5
SEED: Final = 2008


def register(lab: typer.Typer) -> None:
    """Add ``listen``."""
    lab.command("listen")(_listen)


def _listen(
    contenders: Annotated[
        list[str],
        typer.Argument(
            metavar="CONTENDER...",
            help="samplecache:STRATEGY or samplecache:STRATEGY:f32, pulseaudio, pulseaudio-unadvised, pipewire, "
            "mlockall, vmtouch, disk.",
        ),
    ],
    sounds: Annotated[
        list[Path] | None,
        typer.Option("--sound", dir_okay=False, exists=True, help="WAV, 48 kHz stereo 16 bit; repeatable."),
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=0, help="Memory limit, as a factor of what is stored; none if not given.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="unthrottled, zram, or a limit such as 400iops or 2MB/s.")
    ] = "unthrottled",
    hint_ahead_ms: Annotated[int, typer.Option(min=0, help="How long ahead sounds are announced; 0 for never.")] = 0,
    every_ms: Annotated[int, typer.Option(min=0, help="From one sound's start to the next one's.")] = 500,
    victim: Annotated[str, typer.Option(metavar="SIZE", help="Working set of the victim; 0 for none.")] = "4MiB",
    load: Annotated[str, typer.Option(metavar="SIZE", help="Memory that a background load writes to.")] = "0",
    idle: Annotated[bool, typer.Option("--idle", help="Swap the contender itself out, too.")] = False,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; each hears every contender once.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Swap sounds out, have contenders play them through a virtual sound card, and say what was heard (as root).

    All are heard through pipes of one page by one card that takes 10 ms at a time; what is missing then is a glitch.
    Without --sound they play five seconds of music made up for it. Each run is a fresh process in a fresh memory limit.
    """
    from samplecache.cli.document import print_json
    from samplecache.lab.ear.contender import Case, Cue, Load
    from samplecache.lab.ear.contenders.registry import contender
    from samplecache.lab.ear.listening import listen
    from samplecache.lab.rig import Rig, RigOptions
    from samplecache.lab.swap_device import SwapDevice

    swap = SwapDevice.parse(device)
    load_bytes = parse_size(load)
    loads = (Load(load_bytes, load_bytes, idle=True),) if load_bytes else ()  # all of it once a second
    with tempfile.TemporaryDirectory(prefix="samplecache-") as directory:
        made = [_sound(path) for path in sounds] if sounds else [_music(Path(directory))]
        cues = tuple(
            Cue(
                sound.sample_id,
                (hint_ahead_ms + number * every_ms) * 1_000_000,
                hint_ahead_ns=hint_ahead_ms * 1_000_000 or None,
            )
            for number, sound in enumerate(made)
        )
        case = Case(
            f"{len(made)} sounds, memory {'unlimited' if memory is None else f'{memory:g}x'}, {device}",
            tuple(made),
            cues,
            memory_factor=memory,
            read_iops=swap.read_iops,
            read_bytes_per_s=swap.read_bytes_per_s,
            idle=idle,
            victim_bytes=parse_size(victim),
            loads=loads,
        )
        for name in contenders:
            contender(name).check(cues, {sound.sample_id: sound.frames for sound in made})
        runs = []
        with Rig(RigOptions(swap_bytes=SWAP_BYTES, zram=swap.zram)) as rig:
            for _ in range(repeat):
                for name in contenders:
                    runs.append(listen(contender(name), case, rig))
                    if not as_json:
                        _say(runs[-1])
    if as_json:
        print_json({"how": "measured", "case": case.name, "runs": [run.to_json() for run in runs]})
    else:
        _print(runs, case.name)


def _sound(path: Path) -> Sound:
    """Return the sound in a file.

    Raises
    ------
    InvalidError
        It is not in the card's format.
    """
    import soundfile

    from samplecache.client.naming import sample_id_of
    from samplecache.lab.ear.contender import Sound
    from samplecache.lab.ear.heard import CARD_FORMAT

    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise InvalidError(f"{path} cannot be read: {error}", remedy="Name a WAV file") from error
    if (info.samplerate, info.channels, info.subtype) != (CARD_FORMAT.rate_hz, CARD_FORMAT.channels, "PCM_16"):
        raise InvalidError(
            f"{path} has {info.samplerate} Hz, {info.channels} channels and {info.subtype}",
            remedy=f"Convert it: sox {path} -r 48000 -c 2 -b 16 converted.wav",
        )
    return Sound(sample_id_of(Path(path.name)), path.resolve(), info.frames)


def _music(directory: Path) -> Sound:
    import soundfile

    from samplecache.lab.ear.contender import Sound
    from samplecache.lab.ear.heard import CARD_FORMAT
    from samplecache.lab.ear.injecting import music

    path = directory / "music.wav"
    frames = SECONDS * CARD_FORMAT.rate_hz
    soundfile.write(path, music(frames, SEED), CARD_FORMAT.rate_hz, "PCM_16")
    return Sound("music", path, frames)


def _say(run: Heard) -> None:
    """Say at once what became of a run that does not count."""
    from samplecache.cli.render import stderr

    if run.failed or run.discarded:
        stderr().print(f"{run.contender}: {run.failed or f'discarded, {run.discarded}'}", markup=False)


def _print(runs: list[Heard], title: str) -> None:
    """Print a table of medians and ranges over the runs that count."""
    import platform
    from statistics import median

    from samplecache.cli.render import print_table

    def spread(values: list[float]) -> str:
        if not values:
            return "-"
        low, middle, high = min(values), median(values), max(values)
        return f"{middle:.3g}" if low == high else f"{middle:.3g} ({low:.3g}-{high:.3g})"

    typer.echo(f"MEASURED: Linux {platform.release()}, {title}; median (range) of the runs that count")
    columns = (
        "contender",
        "runs",
        "glitches",
        "longest stall, ms",
        "first period p50, ms",
        "majors",
        "minors",
        "swap-ins a page",
        "stored, MiB",
        "locked, MiB",
        "CPU, s",
        "victim majors",
        "victim p99, ms",
    )
    rows = []
    for name in dict.fromkeys(run.contender for run in runs):
        mine = [run for run in runs if run.contender == name]
        counted = [run for run in mine if not run.failed and not run.discarded]
        victims = [run.victim for run in counted if run.victim is not None]
        failed = sum(bool(run.failed) for run in mine)
        rows.append(
            (
                name,
                f"{len(counted)} of {len(mine)}" + f", {failed} failed" * bool(failed),
                spread([len(run.glitches) for run in counted]),
                spread([run.longest_stall_ns / 1e6 for run in counted]),
                spread([ns / 1e6 for run in counted if (ns := run.first_period_quantile_ns(0.5)) is not None]),
                spread([run.major_faults for run in counted]),
                spread([run.minor_faults for run in counted]),
                spread([ratio for run in counted if (ratio := run.swap_ins_a_page) is not None]),
                spread([run.stored_bytes / 2**20 for run in counted]),
                spread([run.locked_bytes / 2**20 for run in counted]),
                spread([run.cpu_ns / 1e9 for run in counted]),
                spread([seen.major_faults for seen in victims]),
                spread([seen.round_p99_ns / 1e6 for seen in victims]),
            )
        )
    print_table(columns, rows, empty="no contender", numbers=columns[2:])
