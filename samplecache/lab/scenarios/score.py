"""From a scenario to what happens: samples with their lengths, and cues with their times. The same on both kernels."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import soundfile as sf

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import ConfigurationError, InvalidFormatError
from samplecache.lab.scenarios.midi import strikes
from samplecache.lab.scenarios.tables import (
    LoadTable,
    Order,
    SampleTable,
    Scenario,
    ScenarioProblem,
    StreamTable,
    TriggerTable,
    matches,
)
from samplecache.lab.workload import Cue, Seek, VirtualSample

PERIOD_NS: Final = 10 * NS_PER_MS
"""480 frames at 48 kHz: what the virtual sound card takes at a time."""
AUDIO_SUFFIXES: Final = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})
MOST_CUES: Final = 20_000
MOST_BYTES: Final = 16 << 30
"""Of all samples together: a page of the simulated kernel takes 64 bytes of this one's memory."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A sample and where its audio comes from.

    Attributes
    ----------
    sample : VirtualSample
        Its id, format and length.
    path : Path or None
        The audio file; None if it is synthesised.
    seed : int
        Of the noise, if it is synthesised.
    """

    sample: VirtualSample
    path: Path | None = None
    seed: int = 0

    @property
    def size_bytes(self) -> int:
        """What it takes once decoded, in bytes."""
        return self.sample.format.frames_to_bytes(self.sample.frames)

    def pcm(self) -> bytes:
        """Return its audio in its format: noise that does not compress, or what the file holds. Reads the file.

        Raises
        ------
        ConfigurationError
            The file cannot be decoded any more.
        """
        wanted = self.sample.format
        if self.path is None:
            # Whole-range integers in any encoding; floats stay below 1, as a sound card wants them.
            noise = np.random.default_rng(self.seed)
            if wanted.encoding.is_float:
                frames = noise.uniform(-0.5, 0.5, (self.sample.frames, wanted.channels))
                return frames.astype(f"<f{wanted.frame_bytes // wanted.channels}").tobytes()
            return noise.bytes(self.size_bytes)
        try:
            audio, _ = sf.read(self.path, dtype=_NUMPY[wanted.encoding], always_2d=True, frames=self.sample.frames)
        except (sf.LibsndfileError, OSError) as error:
            raise ConfigurationError(f"{self.path} cannot be decoded: {error}", remedy="Name an audio file") from error
        return bytes(audio.tobytes())


_NUMPY: Final = {Encoding.S16: "int16", Encoding.S32: "int32", Encoding.F32: "float32", Encoding.F64: "float64"}


@dataclass(frozen=True, slots=True)
class Score:
    """What happens in a run, whoever plays it.

    Attributes
    ----------
    sounds : tuple of Sound
        All samples, cold when the run begins.
    cues : tuple of Cue
        What is announced and played, by the time when it sounds. Names no strategy.
    loads : tuple of LoadTable
        What else wants memory.
    idle_ns : int
        How long samples lie idle before.
    seed : int
        What drew it.
    """

    sounds: tuple[Sound, ...]
    cues: tuple[Cue, ...]
    loads: tuple[LoadTable, ...]
    idle_ns: int
    seed: int

    @property
    def stored_bytes(self) -> int:
        """What all samples take, in bytes."""
        return sum(sound.size_bytes for sound in self.sounds)

    @property
    def stop_ns(self) -> int:
        """When the last sample has sounded, if none is late, in nanoseconds from the beginning."""
        lengths = {sound.sample.sample_id: sound.sample for sound in self.sounds}
        return max(cue.at_ns + (cue.lead_ns or 0) + cue.length_ns(lengths[cue.sample_id]) for cue in self.cues)

    def played_by(self, strategy: str) -> tuple[Cue, ...]:
        """Return the cues, each asking for `strategy`."""
        return tuple(replace(cue, strategy=strategy) for cue in self.cues)


def find_sounds(scenario: Scenario, folder: Path) -> tuple[Sound, ...]:
    """Return all samples of a scenario, in the order of its file. Looks into audio files.

    Raises
    ------
    ScenarioProblem
        A file or folder is not there, or holds no audio.
    """
    dice = random.Random(scenario.seed)  # noqa: S311 -- lengths, no secret
    sounds: list[Sound] = []
    for index, table in enumerate(scenario.samples):
        for sound in _sounds_of(table, ("sample", index), folder, dice):
            sounds.append(replace(sound, seed=scenario.seed * 65_537 + len(sounds)))
    names = [sound.sample.sample_id for sound in sounds]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ScenarioProblem(("sample", 0), f"two samples come to be called {twice!r}", "Rename a sample or a file")
    if (stored_bytes := sum(sound.size_bytes for sound in sounds)) > MOST_BYTES:
        raise ScenarioProblem(
            ("sample", 0),
            f"the samples take {stored_bytes / 2**30:.0f} GiB together",
            f"Keep them within {MOST_BYTES >> 30} GiB",
        )
    return tuple(sounds)


def _sounds_of(table: SampleTable, at: tuple[str, int], folder: Path, dice: random.Random) -> Iterator[Sound]:
    if table.file is not None:
        yield _from_file(table, table.name, folder / table.file, (*at, "file"))
    elif table.folder is not None:
        place = folder / table.folder
        found = sorted(path for path in place.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        if not found:
            raise ScenarioProblem(
                (*at, "folder"), f"{place} holds no audio files", "Name a folder with WAV or FLAC files"
            )
        for path in found:
            tail = "".join(letter if letter.isalnum() else "-" for letter in path.stem.lower())
            yield _from_file(table, f"{table.name}-{tail}", path, (*at, "folder"))
    else:
        try:
            form = AudioFormat(table.rate_hz, table.channels, table.encoding)
        except InvalidFormatError as error:
            raise ScenarioProblem(at, error.message, error.remedy) from None
        for number in range(table.count):
            length_s = table.seconds
            if isinstance(length_s, list):
                length_s = length_s[0] + (length_s[1] - length_s[0]) * dice.random()
            name = table.name if table.count == 1 else f"{table.name}-{number:03}"
            frames = max(1, round((length_s or 0) * table.rate_hz))
            yield Sound(VirtualSample(name, form, frames, tags=tuple(table.tags)))


def _from_file(table: SampleTable, name: str, path: Path, at: tuple[str | int, ...]) -> Sound:
    if table.encoding not in _NUMPY:
        known = ", ".join(encoding.value for encoding in _NUMPY)
        raise ScenarioProblem((*at[:2], "encoding"), f"files are not read as {table.encoding.value}", f"Choose {known}")
    if not path.is_file():
        raise ScenarioProblem(at, f"there is no file {path}", "Name one by its path from the scenario's folder")
    try:
        info = sf.info(path)
    except (sf.LibsndfileError, OSError) as error:
        raise ScenarioProblem(at, f"{path} is no audio file: {error}", "Name a WAV, FLAC, OGG, MP3 or AIFF") from None
    if info.frames < 1:
        raise ScenarioProblem(at, f"{path} holds no audio", "Name another file")
    form = AudioFormat(info.samplerate, info.channels, table.encoding)
    return Sound(VirtualSample(name, form, info.frames, tags=tuple(table.tags)), path)


def perform(scenario: Scenario, sounds: Sequence[Sound], folder: Path, seed: int) -> Score:
    """Return what happens when, with `seed` for all that is left to chance.

    Raises
    ------
    ScenarioProblem
        A pattern names no sample, a place lies past a sample's end, or a MIDI file cannot be read.
    """
    dice = random.Random(seed)  # noqa: S311 -- rhythm, no secret
    samples = {sound.sample.sample_id: sound.sample for sound in sounds}
    cues: list[Cue] = []
    for index, stream in enumerate(scenario.streams):
        cues += _streams(scenario, stream, ("stream", index), samples, dice)
    for index, trigger in enumerate(scenario.triggers):
        cues += _strikes(scenario, trigger, ("trigger", index), samples, folder, dice)
    if not cues:
        raise ScenarioProblem(("trigger", 0), "nothing is played", "Have it struck once at least")
    if len(cues) > MOST_CUES:
        raise ScenarioProblem((), f"{len(cues)} samples are played", f"Play {MOST_CUES} at most")
    # What is announced by the beginning at the earliest gets its lead by beginning later.
    ahead_ns = max((cue.hint_ahead_ns or 0) - cue.at_ns for cue in cues)
    shift_ns = max(0, ahead_ns)
    cues = [replace(cue, at_ns=cue.at_ns + shift_ns) for cue in cues]
    loads = tuple(
        load.model_copy(
            update={
                "from_s": load.from_s and load.from_s + shift_ns / NS_PER_S,  # from the beginning is from the beginning
                "until_s": None if load.until_s is None else load.until_s + shift_ns / NS_PER_S,
            }
        )
        for load in scenario.loads
    )
    cues.sort(key=lambda cue: (cue.at_ns, cue.sample_id))
    return Score(tuple(sounds), tuple(cues), loads, _ns(scenario.idle_s), seed)


def _cue(scenario: Scenario, part: StreamTable | TriggerTable, sample_id: str, at_ns: int) -> Cue:
    ahead_s = scenario.hint_ahead_s if part.hint_ahead_s is None else part.hint_ahead_s
    return Cue(
        sample_id,
        at_ns,
        hint_ahead_ns=None if ahead_s is None or not part.announced else _ns(ahead_s),
        lead_ns=round(scenario.lead_ms * NS_PER_MS),
        block_ns=PERIOD_NS,
    )


def _streams(
    scenario: Scenario,
    table: StreamTable,
    at: tuple[str, int],
    samples: dict[str, VirtualSample],
    dice: random.Random,
) -> Iterator[Cue]:
    for number, sample_id in enumerate(_named(table.samples, (*at, "samples"), samples)):
        sample = samples[sample_id]

        def frame(place_s: float, key: str, sample: VirtualSample = sample) -> int:
            found = round(place_s * sample.format.rate_hz)
            if found >= sample.frames:
                length_s = sample.frames / sample.format.rate_hz
                raise ScenarioProblem(
                    (*at, key),
                    f"{place_s:g} s is past the end of {sample.sample_id}, which lasts {length_s:.3f} s",
                    "Name a place inside",
                )
            return found

        yield replace(
            _cue(scenario, table, sample_id, _swayed(_ns(table.at_s + number * table.apart_s), table, dice)),
            start_frame=frame(table.start_s, "start_s"),
            loop=table.loop,
            plays_ns=None if table.seconds is None else _ns(table.seconds),
            seeks=tuple(Seek(_ns(after_s), frame(to_s, "seeks")) for after_s, to_s in sorted(map(tuple, table.seeks))),
        )


def _strikes(
    scenario: Scenario,
    table: TriggerTable,
    at: tuple[str, int],
    samples: dict[str, VirtualSample],
    folder: Path,
    dice: random.Random,
) -> Iterator[Cue]:
    if table.midi is not None:
        notes = {int(note): _named(pattern, (*at, "notes"), samples) for note, pattern in table.notes.items()}
        for at_ns, note in strikes(folder / table.midi, (*at, "midi")):
            if note in notes:
                sample_id = notes[note][int(dice.random() * len(notes[note]))]
                yield _cue(scenario, table, sample_id, _swayed(_ns(table.from_s) + at_ns, table, dice))
        return
    names = _named(table.samples, (*at, "samples"), samples)
    for number, time_s in enumerate(_times(table)):
        match table.order:
            case Order.IN_TURN:
                sample_id = names[number % len(names)]
            case Order.RANDOM:
                sample_id = names[int(dice.random() * len(names))]
            case Order.ONCE:
                if number % len(names) == 0:
                    names = sorted(names, key=lambda _: dice.random())
                sample_id = names[number % len(names)]
        yield _cue(scenario, table, sample_id, _swayed(_ns(time_s), table, dice))


def _swayed(at_ns: int, part: StreamTable | TriggerTable, dice: random.Random) -> int:
    # random() alone gives the same numbers in every version of Python.
    return max(0, at_ns + int((2 * dice.random() - 1) * part.sway_ms * NS_PER_MS))


def _times(table: TriggerTable) -> list[float]:
    if table.at_s is not None:
        return table.at_s
    every_s, until_s = table.every_s or 1.0, table.until_s or 0.0
    return [table.from_s + number * every_s for number in range(int((until_s - table.from_s) / every_s) + 1)]


def _named(pattern: str, at: tuple[str | int, ...], samples: dict[str, VirtualSample]) -> list[str]:
    found = matches(pattern, list(samples))
    if not found:
        some = ", ".join(list(samples)[:5])
        raise ScenarioProblem(at, f"no sample is called {pattern!r}", f"Name one of {some}, or several as in pad-*")
    return found


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
