"""A scenario on the running kernel: contenders in a rig, heard by the virtual sound card. Needs root."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import soundfile as sf
import soxr

from samplecache import __version__
from samplecache.audio.format import Encoding
from samplecache.clock import NS_PER_S
from samplecache.errors import ConfigurationError, StateError
from samplecache.kernel import procfs
from samplecache.lab.contest.playing import Player, Turn
from samplecache.lab.contest.records import Case, Figures, Head, Run, Stall, Status, Timeline
from samplecache.lab.contest.residency import Watched
from samplecache.lab.ear.contender import Case as EarCase
from samplecache.lab.ear.contender import Load
from samplecache.lab.ear.contender import Sound as EarSound
from samplecache.lab.ear.contenders.registry import contender as make_contender
from samplecache.lab.ear.heard import CARD_FORMAT, PERIOD_FRAMES, GlitchKind, Heard, HeardCue
from samplecache.lab.ear.listening import Listener
from samplecache.lab.ear.path import path
from samplecache.lab.rig import Rig, RigOptions
from samplecache.lab.scenarios.score import Score, Sound
from samplecache.lab.scenarios.tables import LoadTable, parse_memory
from samplecache.lab.swap_device import SwapDevice
from samplecache.lab.workload import Cue, Seek, VirtualSample

LEAST_SWAP_BYTES: Final = 192 << 20
LOUDEST: Final = 1_000
"""Of synthesised noise: what 32 sounds come to at once is still not clipped, which would be heard as something else."""
HEAD_STEPS: Final = 20
"""Into how many steps a playhead's way is cut: fine enough that none is taken for a jump."""
_STALLED: Final = "the machine itself stalled"


def check(name: str, score: Score) -> None:
    """Raise unless the contender called `name` is there and can play `score`. Starts nothing.

    Raises
    ------
    ConfigurationError
        There is no such contender.
    NotPermittedError
        A program that it takes is missing.
    ContenderFailedError
        It can never play that.
    """
    rates = {sound.sample.sample_id: sound.sample.format.rate_hz for sound in score.sounds}
    make_contender(name).check(
        [_at_card_rate(cue, rates[cue.sample_id]) for cue in score.cues],
        {sound.sample.sample_id: _frames_at_card_rate(sound.sample) for sound in score.sounds},
    )


@contextlib.contextmanager
def measuring() -> Iterator[Player]:
    """Get ready to play on the running kernel, for the length of the block. Sounds are kept in files meanwhile.

    Each contender has a rig of its own, with a fresh swap area, for as long as it is started, and leaves nothing of it.
    """
    with tempfile.TemporaryDirectory(prefix="samplecache-sounds-") as name:
        written = _Written(Path(name))
        yield lambda score, contender: Turns(score, contender, written)


