"""What plays against what: the interface that samplecache, sound servers and simple players are heard through.

A contender keeps sounds in its own way and writes PCM into pipes of one page; the card reads them. Everything else, the
schedule, the limits, the victim, the witness and the counting, is the same for all.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from samplecache.lab.ear.failure import ContenderFailedError
from samplecache.lab.ear.heard import CARD_FORMAT
from samplecache.lab.ear.path import Path, path
from samplecache.lab.ear.victim import WORKING_BYTES
from samplecache.lab.rig import Rig
from samplecache.lab.workload import Cue

__all__ = ["Case", "Contender", "ContenderFailedError", "Cue", "CueReport", "Load", "Sound", "Stage"]


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound to be kept: a WAV file in the card's format.

    Attributes
    ----------
    sample_id : str
        Its id; letters, digits and hyphens, so that every contender takes it.
    path : pathlib.Path
        16-bit stereo WAV at 48 kHz. No two frames next to each other are silent at its beginning, so that its first
        period can be heard.
    frames : int
        Its length.
    tags : tuple of str
        What its owner tags it with, for contenders that know tags.
    """

    sample_id: str
    path: pathlib.Path
    frames: int
    tags: tuple[str, ...] = ()

    @property
    def pcm_bytes(self) -> int:
        """What it takes as 16-bit PCM."""
        return CARD_FORMAT.frames_to_bytes(self.frames)


