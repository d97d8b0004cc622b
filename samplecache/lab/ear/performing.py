"""Going through a schedule: hints and cues at their times, and for each cue what the card heard of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import soundfile

from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.errors import StateError
from samplecache.lab.ear.accounting import CueEar, MixEar
from samplecache.lab.ear.card import Card
from samplecache.lab.ear.contender import Contender, Cue, Sound
from samplecache.lab.ear.heard import CARD_FORMAT, Glitch, GlitchKind, HeardCue
from samplecache.lab.ear.path import Path, path
from samplecache.lab.ear.unmixing import Asked, Pcm, Unmixed, unmix

BEGIN_NS: Final = 200 * NS_PER_MS
"""From the start until the first hint or cue can come, for pipes to fill and threads to be there."""
HANGS_NS: Final = 10 * NS_PER_S
"""A run in which nothing of what is missing comes for so long is over."""
POLL_NS: Final = 20 * NS_PER_MS


class Hearing(Protocol):
    """Hears the cues of one performance."""

    def asked(self, number: int, at_ns: int, fd: int | None) -> None:
        """Note that a cue was asked for, and comes from `fd` if not from the mix."""
        ...

    def progress(self) -> int:
        """Return a figure that grows for as long as something is heard."""
        ...

    def complete(self) -> bool:
        """Return whether all cues that were asked for have been heard to their end."""
        ...

    def over_ns(self) -> int:
        """Return when the last frame was heard; 0 if none was."""
        ...

    def cues(self, start_ns: int) -> list[HeardCue]:
        """Return what was heard, with times counted from `start_ns`."""
        ...


@dataclass(frozen=True, slots=True)
class Performance:
    """What was heard of a schedule.

    Attributes
    ----------
    cues : tuple of HeardCue
        Each cue, in the schedule's order.
    start_ns, over_ns : int
        From when times are counted, and when the last frame was heard, on the monotonic clock.
    """

    cues: tuple[HeardCue, ...]
    start_ns: int
    over_ns: int


def perform(contender: Contender, cues: Sequence[Cue], sounds: Sequence[Sound], card: Card) -> Performance:
    """Have `contender` play `cues` into `card`; return what was heard of each when all is over.

    Blocks for as long as it takes: until all is heard, or nothing comes any more.

    Raises
    ------
    ContenderFailedError
        The contender cannot, or has died.
    """
    clock = MonotonicClock()
    # Read before anything is timed.
    pcm = {sound.sample_id: read(sound) for sound in sounds}
    expected = [_along(path(cue, len(pcm[cue.sample_id])), pcm[cue.sample_id]) for cue in cues]
    mix_fd = contender.mix_pipe()
    hearing: Hearing = Separate(card, cues, expected) if mix_fd is None else Mixed(card, cues, expected, mix_fd)
    hints = [(max(0, cue.at_ns - cue.hint_ahead_ns), False, n) for n, cue in enumerate(cues) if cue.hint_ahead_ns]
    plays = [(cue.at_ns, True, n) for n, cue in enumerate(cues)]
    start_ns = clock.now_ns() + BEGIN_NS
    for at_ns, is_play, number in sorted(hints + plays):
        clock.sleep_until(start_ns + at_ns)
        card.check()
        if is_play:
            hearing.asked(number, clock.now_ns(), contender.play(number, cues[number]))
        else:
            contender.hint(cues[number])
    _wait_until_heard(hearing, card, clock)
    return Performance(tuple(hearing.cues(start_ns)), start_ns, max(start_ns, hearing.over_ns()))


def read(sound: Sound) -> Pcm:
    """Return the frames of `sound`, shape ``(frames, 2)``."""
    frames, _ = soundfile.read(sound.path, dtype="int16", always_2d=True)
    return frames  # type: ignore[no-any-return]


def _along(way: Path, pcm: Pcm) -> Pcm:
    return np.concatenate([pcm[start:stop] for start, stop in way.spans])


def _wait_until_heard(hearing: Hearing, card: Card, clock: MonotonicClock) -> None:
    """Block until all has been heard, or nothing has for `HANGS_NS`."""
    last, last_ns = hearing.progress(), clock.now_ns()
    while not hearing.complete() and clock.now_ns() - last_ns < HANGS_NS:
        card.check()
        if (now := hearing.progress()) > last:
            last, last_ns = now, clock.now_ns()
        clock.sleep_until(clock.now_ns() + POLL_NS)


class Separate:
    """Each cue comes from a pipe of its own.

    Parameters
    ----------
    card : Card
        Takes it.
    cues : sequence of Cue
        The schedule.
    expected : sequence of ndarray
        The frames of each.
    """

    def __init__(self, card: Card, cues: Sequence[Cue], expected: Sequence[Pcm]) -> None:
        self._card = card
        self._cues = cues
        self._expected = expected
        self._asked: dict[int, tuple[int, int, CueEar]] = {}

    def asked(self, number: int, at_ns: int, fd: int | None) -> None:
        """See :class:`Hearing`."""
        if fd is None:
            raise StateError("a contender that does not mix gave no pipe", remedy="Have its play return one")
        ear = CueEar(len(self._expected[number]))
        self._asked[number] = (at_ns, fd, ear)
        self._card.plug(fd, ear)

    def progress(self) -> int:
        """See :class:`Hearing`."""
        return sum(ear.heard_frames for _, _, ear in self._asked.values())

    def complete(self) -> bool:
        """See :class:`Hearing`."""
        return all(ear.complete for _, _, ear in self._asked.values())

    def over_ns(self) -> int:
        """See :class:`Hearing`."""
        return max((ear.periods[-1].due_ns for _, _, ear in self._asked.values() if ear.periods), default=0)

    def cues(self, start_ns: int) -> list[HeardCue]:
        """See :class:`Hearing`."""
        return [self._cue(number, start_ns, *asked) for number, asked in sorted(self._asked.items())]

    def _cue(self, number: int, start_ns: int, asked_ns: int, fd: int, ear: CueEar) -> HeardCue:
        glitches = ear.glitches(start_ns) + _foreign(self._card.recording(fd), self._expected[number], ear, start_ns)
        return HeardCue(
            self._cues[number].sample_id,
            asked_ns - start_ns,
            ear.periods[0].due_ns - asked_ns if ear.periods else None,
            len(self._expected[number]),
            ear.heard_frames,
            tuple(sorted(glitches, key=lambda glitch: glitch.at_ns)),
        )


class Mixed:
    """All cues come from one pipe, as the sum of them.

    Parameters
    ----------
    card, cues, expected
        As for :class:`Separate`.
    fd : int
        The pipe.
    """

    LOOK_FRAMES: Final = CARD_FORMAT.rate_hz // 2
    """Looking takes CPU, and with the GIL held."""

    def __init__(self, card: Card, cues: Sequence[Cue], expected: Sequence[Pcm], fd: int) -> None:
        self._card = card
        self._cues = cues
        self._expected = expected
        self._fd = fd
        self._ear = MixEar()
        self._asked: dict[int, int] = {}
        self._next_look_frames = 0
        self._heard_frames = 0
        card.plug(fd, self._ear)

    def asked(self, number: int, at_ns: int, fd: int | None) -> None:
        """See :class:`Hearing`."""
        self._asked[number] = at_ns
        self._next_look_frames = max(self._next_look_frames, self._taken_frames() + len(self._expected[number]))

    def progress(self) -> int:
        """See :class:`Hearing`. Silence is progress until all could have been heard; then only sound is."""
        return self._heard_frames or min(self._taken_frames(), self._next_look_frames)

    def complete(self) -> bool:
        """See :class:`Hearing`. Looks once all could be over, and then each time `LOOK_FRAMES` more have been taken."""
        if self._taken_frames() < self._next_look_frames:
            return False
        self._next_look_frames = self._taken_frames() + self.LOOK_FRAMES
        unmixed = self._unmixed(0)
        self._heard_frames = sum(one.heard_frames for one in unmixed)
        return all(
            one.heard_frames == len(self._expected[number])
            for number, one in zip(sorted(self._asked), unmixed, strict=True)
        )

    def over_ns(self) -> int:
        """See :class:`Hearing`."""
        sounding = np.flatnonzero(self._card.recording(self._fd).any(axis=1))
        if not len(sounding):
            return 0
        periods = self._ear.periods[:]
        taken = np.cumsum([period.frames for period in periods])
        return periods[int(np.searchsorted(taken, sounding[-1], "right"))].due_ns

    def cues(self, start_ns: int) -> list[HeardCue]:
        """See :class:`Hearing`."""
        unmixed = self._unmixed(start_ns)
        return [
            HeardCue(
                self._cues[number].sample_id,
                at_ns - start_ns,
                None if one.first_ns is None else one.first_ns - at_ns,
                len(self._expected[number]),
                one.heard_frames,
                one.glitches,
            )
            for (number, at_ns), one in zip(sorted(self._asked.items()), unmixed, strict=True)
        ]

    def _taken_frames(self) -> int:
        return sum(period.frames for period in self._ear.periods)

    def _unmixed(self, start_ns: int) -> list[Unmixed]:
        asked = [Asked(at_ns, self._expected[number]) for number, at_ns in sorted(self._asked.items())]
        recording = self._card.recording(self._fd)
        periods = self._ear.periods[:]  # which the card goes on writing to
        return unmix(asked, recording[: sum(period.frames for period in periods)], periods, start_ns)


def _foreign(heard: Pcm, expected: Pcm, ear: CueEar, start_ns: int) -> tuple[Glitch, ...]:
    """Return where what was heard is not what was expected, as one glitch."""
    wrong = np.flatnonzero((heard != expected[: len(heard)]).any(axis=1))
    if not len(wrong):
        return ()
    at_ns = next(
        period.due_ns
        for period, stop in zip(ear.periods, np.cumsum([period.frames for period in ear.periods]), strict=True)
        if stop > wrong[0]
    )
    return (Glitch(GlitchKind.FOREIGN, int(wrong[0]), int(wrong[-1] - wrong[0]) + 1, at_ns - start_ns),)
