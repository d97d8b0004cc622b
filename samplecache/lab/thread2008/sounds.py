"""What a sound server of 2008 keeps in memory, and when it sounds: event sounds, and music streamed from memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.lab.thread2008.chance import Chance
from samplecache.lab.workload import Cue, VirtualSample

FORMAT: Final = AudioFormat(44_100, 2, Encoding.S16)
BLOCK_NS: Final = 25 * NS_PER_MS
LEAD_NS: Final = 100 * NS_PER_MS
"""PulseAudio 0.9's defaults: four fragments of 25 ms."""
HINT_AHEAD_NS: Final = NS_PER_S
"""How long before it sounds a sound is announced, if it is: a dialog is being opened, a mouse approaches a button."""
SOUND_MS: Final = (600, 3500)
"""Event sounds last that long: 100 to 600 KB."""
MUSIC_NS: Final = 60 * NS_PER_S
MUSIC: Final = "music"


@dataclass(frozen=True, slots=True)
class Programme:
    """What is kept, and what is played.

    Attributes
    ----------
    samples : tuple of VirtualSample
        Event sounds, and at last the music.
    cues : tuple of Cue
        Each event sound once, in an order of its own, every other one announced; and the music, announced.
    """

    samples: tuple[VirtualSample, ...]
    cues: tuple[Cue, ...]


def programme(
    seed: int, strategy: str, sounds: int, play_ns: int, *, locked_sounds: bool = False, locked_music: bool = False
) -> Programme:
    """Return what sounds in a run.

    Parameters
    ----------
    seed : int
        Of lengths, order and times.
    strategy : str
        What all cues ask for.
    sounds : int
        How many event sounds there are.
    play_ns : int
        Length of the run, in nanoseconds.
    locked_sounds, locked_music : bool
        Whether event sounds, or the music, are locked from their upload on.
    """
    chance = Chance(seed, "sounds")
    shortest_ms, longest_ms = SOUND_MS
    spread_ms = longest_ms - shortest_ms
    samples = [
        VirtualSample(f"event-{number:02}", FORMAT, _frames(shortest_ms + chance.below(spread_ms)), locked_sounds)
        for number in range(sounds)
    ]
    slot_ns = (play_ns - longest_ms * NS_PER_MS - HINT_AHEAD_NS) // sounds
    left = list(samples)
    cues = []
    for number in range(sounds):
        sample = left.pop(chance.below(len(left)))
        at_ns = HINT_AHEAD_NS + number * slot_ns + chance.below(slot_ns)
        hint_ahead_ns = HINT_AHEAD_NS if number % 2 == 0 else None
        cues.append(Cue(sample.sample_id, at_ns, strategy, hint_ahead_ns, LEAD_NS, BLOCK_NS))
    music = VirtualSample(MUSIC, FORMAT, _frames(min(MUSIC_NS, play_ns // 2) // NS_PER_MS), locked_music)
    cues.append(Cue(MUSIC, play_ns // 4, strategy, HINT_AHEAD_NS, LEAD_NS, BLOCK_NS))
    return Programme((*samples, music), tuple(cues))


def _frames(duration_ms: int) -> int:
    return FORMAT.rate_hz * duration_ms // 1000
