"""A signal whose frames carry their own number, and what a recording of it tells.

Left is ``n & 0xffff``, right ``(n >> 16) + 1``: no frame is silent, none is like another, and a frame that is lost,
repeated or changed shows as such (a sine is blind to skips of whole periods).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.int16]


def numbered_frames(start: int, stop: int) -> Frames:
    """Return frames ``[start, stop)`` of the signal, shape ``(stop - start, 2)``; at most 2**31 of them."""
    n = np.arange(start, stop)
    return np.stack([(n & 0xFFFF).astype(np.uint16).view(np.int16), ((n >> 16) + 1).astype(np.int16)], axis=1)


@dataclass(frozen=True)
class Hearing:
    """What a recording holds of the signal.

    Attributes
    ----------
    numbers : ndarray of int
        The number of each frame that is not silent, in the order in which they sound.
    gaps : list of (int, int)
        Silence between them, as ``(number of the next frame, length in frames)``.
    """

    numbers: npt.NDArray[np.int64]
    gaps: list[tuple[int, int]]


def hear(recording: Frames) -> Hearing:
    """Read the frame numbers out of `recording`, shape ``(frames, 2)``; silence around them is no gap."""
    sounding = np.flatnonzero(recording[:, 1])
    heard = recording[sounding]
    numbers = ((heard[:, 1].astype(np.int64) - 1) << 16) | heard[:, 0].view(np.uint16)
    steps = np.diff(sounding)
    gaps = [(int(numbers[index + 1]), int(steps[index]) - 1) for index in np.flatnonzero(steps > 1)]
    return Hearing(numbers, gaps)
