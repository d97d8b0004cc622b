"""Workers for tests that say when work is done."""

from __future__ import annotations

from samplecache.cache.tasks.work import Agenda, Work
from samplecache.clock import VirtualClock


class SteppedWorkers:
    """One worker, who works when told to, on a clock that moves only then."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._agenda = Agenda()

    def submit(self, work: Work, deadline_ns: int, urgency: int = 0) -> None:
        self._agenda.submit(work, deadline_ns, urgency)

    def call_at(self, work: Work, time_ns: int) -> None:
        self._agenda.call_at(work, time_ns)

    def close(self) -> None:
        self._agenda.clear()

    def work_until(self, time_ns: int) -> None:
        """Do what there is to do, until nothing is before `time_ns`."""
        while True:
            while (work := self._agenda.take(self._clock.now_ns())) is not None:
                for _ in work() or ():
                    pass
            next_ns = self._agenda.next_ns
            if next_ns is None or next_ns > time_ns:
                return
            self._clock.sleep_until(next_ns)
