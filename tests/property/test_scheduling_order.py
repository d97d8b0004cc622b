"""Whatever virtual threads do, they run by time, priority and sequence, as if each step were planned anew."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

from hypothesis import given, settings
from hypothesis import strategies as st

from samplecache.clock import VirtualClock
from samplecache.simulation.scheduler import PARKED, Scheduler


@dataclass(frozen=True)
class Step:
    """What a thread does each time it runs: wakes another, or itself, and sleeps."""

    wakes: int | None
    sleeps_ns: int | None
    """None to park."""


@dataclass(frozen=True)
class Life:
    """A thread."""

    at_ns: int
    priority: int
    steps: list[Step]


class Runs(Protocol):
    """What runs threads."""

    clock: VirtualClock

    def run(self, until_ns: int = PARKED) -> None: ...


class PlainScheduler:
    """The order by its definition: each time, the least of all that are planned."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._threads: dict[int, tuple[int, Generator[int, None, None]]] = {}
        self._planned: dict[int, tuple[int, int, int]] = {}
        self._sequence = 0

    def start(self, number: int, life: Life, steps: Generator[int, None, None]) -> None:
        self._threads[number] = life.priority, steps
        self._plan(number, life.at_ns)

    def wake(self, number: int) -> None:
        if number in self._threads:
            self._plan(number, self.clock.now_ns())

    def run(self, until_ns: int = PARKED) -> None:
        while self._planned:
            number = min(self._planned, key=lambda number: self._planned[number])
            time_ns = self._planned[number][0]
            if time_ns >= until_ns:
                break
            del self._planned[number]
            self.clock.sleep_until(time_ns)
            try:
                wake_ns = next(self._threads[number][1])
            except StopIteration:
                del self._threads[number]
                wake_ns = PARKED
            self._plan(number, wake_ns)

    def _plan(self, number: int, time_ns: int) -> None:
        self._sequence += 1
        self._planned.pop(number, None)
        if time_ns < PARKED:
            self._planned[number] = max(time_ns, self.clock.now_ns()), self._threads[number][0], self._sequence


def living(
    runs: Runs, number: int, life: Life, wake: Callable[[int], None], seen: list[tuple[int, int]]
) -> Generator[int, None, None]:
    for step in life.steps:
        seen.append((runs.clock.now_ns(), number))
        if step.wakes is not None:
            wake(step.wakes)
        yield PARKED if step.sleeps_ns is None else runs.clock.now_ns() + step.sleeps_ns
    seen.append((runs.clock.now_ns(), number))


def watched(runs: Runs, seen: list[tuple[int, int]], pauses: list[int]) -> list[tuple[int, int]]:
    for pause_ns in sorted(pauses):
        runs.run(pause_ns)
        seen.append((runs.clock.now_ns(), -1))
    runs.run()
    return seen


STEPS = st.builds(Step, st.none() | st.integers(0, 4), st.none() | st.integers(-3, 12))
LIVES = st.lists(
    st.builds(Life, st.integers(0, 20), st.integers(0, 2), st.lists(STEPS, max_size=8)), min_size=1, max_size=5
)


@settings(deadline=None)
@given(LIVES, st.lists(st.integers(0, 40), max_size=3))
def test_threads_run_as_if_each_step_were_planned_anew(lives: list[Life], pauses: list[int]) -> None:
    seen: list[tuple[int, int]] = []
    scheduler = Scheduler(VirtualClock())
    threads = [
        scheduler.start(
            living(scheduler, number, life, lambda other: scheduler.wake(threads[other % len(threads)]), seen),
            at_ns=life.at_ns,
            priority=life.priority,
        )
        for number, life in enumerate(lives)
    ]

    plainly: list[tuple[int, int]] = []
    plain = PlainScheduler()
    for number, life in enumerate(lives):
        plain.start(number, life, living(plain, number, life, lambda other: plain.wake(other % len(lives)), plainly))

    assert watched(scheduler, seen, pauses) == watched(plain, plainly, pauses)
