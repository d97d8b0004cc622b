"""``samplecache lab ear``: how far what listens can be believed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from samplecache.cli.values import JsonFlag
from samplecache.errors import InvalidError

if TYPE_CHECKING:
    from samplecache.lab.ear.flaws import Frames
    from samplecache.lab.ear.injecting import Detector, ErrorRate
    from samplecache.lab.ear.real_path import Take

TAKE_SECONDS: Final = 8
"""How much of a signal is played for real each time."""
STOPS: Final = 3
"""How often the server is stopped in each, for longer than the player's lead."""
FRAMES_A_FLAW: Final = 12_000
"""How long a signal is made for each flaw: twice what flaws and the room between them take at most, and some more."""


def register(lab: typer.Typer) -> None:
    """Add ``ear``."""
    lab.command("ear")(_ear)


def _ear(
    music: Annotated[
        Path | None,
        typer.Option(dir_okay=False, exists=True, help="WAV or FLAC of 48 kHz; made up if not given."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=2000, help="Flaws of each kind to inject.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed puts them in the same places.")] = 0,
    real: Annotated[
        int, typer.Option(min=0, help="How often to play each signal for real, through PortAudio and PulseAudio.")
    ] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Inject gaps, stalls, repeats and jumps into recordings, and count how many the detectors find.

    With --real a sample is played from a server over gRPC, through the mixer, PortAudio and a sound server of its own
    whose monitor is recorded. The server is stopped three times meanwhile, and the player's own counters are held
    against the recording.
    """
    from samplecache.cli.document import print_json
    from samplecache.lab.ear.injecting import Injection, error_rate
    from samplecache.lab.ear.injecting import music as made_up
    from samplecache.lab.ear.numbered import hear, numbered_frames
    from samplecache.lab.ear.walking import Walk

    length = max(count * FRAMES_A_FLAW, 48_000 * TAKE_SECONDS)
    tune = made_up(length, seed) if music is None else _read(music)
    signals: dict[str, tuple[Frames, Detector]] = {
        "numbered": (numbered_frames(0, length), lambda recording: hear(recording).found),
        "music" if music is None else music.name: (tune, Walk(tune).along),
    }
    rates = {}
    for name, (frames, detector) in signals.items():
        try:
            rates[name] = [error_rate(detector, frames, injection, count, seed) for injection in Injection]
        except ValueError as error:
            raise InvalidError(str(error), remedy="Name longer music, or fewer flaws") from error
    takes = _play(signals, real) if real else {}
    if as_json:
        print_json(_document(seed, rates, takes))
    else:
        _print(rates, takes)


def _play(signals: dict[str, tuple[Frames, Detector]], times: int) -> dict[str, list[Take]]:
    from samplecache.lab.ear.real_path import RealPath
    from samplecache.lab.ear.walking import Walk

    takes: dict[str, list[Take]] = {}
    for name, (frames, detector) in signals.items():
        part = frames[: TAKE_SECONDS * 48_000]
        listening = detector if name == "numbered" else Walk(part).along
        with RealPath(part, listening) as path:
            takes[name] = [path.take(STOPS) for _ in range(times)]
    return takes


def _read(path: Path) -> Frames:
    """Return the music in a file.

    Raises
    ------
    InvalidError
        It is no music, or has another rate than the card.
    """
    import numpy as np
    import soundfile

    try:
        frames, rate_hz = soundfile.read(str(path), dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise InvalidError(f"{path} cannot be read: {error}", remedy="Name a WAV or FLAC file") from error
    if rate_hz != 48_000:
        raise InvalidError(f"{path} has {rate_hz} Hz", remedy=f"Convert it: sox {path} -r 48000 converted.wav")
    return np.ascontiguousarray(np.repeat(frames, 2, axis=1)[:, :2] if frames.shape[1] == 1 else frames[:, :2])


def _document(seed: int, rates: dict[str, list[ErrorRate]], takes: dict[str, list[Take]]) -> dict[str, Any]:
    return {
        "seed": seed,
        "injected": {name: [dataclasses.asdict(rate) for rate in of_one] for name, of_one in rates.items()},
        "played": {
            name: [
                dataclasses.asdict(take) | {"recorded_gaps": take.recorded_gaps, "agrees": take.agrees}
                for take in of_one
            ]
            for name, of_one in takes.items()
        },
    }


def _print(rates: dict[str, list[ErrorRate]], takes: dict[str, list[Take]]) -> None:
    from samplecache.cli.render import print_table

    columns = ("signal", "injected", "flaws", "found", "false alarms", "position off by, frames")
    print_table(
        columns,
        [
            (name, rate.injection, rate.injected, rate.found, rate.false_alarms, rate.worst_frames)
            for name, of_one in rates.items()
            for rate in of_one
        ],
        empty="no signal",
        numbers=columns[2:],
    )
    if not takes:
        return
    heads = ("played", "gaps recorded", "gaps counted", "other flaws", "underflow flags", "witness, ms", "agrees")
    print_table(
        heads,
        [
            (
                name,
                len(take.recorded_gaps),
                len(take.voice_gaps) + len(take.output_gaps),
                len(take.other_flaws),
                take.underflow_flags,
                f"{take.witness_ns / 1e6:.0f}",
                "yes, to the frame" if take.agrees else "no",
            )
            for name, of_one in takes.items()
            for take in of_one
        ],
        empty="nothing played",
        numbers=heads[1:6],
    )
