"""A walk along a recording of real music with the original in hand: where they part, and where they meet again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from samplecache.lab.ear.flaws import Flaw, Found, Frames, departures

WINDOW_FRAMES: Final = 16
"""Frames that a place is told by: a third of a millisecond, so that flaws close to each other are told apart."""
COMMON: Final = 64
"""A window that occurs more often in the music (silence, a held tone) tells no place."""
SURE_FRAMES: Final = 256
"""Two places that agree for so long are the same, or as good as."""
_FIRST_LOOK_FRAMES: Final = 64
_LAST_LOOK_FRAMES: Final = 4096
"""How many windows are looked up at a time, from a few, since most flaws are short, to many."""
_STEP_FRAMES: Final = 1 << 16
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio, odd: spreads neighbouring values over the whole range."""

Words = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]


class Walk:
    """The original of a recording, with an index of its windows; 12 bytes a frame.

    Parameters
    ----------
    reference : ndarray of int16
        The music, shape ``(frames, 2)``, longer than a window.
    """

    def __init__(self, reference: Frames) -> None:
        self._reference = _words(reference)
        hashes = _hashes(self._reference)
        self._order = np.argsort(hashes, kind="stable").astype(np.int64)
        self._sorted = hashes[self._order]

    def along(self, recording: Frames) -> Found:
        """Return where `recording` departs from the original. Blocks; takes milliseconds and more for each flaw."""
        heard = _words(recording)
        begin = self._meeting(heard, 0, 0)
        if begin is None:
            return Found(0, 0, 0, ())
        flaws: list[Flaw] = []
        at, due = begin
        while True:
            same = _same_frames(heard[at:], self._reference[due:])
            at, due = at + same, due + same
            if at == len(heard) or due == len(self._reference):
                break
            meeting = self._meeting(heard, at, due)
            if meeting is None:
                break
            next_at, next_due = meeting
            between = heard[at:next_at]
            silent = int(np.count_nonzero(between == 0))
            if not self._reference[next_due:due].any():  # silence once more is silence, and no repeat
                flaws += departures(at, due, silent + max(0, due - next_due), len(between) - silent, max(due, next_due))
            else:
                flaws += departures(at, due, silent, len(between) - silent, next_due)
            at, due = next_at, next_due
        return Found(begin[1], due, begin[0], tuple(flaws))

    def _meeting(self, heard: Words, at: int, due: int) -> tuple[int, int] | None:
        """Return from where in the recording, and in the original, they agree again; None if nowhere.

        The first place that agrees for long is it; one that agrees for less is, if there is no such.
        """
        best = (WINDOW_FRAMES - 1, 0, 0)
        start, look = at, _FIRST_LOOK_FRAMES
        while start < len(heard):
            for place, there in self._agreeing(heard[start : start + look + WINDOW_FRAMES - 1], due - at):
                here = start + place
                length = _same_frames(heard[here : here + SURE_FRAMES], self._reference[there : there + SURE_FRAMES])
                if length > best[0]:
                    best = (length, here, there)
                if length >= min(SURE_FRAMES, len(heard) - here, len(self._reference) - there):
                    return _earliest(heard, self._reference, here, there, at)
            start, look = start + look, min(2 * look, _LAST_LOOK_FRAMES)
        length, here, there = best
        return _earliest(heard, self._reference, here, there, at) if length >= WINDOW_FRAMES else None

    def _agreeing(self, heard: Words, ahead: int) -> Iterator[tuple[int, int]]:
        """Yield places in a part of the recording with those in the original that have the same window.

        Those that need the smallest step come first: of bars that are the same, the next is meant.
        """
        hashes = _hashes(heard)
        first = np.searchsorted(self._sorted, hashes, "left")
        counts = np.searchsorted(self._sorted, hashes, "right") - first
        for place in np.flatnonzero((counts > 0) & (counts <= COMMON)):
            there = self._order[first[place] : first[place] + counts[place]]
            for index in np.argsort(np.abs(there - place - ahead), kind="stable"):
                yield int(place), int(there[index])


def _earliest(heard: Words, reference: Words, here: int, there: int, least: int) -> tuple[int, int]:
    """Return from where on `heard`, not before `least`, and `reference` agree that do so at `here` and `there`."""
    back = _same_frames(heard[least:here][::-1], reference[:there][::-1])
    return here - back, there - back


def _words(frames: Frames) -> Words:
    """Return each frame as one number."""
    return np.ascontiguousarray(frames, "<i2").view("<u4").reshape(-1)


def _hashes(words: Words) -> Hashes:
    """Return a polynomial hash of each window of `words`, modulo 2**64 (Rabin and Karp)."""
    count = max(0, len(words) - WINDOW_FRAMES + 1)
    hashes = np.zeros(count, np.uint64)
    for offset in range(WINDOW_FRAMES):
        hashes = hashes * _FACTOR + (words[offset : offset + count].astype(np.uint64) + np.uint64(1)) * _FACTOR
    return hashes


def _same_frames(left: Words, right: Words) -> int:
    """Return how many frames at the beginning of both are the same."""
    common = min(len(left), len(right))
    for start in range(0, common, _STEP_FRAMES):
        stop = min(common, start + _STEP_FRAMES)
        differing = left[start:stop] != right[start:stop]
        if differing.any():
            return start + int(np.argmax(differing))
    return common
