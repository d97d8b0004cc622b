"""How long the window is, in nanoseconds of audio."""

from __future__ import annotations

from typing import Final

from samplecache.strategy import Pressure, View

MS: Final = 1_000_000
S: Final = 1_000 * MS

MOST_NS: Final = 10 * S
UNMEASURED_NS: Final = 2 * S
"""What a window is before anything was measured: what a sequencer knows ahead, a bar at 120 beats a minute."""

BATCH_BYTES: Final = 256 << 10
"""What is asked for at a time at the most: it comes in as two or more requests of the block layer."""

RECHECK_NS: Final = 500 * MS
"""Time between two looks, at the least: two a second cost a hundred sessions a few per cent of a core."""

SAFETY: Final = 4
"""How often a page may miss its turn and still come in time. A look finds out at a quarter of the window."""

GROW_STEP_NS: Final = RECHECK_NS
SHRINK_STEP_NS: Final = GROW_STEP_NS // 2
VERIFY_NS: Final = 20 * S
"""As the watermark in PulseAudio's alsa-sink: it grows by what it is or by a step, whichever is less, and after a quiet
time (``TSCHED_WATERMARK_VERIFY_AFTER_USEC``, 20 s) it shrinks by half a step (``INC_STEP`` 10 ms, ``DEC_STEP`` 5 ms).
The steps are as much larger as a look here is rarer than there."""


class WindowLength:
    """A length that follows what page-ins cost, grows when pages came too late, and shrinks when all is quiet."""

    def __init__(self) -> None:
        self._more_ns = 0
        self._quiet_since_ns: int | None = None
        self._new = True

    def begin(self) -> None:
        """Start anew at another place: what is late right after that says nothing of the window."""
        self._new = True

    def look(self, view: View) -> int:
        """Take in what has happened and return the length now, in nanoseconds."""
        base_ns = base_length_ns(view)
        bad = view.near_misses + view.underruns
        if self._quiet_since_ns is None or (bad and not self._new):
            self._quiet_since_ns = view.now_ns
        if bad and not self._new:
            self._more_ns += min(base_ns + self._more_ns, GROW_STEP_NS)
        elif view.now_ns - self._quiet_since_ns >= VERIFY_NS:
            self._more_ns = max(0, self._more_ns - SHRINK_STEP_NS)
            self._quiet_since_ns = view.now_ns
        self._new = False
        self._more_ns = min(self._more_ns, MOST_NS - base_ns)
        # What was added is a guess: where everyone waits for memory, only what is known to be needed.
        return base_ns if view.pressure is Pressure.FULL else base_ns + self._more_ns


def base_length_ns(view: View) -> int:
    """Return how long the window has to be at the least for what page-ins are known to cost."""
    latency_ns = view.page_in.latency_high_ns or view.page_in.latency_ns
    bytes_per_s = view.page_in.bytes_per_s_low or view.page_in.bytes_per_s
    if bytes_per_s is None:
        return UNMEASURED_NS
    batch_ns = BATCH_BYTES * S // max(1, bytes_per_s)
    return min(MOST_NS, SAFETY * ((latency_ns or 0) + batch_ns + RECHECK_NS))
