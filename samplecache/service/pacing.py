"""One timer for all sessions: who sleeps until the same millisecond is woken by the same tick."""

from __future__ import annotations

import asyncio
import heapq
from typing import Final

from samplecache.clock import NS_PER_MS, Clock

TICK_NS: Final = NS_PER_MS
"""uvloop's timers count whole milliseconds."""


class PacingWheel:
    """Wakes sleepers of one event loop, at most a tick late and never early.

    A timer of its own for every block of every session would cost the loop more than the blocks do.

    Parameters
    ----------
    clock : Clock
        What times are of.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ticks: list[int] = []
        self._sleepers: dict[int, list[asyncio.Future[None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0

    def sleeper(self, time_ns: int) -> asyncio.Future[None]:
        """Return a future that is done at `time_ns`. Whoever else has it done before that wakes the sleeper sooner."""
        tick = -(-time_ns // TICK_NS)
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if (sleepers := self._sleepers.get(tick)) is not None:
            sleepers.append(future)
            return future
        self._sleepers[tick] = [future]
        heapq.heappush(self._ticks, tick)
        if self._timer is None or tick < self._armed_for:
            self._arm(loop)
        return future

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = self._ticks[0]
        left_ms = -(-(self._armed_for * TICK_NS - self._clock.now_ns()) // NS_PER_MS)
        self._timer = loop.call_later(max(0, left_ms) / 1000, self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now_tick = self._clock.now_ns() // TICK_NS
        ticks = self._ticks
        while ticks and ticks[0] <= now_tick:
            for future in self._sleepers.pop(heapq.heappop(ticks)):
                if not future.done():
                    future.set_result(None)
        if ticks:
            self._arm(loop)
