"""What all prefetches share: strategies decide, and actions are done, nearest deadline first across all sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from samplecache.cache.accounting.budget import PrefetchBudget
from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.device.flights import Flights
from samplecache.cache.device.pressure import wait_ns
from samplecache.cache.device.pressure_watch import PressureWatch
from samplecache.cache.prefetching.executor import ActionExecutor
from samplecache.cache.prefetching.orders import Order
from samplecache.cache.tasks.rounds import Rounds
from samplecache.cache.tasks.work import Work, Workers
from samplecache.clock import NS_PER_MS, Clock
from samplecache.errors import SamplecacheError
from samplecache.kernel.ledger import LockLedger
from samplecache.kernel.port import Capabilities, Kernel, Region, Residency, Span
from samplecache.strategy.actions import Action, waits_for_pages
from samplecache.strategy.registry import StrategyRegistry
from samplecache.strategy.view import Stretch, View

CHUNK_PAGES: Final = 64
"""Pages done at a time: 256 KiB of 4 KiB pages, so that a nearer deadline or a cancellation waits for no more."""

RECHECK_LEAST_NS: Final = 10 * NS_PER_MS
"""A strategy is not asked again sooner after it answered, whatever it wants: so that none can keep the workers busy."""

YIELD_NS: Final = 20 * NS_PER_MS
"""When a session that yields looks again whether the device has nothing to do."""


class Prefetcher:
    """What all prefetches share: the kernel, the workers, the plugins. Any thread; what blocks or
    faults says so, and only workers call it.

    Parameters
    ----------
    kernel : Kernel
        What acts on memory.
    ledger : LockLedger
        Who holds which pages locked.
    registry : StrategyRegistry
        Runs strategies so that they can do no harm.
    work : Workers
        Who carries prefetches out.
    clock : Clock
        What deadlines are measured on.
    meter : PageInMeter
        Told what page-ins cost.
    capabilities : Capabilities
        Shown to strategies.
    flights : Flights
        Watches what is on its way, and bounds it.
    budget : PrefetchBudget
        What is brought in ahead is charged to it.
    pressure : PressureWatch
        Knows how short memory is; told what is brought in, and what was taken back.
    on_short : Callable
        Called with the order and a sentence when something got less than it asked for.
    """

    def __init__(
        self,
        kernel: Kernel,
        ledger: LockLedger,
        registry: StrategyRegistry,
        work: Workers,
        clock: Clock,
        meter: PageInMeter,
        capabilities: Capabilities,
        flights: Flights,
        budget: PrefetchBudget,
        pressure: PressureWatch,
        on_short: Callable[[Order, str], None],
    ) -> None:
        self.kernel = kernel
        self.clock = clock
        self.meter = meter
        self.flights = flights
        self.on_short = on_short
        self.budget = budget
        self.pressure = pressure
        self.call_at = work.call_at
        self._rounds = Rounds(clock, work.call_at)
        self._ledger = ledger
        self._registry = registry
        self._work = work
        self._capabilities = capabilities
        self._executor = ActionExecutor(kernel, ledger)

    def submit(self, work: Work, deadline_ns: int | None, urgency: int = 0) -> None:
        """Have `work` done by a worker; without a deadline, as if it were due now."""
        self._work.submit(work, self.clock.now_ns() if deadline_ns is None else deadline_ns, urgency)

    def again_ns(self, wanted_ns: int | None) -> int:
        """Return when a strategy is asked again that wants to be at `wanted_ns`."""
        soonest_ns = self.clock.now_ns() + RECHECK_LEAST_NS
        return soonest_ns if wanted_ns is None else max(soonest_ns, wanted_ns)

    def look_at(self, look: Work, time_ns: int) -> None:
        """Have a strategy asked again at `time_ns` or soon after, as :mod:`samplecache.cache.tasks.rounds` says."""
        self._rounds.call_after(look, time_ns)

    def decide(self, order: Order, residency: Residency) -> tuple[Action, ...]:
        """Show the strategy how things are, pages being where `residency` says; return what it wants done.

        Blocks while another of its methods is running.

        Raises
        ------
        StrategyError
            It failed.
        """
        strategy, playhead = order.binding.strategy, order.playhead
        with order.binding.deciding:
            now_ns = self.clock.now_ns()
            view = View(
                now_ns=now_ns,
                sample=order.sample.view(self.kernel.page_bytes),
                wanted=order.wanted,
                deadline_ns=order.deadline_ns,
                residency=residency,
                held=self._ledger.spans(order.holder, order.sample.content.region),
                lock_budget_bytes=self._ledger.budget_bytes - self._ledger.locked_bytes,
                page_in=self.meter.figures,
                capabilities=self._capabilities,
                path=(Stretch(order.wanted, order.deadline_ns),) if playhead is None else playhead.path,
                played=Span(order.wanted.start, order.wanted.start) if playhead is None else playhead.played,
                playing=playhead is not None,
                lead_ns=0 if playhead is None else playhead.lead_ns,
                budget_bytes=self.budget.share_bytes(order.account, now_ns),
                pressure=self.pressure.level,
                near_misses=0 if playhead is None else playhead.near_misses,
                underruns=0 if playhead is None else playhead.underruns,
            )
            return self._registry.decide(strategy, getattr(strategy, order.moment.name.lower()), view)

    def wait_ns(self, order: Order, action: Action) -> int:
        """Return how long an action that brings pages in is left alone, in nanoseconds.

        Because memory is short, or because it yields to others that need the device.
        """
        if not order.binding.strategy.budgeted:
            return 0
        if order.place.shed and self.meter.awaited:
            return YIELD_NS
        lead_ns = None if action.deadline_ns is None else action.deadline_ns - self.clock.now_ns()
        head = next(action.span.chunks(CHUNK_PAGES), action.span)
        return wait_ns(self.pressure.level, lead_ns, order.account.times_taken_back(head))

    def may_send_for(
        self, order: Order, action: Action, otherwise: Callable[[], object], wanted: Callable[[], bool]
    ) -> bool:
        """Return whether pages may be sent for that arrive later; if not, have `otherwise` called when they may, or
        when they are not `wanted` any more.
        """
        if self._capabilities.swap_synchronous:
            return True
        now_ns = self.clock.now_ns()
        return self.flights.may_depart(otherwise, action.deadline_ns or now_ns, order.urgency, wanted)

    def admit(self, order: Order, action: Action) -> tuple[Span, int]:
        """Charge the budget for an action that brings pages in.

        Returns the pages that it may bring in, and how many of them were not asked for yet.

        What has to make room is given back. Does not fault, and waits for no device.
        """
        span = action.span
        # Readahead and readers may have brought pages in since: what nobody waits for is no measure of the device.
        seen = self.kernel.residency(order.sample.content.region, span)
        admission = self.budget.admit(order.account, span, seen, self.clock.now_ns())
        self.pressure.asked(admission.asked)
        for claim, displaced in admission.displaced:
            claim.give_back(displaced)
        return admission.span, admission.asked

    def execute(self, order: Order, action: Action) -> str:
        """Do `action` and return what came short of it, or nothing. Blocks and faults."""
        try:
            return self._executor.execute(order.holder, order.sample.content, action)
        except SamplecacheError as error:
            return str(error)

    def measure(self, order: Order, action: Action, pages: int) -> Callable[[], None]:
        """Begin to measure `action`, which is to bring in `pages` pages; return what is to be called once it is done.

        Both on the thread that does it.
        """
        if not pages:
            return lambda: None
        length_bytes = pages * self.kernel.page_bytes
        if not waits_for_pages(action):
            return lambda: self.flights.depart(order.sample.content.region, action.span.stop - 1, length_bytes)
        began_ns, before = self.clock.now_ns(), self.kernel.thread_faults()
        self.meter.begin(began_ns)

        def done() -> None:
            now_ns = self.clock.now_ns()
            self.meter.end(length_bytes, began_ns, now_ns, others_wait=self.flights.others_wait)
            self.meter.record_faults((self.kernel.thread_faults() - before).major, now_ns - began_ns)

        return done

    def release(self, holder: str, region: Region) -> None:
        """Give up all locks of `holder` on a region. Blocks while a lock is being taken."""
        self._ledger.release(holder, region)
