"""What was played, and where it was broken: the figures that outputs and voices share."""

from __future__ import annotations

from dataclasses import dataclass

MAX_GAPS = 1000
"""How many gaps are told one by one; further ones are only counted."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Silence in the place of frames that had not come.

    Attributes
    ----------
    at_frame : int
        The frame that was due and sounded only after the gap: for an output counted from the first that its source
        gave, for a voice in the sample.
    length_frames : int
        How many frames of silence.
    at_ns : int
        When the first of them was taken, on the player's clock; it is heard later by the output's latency.
    """

    at_frame: int
    length_frames: int
    at_ns: int


class GapLog:
    """The gaps of one output or voice. One thread adds, which may be an audio callback; any thread may look."""

    def __init__(self) -> None:
        self._gaps: list[Gap] = []
        self._last: Gap | None = None
        self.count = 0
        self.total_frames = 0
        self.longest_frames = 0

    def add(self, at_frame: int, length_frames: int, at_ns: int) -> None:
        """Note silence before frame `at_frame`; if nothing sounded since the last, it is the same gap. Never blocks."""
        if self._last is None or self._last.at_frame != at_frame:
            self.count += 1
            gap = Gap(at_frame, length_frames, at_ns)
            if self.count <= MAX_GAPS:
                self._gaps.append(gap)
        else:
            gap = Gap(at_frame, self._last.length_frames + length_frames, self._last.at_ns)
            if self.count <= MAX_GAPS:
                self._gaps[-1] = gap
        self._last = gap
        self.total_frames += length_frames
        self.longest_frames = max(self.longest_frames, gap.length_frames)

    def gaps(self) -> tuple[Gap, ...]:
        """Return the first `MAX_GAPS` gaps, oldest first."""
        return tuple(self._gaps)


@dataclass(frozen=True, slots=True)
class OutputReport:
    """What an output played. Three figures that are easily taken for each other stand apart (see the attributes).

    Attributes
    ----------
    frames_played : int
        Frames of the source that the card has taken; silence of the output's own does not count.
    periods : int
        How often the card asked.
    underruns : int
        How often the card asked and the ring between source and card was empty. Zero where there is no ring.
    underrun_frames : int
        Frames of silence in all of them.
    gaps : tuple of Gap
        The first `MAX_GAPS` of them.
    underflow_flags : int
        How often PortAudio raised ``output_underflow``. No count of glitches: one raises several, or none at all.
    lateness_max_ns : int
        By how much a clocked output itself took a period too late at worst. Zero for a device, whose clock is its own.
    """

    frames_played: int
    periods: int
    underruns: int = 0
    underrun_frames: int = 0
    gaps: tuple[Gap, ...] = ()
    underflow_flags: int = 0
    lateness_max_ns: int = 0


@dataclass(frozen=True, slots=True)
class VoiceReport:
    """How one voice was played.

    Attributes
    ----------
    frames_played : int
        Frames that sounded.
    complete : bool
        Whether it was played to its end.
    first_frame_ns : int or None
        From its start time until its first frame was taken; None before that.
    glitches : int
        How often it should have sounded and had no frames.
    glitch_total_ns, glitch_longest_ns : int
        How long the silence was, all together and at worst.
    gaps : tuple of Gap
        The first `MAX_GAPS` glitches.
    """

    frames_played: int
    complete: bool
    first_frame_ns: int | None
    glitches: int
    glitch_total_ns: int
    glitch_longest_ns: int
    gaps: tuple[Gap, ...]
