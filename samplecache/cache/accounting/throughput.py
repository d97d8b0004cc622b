"""How fast bytes come in while some are awaited: planning code, told of times, free of I/O.

What is awaited is asked for in batches by many sessions at once, and a batch waits for those before it. So no batch is
timed by itself: what arrived is counted over the time in which anything was awaited, whoever asked for it.
"""

from __future__ import annotations

import statistics
from collections import deque
from typing import Final

from samplecache.clock import NS_PER_MS, NS_PER_S

BURST_NS: Final = 100 * NS_PER_MS
"""A limit on reads lets so long a time's worth pass at once (``throtl_slice`` of blk-throttle, Linux 6.18): what comes
in at the beginning says nothing of a rate that can be kept up. Devices that have caches do the like."""

WINDOW_NS: Final = 2 * BURST_NS
"""Time over which one sustained rate is taken: two slices at least, since what a slice allows comes in lumps."""

STEADY_NS: Final = 2 * WINDOW_NS
"""So long, at the least, for what is taken for the whole of what a device carries."""

QUEUED_NS: Final = 3 * BURST_NS // 2
"""A batch that took longer has waited for others: alone, it would have had to wait for one slice at the most."""

REMEMBERED: Final = 64
"""Rates kept: enough for percentiles, few enough to follow a device whose load changes."""


class Throughput:
    """Rates at which bytes have arrived lately. Not thread-safe.

    A *sustained* rate is one over :data:`WINDOW_NS` in which every batch that arrived had queued, after the first
    :data:`BURST_NS` of such a time: the device had more to do than it could. Where less is asked of it, only a bound is
    known: a device that passes r bytes a second, and at once what it may in `BURST_NS`, brings ``r * (t + BURST_NS)``
    bytes within t at the most. So a bound counts where it is more than what was known.
    """

    def __init__(self) -> None:
        self._rates: deque[int] = deque(maxlen=REMEMBERED)
        self._awaited = 0
        self._others_wait = False
        self._began_ns = 0
        self._since_began_bytes = 0
        self._queued_since_ns = 0
        self._steady_ns: int | None = None
        self._since_steady_bytes = 0
        self._mark_ns = 0
        self._since_mark_bytes = 0
        self._last_ns = 0

    def begin(self, now_ns: int) -> None:
        """Note that one more batch is awaited."""
        if not self._awaited and not self._others_wait:
            self._began_ns, self._since_began_bytes = now_ns, 0
            self._unsteady(now_ns)
        self._awaited += 1

    def end(self, arrived_bytes: int, began_ns: int, now_ns: int, *, others_wait: bool = False) -> None:
        """Note that a batch arrived that is awaited since `began_ns`: `now_ns` is when, which may be a guess.

        `others_wait` tells whether more is to be sent for, and is kept back because the device is busy.
        """
        now_ns = max(now_ns, self._last_ns, self._began_ns)
        self._last_ns = now_ns
        self._awaited -= 1
        self._others_wait = others_wait  # then what is awaited next follows at once
        self._since_began_bytes += arrived_bytes
        if now_ns - began_ns < QUEUED_NS and not others_wait:
            self._unsteady(now_ns)
        else:
            self._queued(arrived_bytes, now_ns)
        if not self._awaited and not others_wait:
            bound = _rate(self._since_began_bytes, now_ns - self._began_ns + BURST_NS)
            median = self.median
            if bound and (median is None or bound > median):
                self._rates.append(bound)

    def _queued(self, arrived_bytes: int, now_ns: int) -> None:
        self._since_mark_bytes += arrived_bytes
        self._since_steady_bytes += arrived_bytes
        if self._steady_ns is None:
            if now_ns - self._queued_since_ns >= BURST_NS:
                self._steady_ns = self._mark_ns = now_ns
                self._since_steady_bytes = self._since_mark_bytes = 0
        elif now_ns - self._mark_ns >= WINDOW_NS:
            self._rates.append(_rate(self._since_mark_bytes, now_ns - self._mark_ns))
            self._mark_ns, self._since_mark_bytes = now_ns, 0

    def lose(self, now_ns: int) -> None:
        """Note that a batch will not be heard of any more: what arrived around then is not taken for a rate."""
        self._awaited -= 1
        self._others_wait = False
        self._unsteady(now_ns)

    def _unsteady(self, now_ns: int) -> None:
        self._queued_since_ns, self._steady_ns = now_ns, None

    @property
    def awaited(self) -> int:
        """How many batches are awaited."""
        return self._awaited

    @property
    def sustained(self) -> int | None:
        """What comes in now that batches queue, in bytes per second; None if they do not, or not for long enough."""
        if self._steady_ns is None or not (self._awaited or self._others_wait):
            return None
        duration_ns = self._last_ns - self._steady_ns
        if duration_ns < STEADY_NS:
            return None
        # It ends with an arrival, and so with a whole lump: half a slice's worth too much, on average.
        return _rate(self._since_steady_bytes, duration_ns + BURST_NS // 2)

    @property
    def median(self) -> int | None:
        """The median of the rates remembered, in bytes per second; None if there is none."""
        return int(statistics.median(self._rates)) if self._rates else None

    @property
    def low(self) -> int | None:
        """Their 5th percentile."""
        return percentile(self._rates, 5)


def percentile(values: deque[int], percent: int) -> int | None:
    """Return the smallest of `values` that `percent` of them do not exceed (nearest rank); None if there are none."""
    if not values:
        return None
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def _rate(length_bytes: int, duration_ns: int) -> int:
    return length_bytes * NS_PER_S // duration_ns
