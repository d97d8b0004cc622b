"""Where a recording is not what was played: the kinds of flaws, and what a detector says of a recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samplecache.lab.ear.heard import GlitchKind

Frames = npt.NDArray[np.int16]
"""Shape ``(frames, 2)``."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """One place at which a recording departs from the signal.

    A server that stalls and goes on by the clock leaves two at one place: a gap, and a jump over what it left out.

    Attributes
    ----------
    kind : GlitchKind
        How.
    at_frame : int
        The frame of the signal that was due.
    recorded_frame : int
        Where in the recording.
    length_frames : int
        Frames of silence, or repeated, or left out, or foreign.
    """

    kind: GlitchKind
    at_frame: int
    recorded_frame: int
    length_frames: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a detector makes of a recording.

    Attributes
    ----------
    first_frame, stop_frame : int
        The frame of the signal that is heard first, and the one after the last that is.
    begins_frame : int
        Where in the recording the signal begins.
    flaws : tuple of Flaw
        In the order of the recording; silence before and after the signal is none.
    """

    first_frame: int
    stop_frame: int
    begins_frame: int
    flaws: tuple[Flaw, ...]


def departures(
    recorded_frame: int, at_frame: int, silent_frames: int, foreign_frames: int, next_frame: int
) -> list[Flaw]:
    """Return the flaws at one place.

    Parameters
    ----------
    recorded_frame, at_frame : int
        Where in the recording, and which frame of the signal was due.
    silent_frames, foreign_frames : int
        What comes instead.
    next_frame : int
        The frame of the signal that comes after that.
    """
    skipped = next_frame - at_frame
    lengths = {
        GlitchKind.GAP: silent_frames,
        GlitchKind.FOREIGN: foreign_frames,
        GlitchKind.JUMP: max(0, skipped),
        GlitchKind.REPEAT: max(0, -skipped),
    }
    return [Flaw(kind, at_frame, recorded_frame, length) for kind, length in lengths.items() if length]
