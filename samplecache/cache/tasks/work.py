"""What is to be done, nearest deadline first or at a given time, and the worker threads that do it."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol, Self

from samplecache.clock import NS_PER_S, Clock
from samplecache.strategy.failures import log_failure

Work = Callable[[], Iterable[None] | None]
"""A piece of work. Where it yields, what it asked of the kernel may be going on still: a worker thread, whose calls
block, goes straight on, while a worker in virtual time waits.
"""


class Workers(Protocol):
    """Those who do work: threads, or virtual ones."""

    def submit(self, work: Work, deadline_ns: int, urgency: int = 0) -> None:
        """Have `work` done as soon as nothing more urgent, or as urgent with an earlier deadline, is waiting.

        Never blocks.
        """

    def call_at(self, work: Work, time_ns: int) -> None:
        """Have `work` done at `time_ns`, ahead of any deadline after that. Never blocks."""

    def close(self) -> None:
        """Forget all work that has not begun and wait for what has. Blocks."""


class Agenda:
    """Work that waits, in two heaps: what is ready, by urgency and deadline, and what is not yet, by time.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._ready: list[tuple[int, int, int, Work]] = []
        self._later: list[tuple[int, int, Work]] = []
        self._order = itertools.count()

    @property
    def has_ready(self) -> bool:
        """Whether anything was ready when something was taken out last, or has been put in as such since."""
        return bool(self._ready)

    @property
    def next_ns(self) -> int | None:
        """When the first work that is not ready yet will be; None if there is none."""
        return self._later[0][0] if self._later else None

    def submit(self, work: Work, deadline_ns: int, urgency: int = 0) -> None:
        """Put in ready work. The greatest urgency goes first, in it the earliest deadline, then the first to come."""
        heapq.heappush(self._ready, (-urgency, deadline_ns, next(self._order), work))

    def call_at(self, work: Work, time_ns: int) -> None:
        """Put in work that will be ready, and due, at `time_ns`."""
        heapq.heappush(self._later, (time_ns, next(self._order), work))

    def take(self, now_ns: int) -> Work | None:
        """Take out what is to be done first, if anything is ready."""
        while self._later and self._later[0][0] <= now_ns:
            heapq.heappush(self._ready, (0, *heapq.heappop(self._later)))
        return heapq.heappop(self._ready)[-1] if self._ready else None

    def clear(self) -> None:
        """Forget everything."""
        self._ready.clear()
        self._later.clear()


class WorkQueue:
    """A few daemon threads over an agenda.

    Of the threads that have nothing to do one watches the time; the others sleep until they are needed. If all did,
    each look at a session's pages would wake all of them, and make them wait for the GIL in turn.

    A piece of work should be small (a chunk of pages), and submit what is left of it anew when it has done what it
    waits for: so a nearer deadline that arrives meanwhile goes first, whoever's it is.

    Parameters
    ----------
    threads : int
        How many worker threads. Work may block in page faults; each blocked thread blocks one piece of work only.
    clock : Clock
        What deadlines and times are measured on. Must be a real clock: idle workers sleep on a condition.
    """

    def __init__(self, threads: int, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._needed = threading.Condition(self._lock)
        self._sleeping = 0
        self._timer = threading.Condition(self._lock)
        self._watched_ns: int | None = None
        self._agenda = Agenda()
        self._closed = False
        self._workers: set[int] = set()
        self._threads = [
            threading.Thread(target=self._run, name=f"samplecache-worker-{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Work, deadline_ns: int, urgency: int = 0) -> None:
        """See :meth:`Workers.submit`."""
        with self._lock:
            if not self._closed:
                self._agenda.submit(work, deadline_ns, urgency)
                # A worker takes it by itself, or has another take it, when it has done what it is at.
                if threading.get_ident() not in self._workers:
                    self._rouse()

    def call_at(self, work: Work, time_ns: int) -> None:
        """Have `work` done at `time_ns`, ahead of any deadline after that. Never blocks."""
        with self._lock:
            if not self._closed:
                self._agenda.call_at(work, time_ns)
                if self._watched_ns is None:
                    self._rouse()
                elif time_ns < self._watched_ns:
                    self._timer.notify()

    def close(self) -> None:
        """Forget all work that has not begun and wait for what has. Blocks."""
        with self._lock:
            self._closed = True
            self._agenda.clear()
            self._needed.notify_all()
            self._timer.notify_all()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        with self._lock:
            self._workers.add(threading.get_ident())
        while (work := self._next()) is not None:
            try:
                for _ in work() or ():
                    pass
            except Exception as error:
                # A worker that dies would silently halve the service; what failed is in the log.
                log_failure("work_failed", error)

    def _next(self) -> Work | None:
        with self._lock:
            while not self._closed:
                now_ns = self._clock.now_ns()
                if (work := self._agenda.take(now_ns)) is not None:
                    if self._agenda.has_ready or (self._agenda.next_ns is not None and self._watched_ns is None):
                        self._rouse()  # for the rest, or to watch the time
                    return work
                if (next_ns := self._agenda.next_ns) is not None and self._watched_ns is None:
                    self._watch(next_ns, now_ns)
                else:
                    self._sleep()
            return None

    def _rouse(self) -> None:
        """Wake one who has nothing to do; who is at work looks by himself when he has done it. Under the lock."""
        if self._sleeping:
            self._needed.notify()
        else:
            self._timer.notify()

    def _watch(self, next_ns: int, now_ns: int) -> None:
        self._watched_ns = next_ns
        try:
            self._timer.wait((next_ns - now_ns) / NS_PER_S)
        finally:
            self._watched_ns = None

    def _sleep(self) -> None:
        self._sleeping += 1
        try:
            self._needed.wait()
        finally:
            self._sleeping -= 1
