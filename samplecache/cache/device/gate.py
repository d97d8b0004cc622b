"""How much may be on its way from the swap device at a time, and who goes next: planning code, free of I/O.

MADV_WILLNEED returns at once however slow the device is, and a device takes requests as they come. So what was advised
a moment earlier would come in whole before what is due sooner. Here no more is sent for than keeps the device busy; the
rest waits for arrivals, nearest deadline first.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Final

from samplecache.clock import NS_PER_MS, NS_PER_S

LEAST_BYTES: Final = 128 << 10
"""What may always be on its way: 64 ms of a device of 2 MB/s."""
FIRST_BYTES: Final = 512 << 10
MOST_BYTES: Final = 64 << 20

SOON_NS: Final = 30 * NS_PER_MS
"""What arrives within so long has not waited for much before it: a faster device might have been idle, so more is let
out. It doubles with each such arrival, as a TCP sender's window does at its start."""
LATE_NS: Final = 120 * NS_PER_MS
"""What takes so long has waited for others: what is due sooner would have to wait as long."""

STALE_NS: Final = NS_PER_S
"""What has not arrived after so long is not waited for: reclaim took it back, or the device hardly moves."""

PARTS: Final = 4
"""The bound is let out in so many parts at least, so that a nearer deadline waits for one of them only."""


class Gate:
    """Lets out what is to be sent for. Not thread-safe."""

    def __init__(self) -> None:
        self.limit_bytes = FIRST_BYTES
        self._waiting: list[tuple[int, int, int, Callable[[], bool], Callable[[], object]]] = []
        self._order = itertools.count()
        self._was_full = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def part_bytes(self) -> int:
        """The most to send for in one piece."""
        return self.limit_bytes // PARTS

    def admits(self, in_flight_bytes: int) -> bool:
        """Return whether another piece may be sent for while so much is on its way."""
        full = in_flight_bytes >= self.limit_bytes
        self._was_full |= full
        return not full

    def wait(
        self,
        work: Callable[[], object],
        deadline_ns: int,
        urgency: int = 0,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Keep `work` until there is room, or until it is not `wanted` any more: then it takes none."""
        heapq.heappush(self._waiting, (-urgency, deadline_ns, next(self._order), wanted, work))

    def arrived(self, after_ns: int) -> None:
        """Take in that a piece arrived so long after it was sent for."""
        if after_ns <= SOON_NS:
            if self._was_full:
                self.limit_bytes = min(2 * self.limit_bytes, MOST_BYTES)
                self._was_full = False
        elif after_ns >= LATE_NS:
            self.limit_bytes = max(self.limit_bytes * SOON_NS // after_ns, self.limit_bytes // 2, LEAST_BYTES)

    def let_out(self, in_flight_bytes: int) -> list[Callable[[], object]]:
        """Return who may go on while so much is on its way: the most urgent, of those the nearest deadlines."""
        room_bytes = self.limit_bytes - in_flight_bytes
        going: list[Callable[[], object]] = []
        while self._waiting and room_bytes > 0:
            *_, wanted, work = heapq.heappop(self._waiting)
            going.append(work)  # what is not wanted any more has to hear of it too, to end
            room_bytes -= self.part_bytes * wanted()
        return going
