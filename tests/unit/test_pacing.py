"""The wheel wakes each sleeper at its time: never early, and those of one millisecond together."""

from __future__ import annotations

import asyncio

from samplecache.clock import NS_PER_MS, VirtualClock
from samplecache.service.pacing import PacingWheel


class TurnedLoop(asyncio.SelectorEventLoop):
    """A loop whose timers are due when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.delays_s: list[float] = []
        self.timers: list[asyncio.TimerHandle] = []

    def call_later(self, delay, callback, *args, context=None):  # type: ignore[no-untyped-def]
        self.delays_s.append(delay)
        self.timers.append(asyncio.TimerHandle(self.time() + delay, callback, args, self, context))
        return self.timers[-1]

    def fire(self) -> None:
        """Fire the last timer set."""
        timer = self.timers.pop()
        assert not timer.cancelled()
        timer._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.timers.remove(handle)


def test_each_is_woken_at_its_tick_and_not_before() -> None:
    loop, clock = TurnedLoop(), VirtualClock()
    wheel = PacingWheel(clock)
    times_ns = (3 * NS_PER_MS, 5 * NS_PER_MS - 1, 5 * NS_PER_MS, 5 * NS_PER_MS + 1)

    async def turn() -> None:
        sleepers = [wheel.sleeper(time_ns) for time_ns in times_ns]
        seen = []
        while loop.timers:
            clock.sleep_until(clock.now_ns() + round(loop.delays_s[-1] * 1000) * NS_PER_MS)
            loop.fire()
            seen.append((clock.now_ns() // NS_PER_MS, [sleeper.done() for sleeper in sleepers]))
        assert seen == [(3, [True, False, False, False]), (5, [True, True, True, False]), (6, [True] * 4)]

    loop.run_until_complete(turn())
    loop.close()


def test_one_timer_serves_all_and_goes_off_for_the_earliest() -> None:
    loop, clock = TurnedLoop(), VirtualClock()
    wheel = PacingWheel(clock)

    async def turn() -> None:
        late, later = wheel.sleeper(10 * NS_PER_MS), wheel.sleeper(20 * NS_PER_MS)
        early = wheel.sleeper(4 * NS_PER_MS)
        assert loop.delays_s == [0.010, 0.004]
        assert len(loop.timers) == 1
        clock.sleep_until(12 * NS_PER_MS)  # the loop was busy
        loop.fire()
        assert [early.done(), late.done(), later.done()] == [True, True, False]
        assert loop.delays_s[-1] == 0.008
        loop.timers[-1].cancel()

    loop.run_until_complete(turn())
    loop.close()


def test_who_was_woken_sooner_or_gave_up_is_let_be() -> None:
    loop, clock = TurnedLoop(), VirtualClock()
    wheel = PacingWheel(clock)

    async def turn() -> None:
        woken, cancelled, asleep = (wheel.sleeper(NS_PER_MS) for _ in range(3))
        woken.set_result(None)
        cancelled.cancel()
        clock.sleep_until(NS_PER_MS)
        loop.fire()
        assert asleep.done()
        assert cancelled.cancelled()

    loop.run_until_complete(turn())
    loop.close()


def test_a_time_that_has_passed_comes_at_once() -> None:
    loop, clock = TurnedLoop(), VirtualClock(7 * NS_PER_MS)
    wheel = PacingWheel(clock)

    async def turn() -> None:
        sleeper = wheel.sleeper(3 * NS_PER_MS)
        assert loop.delays_s == [0]
        loop.fire()
        assert sleeper.done()

    loop.run_until_complete(turn())
    loop.close()


def test_those_who_can_wait_meet() -> None:
    loop, clock = TurnedLoop(), VirtualClock()
    wheel = PacingWheel(clock)

    async def turn() -> None:
        patient = [wheel.sleeper(ms * NS_PER_MS, 4 * NS_PER_MS) for ms in (5, 6, 7, 8)]
        impatient, in_between = wheel.sleeper(5 * NS_PER_MS), wheel.sleeper(6 * NS_PER_MS, 2 * NS_PER_MS - 1)
        seen = []
        while loop.timers:
            clock.sleep_until(clock.now_ns() + round(loop.delays_s[-1] * 1000) * NS_PER_MS)
            loop.fire()
            seen.append((clock.now_ns() // NS_PER_MS, [s.done() for s in (*patient, impatient, in_between)]))
        assert seen == [
            (5, [False] * 4 + [True, False]),
            (6, [False] * 4 + [True, True]),
            (8, [True] * 6),
        ]

    loop.run_until_complete(turn())
    loop.close()
