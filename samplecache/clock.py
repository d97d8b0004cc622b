"""Clocks: the wall's monotonic one, and a virtual one that moves only when told."""

from __future__ import annotations

import time
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """A source of time in integer nanoseconds since an arbitrary start; never goes back."""

    def now_ns(self) -> int:
        """Return the time now, in nanoseconds. Never blocks."""
        ...

    def sleep_until(self, wake_ns: int) -> None:
        """Block the calling thread until `wake_ns`; return at once if that has passed."""
        ...


class MonotonicClock:
    """``CLOCK_MONOTONIC``: the clock of real sessions. May be used from any thread."""

    def now_ns(self) -> int:
        """Return ``CLOCK_MONOTONIC`` in nanoseconds. Never blocks."""
        return time.monotonic_ns()

    def sleep_until(self, wake_ns: int) -> None:
        """Block the calling thread, with the GIL released, until `wake_ns`."""
        while (left_ns := wake_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / NS_PER_S)


class VirtualClock:
    """A clock that stands still until someone sleeps on it; then it is at once the time slept until.

    For one thread: the simulation's driver decides who runs next.

    Parameters
    ----------
    start_ns : int
        The time at which it stands first, in nanoseconds.
    """

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Return the virtual time, in nanoseconds. Never blocks."""
        return self._now_ns

    def sleep_until(self, wake_ns: int) -> None:
        """Move the clock to `wake_ns` unless it is there already. Never blocks."""
        if wake_ns > self._now_ns:
            self._now_ns = wake_ns
