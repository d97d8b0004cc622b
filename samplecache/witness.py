"""The witness: how late this machine wakes a thread that does nothing but sleep.

A block that comes late on a machine that was itself late says nothing of memory. So every real-time run carries one
thread a CPU that sleeps to an absolute period and records by how much each wake missed it. A late block beside a late
witness is the machine's (a hypervisor that ran someone else, a busy CPU); a late block beside a punctual one is not.

What it cannot tell: a wake needs the GIL as well as the CPU, so each other thread that runs pure Python may add a
switch interval (``sys.getswitchinterval()``, 5 ms). And a thread that faults *with* the GIL held makes it late too;
that is why sample memory is only touched with the GIL released.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from array import array
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from samplecache.clock import NS_PER_MS, NS_PER_S, Clock, MonotonicClock
from samplecache.errors import InvalidError, OutOfRangeError, StateError

PERIOD_NS = 5 * NS_PER_MS
"""Shorter than any audio block. A sleep costs some 70 us of CPU on a virtual machine: 1.4 % of each CPU watched."""

HISTORY_NS = 30 * NS_PER_S
"""How far back :meth:`Witness.lateness_between` reaches: 16 bytes a wake, 96 kB a CPU."""


class WakeHistory:
    """The last wakes of one thread: when each was due, and when it came.

    One thread records, any thread may ask, and neither waits for the other.

    Parameters
    ----------
    capacity : int
        How many wakes are remembered.
    start_ns : int
        When the thread began: before it nothing is known.
    due_ns : int
        When the first wake is due.
    """

    def __init__(self, capacity: int, start_ns: int, due_ns: int) -> None:
        self._capacity = capacity
        self._start_ns = start_ns
        self._wakes = array("q", bytes(16 * capacity))  # due, woke, due, woke ...
        self.recorded = 0
        """How many wakes there have been."""
        self.worst_ns = 0
        """By how much the latest of them all came late."""
        self.due_ns = due_ns
        """When the wake that is being slept for is due."""

    def record(self, woke_ns: int, next_due_ns: int) -> None:
        """Note that the wake which was due came at `woke_ns`. Never blocks; the witness's own thread."""
        slot = 2 * (self.recorded % self._capacity)
        self._wakes[slot : slot + 2] = array("q", (self.due_ns, woke_ns))
        self.worst_ns = max(self.worst_ns, woke_ns - self.due_ns)
        self.due_ns = next_due_ns
        self.recorded += 1

    def lateness_between(self, start_ns: int, stop_ns: int, now_ns: int) -> int:
        """Return the longest lateness, in nanoseconds, of a wake that was due or overdue in ``[start_ns, stop_ns)``.

        The wake still being slept for counts with what it is overdue at `now_ns`: the one who asks may be awake before
        the witness is. Never blocks; any thread. Takes half a microsecond for each wake since the window's beginning.

        Raises
        ------
        OutOfRangeError
            `start_ns` lies before the oldest remembered wake.
        """
        overdue_ns = now_ns - self.due_ns if self.due_ns < stop_ns else 0
        while True:
            recorded = self.recorded
            oldest = max(0, recorded - self._capacity)
            oldest_ns = self._start_ns if oldest == 0 else self._wakes[2 * (oldest % self._capacity)]
            if start_ns < oldest_ns:
                raise OutOfRangeError(
                    f"the witness remembers nothing before {oldest_ns} ns, and was asked about {start_ns} ns",
                    remedy="Ask sooner after the event, start the witness before the work, or give it a longer history",
                    oldest_ns=oldest_ns,
                    start_ns=start_ns,
                )
            late_ns, reached = self._latest(start_ns, stop_ns, range(recorded - 1, oldest - 1, -1))
            if self.recorded - self._capacity <= reached:  # else what was looked at may be newer than it should
                return max(0, overdue_ns, late_ns)

    def _latest(self, start_ns: int, stop_ns: int, wakes: range) -> tuple[int, int]:
        """Return the longest lateness in the window, of `wakes` from the last backwards, and which was reached.

        One thread's wakes come in the order in which they are due, and who asks mostly asks about what has just been.
        """
        times, capacity, late_ns, wake = self._wakes, self._capacity, 0, wakes.start
        for wake in wakes:
            due_ns, woke_ns = times[2 * (wake % capacity) : 2 * (wake % capacity) + 2]
            if woke_ns <= start_ns:
                break
            if due_ns < stop_ns and woke_ns - due_ns > late_ns:
                late_ns = woke_ns - due_ns
        return late_ns, wake

    def latenesses(self) -> npt.NDArray[np.int64]:
        """Return by how much each remembered wake was late, in nanoseconds, in no order; any thread."""
        while True:
            recorded = self.recorded
            wakes = np.array(self._wakes, np.int64).reshape(-1, 2)[:recorded]
            if recorded == self.recorded:  # else one was recorded meanwhile
                lateness_ns: npt.NDArray[np.int64] = wakes[:, 1] - wakes[:, 0]
                return lateness_ns


@dataclass(frozen=True, slots=True)
class WitnessReport:
    """What the witness saw. Quantiles are over the remembered wakes of all CPUs, the rest since it started.

    Attributes
    ----------
    cpus : int
        How many CPUs were watched.
    wakes : int
        How many times their threads woke.
    p50_ns, p99_ns, p999_ns, worst_ns : int
        Lateness: actual less due time. Zero if there was no wake yet.
    steal_ns : int or None
        Time that the hypervisor kept from all CPUs of the machine together; None where the kernel does not say.
    cost_ns : int
        CPU time of the witness's own threads.
    """

    cpus: int
    wakes: int
    p50_ns: int
    p99_ns: int
    p999_ns: int
    worst_ns: int
    steal_ns: int | None
    cost_ns: int


