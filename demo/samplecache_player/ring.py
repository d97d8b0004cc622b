"""A ring of frames between one thread that feeds and one that plays."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import numpy.typing as npt

from samplecache.clock import NS_PER_S
from samplecache.errors import InvalidError

Frames = npt.NDArray[np.generic]
"""Shape ``(frames, channels)``."""


class Wake:
    """A binary semaphore whose :meth:`set` never waits: for a callback to wake the thread that feeds it.

    Of what Python offers, only this fits a callback. ``Condition``, ``Event`` and ``threading.Semaphore`` take a lock
    in order to signal; an eventfd lets the GIL go and must wait to have it back; polling makes the feeder as late as
    its period. Releasing a bare lock is one ``sem_post``: it neither waits nor lets go of the GIL.

    One thread waits; any may set. What was set before the wait is not lost.
    """

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        """Wake the waiting thread, or the next that comes to wait. Never blocks."""
        if self._unset.locked():
            with contextlib.suppress(RuntimeError):  # someone else has just set it
                self._unset.release()

    def wait(self, timeout_ns: int) -> None:
        """Block until set, or for `timeout_ns`; then it is unset. The caller looks again at what it waits for."""
        self._unset.acquire(timeout=timeout_ns / NS_PER_S)


class FrameRing:
    """Frames on their way from one producing thread to one consuming thread.

    Neither side takes a lock: each counts in a variable that only it writes, and the frames are copied before the
    count moves. The memory is written once at the start, so that no side meets a first-touch fault. Frames are copied
    in at most two pieces; NumPy lets the GIL go for pieces of more than 500 values.

    Parameters
    ----------
    capacity_frames : int
        How many frames fit.
    channels : int
        Values in a frame.
    dtype : numpy dtype
        Of each value.

    Raises
    ------
    InvalidError
        The capacity or the channel count is not positive.
    """

    def __init__(self, capacity_frames: int, channels: int, dtype: npt.DTypeLike) -> None:
        if capacity_frames < 1 or channels < 1:
            raise InvalidError(
                f"a ring of {capacity_frames} frames of {channels} channels holds nothing",
                remedy="Give it one frame and one channel at least",
            )
        self._capacity_frames = capacity_frames
        self._frames = np.empty((capacity_frames, channels), dtype)
        self._frames.fill(0)  # np.zeros would leave the pages unmapped until they are used
        self._written_frames = 0
        self._read_frames = 0
        self._space = Wake()

    @property
    def capacity_frames(self) -> int:
        """How many frames fit."""
        return self._capacity_frames

    @property
    def written_frames(self) -> int:
        """How many frames were ever written. Any thread."""
        return self._written_frames

    @property
    def read_frames(self) -> int:
        """How many frames were ever read. Any thread."""
        return self._read_frames

    @property
    def available_frames(self) -> int:
        """How many frames can be read now. Exact on the consuming thread, elsewhere already past."""
        return self._written_frames - self._read_frames

    @property
    def free_frames(self) -> int:
        """How many frames can be written now. Exact on the producing thread, elsewhere already past."""
        return self._capacity_frames - self.available_frames

    def write(self, frames: Frames) -> int:
        """Copy as many of `frames` as there is room for and return how many. Never blocks; the producing thread."""
        count = min(len(frames), self.free_frames)
        start = self._written_frames % self._capacity_frames
        first = min(count, self._capacity_frames - start)
        np.copyto(self._frames[start : start + first], frames[:first])
        if first < count:
            np.copyto(self._frames[: count - first], frames[first:count])
        self._written_frames += count
        return count

    def read_into(self, out: Frames) -> int:
        """Fill the beginning of `out` with the oldest frames and return how many.

        Takes no lock and allocates no frames; the consuming thread, which may be an audio callback. The rest of `out`
        is left as it is.
        """
        count = min(len(out), self.available_frames)
        start = self._read_frames % self._capacity_frames
        first = min(count, self._capacity_frames - start)
        np.copyto(out[:first], self._frames[start : start + first])
        if first < count:
            np.copyto(out[first:count], self._frames[: count - first])
        self._read_frames += count
        self._space.set()
        return count

    def wait_for_space(self, frames: int, timeout_ns: int) -> bool:
        """Block until `frames` frames can be written, `timeout_ns` has passed, or :meth:`wake` is called.

        Parameters
        ----------
        frames : int
            At most the capacity.
        timeout_ns : int
            How long to wait at most.

        Returns
        -------
        bool
            Whether there is room now. The producing thread.
        """
        if self.free_frames < frames:
            self._space.wait(timeout_ns)
        return self.free_frames >= frames

    def wake(self) -> None:
        """End the producing thread's wait, so that it looks about. Never blocks; any thread."""
        self._space.set()
