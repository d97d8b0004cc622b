"""One timer for all sessions: who sleeps until about the same time is woken by the same tick.

Waking up costs the loop more than sending a block does, and what runs many times in a row runs from the caches of the
CPU. So sleepers say how much later they may be woken, and those that can wait meet at a common tick.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
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
        self._sleepers: dict[int, list[Callable[[], object]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float = math.inf

    def sleeper(self, time_ns: int, slack_ns: int = 0) -> asyncio.Future[None]:
        """Return a future that is done at `time_ns`, or up to `slack_ns` after that, if others are woken then.

        Whoever else has it done before that wakes the sleeper sooner.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call(time_ns, slack_ns, lambda: None if future.done() else future.set_result(None))
        return future

    def call(self, time_ns: int, slack_ns: int, callback: Callable[[], object]) -> None:
        """Have `callback`, which must not raise, called at `time_ns`, or up to `slack_ns` after that, with others'."""
        tick = -(-time_ns // TICK_NS)
        meeting = -(-tick // MEETING_TICKS) * MEETING_TICKS
        if meeting * TICK_NS <= time_ns + slack_ns:
            tick = meeting
        if (sleepers := self._sleepers.get(tick)) is not None:
            sleepers.append(callback)
            return
        self._sleepers[tick] = [callback]
        heapq.heappush(self._ticks, tick)
        if tick < self._armed_for:
            self._arm(asyncio.get_running_loop())

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = tick = self._ticks[0]
        left_ms = -(-(tick * TICK_NS - self._clock.now_ns()) // NS_PER_MS)
        self._timer = loop.call_later(max(0, left_ms) / 1000, self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._armed_for = -1  # who is woken asks to be woken again: one timer will do for all of them
        now_tick = self._clock.now_ns() // TICK_NS
        ticks = self._ticks
        try:
            while ticks and ticks[0] <= now_tick:
                for wake in self._sleepers.pop(heapq.heappop(ticks)):
                    wake()
        finally:
            self._armed_for = math.inf
            if ticks:
                self._arm(loop)
