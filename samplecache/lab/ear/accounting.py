"""What a sound card that takes a period at a time makes of what is there: pure, so that it runs in virtual time too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from samplecache.lab.ear.heard import CARD_FORMAT, PERIOD_FRAMES, Glitch, GlitchKind

PIPE_BYTES: Final = 4096
"""How much a contender can write ahead: one page, the least that a pipe can be made to hold, 21 ms.

The card fetches a period more, as cards do that play one half of their buffer while the other is filled.
"""
PREFILL_FRAMES: Final = 2 * PERIOD_FRAMES
"""What a sound waits to have buffered before it begins: whole periods that fit into the pipe. The same for all."""


@dataclass(frozen=True, slots=True)
class Period:
    """What the card took in one period.

    Attributes
    ----------
    due_ns : int
        When it was due.
    frames : int
        How many frames were there, and were taken.
    missing_frames : int
        For how many frames there was silence since more was wanted and not there: to the period's end.
    """

    due_ns: int
    frames: int
    missing_frames: int


@dataclass(slots=True)
class CueEar:
    """One sound that comes in a stream of its own: begins when it has its prefill, is due without a break from then on.

    What comes late is played late, not skipped, as sound servers do it.

    Attributes
    ----------
    frames_due : int
        Its length.
    periods : list of Period
        What was taken since it began to sound.
    heard_frames : int
        How much of it was heard.
    """

    frames_due: int
    periods: list[Period] = field(default_factory=list)
    heard_frames: int = 0

    @property
    def complete(self) -> bool:
        """Whether all of it was heard."""
        return self.heard_frames >= self.frames_due

    def take(self, due_ns: int, available_frames: int) -> int:
        """Return how many of `available_frames` the card takes in the period due at `due_ns`."""
        left = self.frames_due - self.heard_frames
        if not left or (not self.periods and available_frames < min(PREFILL_FRAMES, left)):
            return 0
        wanted = min(PERIOD_FRAMES, left)
        taken = min(wanted, available_frames)
        # What comes too late for a period comes with the next one, however little it is.
        self.periods.append(Period(due_ns, taken, PERIOD_FRAMES - taken if taken < wanted else 0))
        self.heard_frames += taken
        return taken

    def glitches(self, start_ns: int) -> tuple[Glitch, ...]:
        """Return the gaps, with times counted from `start_ns`."""
        return gaps(self.periods, start_ns)


def gaps(periods: list[Period], start_ns: int, *, first_frame: int = 0) -> tuple[Glitch, ...]:
    """Return the gaps in `periods`; those with no frame in between are one.

    Parameters
    ----------
    periods : list of Period
        One after the other, of one sound.
    start_ns : int
        From when times are counted.
    first_frame : int
        The frame of the sound that the first period begins with.
    """
    found: list[Glitch] = []
    at_frame = first_frame
    for period in periods:
        at_frame += period.frames
        if not period.missing_frames:
            continue
        if found and found[-1].at_frame == at_frame:
            last = found.pop()
            gap = Glitch(GlitchKind.GAP, at_frame, last.length_frames + period.missing_frames, last.at_ns)
        else:
            at_ns = period.due_ns + CARD_FORMAT.duration_ns(period.frames) - start_ns
            gap = Glitch(GlitchKind.GAP, at_frame, period.missing_frames, at_ns)
        found.append(gap)
    return tuple(found)


@dataclass(slots=True)
class MixEar:
    """A stream in which all sounds are mixed already, and silence when there is none: due all the time."""

    periods: list[Period] = field(default_factory=list)

    def take(self, due_ns: int, available_frames: int) -> int:
        """Return how many of `available_frames` the card takes in the period due at `due_ns`."""
        taken = min(PERIOD_FRAMES, available_frames)
        self.periods.append(Period(due_ns, taken, PERIOD_FRAMES - taken))
        return taken
