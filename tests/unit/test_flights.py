"""Batches on their way are looked at until they arrive, and a device is measured by them, in virtual time."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable

import pytest

from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.device.flights import LOST_NS, Flights
from samplecache.clock import NS_PER_S, VirtualClock
from samplecache.kernel.port import Advice, Region, Span
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.device import device_profile
from samplecache.simulation.options import SimulationOptions
from samplecache.simulation.throttle import ReadLimit

PAGE = 4096
CHUNK_PAGES = 64


class Bench:
    """A cold region on a device, and looks that are due at their times."""

    def __init__(self, limit: ReadLimit | None = None, pages: int = 4096) -> None:
        device = dataclasses.replace(device_profile("ssd-sata"), read_limit=limit)
        self.clock = VirtualClock()
        self.kernel = SimulatedKernel(SimulationOptions(device=device, memory_pages=8192, swap_slots=8192), self.clock)
        self.meter = PageInMeter()
        self.flights = Flights(self.kernel, self.clock, self.call_at, self.meter)
        self.agenda: list[tuple[int, int, Callable[[], None]]] = []
        self.looks = 0
        self.region: Region = self.kernel.map(pages * PAGE)
        self.kernel.write(self.region, 0, b"a" * (pages * PAGE))
        self.kernel.evict(self.region, self.region.span, 60 * NS_PER_S)

    def call_at(self, work: Callable[[], None], time_ns: int) -> None:
        self.looks += 1
        heapq.heappush(self.agenda, (time_ns, self.looks, work))

    def ask(self, span: Span) -> None:
        for chunk in span.chunks(CHUNK_PAGES):
            self.kernel.advise(self.region, chunk, Advice.WILLNEED)
            self.flights.depart(self.region, chunk.stop - 1, len(chunk) * PAGE)

    def run(self) -> None:
        """Look until nothing is awaited any more."""
        while self.agenda:
            time_ns, _, work = heapq.heappop(self.agenda)
            self.clock.sleep_until(max(time_ns, self.clock.now_ns()))
            work()


@pytest.mark.parametrize("bytes_per_s", [2_000_000, 20_000_000])
def test_a_limit_on_reads_is_measured_as_what_it_is(bytes_per_s: int) -> None:
    bench = Bench(ReadLimit(bytes_per_s=bytes_per_s))
    bench.ask(Span(0, 4096))
    bench.run()
    rate = bench.meter.figures.bytes_per_s
    assert rate is not None
    assert 0.9 * bytes_per_s <= rate <= 1.1 * bytes_per_s


def test_looking_costs_little_however_slow_the_device() -> None:
    bench = Bench(ReadLimit(bytes_per_s=1_000_000))
    bench.ask(Span(0, 2048))
    bench.run()
    assert bench.clock.now_ns() > 8 * NS_PER_S
    assert bench.looks < 250


def test_a_page_that_reclaim_took_back_is_not_waited_for_long() -> None:
    bench = Bench()
    bench.kernel.advise(bench.region, Span(0, 64), Advice.WILLNEED)
    bench.clock.sleep_until(bench.clock.now_ns() + NS_PER_S)
    bench.kernel.evict(bench.region, Span(0, 64), NS_PER_S)
    began_ns = bench.clock.now_ns()
    bench.flights.depart(bench.region, 63, 64 * PAGE)
    bench.run()
    assert LOST_NS <= bench.clock.now_ns() - began_ns < 2 * LOST_NS
    assert bench.meter.figures.bytes_per_s is None


def test_memory_that_is_given_back_is_not_asked_about() -> None:
    bench = Bench(ReadLimit(bytes_per_s=1_000_000))
    bench.ask(Span(0, 128))
    bench.kernel.unmap(bench.region)
    bench.run()
    assert bench.meter.figures.bytes_per_s is None