class Witness:
    """One sleeping thread a CPU, and what each wake was late.

    May be started once; a context manager does both. Its methods may be called from any thread.

    Parameters
    ----------
    cpus : collection of int, optional
        Which CPUs to watch; the process's own if not given. A thread that may not be pinned runs where it can.
    period_ns, history_ns : int
        How often a thread wakes, and how long its wakes are remembered.
    clock : Clock
        For tests; anything but the real one measures nothing.

    Raises
    ------
    InvalidError
        No CPU is named, or the history is shorter than a period.
    """

    def __init__(
        self,
        cpus: Collection[int] | None = None,
        *,
        period_ns: int = PERIOD_NS,
        history_ns: int = HISTORY_NS,
        clock: Clock | None = None,
    ) -> None:
        self._cpus = sorted(os.sched_getaffinity(0) if cpus is None else cpus)
        if not self._cpus or not 0 < period_ns <= history_ns:
            raise InvalidError(
                f"a witness of {len(self._cpus)} CPUs, period {period_ns} ns and history {history_ns} ns sees nothing",
                remedy="Name one CPU at least, and a history no shorter than the period",
            )
        self._period_ns = period_ns
        self._capacity = -(-history_ns // period_ns)
        self._clock = clock or MonotonicClock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._histories: list[WakeHistory] = []
        self._cost_ns: dict[int, int] = {}
        self._steal_before_ns: int | None = None

    def start(self) -> None:
        """Start the threads.

        Raises
        ------
        StateError
            It has been started before.
        """
        if self._threads:
            raise StateError("the witness has been started already", remedy="Make a new one for each run")
        self._steal_before_ns = steal_ns()
        start_ns = self._clock.now_ns()
        for index, cpu in enumerate(self._cpus):
            # Spread over the period, so that the threads do not wake into a queue for the GIL.
            due_ns = start_ns + self._period_ns + self._period_ns * index // len(self._cpus)
            history = WakeHistory(self._capacity, start_ns, due_ns)
            self._histories.append(history)
            thread = threading.Thread(target=self._watch, args=(cpu, history), name=f"witness-{cpu}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End the threads; waits one period for them. What was recorded can still be asked for."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def worst_ns(self) -> int:
        """The greatest lateness since the start, in nanoseconds; 0 before the first wake."""
        return max((history.worst_ns for history in self._histories), default=0)

    def lateness_between(self, start_ns: int, stop_ns: int) -> int:
        """Return the longest lateness on any CPU of a wake that was due or overdue in ``[start_ns, stop_ns)``.

        Parameters
        ----------
        start_ns, stop_ns : int
            A window of the witness's clock, up to now.

        Returns
        -------
        int
            Nanoseconds. A wake that is overdue at this moment counts with what it is late so far.

        Raises
        ------
        OutOfRangeError
            The window begins before the oldest remembered wake, or before the witness was started.
        """
        if not self._histories:
            raise OutOfRangeError("the witness has seen nothing yet", remedy="Start it before the work it stands by")
        now_ns = self._clock.now_ns() if not self._stop.is_set() else 0
        return max(history.lateness_between(start_ns, stop_ns, now_ns) for history in self._histories)

    def report(self) -> WitnessReport:
        """Return a summary; takes a fraction of a millisecond for a full history."""
        latenesses = np.sort(np.concatenate([_NONE, *(history.latenesses() for history in self._histories)]))
        before_ns, after_ns = self._steal_before_ns, steal_ns()
        return WitnessReport(
            cpus=len(self._cpus),
            wakes=sum(history.recorded for history in self._histories),
            p50_ns=_quantile(latenesses, 0.5),
            p99_ns=_quantile(latenesses, 0.99),
            p999_ns=_quantile(latenesses, 0.999),
            worst_ns=self.worst_ns,
            steal_ns=None if before_ns is None or after_ns is None else after_ns - before_ns,
            cost_ns=sum(self._cost_ns.values()),
        )

    def _watch(self, cpu: int, history: WakeHistory) -> None:
        with contextlib.suppress(OSError):  # a container may forbid it; unpinned still tells of the machine
            os.sched_setaffinity(0, {cpu})  # 0 is the calling thread
        while not self._stop.is_set():
            self._clock.sleep_until(history.due_ns)
            woke_ns = self._clock.now_ns()
            next_due_ns = history.due_ns + self._period_ns
            if woke_ns - next_due_ns > self._period_ns * self._capacity:
                next_due_ns = woke_ns  # stopped for longer than it remembers: catching up would only overwrite
            history.record(woke_ns, next_due_ns)
            self._cost_ns[cpu] = time.thread_time_ns()


def steal_ns() -> int | None:
    """Return the time that the hypervisor has kept from this machine's CPUs since boot; None where it is not told.

    The eighth figure of the first line of ``/proc/stat``, in units of ``USER_HZ`` (proc(5)).
    """
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        return int(fields[8]) * NS_PER_S // os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None


_NONE: Final = np.empty(0, np.int64)


def _quantile(ascending: npt.NDArray[np.int64], fraction: float) -> int:
    """Return the smallest value that `fraction` of all do not exceed (the nearest rank)."""
    return int(ascending[max(0, math.ceil(fraction * len(ascending)) - 1)]) if len(ascending) else 0
