"""What stands in for the service's threads in virtual time: workers, and a kernel whose calls do not block.

Code that runs on a virtual thread cannot stop in the middle of a call. So a call of the kernel that would block only
begins, and the virtual thread that made it finishes it before it goes on: see
:data:`samplecache.cache.tasks.work.Work`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Final

from samplecache.cache.tasks.work import Agenda, Work
from samplecache.clock import VirtualClock
from samplecache.kernel.port import Region, Residency, Span, Tier
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.lab.service_costs import ServiceCosts
from samplecache.simulation.chance import Chance
from samplecache.simulation.memory import Steps
from samplecache.simulation.options import SimulationOptions
from samplecache.simulation.pages import SimulatedRegion
from samplecache.simulation.scheduler import PARKED, Scheduler, VirtualThread

_UNLOCKED_IN_RAM: Final = (Tier.SWAP_CACHE, Tier.MAPPED)


class ServiceClock:
    """What the service's code reads: the machine's time, and what the thread that runs has computed since it slept.

    A virtual thread cannot sleep in the middle of a call, but a call that measures its own length must see it pass.

    Parameters
    ----------
    clock : VirtualClock
        The machine's time.

    Attributes
    ----------
    spent_ns : int
        What was computed, in nanoseconds. Whoever lets other threads go on sleeps for it first, and sets it to 0.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.spent_ns = 0
        self._clock = clock

    def now_ns(self) -> int:
        """Return the time as the running thread sees it, in nanoseconds. Never blocks."""
        return self._clock.now_ns() + self.spent_ns

    def sleep_until(self, wake_ns: int) -> None:
        """See :meth:`VirtualClock.sleep_until`."""
        self._clock.sleep_until(wake_ns)


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
    costs : ServiceCosts
        What the service's own work takes; nothing by default.

    Attributes
    ----------
    service_clock : ServiceClock
        The time as the service's code sees it.
    costs : ServiceCosts
        As given.
    draw : Callable
        Returns one of a tuple's values; which one, the machine's seed says.
    thread : int
        Who is calling. To be set before anything is called.
    peak_locked_pages : int
        The most pages that were locked at a time.
    """

    def __init__(self, options: SimulationOptions, clock: VirtualClock, costs: ServiceCosts | None = None) -> None:
        super().__init__(options, clock)
        self.service_clock = ServiceClock(clock)
        self.costs = costs or ServiceCosts()
        self.draw = Chance(options.seed).one_of
        self.thread = 0
        self.peak_locked_pages = 0
        self._begun: list[tuple[int, Steps]] = []

    def finish(self) -> Steps:
        """Sleep for what was computed, and finish what was begun since, for whoever did it.

        Raises
        ------
        ExhaustedError
            The machine is out of memory: where a process would be killed.
        """
        begun, self._begun = self._begun, []
        spent_ns, self.service_clock.spent_ns = self.service_clock.spent_ns, 0
        if spent_ns:
            yield self._clock.now_ns() + spent_ns
        for wake_ns, operation in begun:
            yield wake_ns
            yield from operation

    def residency(self, region: Region, span: Span) -> Residency:
        """See :meth:`Kernel.residency`. For workers only: what it costs passes on :attr:`service_clock`."""
        self.service_clock.spent_ns += self.draw(self.costs.look_ns)
        return super().residency(region, span)

    def touch(self, region: Region, span: Span) -> None:
        """See :meth:`Kernel.touch`. The loop over pages comes on top of their faults."""
        self._act(self._loop_over(self._checked(region, span), span, len(span) * self.draw(self.costs.touch_page_ns)))

    def _loop_over(self, model: SimulatedRegion, span: Span, loop_ns: int) -> Steps:
        yield from self.machine.touch(self.thread, model, span.start, span.stop)
        if loop_ns:
            yield self._clock.now_ns() + loop_ns

    def lock(self, region: Region, span: Span) -> None:
        """See :meth:`Kernel.lock`. Pages are locked at once and come in later."""
        super().lock(region, span)
        self.peak_locked_pages = max(self.peak_locked_pages, self.machine.locked_pages)

    def evict(self, region: Region, span: Span, timeout_ns: int) -> int:
        """See :meth:`Kernel.evict`. Returns how many unlocked pages are in RAM when it has begun."""
        self._act(self._push_out(self._checked(region, span), span, timeout_ns))
        return sum(map(len, super().residency(region, span).spans_in(*_UNLOCKED_IN_RAM)))

    def _push_out(self, model: SimulatedRegion, span: Span, timeout_ns: int) -> Steps:
        yield from self.machine.evict(self.thread, model, span.start, span.stop, timeout_ns)

    def _thread(self) -> int:
        return self.thread

    def _act(self, operation: Generator[int, None, None]) -> None:
        wake_ns = next(operation, None)
        if wake_ns is not None:
            self._begun.append((wake_ns, operation))


class VirtualWorkers:
    """Workers on virtual threads, over the same agenda as :class:`samplecache.cache.tasks.work.WorkQueue`.

    Parameters
    ----------
    scheduler : Scheduler
        What runs them.
    kernel : VirtualKernel
        What their work calls; it knows what a piece of work costs before it does what it is about.
    threads : list of int
        One worker for each, with what the kernel is to know it by.
    priority : int
        The scheduler's, among threads that want to go on at the same time.
    """

    def __init__(self, scheduler: Scheduler, kernel: VirtualKernel, threads: list[int], priority: int) -> None:
        self._scheduler = scheduler
        self._kernel = kernel
        self._agenda = Agenda()
        self._idle: deque[VirtualThread] = deque()
        self._threads: dict[int, VirtualThread] = {}
        for thread in threads:
            self._threads[thread] = scheduler.start(self._run(thread), priority=priority)

    def submit(self, work: Work, deadline_ns: int, urgency: int = 0) -> None:
        """See :meth:`Workers.submit`."""
        self._agenda.submit(work, deadline_ns, urgency)
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
            if cost_ns := kernel.draw(kernel.costs.prefetch_ns):
                yield clock.now_ns() + cost_ns
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
