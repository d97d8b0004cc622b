"""Real audio files to play: a folder of the user's, what the system has, or a kit that is synthesised here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile as sf

from samplecache.errors import InvalidError

SYSTEM_FOLDERS: Final = (
    Path("/usr/share/sonic-pi/samples"),
    Path("/usr/share/hydrogen/data/drumkits"),
    Path("/usr/share/sounds"),
)
"""Where Debian's packages put samples and event sounds; the first that holds enough is taken."""

_SUFFIXES: Final = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})
_RATE_HZ: Final = 44_100
HITS: Final = 12
PADS: Final = 1
_HIT_S: Final = (0.7, 2.0)
_PAD_S: Final = (4.0, 60.0)


@dataclass(frozen=True, slots=True)
class Sound:
    """An audio file.

    Attributes
    ----------
    path : Path
        Where it is.
    rate_hz : int
        Its rate.
    duration_s : float
        Its length.
    """

    path: Path
    rate_hz: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class Kit:
    """What a schedule is made of, all of one rate.

    Attributes
    ----------
    hits : tuple of Sound
        Short ones, struck one after another.
    pads : tuple of Sound
        Long ones, sounding underneath.
    origin : str
        Where they come from, for people.
    """

    hits: tuple[Sound, ...]
    pads: tuple[Sound, ...]
    origin: str

    @property
    def rate_hz(self) -> int:
        """The rate of all of them."""
        return self.hits[0].rate_hz

    @property
    def sounds(self) -> tuple[Sound, ...]:
        """All of them."""
        return self.pads + self.hits


def find_kit(folder: Path | None, scratch: Path) -> Kit:
    """Return a kit from `folder`; without one from the system's folders, else synthesised into `scratch`.

    Raises
    ------
    InvalidError
        `folder` has no two audio files of one rate.
    """
    if folder is not None:
        kit = _pick(folder, least=1)
        if kit is None:
            raise InvalidError(
                f"{folder} holds no audio files to make a schedule of",
                remedy="Give a folder with at least two WAV, FLAC, OGG, MP3 or AIFF files of one rate",
            )
        return kit
    for candidate in SYSTEM_FOLDERS:
        if (kit := _pick(candidate, least=HITS // 2)) is not None:
            return kit
    return synthesise(scratch)


def _pick(folder: Path, least: int) -> Kit | None:
    """Return hits and pads of the folder's commonest rate, evenly spread over its files; None if there are too few."""
    sounds = [sound for path in sorted(folder.rglob("*")) if (sound := _look(path)) is not None]
    if not sounds:
        return None
    rates = [sound.rate_hz for sound in sounds]
    rate_hz = max(sorted(set(rates)), key=rates.count)
    sounds = [sound for sound in sounds if sound.rate_hz == rate_hz]
    hits = [sound for sound in sounds if _HIT_S[0] <= sound.duration_s <= _HIT_S[1]]
    pads = [sound for sound in sounds if _PAD_S[0] <= sound.duration_s <= _PAD_S[1]]
    if len(hits) < least or not pads:
        if least > 1 or len(sounds) <= 1:
            return None
        # A small folder of the user's: whatever is longest serves as the pad.
        *hits, longest = sorted(sounds, key=lambda sound: (sound.duration_s, sound.path))
        pads = [longest]
    return Kit(_spread(hits, HITS), _spread(pads, PADS), str(folder))


def _look(path: Path) -> Sound | None:
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():
        return None
    try:
        info = sf.info(path)
    except (sf.LibsndfileError, OSError):
        return None
    return Sound(path, info.samplerate, info.frames / info.samplerate)


def _spread(sounds: list[Sound], count: int) -> tuple[Sound, ...]:
    step = max(1, len(sounds) // count)
    return tuple(sounds[::step][:count])


def synthesise(folder: Path) -> Kit:
    """Write a drum kit and a pad as WAV files into `folder`. Always the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(2008)
    hits = tuple(
        _write(folder / f"hit-{number:02d}.wav", _hit(number, 0.75 + 0.1 * number, random)) for number in range(HITS)
    )
    pads = tuple(
        _write(folder / f"pad-{number}.wav", _pad(110.0 * (number + 2), 9.0, random)) for number in range(PADS)
    )
    return Kit(hits, pads, "synthesised")


def _hit(number: int, duration_s: float, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return a drum: a falling sine and noise, both dying away."""
    time_s = np.arange(int(duration_s * _RATE_HZ)) / _RATE_HZ
    pitch_hz = 50.0 + 30.0 * number
    body = np.sin(2 * np.pi * pitch_hz * time_s * (1 + np.exp(-30 * time_s)))
    noise = random.uniform(-1, 1, len(time_s)) * (number % 4) / 3
    mono = (body + noise) * np.exp(-6 * time_s) * 0.3
    return np.stack([mono, mono], axis=1)


def _pad(pitch_hz: float, duration_s: float, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return a chord of slightly detuned sines with a breath of noise (so that no page is like another)."""
    time_s = np.arange(int(duration_s * _RATE_HZ)) / _RATE_HZ
    channels = []
    for detune in (0.997, 1.003):
        chord = sum(np.sin(2 * np.pi * pitch_hz * ratio * detune * time_s) for ratio in (1.0, 1.25, 1.5))
        channels.append(0.08 * chord + 0.01 * random.uniform(-1, 1, len(time_s)))
    return np.stack(channels, axis=1)


def _write(path: Path, frames: npt.NDArray[np.float64]) -> Sound:
    sf.write(path, frames, _RATE_HZ, subtype="PCM_16")
    return Sound(path, _RATE_HZ, len(frames) / _RATE_HZ)
