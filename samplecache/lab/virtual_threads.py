"""What stands in for the service's threads in virtual time: workers, and a kernel whose calls do not block.

Code that runs on a virtual thread cannot stop in the middle of a call. So a call of the kernel that would block only
begins, and the virtual thread that made it finishes it before it goes on: see :data:`samplecache.cache.work.Work`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Final

from samplecache.cache.work import Agenda, Work
from samplecache.clock import VirtualClock
from samplecache.kernel.port import Region, Span, Tier
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.memory import Steps
from samplecache.simulation.options import SimulationOptions
from samplecache.simulation.pages import SimulatedRegion
from samplecache.simulation.scheduler import PARKED, Scheduler, VirtualThread

_UNLOCKED_IN_RAM: Final = (Tier.SWAP_CACHE, Tier.MAPPED)


class VirtualKernel(SimulatedKernel):
    """The simulated kernel for virtual threads: what changes pages begins at once and goes on in :meth:`finish`.

    An error that is known at the beginning, such as a lock limit, is raised by the call; one that comes later, which is
    that the machine is out of memory, by :meth:`finish`. Readers run operations of :attr:`machine` themselves:
    :meth:`read` would hold all threads up.

    Parameters
    ----------
    options : SimulationOptions
        The machine.
    clock : VirtualClock
        Its time.

    Attributes
    ----------
    thread : int
        Who is calling. To be set before anything is called.
    peak_locked_pages : int
        The most pages that were locked at a time.
    """

    def __init__(self, options: SimulationOptions, clock: VirtualClock) -> None:
        super().__init__(options, clock)
        self.thread = 0
        self.peak_locked_pages = 0
        self._begun: list[tuple[int, Steps]] = []

    def finish(self) -> Steps:
        """Finish what was begun since, for whoever began it.

        Raises
        ------
        ExhaustedError
            The machine is out of memory: where a process would be killed.
        """
        begun, self._begun = self._begun, []
        for wake_ns, operation in begun:
            yield wake_ns
            yield from operation

    def lock(self, region: Region, span: Span) -> None:
        """See :meth:`Kernel.lock`. Pages are locked at once and come in later."""
        super().lock(region, span)
        self.peak_locked_pages = max(self.peak_locked_pages, self.machine.locked_pages)

    def evict(self, region: Region, span: Span, timeout_ns: int) -> int:
        """See :meth:`Kernel.evict`. Returns how many unlocked pages are in RAM when it has begun."""
        self._act(self._push_out(self._checked(region, span), span, timeout_ns))
        return sum(map(len, self.residency(region, span).spans_in(*_UNLOCKED_IN_RAM)))

    def _push_out(self, model: SimulatedRegion, span: Span, timeout_ns: int) -> Steps:
        yield from self.machine.evict(self.thread, model, span.start, span.stop, timeout_ns)

    def _thread(self) -> int:
        return self.thread

    def _act(self, operation: Generator[int, None, None]) -> None:
        wake_ns = next(operation, None)
        if wake_ns is not None:
            self._begun.append((wake_ns, operation))


class VirtualWorkers:
    """Workers on virtual threads: the counterpart of :class:`samplecache.cache.work.WorkQueue`, over the same agenda.

    Parameters
    ----------
    scheduler : Scheduler
        What runs them.
    kernel : VirtualKernel
        What their work calls.
    threads : list of int
        One worker for each, with what the kernel is to know it by.
    priority : int
        The scheduler's, among threads that want to go on at the same time.
    cost_ns : int
        What a worker takes for each piece of work before it does what the piece is about, in nanoseconds.
    """

    def __init__(
        self, scheduler: Scheduler, kernel: VirtualKernel, threads: list[int], priority: int, cost_ns: int = 0
    ) -> None:
        self._scheduler = scheduler
        self._kernel = kernel
        self._cost_ns = cost_ns
        self._agenda = Agenda()
        self._idle: deque[VirtualThread] = deque()
        self._threads: dict[int, VirtualThread] = {}
        for thread in threads:
            self._threads[thread] = scheduler.start(self._run(thread), priority=priority)

    def submit(self, work: Work, deadline_ns: int) -> None:
        """See :meth:`Workers.submit`."""
        self._agenda.submit(work, deadline_ns)
        self._wake()

    def call_at(self, work: Work, time_ns: int) -> None:
        """See :meth:`Workers.call_at`."""
        self._agenda.call_at(work, time_ns)
        self._wake()

    def close(self) -> None:
        """Forget all work that has not begun. Never blocks: what has begun goes on if the scheduler does."""
        self._agenda.clear()

    def _wake(self) -> None:
        if self._idle:
            self._scheduler.wake(self._idle.popleft())

    def _run(self, thread: int) -> Steps:
        kernel, clock = self._kernel, self._scheduler.clock
        while True:
            work = self._agenda.take(clock.now_ns())
            if work is None:
                yield from self._wait(self._threads[thread])
                continue
            if self._cost_ns:
                yield clock.now_ns() + self._cost_ns
            kernel.thread = thread
            for _ in work() or ():
                yield from kernel.finish()
                kernel.thread = thread
            yield from kernel.finish()

    def _wait(self, me: VirtualThread) -> Steps:
        next_ns = self._agenda.next_ns
        self._idle.append(me)
        yield PARKED if next_ns is None else next_ns
        if me in self._idle:  # the time has come, and nobody woke it
            self._idle.remove(me)
