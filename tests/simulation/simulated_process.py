"""One thread of a simulated process on virtual time, and what an action costs it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, fields, replace
from typing import Any

from samplecache.clock import NS_PER_S, VirtualClock
from samplecache.simulation.counters import MachineCounters
from samplecache.simulation.device import device_profile
from samplecache.simulation.machine import Machine
from samplecache.simulation.options import SimulationOptions
from samplecache.simulation.pages import SimulatedRegion

EVICT_NS = 1000 * NS_PER_S
THREAD = 1


@dataclass(frozen=True)
class Cost:
    """What an action cost: the thread's faults, the machine's events, and time."""

    major: int
    minor: int
    pswpin: int
    pswpout: int
    swap_ra: int
    swap_ra_hit: int
    pgmajfault: int
    swpin_zero: int
    time_ns: int

    @property
    def trace(self) -> tuple[int, int, int, int]:
        """The columns of the published traces: major, minor, pswpin, swap_ra."""
        return self.major, self.minor, self.pswpin, self.swap_ra


class Process:
    """A thread of a machine with a fresh SSD swap, unless `changes` to the options say otherwise."""

    def __init__(self, **changes: Any) -> None:
        base = SimulationOptions(device=device_profile("ssd-sata"), memory_pages=1 << 16, swap_slots=1 << 16)
        self.options = replace(base, **changes)
        self.clock = VirtualClock()
        self.machine = Machine(self.options, self.clock.now_ns)

    def run(self, steps: Generator[int, None, Any]) -> Any:
        """Run an operation to its end and return what it returns."""
        while True:
            try:
                self.clock.sleep_until(next(steps))
            except StopIteration as done:
                return done.value

    def cost(self, action: Callable[[], object]) -> Cost:
        """Return what `action` costs."""
        minor, major = self.machine.thread_faults(THREAD)
        before, start_ns = replace(self.machine.counters), self.clock.now_ns()
        action()
        now = self.machine.thread_faults(THREAD)
        events = {
            each.name: getattr(self.machine.counters, each.name) - getattr(before, each.name)
            for each in fields(MachineCounters)
            if each.name != "swpout_zero"
        }
        return Cost(minor=now[0] - minor, major=now[1] - major, time_ns=self.clock.now_ns() - start_ns, **events)

    def mapped(self, pages: int) -> SimulatedRegion:
        """Map a region and write data to every page."""
        region = self.machine.map(pages)
        self.write(region, 0, pages)
        return region

    def cold(self, pages: int) -> SimulatedRegion:
        """Map a region, write data to every page and evict it."""
        region = self.mapped(pages)
        self.evict(region)
        return region

    def write(self, region: SimulatedRegion, start: int, stop: int, zeros: bytes | None = None) -> None:
        self.run(self.machine.write(THREAD, region, start, stop, zeros))

    def touch(self, region: SimulatedRegion, start: int, stop: int) -> None:
        self.run(self.machine.touch(THREAD, region, start, stop))

    def touch_each(self, region: SimulatedRegion, pages: range | list[int]) -> None:
        for page in pages:
            self.touch(region, page, page + 1)

    def evict(self, region: SimulatedRegion) -> None:
        left = self.run(self.machine.evict(THREAD, region, 0, region.pages, EVICT_NS))
        assert left == 0

    def squeeze(self) -> None:
        """Evict everything by taking memory away and giving it back."""
        pages = self.machine.memory_pages
        for limit in (0, pages):
            self.run(self.machine.resize_memory(THREAD, limit))

    def willneed(self, region: SimulatedRegion, start: int, stop: int) -> None:
        self.run(self.machine.willneed(THREAD, region, start, stop))

    def wait(self) -> None:
        """Let all I/O end."""
        self.clock.sleep_until(self.clock.now_ns() + 1000 * NS_PER_S)

    def states(self, region: SimulatedRegion) -> list[int]:
        """Return the state of each page, without its flags."""
        return [flags & 3 for flags in self.machine.page_flags(region, 0, region.pages)]
