"""Finding sounds again in the sum of them that a sound server writes.

The sum of 16-bit frames is exact as long as it is not clipped. So what is known to sound is subtracted, and where
something is left another sound has begun: which one, its first frames tell.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from samplecache.lab.ear.accounting import Period, gaps
from samplecache.lab.ear.heard import CARD_FORMAT, Glitch, GlitchKind

WINDOWS_FRAMES: Final = (32, 8)
"""How many frames a beginning is told by: as many as may be, but another sound may begin within them."""
MOST_TOGETHER: Final = 4
"""How many sounds that begin in the same frame are told from each other."""
MOST_WAITING: Final = 12
"""Among how many that were asked for and have not begun yet, the oldest ones, the beginning is looked for."""

Pcm = npt.NDArray[np.int16]
"""Frames in the card's format, shape ``(frames, 2)``."""
Sum = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Asked:
    """A sound that was asked for.

    Attributes
    ----------
    at_ns : int
        When.
    pcm : ndarray of int16
        Its frames.
    """

    at_ns: int
    pcm: Pcm


@dataclass(frozen=True, slots=True)
class Unmixed:
    """One sound, found again.

    Attributes
    ----------
    first_ns : int or None
        When the period with its first frame was due; None if it was not found.
    heard_frames : int
        How many of its frames the stream holds.
    glitches : tuple of Glitch
        Gaps in the stream while it sounded; what is left after subtraction is laid to the sound that began last.
    """

    first_ns: int | None
    heard_frames: int
    glitches: tuple[Glitch, ...]


def unmix(asked: Sequence[Asked], mix: Pcm, periods: Sequence[Period], start_ns: int) -> list[Unmixed]:
    """Return what became of each sound.

    Parameters
    ----------
    asked : sequence of Asked
        What should sound, by ascending time. A sound's silence at its beginning counts as not yet sounding.
    mix : ndarray of int16
        All that the card took.
    periods : sequence of Period
        How it took that.
    start_ns : int
        From when the times of glitches are counted.
    """
    taken = list(itertools.accumulate((period.frames for period in periods), initial=0))[:-1]
    rest: Sum = mix.astype(np.int32)
    onsets: dict[int, int] = {}
    foreign: dict[int, list[tuple[int, int]]] = {}
    at = _next_sounding(rest, 0)
    while at is not None:
        now_ns = periods[bisect.bisect_right(taken, at) - 1].due_ns
        found = _beginning(asked, [n for n in range(len(asked)) if n not in onsets], rest[at:], now_ns)
        if found:
            for number in found:
                lead = _lead(asked[number].pcm)
                onsets[number] = at - lead
                part = asked[number].pcm[lead : lead + len(rest) - at]
                rest[at : at + len(part)] -= part
            at = _next_sounding(rest, at)
        else:
            end = _end_of_sounding(rest, at)
            if onsets:
                foreign.setdefault(max(onsets, key=lambda number: onsets[number]), []).append((at, end))
            at = _next_sounding(rest, end)
    return [
        _unmixed(asked[number], onsets.get(number), periods, taken, start_ns, foreign.get(number, []))
        for number in range(len(asked))
    ]


def _unmixed(
    asked: Asked,
    onset: int | None,
    periods: Sequence[Period],
    taken: list[int],
    start_ns: int,
    foreign: Sequence[tuple[int, int]],
) -> Unmixed:
    if onset is None:
        return Unmixed(None, 0, ())
    end = onset + len(asked.pcm)
    first = bisect.bisect_right(taken, onset) - 1
    mine: list[Period] = []
    for number in range(first, len(periods)):
        if taken[number] >= end:
            break
        skipped = max(0, onset - taken[number])
        frames = min(periods[number].frames - skipped, end - max(taken[number], onset))
        # What is missing after its last frame is not missed.
        missing = periods[number].missing_frames if taken[number] + periods[number].frames < end else 0
        mine.append(Period(periods[number].due_ns + CARD_FORMAT.duration_ns(skipped), frames, missing))
    heard = sum(period.frames for period in mine)
    glitches = list(gaps(mine, start_ns))
    for at, stop in foreign:
        due_ns = periods[bisect.bisect_right(taken, at) - 1].due_ns
        glitches.append(Glitch(GlitchKind.FOREIGN, at - onset, stop - at, due_ns - start_ns))
    return Unmixed(periods[first].due_ns, heard, tuple(sorted(glitches, key=lambda glitch: glitch.at_ns)))


def _beginning(asked: Sequence[Asked], waiting: Sequence[int], rest: Sum, now_ns: int) -> tuple[int, ...]:
    """Return which of the sounds `waiting` begin in the first frame of `rest`: as few as explain it."""
    candidates = [number for number in waiting if asked[number].at_ns <= now_ns][:MOST_WAITING]
    for frames, together in itertools.product(WINDOWS_FRAMES, _subsets(candidates)):
        window = rest[:frames].copy()
        for number in together:
            lead = _lead(asked[number].pcm)
            part = asked[number].pcm[lead : lead + len(window)]
            window[: len(part)] -= part
        if not window.any():
            return together
    return ()


def _subsets(candidates: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for size in range(1, MOST_TOGETHER + 1):
        yield from itertools.combinations(candidates, size)


def _lead(pcm: Pcm) -> int:
    """Return how many frames of silence a sound begins with."""
    return _next_sounding(pcm, 0) or 0


def _next_sounding(frames: Pcm | Sum, start: int) -> int | None:
    step = 1 << 16
    for begin in range(start, len(frames), step):
        sounding = frames[begin : begin + step].any(axis=1)
        if sounding.any():
            return begin + int(np.argmax(sounding))
    return None


def _end_of_sounding(frames: Sum, start: int) -> int:
    """Return where, from `start` on, as many silent frames begin as a beginning is told by, or the end."""
    silent: npt.NDArray[np.bool_] = np.logical_not(frames[start:].any(axis=1))
    enough = max(WINDOWS_FRAMES)
    if len(silent) < enough:
        return len(frames)
    runs = np.convolve(silent, np.ones(enough, np.int32), "valid") == enough
    return start + int(np.argmax(runs)) if runs.any() else len(frames)
