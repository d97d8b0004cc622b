"""What happens in a simulation: which samples there are, when each is announced and struck, what else wants memory."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import InvalidError
from samplecache.lab.loads import Press

HINT_AHEAD_NS: Final = 2 * NS_PER_S
"""A bar at 120 beats a minute: what a sequencer knows ahead."""
LEAD_NS: Final = 30 * NS_PER_MS
"""A jitter buffer that a drummer hardly feels."""
BLOCK_NS: Final = 10 * NS_PER_MS
BEAT_NS: Final = 250 * NS_PER_MS

_KIT_FORMAT: Final = AudioFormat(44_100, 2, Encoding.S16)
_PAD_NS: Final = 9 * NS_PER_S
_PAD_HEARD_NS: Final = 5 * NS_PER_S
_HITS: Final = 12
_SWAY_NS: Final = 5 * NS_PER_MS
"""How far a hand is off the beat at the most, to either side."""


@dataclass(frozen=True, slots=True)
class VirtualSample:
    """A sample of which only the length matters.

    Attributes
    ----------
    sample_id : str
        Its id.
    format : AudioFormat
        Its format.
    frames : int
        Its length in frames, 1 at least.
    locked : bool
        Whether it is locked from its upload to the end, by nobody's strategy: what PulseAudio once did.
    tags : tuple of str
        What its owner tags it with; ``trigger`` has its head stay in RAM.
    """

    sample_id: str
    format: AudioFormat
    frames: int
    locked: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seek:
    """A jump of a session.

    Attributes
    ----------
    after_ns : int
        When, in nanoseconds from the time when its cue is struck.
    frame : int
        Where to.
    """

    after_ns: int
    frame: int


@dataclass(frozen=True, slots=True)
class Cue:
    """A sample that is announced, and then struck and played.

    Attributes
    ----------
    sample_id : str
        Which.
    at_ns : int
        When it is struck, in nanoseconds from the beginning.
    strategy : str
        Strategy that is asked for; empty for no wish.
    hint_ahead_ns : int or None
        How long before it is struck a prefetch is asked for, at the beginning if that is longer; None for never.
    lead_ns : int or None
        How long after a block may leave it is due; None for unlimited pace.
    block_ns : int
        Length of a block.
    frames : int
        How many frames are played; 0 for all.
    start_frame : int
        Where it begins.
    loop : bool
        Whether it begins again at its end. Then `plays_ns` says when it ends.
    plays_ns : int or None
        How much is played at the most, in nanoseconds of audio; None for all.
    seeks : tuple of Seek
        Where it jumps to, by time.
    scheduled_ahead_ns : int or None
        How long before it is struck it is announced through a schedule, which chooses when to fetch it; at the
        beginning if that is longer; None for never.
    sureness : float
        How sure the schedule says it is, 0 to 1.
    """

    sample_id: str
    at_ns: int
    strategy: str = ""
    hint_ahead_ns: int | None = HINT_AHEAD_NS
    lead_ns: int | None = LEAD_NS
    block_ns: int = BLOCK_NS
    frames: int = 0
    start_frame: int = 0
    loop: bool = False
    plays_ns: int | None = None
    seeks: tuple[Seek, ...] = ()
    scheduled_ahead_ns: int | None = None
    sureness: float = 1.0

    def length_ns(self, sample: VirtualSample) -> int:
        """Return how much of `sample` it plays, in nanoseconds of audio, if none is late."""
        rate_hz, at_ns, frame = sample.format.rate_hz, 0, self.start_frame
        if self.loop and self.plays_ns is not None:
            return self.plays_ns
        stop_frame = min(sample.frames, self.start_frame + self.frames) if self.frames else sample.frames
        for seek in self.seeks:
            if at_ns + (stop_frame - frame) * NS_PER_S // rate_hz <= seek.after_ns:
                break  # it has ended by then
            at_ns, frame, stop_frame = seek.after_ns, seek.frame, sample.frames
        length_ns = at_ns + (stop_frame - frame) * NS_PER_S // rate_hz
        return length_ns if self.plays_ns is None else min(length_ns, self.plays_ns)


@dataclass(frozen=True, slots=True)
class Workload:
    """All that happens in a run.

    Attributes
    ----------
    samples : tuple of VirtualSample
        Uploaded in this order. All are cold when the run begins, unless there is a warm-up.
    cues : tuple of Cue
        What is played. One sample may sound several times at once.
    loads : tuple of Press
        What else wants memory.
    before : tuple of Press
        What wants memory before anything else does, one after the other.
    warm_up_ns : int
        How long loads run before the beginning, so that samples get as cold as disuse makes them; 0 to have all of
        memory taken away and given back instead.
    upload_ns : int
        How much of the warm-up is over when the last sample is uploaded; they come evenly spread.

    Raises
    ------
    InvalidError
        A time, length or rate is impossible, or a sample is missing.
    """

    samples: tuple[VirtualSample, ...]
    cues: tuple[Cue, ...]
    loads: tuple[Press, ...] = ()
    before: tuple[Press, ...] = ()
    warm_up_ns: int = 0
    upload_ns: int = 0

    def __post_init__(self) -> None:
        known = {sample.sample_id for sample in self.samples}
        for cue in self.cues:
            if cue.sample_id not in known:
                raise InvalidError(f"a cue plays {cue.sample_id!r}, which is no sample", remedy="Add it to the samples")
            if min(cue.at_ns, cue.hint_ahead_ns or 0, cue.scheduled_ahead_ns or 0) < 0:
                raise InvalidError(f"a cue has a negative time: {cue}", remedy="Give 0 or more nanoseconds")
            if cue.loop and cue.plays_ns is None:
                raise InvalidError(f"a loop never ends: {cue}", remedy="Say how long it plays")
        if any(sample.frames < 1 for sample in self.samples):
            raise InvalidError("a sample has no frames", remedy="Give it one frame at least")
        if not self.warm_up_ns and any(sample.locked for sample in self.samples):
            raise InvalidError(
                "a sample is locked, so not all of memory can be taken away",
                remedy="Make samples cold by a warm-up under a load, or leave the sample unlocked",
            )
        if not 0 <= self.upload_ns <= self.warm_up_ns:
            raise InvalidError(
                f"a warm-up lasts {self.warm_up_ns} ns, with uploads for {self.upload_ns}",
                remedy="Give it 0 or more nanoseconds, and uploads no more than that",
            )


def beat(strategy: str, seed: int = 0, *, hint_ahead_ns: int | None = HINT_AHEAD_NS) -> Workload:
    """Return the demo's schedule: two pads, and over them a hit every 250 ms, each cold when it is struck.

    Parameters
    ----------
    strategy : str
        What all cues ask for.
    seed : int
        Of the hand that strikes, which is off the beat by up to 5 ms.
    hint_ahead_ns : int or None
        How long before it is struck a sample is announced; None for never.
    """
    hand = random.Random(seed)  # noqa: S311 -- rhythm, no secret
    first_ns = hint_ahead_ns or _SWAY_NS

    def strike(sample: VirtualSample, beat_number: int) -> Cue:
        # random() alone gives the same numbers in every version of Python.
        sway_ns = int((2 * hand.random() - 1) * _SWAY_NS)
        heard_frames = min(sample.frames, _frames(_PAD_HEARD_NS))
        at_ns = first_ns + beat_number * BEAT_NS + sway_ns
        return Cue(sample.sample_id, at_ns, strategy, hint_ahead_ns, frames=heard_frames)

    pads = [VirtualSample(f"pad-{number}", _KIT_FORMAT, _frames(_PAD_NS)) for number in range(2)]
    hits = [
        VirtualSample(f"hit-{number:02}", _KIT_FORMAT, _frames((350 + 50 * number) * NS_PER_MS))
        for number in range(_HITS)
    ]
    cues = [strike(pad, 2 * number) for number, pad in enumerate(pads)]
    cues += [strike(hit, 2 + number) for number, hit in enumerate(hits)]
    return Workload((*pads, *hits), tuple(cues))


def _frames(duration_ns: int) -> int:
    return _KIT_FORMAT.rate_hz * duration_ns // NS_PER_S
