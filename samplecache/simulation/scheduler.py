"""Many simulated threads on one virtual clock: whoever wants to go on first does, in an order that a run repeats."""

from __future__ import annotations

import heapq
from collections.abc import Generator
from typing import Final

from samplecache.clock import VirtualClock

PARKED: Final = (1 << 63) - 1
"""What a thread yields to sleep until :meth:`Scheduler.wake`."""


class VirtualThread:
    """A generator that yields the times, in nanoseconds, at which it wants to go on.

    Attributes
    ----------
    number : int
        In the order of start, from 0; tells the thread from others.
    priority : int
        Lower runs first where times are equal.
    finished : bool
        Whether it has returned.
    """

    __slots__ = ("_steps", "finished", "number", "priority", "turn")

    def __init__(self, number: int, priority: int, steps: Generator[int, None, object]) -> None:
        self.number = number
        self.priority = priority
        self.finished = False
        self.turn = 0
        """The sequence number of its one valid entry in the schedule."""
        self._steps = steps

    def step(self) -> int:
        """Run it until it sleeps; return when it wants to go on, PARKED if it has returned."""
        try:
            return next(self._steps)
        except StopIteration:
            self.finished = True
            return PARKED


class Scheduler:
    """Runs virtual threads in the order of time, priority and sequence.

    Parameters
    ----------
    clock : VirtualClock
        The time that it moves.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._schedule: list[tuple[int, int, int, VirtualThread]] = []
        self._threads = 0
        self._sequence = 0

    def start(
        self, steps: Generator[int, None, object], *, at_ns: int | None = None, priority: int = 0
    ) -> VirtualThread:
        """Have `steps` run from `at_ns` on, now by default."""
        thread = VirtualThread(self._threads, priority, steps)
        self._threads += 1
        now_ns = self.clock.now_ns()
        self._plan(thread, now_ns if at_ns is None else max(at_ns, now_ns))
        return thread

    def wake(self, thread: VirtualThread) -> None:
        """Have `thread` go on now, whatever it sleeps for; nothing if it has returned."""
        if not thread.finished:
            self._plan(thread, self.clock.now_ns())

    def run(self, until_ns: int = PARKED) -> None:
        """Run threads until none has anything to do before `until_ns`. What a thread raises comes out here."""
        schedule, clock = self._schedule, self.clock
        while schedule and schedule[0][0] < until_ns:
            time_ns, _, turn, thread = heapq.heappop(schedule)
            if turn != thread.turn:
                continue
            while True:
                clock.sleep_until(time_ns)
                wake_ns, now_ns = thread.step(), clock.now_ns()
                time_ns = wake_ns if wake_ns > now_ns else now_ns
                # Who sleeps for less than anyone else, as most do for the CPU time of a fault, goes straight on.
                if time_ns >= until_ns or (schedule and time_ns >= schedule[0][0]):
                    break
            self._plan(thread, time_ns)

    def _plan(self, thread: VirtualThread, time_ns: int) -> None:
        """Have `thread` run at `time_ns`, which has not passed, and at no other time."""
        self._sequence = thread.turn = self._sequence + 1
        if time_ns < PARKED:
            heapq.heappush(self._schedule, (time_ns, thread.priority, thread.turn, thread))
