"""When which sample is struck, and when its coming is announced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache_demo.sounds import Kit

HINT_AHEAD_NS: Final = 3 * NS_PER_S
"""How long before it sounds a sample is announced: six beats, which a sequencer knows ahead."""

LEAD_NS: Final = 30 * NS_PER_MS
"""The player's jitter buffer: what a drummer hardly feels. A block later than that is heard as a gap."""

BLOCK_NS: Final = 10 * NS_PER_MS
BEAT_NS: Final = 500 * NS_PER_MS
TOGETHER: Final = 3
"""Hits struck on one beat: kick, snare and cymbal."""

PAD_NS: Final = 4 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Cue:
    """One sample to be struck.

    Attributes
    ----------
    sample_id : str
        The sample.
    at_ns : int
        When, from the beginning of the schedule.
    frames : int
        How many of its frames are played at the most; 0 all.
    gain : float
        How loud.
    """

    sample_id: str
    at_ns: int
    frames: int
    gain: float


def make_schedule(kit: Kit, sample_ids: dict[str, str]) -> tuple[Cue, ...]:
    """Return the schedule: pads from the start, from the next beat on three hits a beat, each for its first time.

    Parameters
    ----------
    kit : Kit
        What to play.
    sample_ids : dict
        Sample id by path.
    """
    pad_frames = kit.rate_hz * PAD_NS // NS_PER_S
    pads = [
        Cue(sample_ids[str(pad.path)], 0, pad_frames if pad.duration_s * NS_PER_S > PAD_NS else 0, 0.5)
        for pad in kit.pads
    ]
    hits = [
        Cue(sample_ids[str(hit.path)], (1 + index // TOGETHER) * BEAT_NS, 0, 0.5) for index, hit in enumerate(kit.hits)
    ]
    return tuple(pads + hits)
