"""Workers in virtual time: nearest deadline first, one thing at a time, and waiting for what was begun."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from samplecache.clock import NS_PER_S, VirtualClock
from samplecache.errors import LockLimitError
from samplecache.kernel.port import Span, Tier
from samplecache.lab.service_costs import ServiceCosts
from samplecache.lab.virtual_threads import VirtualKernel, VirtualWorkers
from samplecache.simulation.options import SimulationOptions
from samplecache.simulation.scheduler import Scheduler

PAGES = 8


class House:
    """Workers, and a region that is cold."""

    def __init__(self, workers: int, device: str = "hdd-7200", cost_ns: int = 0) -> None:
        self.clock = VirtualClock()
        self.scheduler = Scheduler(self.clock)
        options = SimulationOptions.for_device(device, memory_bytes=1 << 20, swap_bytes=1 << 20)
        self.kernel = VirtualKernel(options, self.clock, ServiceCosts(prefetch_ns=(cost_ns,)))
        threads = list(range(1, workers + 1))
        self.workers = VirtualWorkers(self.scheduler, self.kernel, threads, priority=0)
        self.region = self.kernel.map(PAGES * options.page_bytes)
        self.scheduler.start(self._prepare())
        self.scheduler.run()
        self.done: list[tuple[str, int]] = []

    def _prepare(self) -> Generator[int, None, None]:
        model = self.kernel.model(self.region)
        yield from self.kernel.machine.write(0, model, 0, PAGES)
        yield from self.kernel.machine.evict(0, model, 0, PAGES, NS_PER_S)

    def touch(self, name: str, *pages: int) -> Iterator[None]:
        for page in pages:
            self.kernel.touch(self.region, Span(page, page + 1))
            yield
        self.done.append((name, self.clock.now_ns()))

    def note(self, name: str) -> None:
        self.done.append((name, self.clock.now_ns()))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.done]


def test_nearest_deadline_goes_first_and_ties_in_order_of_arrival() -> None:
    house = House(workers=1)
    for name, deadline_ns in (("c", 30), ("a", 10), ("d", 30), ("b", 20)):
        house.workers.submit(lambda name=name: house.note(name), deadline_ns)  # type: ignore[misc]
    house.scheduler.run()
    assert house.names == ["a", "b", "c", "d"]


def test_each_piece_of_work_takes_a_worker_its_cost() -> None:
    house = House(workers=2, cost_ns=7)
    began_ns = house.clock.now_ns()
    for name in "abc":
        house.workers.submit(lambda name=name: house.note(name), 0)  # type: ignore[misc]
    house.scheduler.run()
    assert house.done == [("a", began_ns + 7), ("b", began_ns + 7), ("c", began_ns + 14)]


def test_work_at_a_time_is_done_at_that_time() -> None:
    house = House(workers=2)
    start_ns = house.clock.now_ns()
    house.workers.call_at(lambda: house.note("late"), start_ns + 500)
    house.workers.call_at(lambda: house.note("early"), start_ns + 200)
    house.scheduler.run()
    assert house.done == [("early", start_ns + 200), ("late", start_ns + 500)]


def test_a_worker_waits_for_what_it_began() -> None:
    house = House(workers=1)
    start_ns = house.clock.now_ns()
    house.workers.submit(lambda: house.touch("fault", 0), 1)
    house.workers.submit(lambda: house.note("next"), 2)
    house.scheduler.run()
    (_, fault_ns), (_, next_ns) = house.done
    assert house.names == ["fault", "next"]
    assert fault_ns > start_ns + house.kernel.machine.options.device.positioning_ns
    assert next_ns == fault_ns


def test_new_work_does_not_wake_a_worker_that_is_busy() -> None:
    house = House(workers=1, device="zram-zstd")
    start_ns = house.clock.now_ns()
    options = house.kernel.machine.options
    house.workers.call_at(lambda: house.touch("fault", 0), start_ns + 1000)

    def client() -> Generator[int, None, None]:
        yield start_ns + 2000
        house.workers.submit(lambda: house.note("next"), 0)

    house.scheduler.start(client())
    house.scheduler.run()
    ready_ns = start_ns + 1000 + options.fault_ns + (options.device.page_ns or 0)
    assert house.done == [("fault", ready_ns), ("next", ready_ns)]


def test_another_worker_goes_on_meanwhile() -> None:
    house = House(workers=2)
    start_ns = house.clock.now_ns()
    house.workers.submit(lambda: house.touch("fault", 0), 1)
    house.workers.submit(lambda: house.note("next"), 2)
    house.scheduler.run()
    assert house.done[0] == ("next", start_ns)
    assert house.names == ["next", "fault"]


def test_faults_are_each_workers_own() -> None:
    house = House(workers=2)
    house.workers.submit(lambda: house.touch("three", 0, 1, 2), 1)
    house.workers.submit(lambda: house.touch("four", 4, 5, 6, 7), 2)
    house.scheduler.run()
    assert sorted(house.names) == ["four", "three"]
    assert [sum(house.kernel.machine.thread_faults(thread)) for thread in (1, 2)] == [3, 4]


def test_closed_workers_forget_what_has_not_begun() -> None:
    house = House(workers=1)
    house.workers.submit(lambda: house.note("never"), 1)
    house.workers.call_at(lambda: house.note("never"), NS_PER_S * 100)
    house.workers.close()
    house.scheduler.run()
    assert house.done == []


def test_a_refused_lock_is_refused_at_once() -> None:
    options = SimulationOptions.for_device("hdd-7200", memory_bytes=16 << 20, swap_bytes=1 << 20)
    kernel = VirtualKernel(options, VirtualClock())
    region = kernel.map(8 << 20)  # all that RLIMIT_MEMLOCK allows
    more = kernel.map(1)
    kernel.lock(region, region.span)
    with pytest.raises(LockLimitError):
        kernel.lock(more, more.span)
    assert kernel.peak_locked_pages == region.pages


def test_an_eviction_is_over_when_it_is_finished() -> None:
    house = House(workers=1)
    kernel, region = house.kernel, house.region

    def work() -> Iterator[None]:
        kernel.populate(region, region.span)
        yield
        assert kernel.evict(region, region.span, NS_PER_S) == 0  # clean pages: dropped at once
        kernel.write(region, 0, b"\1" * (PAGES * kernel.page_bytes))
        yield
        assert kernel.evict(region, region.span, NS_PER_S) == PAGES  # dirty ones are being written
        yield
        house.note("evicted")

    house.workers.submit(work, 0)
    house.scheduler.run()
    assert house.names == ["evicted"]
    assert kernel.residency(region, region.span).count(Tier.SWAPPED) == PAGES
