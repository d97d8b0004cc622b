"""When which sample is struck, and when its coming is announced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache_demo.sounds import Kit

HINT_AHEAD_NS: Final = 2 * NS_PER_S
"""How long before it sounds a sample is announced: a bar at 120 beats a minute, which a sequencer knows ahead."""

LEAD_NS: Final = 30 * NS_PER_MS
"""The player's jitter buffer: what a drummer hardly feels. A block later than that is heard as a gap."""

BEAT_NS: Final = 250 * NS_PER_MS
LENGTH_NS: Final = 5 * NS_PER_S


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
    """Return the schedule: pads from the first beat on, a hit on every beat, each struck for its first time.

    Parameters
    ----------
    kit : Kit
        What to play.
    sample_ids : dict
        Sample id by path.
    """
    length_frames = kit.rate_hz * LENGTH_NS // NS_PER_S
    pads = [
        Cue(
            sample_ids[str(pad.path)],
            index * 2 * BEAT_NS,
            length_frames if pad.duration_s * NS_PER_S > LENGTH_NS else 0,
            0.5,
        )
        for index, pad in enumerate(kit.pads)
    ]
    hits = [
        Cue(sample_ids[str(hit.path)], (index + 2) * BEAT_NS, 0, 0.7)
        for index, hit in enumerate(kit.hits)
        if (index + 2) * BEAT_NS < LENGTH_NS
    ]
    return tuple(sorted(pads + hits, key=lambda cue: (cue.at_ns, cue.sample_id)))
