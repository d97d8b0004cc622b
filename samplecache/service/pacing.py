"""One timer for all sessions: who sleeps until about the same time is woken by the same tick.

Waking up costs the loop more than sending a block does, and what runs many times in a row runs from the caches of the
CPU. So sleepers say how much later they may be woken, and those that can wait meet at a common tick.
"""

from __future__ import annotations

import asyncio
import heapq
from typing import Final

from samplecache.clock import NS_PER_MS, Clock

TICK_NS: Final = NS_PER_MS
"""uvloop's timers count whole milliseconds."""

MEETING_TICKS: Final = 4
"""Where those meet who can wait: of 20 ms blocks, a fifth at a time."""


class PacingWheel:
    """Wakes sleepers of one event loop, at most a tick later than they allow and never early.

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

    def sleeper(self, time_ns: int, slack_ns: int = 0) -> asyncio.Future[None]:
        """Return a future that is done at `time_ns`, or up to `slack_ns` after that, if others are woken then.

        Whoever else has it done before that wakes the sleeper sooner.
        """
        tick = -(-time_ns // TICK_NS)
        meeting = -(-tick // MEETING_TICKS) * MEETING_TICKS
        if meeting * TICK_NS <= time_ns + slack_ns:
            tick = meeting
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