@dataclass(frozen=True, slots=True)
class Load:
    """A process that writes to all of its memory, round and round; see :mod:`samplecache.lab.ear.churn`.

    Attributes
    ----------
    length_bytes : int
        How much memory it has while it writes.
    rate_bytes_per_s : int
        How fast it writes, if memory comes in time.
    start_ns : int
        When it begins, from the beginning of the performance.
    stop_ns : int or None
        When it ends; with the performance if None.
    idle : bool
        Whether it begins before, when the sounds have just been made cold.
    """

    length_bytes: int
    rate_bytes_per_s: int
    start_ns: int = 0
    stop_ns: int | None = None
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """What every contender is asked to do.

    Attributes
    ----------
    name : str
        For the report.
    sounds : tuple of Sound
        What it keeps.
    cues : tuple of Cue
        What it plays, by ascending ``at_ns``. ``strategy`` and ``lead_ns`` concern samplecache alone.
    memory_factor : float or None
        The memory limit beyond what contender and victim need without samples, as a factor of the bytes that the
        contender stored; None for no limit.
    memory_bytes : int or None
        The same in bytes, alike for all; used if `memory_factor` is None.
    read_iops, read_bytes_per_s : int or None
        Limit on reads from the disk under the swap; sounds lie on the same one.
    cold : bool
        Whether the sounds are swapped out before it begins.
    idle : bool
        Whether the contender's own memory is swapped out with them, as after an hour in which nothing played; else a
        short sound that is none of these has just been played.
    victim_bytes : int
        Working set of the victim; 0 for none.
    loads : tuple of Load
        Processes in the same memory that want some of it.
    """

    name: str
    sounds: tuple[Sound, ...]
    cues: tuple[Cue, ...]
    memory_factor: float | None = None
    memory_bytes: int | None = None
    read_iops: int | None = None
    read_bytes_per_s: int | None = None
    cold: bool = True
    idle: bool = False
    victim_bytes: int = WORKING_BYTES
    loads: tuple[Load, ...] = ()

    def sound(self, cue: Cue) -> Sound:
        """Return what `cue` plays."""
        return next(sound for sound in self.sounds if sound.sample_id == cue.sample_id)

    def path(self, cue: Cue) -> Path:
        """Return which frames `cue` plays."""
        return path(cue, self.sound(cue).frames)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a contender plays.

    Attributes
    ----------
    rig : Rig
        Swap, limits and pressure; processes that hold sounds are started in it.
    directory : pathlib.Path
        For sockets, pipes, logs and files of sound: a short path, since a socket's has 107 bytes, on the disk that the
        rig's limit on reads applies to. Goes with the rig.
    """

    rig: Rig
    directory: pathlib.Path


@dataclass(frozen=True, slots=True)
class CueReport:
    """What a contender itself says of a cue, after the run; see :class:`~samplecache.lab.ear.heard.HeardCue`."""

    major_faults: int
    minor_faults: int
    strategy: str = ""


class Contender(Protocol):
    """One way to keep sounds and play them. Used by one thread; ended by :meth:`close` however far it got.

    Calls come in the order of the methods below; those from :meth:`make_cold` on again for each run. Only :meth:`check`
    may also be called of one that is never started.

    Attributes
    ----------
    name : str
        For reports and command lines.
    hears_hints : bool
        Whether :meth:`hint` does anything.
    mixes : bool
        Whether all its cues sound in one stream, :meth:`mix_pipe`, rather than each in a pipe of its own.
    encoding_bytes : int
        Bytes of one channel's value as it is stored, for counting pages needed.
    """

    name: str
    hears_hints: bool
    mixes: bool
    encoding_bytes: int

    @property
    def version(self) -> str:
        """What exactly it is: versions of programs and libraries."""
        ...

    def check(self, cues: Sequence[Cue], lengths_frames: Mapping[str, int]) -> None:
        """Raise unless it is there and can play `cues` of sounds with such lengths. Starts nothing.

        Raises
        ------
        NotPermittedError
            A program is missing; the remedy names the package.
        ContenderFailedError
            It can never play that: it has no loops, or takes no such long sounds.
        """
        ...

    def start(self, stage: Stage) -> None:
        """Start without any sound; return when it can take some. Blocks.

        Raises
        ------
        ContenderFailedError
            It does not start.
        """
        ...

    def prepare(self, sounds: Sequence[Sound]) -> None:
        """Keep `sounds` as well as those that it has. Blocks.

        Raises
        ------
        ContenderFailedError
            It takes no such sound, or has died.
        """
        ...

    def make_cold(self) -> None:
        """Let go of what the rig's :meth:`~samplecache.lab.rig.Rig.reclaim` does not reach, such as clean file pages.

        The rig is told to reclaim right after it. Whether the run was cold is judged by pages swapped in or read.
        """
        ...

    @property
    def keeps_resident(self) -> bool:
        """Whether it keeps sounds in RAM whatever the rig does (locked): then no run of it can be cold."""
        ...

    def mix_pipe(self) -> int | None:
        """Return the file descriptor, non-blocking, that all its sound comes from; None if each cue has its own."""
        ...

    def hint(self, cue: Cue) -> None:
        """Say that `cue` will be played ``cue.hint_ahead_ns`` from now. Never blocks for long."""
        ...

    def play(self, number: int, cue: Cue) -> int | None:
        """Ask for `cue`, the schedule's `number`-th, to be played now; return at once.

        Returns
        -------
        int or None
            The file descriptor, non-blocking, of its own pipe, which the card closes; None if it sounds in the mix.

        Raises
        ------
        ContenderFailedError
            It has died.
        """
        ...

    def playing_threads(self) -> Sequence[tuple[int, int]]:
        """Return process and thread id of each thread that reads sounds for all cues together.

        Empty where the reports of :meth:`finish` have the faults, cue by cue.
        """
        ...

    def keeper(self) -> int | None:
        """Return the process that has sounds in its memory, where others can look; None if none has."""
        ...

    def clients(self) -> Sequence[int]:
        """Return the ids of processes outside the rig that playing takes: their CPU time counts."""
        ...

    def finish(self) -> dict[int, CueReport]:
        """Return what it says of the cues that were played, by number; waits for sessions to end, some seconds at most.

        Raises
        ------
        ContenderFailedError
            It has died.
        """
        ...

    def prefetches(self) -> Sequence[tuple[str, int, int]]:
        """Return which sound's pages were fetched from when until when, for hints until :meth:`finish` (monotonic)."""
        ...

    def notes(self) -> Sequence[str]:
        """Return what a reader must know."""
        ...

    def close(self) -> None:
        """End its processes and remove its files. May be called again, and after any failure."""
        ...
