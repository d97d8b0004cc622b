"""What was heard of one contender in one run, and what it cost. Plain values, for reports; no I/O."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import Any, Final

from samplecache.audio.format import AudioFormat, Encoding

CARD_FORMAT: Final = AudioFormat(48_000, 2, Encoding.S16)
"""What the virtual sound card takes, of every contender."""
PERIOD_FRAMES: Final = 480
"""Frames that the card takes at a time: 10 ms, a period that sound cards commonly have."""


class GlitchKind(enum.StrEnum):
    """What was wrong with what was heard."""

    GAP = "gap"
    """Silence, for frames were not there when due. The sound goes on where it stopped or, of a server that does not
    wait, where it would have been by then."""
    REPEAT = "repeat"
    """Frames sounded a second time."""
    JUMP = "jump"
    """Frames of the sound were left out."""
    FOREIGN = "foreign"
    """Frames that are none of the sound's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Glitch:
    """One place at which a sound was broken.

    Attributes
    ----------
    kind : GlitchKind
        What was wrong.
    at_frame : int
        Where: the frame of the cue that was due, counted from the first that it plays.
    length_frames : int
        Frames of silence, frames repeated, frames left out or frames that were foreign.
    at_ns : int
        When the first of them was due, from the beginning of the run.
    """

    kind: GlitchKind
    at_frame: int
    length_frames: int
    at_ns: int

    @property
    def length_ns(self) -> int:
        """How long that is at the card's rate."""
        return CARD_FORMAT.duration_ns(self.length_frames)


@dataclasses.dataclass(frozen=True, slots=True)
class HeardCue:
    """One cue, as the card heard it.

    Attributes
    ----------
    sample_id : str
        What was played.
    asked_ns : int
        When it was asked for, from the beginning of the run.
    first_period_ns : int or None
        From then until the card took the first period with frames of it; None if it was never heard.
    frames_due, frames_heard : int
        How many frames it has, and how many of them were heard.
    glitches : tuple of Glitch
        Where it was broken, in order. What is late before the first frame is `first_period_ns`, and no glitch.
    major_faults, minor_faults : int or None
        Faults of the threads that read this cue's frames, while they did; None where a contender's threads read for
        all cues together (:attr:`Heard.major_faults` has them).
    strategy : str
        The strategy that its session got; empty for a contender without strategies.
    """

    sample_id: str
    asked_ns: int
    first_period_ns: int | None
    frames_due: int
    frames_heard: int
    glitches: tuple[Glitch, ...] = ()
    major_faults: int | None = None
    minor_faults: int | None = None
    strategy: str = ""

    @property
    def complete(self) -> bool:
        """Whether all of it was heard."""
        return self.frames_heard >= self.frames_due