class _Written:
    """Sounds in files of a folder, each written when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Sound, EarSound] = {}

    def __call__(self, sound: Sound) -> EarSound:
        """Return `sound` as the card takes it; raises as :func:`_write` does."""
        if sound not in self._known:
            self._known[sound] = _write(sound, self._folder)
        return self._known[sound]


class Turns:
    """A contender's runs of one score, for the length of a ``with`` block: started at the first.

    Parameters
    ----------
    score : Score
        What it plays.
    name : str
        Who it is.
    written : callable
        Returns a sound as the card takes it.
    """

    def __init__(self, score: Score, name: str, written: Callable[[Sound], EarSound]) -> None:
        self._score = score
        self._name = name
        self._written = written
        self._rates = {sound.sample.sample_id: sound.sample.format.rate_hz for sound in score.sounds}
        self._stack = contextlib.ExitStack()
        self._device = ""
        self._disks = ""
        self._listener: Listener | None = None
        self._watched: Watched | None = None

    def __enter__(self) -> Turn:
        return self._play

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _play(self, case: Case) -> Run:
        device = SwapDevice.parse(case.device)
        if self._listener is None or self._device != case.device:
            self._leave()
            self._listener = self._enter(device)
            self._device = case.device
        ear_case = self._ear_case(case, device)
        try:
            heard = self._listener.hear(ear_case)
        except BaseException:
            self._leave()
            raise
        if self._watched is None:
            raise StateError("nobody was started", remedy="Report this")
        return _run(heard, self._score, case, self._name, self._watched, device, self._disks, ear_case)

    def _enter(self, device: SwapDevice) -> Listener:
        """Make a rig, and have the contender started in it when it plays."""
        # Four times what is stored, as floats, and everything else that may have to leave.
        swap_bytes = (
            LEAST_SWAP_BYTES
            + 8 * sum(self._written(sound).pcm_bytes for sound in self._score.sounds)
            + 2 * sum(load.memory for load in self._score.loads)
        )
        with contextlib.ExitStack() as stack:
            rig = stack.enter_context(Rig(RigOptions(swap_bytes=swap_bytes, zram=device.zram)))
            self._disks = ", ".join(disk.name for disk in rig.disks)
            listener = stack.enter_context(Listener(self._make, rig))
            self._stack = stack.pop_all()
        return listener

    def _make(self) -> Watched:
        self._watched = Watched(make_contender(self._name))
        return self._watched

    def _leave(self) -> None:
        self._listener = None
        self._stack.close()

    def _ear_case(self, case: Case, device: SwapDevice) -> EarCase:
        memory = parse_memory(case.memory)
        return EarCase(
            name=str(case),
            sounds=tuple(self._written(sound) for sound in self._score.sounds),
            cues=tuple(_at_card_rate(cue, self._rates[cue.sample_id]) for cue in self._score.cues),
            memory_factor=memory if isinstance(memory, float) else None,
            memory_bytes=memory if isinstance(memory, int) else None,
            read_iops=device.read_iops,
            read_bytes_per_s=device.read_bytes_per_s,
            idle=self._score.idle_ns > 0,
            loads=tuple(_load(load) for load in self._score.loads),
        )


def _load(load: LoadTable) -> Load:
    stop_ns = None if load.until_s is None else round(load.until_s * NS_PER_S)
    return Load(load.memory, load.rate, round(load.from_s * NS_PER_S), stop_ns, idle=load.idle)


def _run(
    heard: Heard,
    score: Score,
    case: Case,
    name: str,
    watched: Watched,
    device: SwapDevice,
    disks: str,
    ear_case: EarCase,
) -> Run:
    status, why = Status.DONE, ""
    if heard.failed:
        status, why = Status.FAILED, heard.failed
    elif heard.discarded:
        status = Status.NOISY if heard.discarded.startswith(_STALLED) else Status.WARM
        why = heard.discarded
    places = [_places(cue, ear_case.sound(cue)) for cue in ear_case.cues]
    stalls = _stalls(heard, places[: len(heard.cues)])
    return Run(
        case=case,
        contender=name,
        bound=", ".join(dict.fromkeys(cue.strategy for cue in heard.cues if cue.strategy)),
        repetition=0,
        seed=score.seed,
        status=status,
        why=why,
        machine=_machine(device, disks),
        version=heard.version,
        notes=list(heard.notes),
        witness_ns=max(heard.witness_ns, heard.card_ns),
        figures=_figures(heard, stalls) if status.counts else None,
        stalls=stalls,
        timeline=_timeline(heard, score, watched, places) if status.counts else None,
    )


def _machine(device: SwapDevice, disks: str) -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "kernel": f"Linux {platform.release()}",
        "swap": f"{device.description}{f', on {disks}' if disks and not device.zram else ''}",
        "page_cluster": str(procfs.page_cluster()),
        "machine": f"{os.cpu_count()} CPUs, {memory >> 20} MiB",
        "heard by": f"a virtual sound card, {CARD_FORMAT}, {PERIOD_FRAMES} frames a period",
        "samplecache": __version__,
        "python": platform.python_version(),
    }


def _stalls(heard: Heard, places: Sequence[Callable[[int], float]]) -> list[Stall]:
    return sorted(
        (
            Stall(
                at_ns=glitch.at_ns,
                late_ns=glitch.length_ns,
                sample_id=cue.sample_id,
                place=place(glitch.at_frame),
                cause=glitch.kind.value,
            )
            for cue, place in zip(heard.cues, places, strict=True)
            for glitch in cue.glitches
        ),
        key=lambda stall: stall.at_ns,
    )


def _figures(heard: Heard, stalls: list[Stall]) -> Figures:
    victim = heard.victim
    return Figures(
        periods=sum(-(-cue.frames_due // PERIOD_FRAMES) for cue in heard.cues),
        glitches=len(heard.glitches),
        missing_ns=sum(stall.late_ns for stall in stalls if stall.cause == GlitchKind.GAP.value),
        longest_stall_ns=heard.longest_stall_ns,
        first_ns=[cue.first_period_ns for cue in heard.cues if cue.first_period_ns is not None],
        unheard=heard.unheard,
        sample_pages=max(1, heard.pages_needed),
        stored_bytes=heard.stored_bytes,
        major_faults=heard.major_faults,
        minor_faults=heard.minor_faults,
        swap_in_pages=heard.pswpin,
        limit_bytes=heard.limit_bytes,
        rss_bytes=heard.rss_bytes,
        locked_bytes=heard.locked_bytes,
        cpu_ns=heard.cpu_ns,
        victim_faults=None if victim is None else victim.major_faults,
        victim_p99_ns=None if victim is None else victim.round_p99_ns,
    )


def _timeline(heard: Heard, score: Score, watched: Watched, places: Sequence[Callable[[int], float]]) -> Timeline:
    moments = [moment for moment in heard.timeline if moment.at_ns >= 0]
    times_ns = [moment.at_ns for moment in moments]
    order = list(dict.fromkeys(cue.sample_id for cue in score.cues))
    return Timeline(
        times_ns=times_ns,
        strips=watched.strips(order, times_ns),
        mapped_only=watched.mapped_only,
        heads=[_head(cue, place) for cue, place in zip(heard.cues, places, strict=True)],
        hints_ns=[(cue.sample_id, cue.at_ns - cue.hint_ahead_ns) for cue in score.cues if cue.hint_ahead_ns]
        if watched.hears_hints
        else [],
        major_faults=_steps([moment.major_faults for moment in moments]),
        pages_in=_steps([moment.pswpin for moment in moments]),
        prefetches=list(heard.prefetches),
    )


def _steps(totals: list[int]) -> list[int]:
    return [after - before for before, after in zip([0, *totals], totals, strict=False)]


def _places(cue: Cue, sound: EarSound) -> Callable[[int], float]:
    """Return what tells where in the sound, 0 to 1, the frame is that a cue plays as its so-manieth."""
    spans = path(cue, sound.frames).spans

    def place(frame: int) -> float:
        for start, stop in spans:
            if frame < stop - start:
                return (start + frame) / sound.frames
            frame -= stop - start
        return spans[-1][1] / sound.frames

    return place


def _head(cue: HeardCue, place: Callable[[int], float]) -> Head:
    """Return where a playhead was: it moves on but in glitches."""
    times_ns: list[int] = []
    places: list[float] = []
    step_frames = max(1, cue.frames_due // HEAD_STEPS)
    at_ns, frame = cue.asked_ns + (cue.first_period_ns or 0), 0
    for stop_frame, pause_ns in (*((g.at_frame, g.length_ns) for g in cue.glitches), (cue.frames_heard, 0)):
        for passed in (*range(frame, stop_frame, step_frames), max(frame, stop_frame)):
            times_ns.append(at_ns + CARD_FORMAT.duration_ns(passed - frame))
            places.append(round(place(passed), 4))
        at_ns = times_ns[-1] + pause_ns
        frame = max(frame, stop_frame)
    return Head(sample_id=cue.sample_id, times_ns=times_ns, places=places)


def _at_card_rate(cue: Cue, rate_hz: int) -> Cue:
    """Return `cue` in frames of the card's rate."""

    def frames(given: int) -> int:
        return given * CARD_FORMAT.rate_hz // rate_hz

    return replace(
        cue,
        frames=frames(cue.frames),
        start_frame=frames(cue.start_frame),
        seeks=tuple(Seek(seek.after_ns, frames(seek.frame)) for seek in cue.seeks),
    )


