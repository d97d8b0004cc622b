"""Going through a schedule: hints and cues at their times, and for each cue what the card heard of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import soundfile

from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.errors import StateError
from samplecache.lab.ear.accounting import Period, gaps
from samplecache.lab.ear.card import Card, Recording
from samplecache.lab.ear.contender import Contender, Cue, Sound
from samplecache.lab.ear.heard import PERIOD_FRAMES, Glitch, GlitchKind, HeardCue
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


def perform(
    contender: Contender,
    cues: Sequence[Cue],
    sounds: Sequence[Sound],
    card: Card,
    begins: Callable[[int], object] = lambda start_ns: None,
) -> Performance:
    """Have `contender` play `cues` into `card`; return what was heard of each when all is over.

    Blocks for as long as it takes: until all is heard, or nothing comes any more. The card is empty then.

    Parameters
    ----------
    contender, cues, sounds, card
        Who plays what, and who hears it.
    begins : callable
        Told from when times are counted, a fraction of a second before that.

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
    begins(start_ns)
    try:
        for at_ns, is_play, number in sorted(hints + plays):
            clock.sleep_until(start_ns + at_ns)
            card.check()
            if is_play:
                hearing.asked(number, clock.now_ns(), contender.play(number, cues[number]))
            else:
                contender.hint(cues[number])
        _wait_until_heard(hearing, card, clock)
        return Performance(tuple(hearing.cues(start_ns)), start_ns, max(start_ns, hearing.over_ns()))
    finally:
        card.unplug()


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
        self._asked: dict[int, tuple[int, Recording]] = {}

    def asked(self, number: int, at_ns: int, fd: int | None) -> None:
        """See :class:`Hearing`."""
        if fd is None:
            raise StateError("a contender that does not mix gave no pipe", remedy="Have its play return one")
        self._asked[number] = (at_ns, self._card.plug(fd, len(self._expected[number])))

    def progress(self) -> int:
        """See :class:`Hearing`."""
        return sum(recording.frames for _, recording in self._asked.values())

    def complete(self) -> bool:
        """See :class:`Hearing`."""
        return all(recording.frames >= len(self._expected[number]) for number, (_, recording) in self._asked.items())

    def over_ns(self) -> int:
        """See :class:`Hearing`."""
        return max((own[-1].due_ns for _, recording in self._asked.values() if (own := recording.periods)), default=0)

    def cues(self, start_ns: int) -> list[HeardCue]:
        """See :class:`Hearing`."""
        return [self._cue(number, start_ns, *asked) for number, asked in sorted(self._asked.items())]

    def _cue(self, number: int, start_ns: int, asked_ns: int, recording: Recording) -> HeardCue:
        periods = recording.periods[:]
        foreign = _foreign(recording.pcm, self._expected[number], periods, start_ns)
        return HeardCue(
            self._cues[number].sample_id,
            asked_ns - start_ns,
            periods[0].due_ns - asked_ns if periods else None,
            len(self._expected[number]),
            sum(period.frames for period in periods),
            tuple(sorted(gaps(periods, start_ns) + foreign, key=lambda glitch: glitch.at_ns)),
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

    LOOK_PERIODS: Final = 25
    """How often is looked. By periods, which go on: a server that plays nothing may write nothing."""

    def __init__(self, card: Card, cues: Sequence[Cue], expected: Sequence[Pcm], fd: int) -> None:
        self._cues = cues
        self._expected = expected
        self._recording = card.plug(fd, None)
        self._asked: dict[int, int] = {}
        self._next_look = 0
        self._all_by = 0
        self._heard_frames = 0

    def asked(self, number: int, at_ns: int, fd: int | None) -> None:
        """See :class:`Hearing`."""
        self._asked[number] = at_ns
        could_last = -(-len(self._expected[number]) // PERIOD_FRAMES)
        self._all_by = self._next_look = max(self._next_look, len(self._recording.periods) + could_last)

    def progress(self) -> int:
        """See :class:`Hearing`. Silence is progress until all could have been heard; then only sound is."""
        return self._heard_frames or min(len(self._recording.periods), self._all_by)

    def complete(self) -> bool:
        """See :class:`Hearing`. Looks once all could be over, and then every `LOOK_PERIODS`."""
        if len(self._recording.periods) < self._next_look:
            return False
        self._next_look = len(self._recording.periods) + self.LOOK_PERIODS
        unmixed = self._unmixed(0)
        self._heard_frames = sum(one.heard_frames for one in unmixed)
        return all(
            one.heard_frames == len(self._expected[number])
            for number, one in zip(sorted(self._asked), unmixed, strict=True)
        )

    def over_ns(self) -> int:
        """See :class:`Hearing`."""
        sounding = np.flatnonzero(self._recording.pcm.any(axis=1))
        if not len(sounding):
            return 0
        periods = self._recording.periods
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

    def _unmixed(self, start_ns: int) -> list[Unmixed]:
        asked = [Asked(at_ns, self._expected[number]) for number, at_ns in sorted(self._asked.items())]
        periods = self._recording.periods[:]  # which the card goes on with
        frames = sum(period.frames for period in periods)
        return unmix(asked, self._recording.pcm[:frames], periods, start_ns)


def _foreign(heard: Pcm, expected: Pcm, periods: Sequence[Period], start_ns: int) -> tuple[Glitch, ...]:
    """Return where what was heard is not what was expected, as one glitch."""
    wrong = np.flatnonzero((heard != expected[: len(heard)]).any(axis=1))
    if not len(wrong):
        return ()
    at_ns = next(
        period.due_ns
        for period, stop in zip(periods, np.cumsum([period.frames for period in periods]), strict=True)
        if stop > wrong[0]
    )
    return (Glitch(GlitchKind.FOREIGN, int(wrong[0]), int(wrong[-1] - wrong[0]) + 1, at_ns - start_ns),)