@dataclasses.dataclass(frozen=True, slots=True)
class Victim:
    """What another process in the same memory suffered: it touches its own pages round and round, and times that.

    Attributes
    ----------
    working_bytes : int
        What it touches.
    rounds : int
        How many rounds it timed.
    major_faults, minor_faults : int
        Its own faults in them.
    round_p50_ns, round_p99_ns, round_worst_ns : int
        How long a round took.
    """

    working_bytes: int
    rounds: int
    major_faults: int
    minor_faults: int
    round_p50_ns: int
    round_p99_ns: int
    round_worst_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """What was looked at while the run went on, for a timeline.

    Attributes
    ----------
    at_ns : int
        When, from the beginning of the run.
    rss_bytes, locked_bytes : int
        Of the contender's processes in the memory limit.
    major_faults : int
        Of the contender's processes in the memory limit, since the run began.
    pswpin, pswpout : int
        Pages that the machine swapped, since the run began.
    """

    at_ns: int
    rss_bytes: int
    locked_bytes: int
    major_faults: int
    pswpin: int
    pswpout: int


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """One run of one contender. Times are nanoseconds, sizes bytes.

    Attributes
    ----------
    contender, version : str
        Who played.
    case : str
        Name of the case.
    discarded : str
        Why this run says nothing (it was not cold, or the machine itself stalled); empty for a run that counts.
    failed : str
        Why the contender could not play it at all (killed for want of memory, sample too large for it, cannot loop);
        empty if it played. That is a result, and is not repeated.
    cues : tuple of HeardCue
        In the order of the schedule.
    major_faults, minor_faults : int
        Of the playing threads.
    pages_needed : int
        Pages of stored sound that the cues read, each counted once.
    pswpin, pswpout : int
        Pages that the machine swapped from the first hint or cue to the end.
    read_bytes : int
        What the contender's processes had read from disks meanwhile, from files and from swap (``read_bytes`` of
        proc(5)).
    stored_bytes : int
        By how much memory and swap of the contender's processes grew when the samples were stored.
    sound_bytes : int
        What the samples take as 16-bit PCM.
    base_bytes : int
        What the contender, without samples, and the victim need in RAM while a short sound plays.
    limit_bytes : int or None
        The memory limit while it played.
    rss_bytes, locked_bytes : int
        The most that its processes had in RAM, and had locked.
    cpu_ns : int
        CPU time of its processes, and of a client's where playing takes one.
    victim : Victim or None
        What the rest suffered.
    witness_ns : int
        How late the witness was at worst.
    card_ns : int
        How late the card itself was at worst.
    timeline : tuple of Moment
        What was looked at meanwhile.
    prefetches : tuple of (str, int, int)
        Which sound's pages were fetched for a hint, from when until when.
    notes : tuple of str
        What a reader must know (vmtouch stood in for by our own locking, no hints, …).
    """

    contender: str
    version: str
    case: str
    discarded: str = ""
    failed: str = ""
    cues: tuple[HeardCue, ...] = ()
    major_faults: int = 0
    minor_faults: int = 0
    pages_needed: int = 0
    pswpin: int = 0
    pswpout: int = 0
    read_bytes: int = 0
    stored_bytes: int = 0
    sound_bytes: int = 0
    base_bytes: int = 0
    limit_bytes: int | None = None
    rss_bytes: int = 0
    locked_bytes: int = 0
    cpu_ns: int = 0
    victim: Victim | None = None
    witness_ns: int = 0
    card_ns: int = 0
    timeline: tuple[Moment, ...] = ()
    prefetches: tuple[tuple[str, int, int], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def glitches(self) -> tuple[Glitch, ...]:
        """Those of all cues."""
        return tuple(glitch for cue in self.cues for glitch in cue.glitches)

    @property
    def longest_stall_ns(self) -> int:
        """The longest gap within a cue; 0 without any."""
        return max((glitch.length_ns for glitch in self.glitches if glitch.kind is GlitchKind.GAP), default=0)

    @property
    def unheard(self) -> int:
        """How many cues were not heard to their end."""
        return sum(not cue.complete for cue in self.cues)

    @property
    def swap_ins_a_page(self) -> float | None:
        """Pages swapped in for each page needed; None if none was needed."""
        return self.pswpin / self.pages_needed if self.pages_needed else None

    def first_period_quantile_ns(self, fraction: float) -> int | None:
        """Return the time from request to first period that `fraction` of the cues heard do not exceed."""
        return quantile([cue.first_period_ns for cue in self.cues if cue.first_period_ns is not None], fraction)

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values, with what is computed from them."""
        return dataclasses.asdict(self) | {
            "glitch_count": len(self.glitches),
            "longest_stall_ns": self.longest_stall_ns,
            "unheard": self.unheard,
            "swap_ins_a_page": self.swap_ins_a_page,
            "first_period_p50_ns": self.first_period_quantile_ns(0.5),
            "first_period_p99_ns": self.first_period_quantile_ns(0.99),
        }


def quantile(values: Sequence[int], fraction: float) -> int | None:
    """Return the smallest of `values` that `fraction` of them do not exceed (the nearest rank); None of none."""
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)] if values else None
