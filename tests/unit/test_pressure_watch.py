"""Signs are looked at while anything is brought in ahead, and no longer."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable

import pytest
from cache_parts import make_cache, put_cold, until

from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.device.pressure_watch import IDLE_LOOKS, LOOK_NS, PressureWatch
from samplecache.clock import NS_PER_MS, NS_PER_S, VirtualClock
from samplecache.kernel.port import Span
from samplecache.kernel.signals import MemoryState, PressureCounts
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy import Advise, PrefetchStrategy, Pressure, View

OPTIONS = SimulationOptions.for_device("ssd-sata", memory_bytes=1 << 20, swap_bytes=1 << 20)


class Signalling(SimulatedKernel):
    """A kernel whose signs of scarce memory a test sets."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(OPTIONS, clock)
        self.counts = PressureCounts(0, 0, 0, 0)
        self.looks = 0

    def pressure(self) -> PressureCounts:
        self.looks += 1
        return self.counts

    def stall(self, duration_ns: int) -> None:
        some_ns = (self.counts.some_ns or 0) + duration_ns
        self.counts = dataclasses.replace(
            self.counts, some_ns=some_ns, limit_events=(self.counts.limit_events or 0) + 1
        )


class Bench:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.kernel = Signalling(self.clock)
        self.factors: list[float] = []
        self.agenda: list[tuple[int, int, Callable[[], None]]] = []
        self.watch = PressureWatch(self.kernel, self.clock, self.call_at, PageInMeter(), self.factors.append)

    def call_at(self, work: Callable[[], None], time_ns: int) -> None:
        heapq.heappush(self.agenda, (time_ns, len(self.agenda), work))

    def run(self, duration_ns: int, each: Callable[[], object] = lambda: None) -> None:
        """Look whenever a look is due within `duration_ns`, and do `each` before."""
        end_ns = self.clock.now_ns() + duration_ns
        while self.agenda and self.agenda[0][0] <= end_ns:
            time_ns, _, work = heapq.heappop(self.agenda)
            self.clock.sleep_until(max(time_ns, self.clock.now_ns()))
            each()
            work()
        self.clock.sleep_until(end_ns)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nothing_is_looked_at_while_nothing_is_brought_in(bench: Bench) -> None:
    looks = bench.kernel.looks
    bench.run(NS_PER_S)
    assert (bench.kernel.looks, bench.watch.level, bench.watch.factor) == (looks, Pressure.NONE, 1.0)


def test_what_was_counted_before_is_of_no_interest(bench: Bench) -> None:
    bench.kernel.stall(60 * NS_PER_S)
    bench.clock.sleep_until(60 * NS_PER_S)
    bench.watch.asked(1)
    bench.run(NS_PER_S)
    assert bench.watch.level is Pressure.NONE


def test_the_budget_follows_the_signs_down_and_up(bench: Bench) -> None:
    bench.watch.asked(1)
    bench.run(2 * NS_PER_S, lambda: bench.kernel.stall(50 * NS_PER_MS))
    assert (bench.watch.level, bench.factors) == (Pressure.SOME, [0.5, 0.25, 0.125])
    bench.run(20 * NS_PER_S)
    assert (bench.watch.level, bench.factors[-1]) == (Pressure.NONE, 1.0)
    assert bench.factors[3:] == sorted(bench.factors[3:])


def test_pages_that_reclaim_took_back_are_a_sign_of_their_own(bench: Bench) -> None:
    bench.watch.asked(1000)
    bench.run(LOOK_NS // 2)
    bench.watch.taken_back(300)
    bench.run(LOOK_NS)
    assert bench.watch.level is Pressure.FULL


def test_looking_ends_after_a_while_and_begins_again(bench: Bench) -> None:
    bench.watch.asked(1)
    bench.run(2 * IDLE_LOOKS * LOOK_NS)
    assert not bench.agenda
    looks = bench.kernel.looks
    bench.watch.asked(1)
    bench.run(NS_PER_S)
    assert bench.kernel.looks > looks
    bench.watch.asked(0)
    assert len(bench.agenda) == 1


def test_memory_is_known_to_a_second(bench: Bench) -> None:
    region = bench.kernel.map(40 * 4096)
    assert bench.watch.memory() == MemoryState(1 << 20, 1 << 20)
    bench.kernel.write(region, 0, b"a" * (40 * 4096))
    assert bench.watch.memory() == MemoryState(1 << 20, 1 << 20)
    bench.clock.sleep_until(bench.clock.now_ns() + NS_PER_S)
    assert bench.watch.memory() == MemoryState(1 << 20, (1 << 20) - 40 * 4096)


def test_under_pressure_what_is_due_later_is_put_off() -> None:
    """Budgeted strategies only: what others do is theirs."""
    seen: list[Pressure] = []

    class Ahead(PrefetchStrategy):
        name = "ahead"
        budgeted = True

        def prepare(self, view: View) -> list[Advise]:
            seen.append(view.pressure)
            near, far = Span(view.wanted.start, 8), Span(8, view.wanted.stop)
            return [Advise(near, view.now_ns), Advise(far, view.now_ns + 3600 * NS_PER_S)]

    with make_cache(Ahead, default_strategy="ahead") as cache:
        put_cold(cache, "pad", 64)
        cache.pressure._controller.level = Pressure.SOME
        prefetch = cache.prefetch("pad")
        until(lambda: prefetch.progress.pages_in == 8)
        assert not prefetch.progress.done
        assert list(cache.residency("pad").tiers).count(1) == 56
        assert seen == [Pressure.SOME]
        prefetch.cancel()
