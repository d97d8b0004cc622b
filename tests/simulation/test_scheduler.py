"""The order in which virtual threads run."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from samplecache.clock import VirtualClock
from samplecache.simulation.scheduler import PARKED, Scheduler


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(VirtualClock())


def ticking(
    scheduler: Scheduler, name: str, periods: list[int], seen: list[tuple[int, str]]
) -> Generator[int, None, None]:
    for period_ns in periods:
        seen.append((scheduler.clock.now_ns(), name))
        yield scheduler.clock.now_ns() + period_ns
    seen.append((scheduler.clock.now_ns(), name))


def test_threads_run_in_the_order_of_time_priority_and_start(scheduler: Scheduler) -> None:
    seen: list[tuple[int, str]] = []
    scheduler.start(ticking(scheduler, "a", [10, 10], seen))
    scheduler.start(ticking(scheduler, "b", [5, 5], seen))
    scheduler.start(ticking(scheduler, "c", [10], seen), priority=-1)
    scheduler.start(ticking(scheduler, "d", [], seen), at_ns=7)
    scheduler.run()
    assert seen == [
        (0, "c"),
        (0, "a"),
        (0, "b"),
        (5, "b"),
        (7, "d"),
        (10, "c"),
        (10, "a"),
        (10, "b"),
        (20, "a"),
    ]


def test_a_time_that_has_passed_means_now(scheduler: Scheduler) -> None:
    seen: list[tuple[int, str]] = []
    scheduler.clock.sleep_until(100)
    scheduler.start(ticking(scheduler, "a", [-50], seen), at_ns=3)
    scheduler.run()
    assert seen == [(100, "a"), (100, "a")]


def test_it_stops_before_a_time(scheduler: Scheduler) -> None:
    seen: list[tuple[int, str]] = []
    thread = scheduler.start(ticking(scheduler, "a", [10, 10], seen))
    scheduler.run(until_ns=10)
    assert (seen, thread.finished) == ([(0, "a")], False)
    scheduler.run()
    assert thread.finished


def test_a_parked_thread_goes_on_when_woken(scheduler: Scheduler) -> None:
    seen: list[int] = []

    def sleeper() -> Generator[int, None, None]:
        yield PARKED
        seen.append(scheduler.clock.now_ns())

    def waker() -> Generator[int, None, None]:
        yield 30
        scheduler.wake(parked)

    parked = scheduler.start(sleeper())
    scheduler.run()
    assert seen == []
    scheduler.start(waker())
    scheduler.run()
    assert (seen, parked.finished) == ([30], True)
    scheduler.wake(parked)
    scheduler.run()
    assert seen == [30]


def test_waking_replaces_the_time_slept_for(scheduler: Scheduler) -> None:
    seen: list[tuple[int, str]] = []
    thread = scheduler.start(ticking(scheduler, "a", [1000], seen))
    scheduler.run(until_ns=5)
    scheduler.wake(thread)
    scheduler.run()
    assert seen == [(0, "a"), (0, "a")]


def test_what_a_thread_raises_comes_out(scheduler: Scheduler) -> None:
    def failing() -> Generator[int, None, None]:
        yield 1
        raise ZeroDivisionError

    scheduler.start(failing())
    with pytest.raises(ZeroDivisionError):
        scheduler.run()
    assert scheduler.clock.now_ns() == 1
