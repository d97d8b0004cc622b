"""Worker threads that do the piece of work with the nearest deadline first, or at a given time."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from samplecache.clock import NS_PER_S, Clock

_log = structlog.get_logger(__name__)

Work = Callable[[], None]


class WorkQueue:
    """A few daemon threads over two heaps: work that is ready, by deadline, and work that is not yet, by time.

    A piece of work should be small (a chunk of pages), and submit what is left of it anew: so a nearer deadline that
    arrives meanwhile goes first, whoever's it is.

    Parameters
    ----------
    threads : int
        How many worker threads. Work may block in page faults; each blocked thread blocks one piece of work only.
    clock : Clock
        What deadlines and times are measured on. Must be a real clock: idle workers sleep on a condition.
    """

    def __init__(self, threads: int, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._ready: list[tuple[int, int, Work]] = []
        self._later: list[tuple[int, int, Work]] = []
        self._order = itertools.count()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"samplecache-worker-{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Work, deadline_ns: int) -> None:
        """Have `work` done by a worker as soon as nothing with an earlier deadline is waiting. Never blocks."""
        with self._changed:
            if not self._closed:
                heapq.heappush(self._ready, (deadline_ns, next(self._order), work))
                self._changed.notify()

    def call_at(self, work: Work, time_ns: int) -> None:
        """Have `work` done at `time_ns`, ahead of any deadline after that. Never blocks."""
        with self._changed:
            if not self._closed:
                heapq.heappush(self._later, (time_ns, next(self._order), work))
                self._changed.notify()

    def close(self) -> None:
        """Forget all work that has not begun and wait for what has. Blocks."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._later.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception:
                # A worker that dies would silently halve the service; what failed is in the log.
                _log.exception("work_failed")

    def _next(self) -> Work | None:
        with self._changed:
            while not self._closed:
                now_ns = self._clock.now_ns()
                while self._later and self._later[0][0] <= now_ns:
                    heapq.heappush(self._ready, heapq.heappop(self._later))
                if self._ready:
                    return heapq.heappop(self._ready)[2]
                wait_s = (self._later[0][0] - now_ns) / NS_PER_S if self._later else None
                self._changed.wait(wait_s)
            return None
