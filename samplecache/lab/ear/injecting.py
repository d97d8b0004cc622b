"""Flaws put into a signal on purpose, and how many of them a detector finds: its own error rate."""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from samplecache.lab.ear.flaws import Flaw, Found, Frames
from samplecache.lab.ear.heard import CARD_FORMAT, PERIOD_FRAMES, GlitchKind

LONGEST_FRAMES: Final = 4800
"""A flaw is 100 ms long at the most, and as much lies between two."""
SOUNDING_FRAMES: Final = 16
"""How long something must sound at a flaw."""
LEAD_FRAMES: Final = 1000
"""Silence before and after the signal."""

Detector = Callable[[Frames], Found]


class Injection(enum.StrEnum):
    """What is done to a signal."""

    GAP = "gap"
    """Silence put in, as by a sound server that waits."""
    STALL = "stall"
    """Silence in the place of frames, as by one that goes on by the clock."""
    REPEAT = "repeat"
    """The last frames once more, as by a card that plays its buffer again."""
    JUMP = "jump"
    """Frames left out."""


_KINDS: Final = {
    Injection.GAP: (GlitchKind.GAP,),
    Injection.STALL: (GlitchKind.GAP, GlitchKind.JUMP),
    Injection.REPEAT: (GlitchKind.REPEAT,),
    Injection.JUMP: (GlitchKind.JUMP,),
}


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """How a detector did.

    Attributes
    ----------
    injection : Injection
        What was put in.
    injected, found : int
        How many, and how many of them were found: of the right kinds, of the right length, within a period.
    false_alarms : int
        Flaws that were found and not put in.
    worst_frames : int
        By how much the position of one that was found was off at worst.
    """

    injection: Injection
    injected: int
    found: int
    false_alarms: int
    worst_frames: int

    @property
    def perfect(self) -> bool:
        """Whether all were found and nothing else."""
        return self.found == self.injected and not self.false_alarms


def inject(
    signal: Frames, injection: Injection, count: int, seed: int, shortest_frames: int = 1
) -> tuple[Frames, list[Flaw]]:
    """Return a recording of `signal` with `count` flaws in it, silence around it, and the flaws.

    Lengths go from `shortest_frames` to `LONGEST_FRAMES`, short ones more often (log-uniform).

    Raises
    ------
    ValueError
        `signal` is too short for so many.
    """
    chance = random.Random(seed)  # noqa: S311 -- a repeatable experiment
    places = _sounding_places(signal)
    share = len(places) // count
    silence = np.zeros((LONGEST_FRAMES, 2), np.int16)
    parts: list[Frames] = [silence[:LEAD_FRAMES]]
    flaws: list[Flaw] = []
    done, recorded = 0, LEAD_FRAMES
    for number in range(count):
        wanted = max(int(places[number * share + chance.randrange(share // 2)]), done + LONGEST_FRAMES)
        index = int(np.searchsorted(places, wanted))
        if index == len(places) or places[index] + LONGEST_FRAMES > len(signal):
            raise ValueError(f"a signal of {len(signal)} frames is too short for {count} flaws")
        at = int(places[index])
        length = round(math.exp(chance.uniform(0, math.log(LONGEST_FRAMES))))
        parts.append(signal[done:at])
        recorded += at - done
        # Where a stall ends in a rest, the rest's own silence is not missed.
        told = (
            1 + int(np.flatnonzero(signal[at : at + length].any(axis=1))[-1])
            if injection is Injection.STALL
            else length
        )
        flaws += [Flaw(kind, at, recorded, told) for kind in _KINDS[injection]]
        instead, done = {
            Injection.GAP: (silence[:length], at),
            Injection.STALL: (silence[:length], at + length),
            Injection.REPEAT: (signal[at - length : at], at),
            Injection.JUMP: (silence[:0], at + length),
        }[injection]
        parts.append(instead)
        recorded += len(instead)
    return np.concatenate([*parts, signal[done:], silence[:LEAD_FRAMES]]), flaws


def _sounding_places(signal: Frames) -> npt.NDArray[np.int64]:
    """Return the frames with `SOUNDING_FRAMES` on either side none of which is silent, far from both ends."""
    sounding = signal.any(axis=1)
    runs = np.convolve(sounding, np.ones(2 * SOUNDING_FRAMES, np.int32), "valid") == 2 * SOUNDING_FRAMES
    places = np.flatnonzero(runs) + SOUNDING_FRAMES
    return places[(places > LONGEST_FRAMES) & (places < len(signal) - LONGEST_FRAMES)]


def error_rate(detector: Detector, signal: Frames, injection: Injection, count: int, seed: int) -> ErrorRate:
    """Put `count` flaws into `signal`, and return how many of them `detector` finds."""
    recording, put_in = inject(signal, injection, count, seed)
    told = list(detector(recording).flaws)
    kinds = len(_KINDS[injection])
    found = worst = 0
    for index in range(0, len(put_in), kinds):
        matches = [_match(flaw, told) for flaw in put_in[index : index + kinds]]
        if all(match is not None for match in matches):
            found += 1
        for flaw, match in zip(put_in[index : index + kinds], matches, strict=True):
            if match is not None:
                told.remove(match)
                worst = max(worst, abs(match.at_frame - flaw.at_frame))
    return ErrorRate(injection, count, found, len(told), worst)


def _match(flaw: Flaw, told: list[Flaw]) -> Flaw | None:
    """Return what of `told` is `flaw`.

    Where the music itself is silent, or the same, on one side of a flaw, its ends cannot be told to the frame.
    """
    for other in told:
        if (
            other.kind is flaw.kind
            and abs(other.at_frame - flaw.at_frame) <= PERIOD_FRAMES
            and abs(other.length_frames - flaw.length_frames) <= PERIOD_FRAMES
        ):
            return other
    return None


def music(frames: int, seed: int) -> Frames:
    """Return music of a kind, shape ``(frames, 2)``: plucked chords over a loop of drums that is the same each bar.

    For trials without a file. It has what makes real music hard: rests, decays into silence, and bars that repeat.
    """
    chance = np.random.default_rng(seed)
    beat = CARD_FORMAT.rate_hz // 2
    time = np.arange(4 * beat) / CARD_FORMAT.rate_hz
    total = np.zeros((frames + 8 * beat, 2))
    bar = np.zeros((4 * beat, 2))
    for hit in range(8):
        decay = np.exp(-np.arange(beat // 2) / 900)[:, None]
        bar[hit * beat // 2 : (hit + 1) * beat // 2] += chance.normal(0, 900, (beat // 2, 2)) * decay
    for start in range(0, frames, 4 * beat):
        total[start : start + 4 * beat] += bar
        for degree in chance.choice(12, 3, replace=False):
            hertz = 110 * 2 ** (degree / 12)
            pluck = 3000 * np.sin(2 * np.pi * hertz * time) * np.exp(-time * chance.uniform(2, 6))
            total[start : start + 4 * beat] += pluck[:, None] * chance.uniform(0.3, 1, 2)
    rest = chance.random(len(total) // beat) < 0.1  # one beat in ten
    total[: len(rest) * beat] *= np.repeat(~rest, beat)[:, None]
    return np.rint(total[:frames]).astype(np.int16)