def _frames_at_card_rate(sample: VirtualSample) -> int:
    return round(sample.frames * CARD_FORMAT.rate_hz / sample.format.rate_hz)


def _write(sound: Sound, folder: Path) -> EarSound:
    """Write a sound as the card takes it: 16-bit stereo at its rate, no silence at the beginning.

    Raises
    ------
    ConfigurationError
        It is silence, or its file cannot be decoded any more, or the disk is full.
    """
    sample = sound.sample
    name = sample.sample_id
    if sound.path is None:
        shape = (_frames_at_card_rate(sample), CARD_FORMAT.channels)
        audio = np.random.default_rng(sound.seed).integers(-LOUDEST, LOUDEST + 1, shape, np.int16)
    else:
        audio = _decoded(sound)
    path = folder / f"{name}.wav"
    if shutil.disk_usage(folder).free < 2 * audio.nbytes:
        raise ConfigurationError(f"{folder} has no room for {name}", remedy="Free disk space, or set TMPDIR")
    sf.write(path, audio, CARD_FORMAT.rate_hz, subtype="PCM_16")
    return EarSound(name, path, len(audio), sample.tags)


def _decoded(sound: Sound) -> np.ndarray:
    form = sound.sample.format
    wide = Sound(replace(sound.sample, format=replace(form, encoding=Encoding.F32)), sound.path)
    frames = np.frombuffer(wide.pcm(), "<f4").reshape(-1, form.channels)
    if form.rate_hz != CARD_FORMAT.rate_hz:
        frames = soxr.resample(frames, form.rate_hz, CARD_FORMAT.rate_hz)
    stereo = frames[:, [0, min(1, form.channels - 1)]]
    audio = np.clip(np.round(stereo * 32_767), -32_768, 32_767).astype(np.int16)
    loud = np.flatnonzero(audio.any(axis=1))
    if not len(loud):
        raise ConfigurationError(f"{sound.path} is silence, so nobody could hear it", remedy="Name another file")
    return audio[loud[0] :]
