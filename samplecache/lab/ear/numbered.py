"""A signal whose frames carry their own number, and what a recording of it tells.

Left is ``n & 0xffff``, right ``(n >> 16) + 1``: no frame is silent, none is like another, and a frame that is lost,
repeated or changed shows as such (a sine is blind to skips of whole periods).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samplecache.lab.ear.flaws import Flaw, Found, Frames, departures


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
    found : Found
        The same as a detector tells it, with repeats and jumps.
    """

    numbers: npt.NDArray[np.int64]
    gaps: list[tuple[int, int]]
    found: Found


def hear(recording: Frames) -> Hearing:
    """Read the frame numbers out of `recording`, shape ``(frames, 2)``; silence around them is no gap."""
    sounding = np.flatnonzero(recording[:, 1])
    heard = recording[sounding]
    numbers = ((heard[:, 1].astype(np.int64) - 1) << 16) | heard[:, 0].view(np.uint16)
    silences, steps = np.diff(sounding) - 1, np.diff(numbers)
    flaws: list[Flaw] = []
    for index in np.flatnonzero((silences > 0) | (steps != 1)):
        due = int(numbers[index]) + 1
        flaws += departures(int(sounding[index]) + 1, due, int(silences[index]), 0, int(numbers[index + 1]))
    found = Found(
        int(numbers[0]) if len(numbers) else 0,
        int(numbers[-1]) + 1 if len(numbers) else 0,
        int(sounding[0]) if len(sounding) else 0,
        tuple(flaws),
    )
    gaps = [(int(numbers[index + 1]), int(silences[index])) for index in np.flatnonzero(silences)]
    return Hearing(numbers, gaps, found)
