"""Finding sounds again in the sum of them that a sound server writes.

The sum of 16-bit frames is exact as long as it is not clipped. So what is known to sound is subtracted, and where
something is left another sound has begun, which one its first frames tell; or one breaks off, and goes on elsewhere.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

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
MOST_BROKEN_FRAMES: Final = CARD_FORMAT.rate_hz
"""For how long a sound is looked for that has broken off, and how far on or back."""

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
        How far it was heard: its length if it was heard to its end, whatever of it was left out.
    glitches : tuple of Glitch
        Gaps in the stream while it sounded, and where it broke off in it; what is left after subtraction, and is no
        sound that goes on, is laid to the sound that began last.
    """

    first_ns: int | None
    heard_frames: int
    glitches: tuple[Glitch, ...]


@dataclass(slots=True)
class _Part:
    """What sounds of a sound in one piece: from a frame of its own, from one frame of the stream until another."""

    place: int
    start: int
    stop: int


@dataclass(slots=True)
class _Voice:
    """A sound that has begun.

    Attributes
    ----------
    pcm : ndarray of int16
        Its frames.
    parts : list of _Part
        What sounds of it, in its order: one part, unless it is broken.
    broken : list of tuple
        In which frame of the stream, how, before which of its own frames, and for how many.
    """

    pcm: Pcm
    parts: list[_Part]
    broken: list[tuple[int, GlitchKind, int, int]]

    @classmethod
    def begun(cls, pcm: Pcm, onset: int) -> Self:
        """Return one that begins in frame `onset` of the stream."""
        return cls(pcm, [_Part(0, onset, onset + len(pcm))], [])

    @property
    def onset(self) -> int:
        """The frame of the stream that it begins in."""
        return self.parts[0].start

    @property
    def end(self) -> int:
        """The frame of the stream that it is over by."""
        return self.parts[-1].stop

    def place(self, at: int) -> int:
        """Return which of its frames is due in a frame of the stream; of one that is broken off the next one."""
        part = self.parts[bisect.bisect_right(self.parts, at, key=lambda part: part.start) - 1]
        return part.place + min(at, part.stop) - part.start

    def break_off(self, at: int, kind: GlitchKind, length: int, again: int, place: int) -> None:
        """Note that it breaks off in frame `at` of the stream, and goes on in frame `again`, at `place`."""
        self.broken.append((at, kind, self.place(at), length))
        self.parts[-1].stop = at
        self.parts.append(_Part(place, again, again + len(self.pcm) - place))

    def take_out(self, rest: Sum, at: int) -> None:
        """Subtract it from what is left of the stream, from a frame on."""
        part = self.pcm[self.place(at) :][: len(rest) - at]
        rest[at : at + len(part)] -= part

    def put_back(self, rest: Sum, at: int) -> None:
        """Undo that."""
        part = self.pcm[self.place(at) :][: len(rest) - at]
        rest[at : at + len(part)] += part


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
    voices: dict[int, _Voice] = {}
    at = _next_sounding(rest, 0)
    while at is not None:
        now_ns = periods[bisect.bisect_right(taken, at) - 1].due_ns
        found = _beginning(asked, [n for n in range(len(asked)) if n not in voices], rest[at:], now_ns)
        for number in found:
            pcm = asked[number].pcm
            voices[number] = _Voice.begun(pcm, at - _lead(pcm))
            voices[number].take_out(rest, at)
        if not found and not _resumed(list(voices.values()), rest, at):
            end = _end_of_sounding(rest, at)
            if voices:
                last = max(voices.values(), key=lambda voice: voice.onset)
                last.broken.append((at, GlitchKind.FOREIGN, last.place(at), end - at))
            at = end
        at = _next_sounding(rest, at)
    return [
        _unmixed(voices[number], len(mix), periods, taken, start_ns) if number in voices else Unmixed(None, 0, ())
        for number in range(len(asked))
    ]


def _resumed(voices: Sequence[_Voice], rest: Sum, at: int) -> bool:
    """Find out which of the sounds that sound breaks off in a frame, and where it goes on; return whether one does.

    A server that was not ready in time writes silence instead, and then goes on where it stopped or where it would have
    been by then, with one sound or with all; or never.
    """
    sounding = [voice for voice in voices if voice.onset <= at < voice.end]
    groups = [[voice] for voice in sounding] + ([sounding] if len(sounding) > 1 else [])
    for group in groups:
        places = [voice.place(at) for voice in group]
        for voice in group:
            voice.put_back(rest, at)
        again = _next_sounding(rest[: at + MOST_BROKEN_FRAMES], at)
        if again is None:
            for voice in group:
                voice.parts[-1].stop = at
            return True
        shift = _shift(group, places, rest[again:], again - at)
        if shift is None:
            for voice in group:
                voice.take_out(rest, at)
            continue
        silent = again - at
        kind = GlitchKind.GAP if silent else GlitchKind.JUMP if shift > 0 else GlitchKind.REPEAT
        for voice, place in zip(group, places, strict=True):
            voice.break_off(at, kind, silent or abs(shift), again, place + shift)
            voice.take_out(rest, again)
        return True
    return False


def _shift(group: Sequence[_Voice], places: Sequence[int], rest: Sum, silent: int) -> int | None:
    """Return by how many frames further than `places` sounds go on with which `rest` begins; None if they do not."""
    shifts: Iterable[int] = (0, silent)
    if len(group) == 1:
        first = max(0, places[0] - MOST_BROKEN_FRAMES)
        near = group[0].pcm[first : places[0] + MOST_BROKEN_FRAMES]
        shifts = (int(found) + first - places[0] for found in np.flatnonzero((near == rest[0]).all(axis=1)))
    for shift, frames in itertools.product(shifts, WINDOWS_FRAMES):
        window = rest[:frames].copy()
        for voice, place in zip(group, places, strict=True):
            part = voice.pcm[place + shift : place + shift + len(window)]
            window[: len(part)] -= part
        if not window.any() and (shift or silent):
            return shift
    return None


def _unmixed(voice: _Voice, frames: int, periods: Sequence[Period], taken: list[int], start_ns: int) -> Unmixed:
    """Return what became of a sound, in a stream of so many frames."""
    onset, end = voice.onset, voice.end
    first = bisect.bisect_right(taken, onset) - 1
    mine: list[Period] = []
    for number in range(first, len(periods)):
        if taken[number] >= end:
            break
        skipped = max(0, onset - taken[number])
        heard = min(periods[number].frames - skipped, end - max(taken[number], onset))
        # What is missing after its last frame is not missed.
        missing = periods[number].missing_frames if taken[number] + periods[number].frames < end else 0
        mine.append(Period(periods[number].due_ns + CARD_FORMAT.duration_ns(skipped), heard, missing))
    glitches = [replace(gap, at_frame=voice.place(onset + gap.at_frame)) for gap in gaps(mine, start_ns)]
    for at, kind, place, length in voice.broken:
        index = bisect.bisect_right(taken, at) - 1
        at_ns = periods[index].due_ns + CARD_FORMAT.duration_ns(at - taken[index]) - start_ns
        glitches.append(Glitch(kind, place, length, at_ns))
    glitches.sort(key=lambda glitch: glitch.at_ns)
    return Unmixed(periods[first].due_ns, voice.place(min(frames, end)), tuple(glitches))


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
