"""Operations on simulated pages, each path by itself; then a mixed load, what size does to the cost, and memory.

A *page operation* is one page that goes through one operation of the machine: written, touched, advised, populated,
locked, evicted, or looked at. What the operation does besides, such as the reclaim that makes room for the page, or the
two rounds that evict it, counts for nothing.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, Final

from benchmarks.measuring import Figure, rates
from samplecache.clock import NS_PER_MS, NS_PER_S, VirtualClock
from samplecache.simulation.chance import shuffled
from samplecache.simulation.device import device_profile
from samplecache.simulation.machine import Machine
from samplecache.simulation.options import SimulationOptions, SlotOrder

PAGES: Final = 1 << 14
"""64 MiB, as in the published traces of whole regions."""
SMALL_PAGES: Final = 1 << 12
LARGE_PAGES: Final = 1 << 16
REPETITIONS: Final = 5
GROWTH_REPETITIONS: Final = 2
"""Of large regions, which take long."""
SEED: Final = 1

_THREAD: Final = 0
_LOADER: Final = 1
_AGES_NS: Final = 1000 * NS_PER_S
_UNIT: Final = "pages per second"
_BLOCK_PAGES: Final = 4
"""20 ms of 48 kHz stereo."""
_AHEAD_PAGES: Final = 64


class _Bench:
    """A machine with an SSD and room for twice the region, unless `changes` say otherwise; a region and a thread."""

    def __init__(self, pages: int = PAGES, **changes: Any) -> None:
        self.clock = VirtualClock()
        options = SimulationOptions(
            device=device_profile("ssd-sata"), memory_pages=2 * pages, swap_slots=4 * pages, lock_limit_bytes=None
        )
        self.machine = Machine(replace(options, **changes), self.clock.now_ns)
        self.region = self.machine.map(pages)
        self.arguments = (_THREAD, self.region, 0, pages)

    def run(self, steps: Generator[int, None, Any]) -> None:
        for wake_ns in steps:
            self.clock.sleep_until(wake_ns)

    def write(self) -> None:
        self.run(self.machine.write(*self.arguments))

    def touch(self) -> None:
        self.run(self.machine.touch(*self.arguments))

    def willneed(self) -> None:
        self.run(self.machine.willneed(*self.arguments))

    def populate(self) -> None:
        self.run(self.machine.populate(*self.arguments))

    def lock(self) -> None:
        self.run(self.machine.lock(*self.arguments))

    def evict(self) -> None:
        self.run(self.machine.evict(*self.arguments, _AGES_NS))

    def look(self) -> None:
        self.machine.page_flags(self.region, 0, self.region.pages)

    def touch_scattered(self) -> None:
        machine, region = self.machine, self.region
        for page in shuffled(range(region.pages), SEED):
            self.run(machine.touch(_THREAD, region, page, page + 1))

    def wait(self) -> None:
        self.clock.sleep_until(self.clock.now_ns() + _AGES_NS)

    def mix(self, *, scattered: bool) -> None:
        """Play the region block by block, WILLNEED ahead, while a loader writes as much to another region."""
        machine, pages, chance = self.machine, self.region.pages, Random(SEED)  # noqa: S311 -- not a secret's
        other = machine.map(pages)
        for start in range(0, pages, _BLOCK_PAGES):
            if start % _AHEAD_PAGES == 0:
                ahead = min(start + _AHEAD_PAGES, pages), min(start + 2 * _AHEAD_PAGES, pages)
                self.run(machine.willneed(_THREAD, self.region, *ahead))
            at = int(chance.random() * (pages - _BLOCK_PAGES)) if scattered else start
            self.run(machine.write(_LOADER, other, at, at + _BLOCK_PAGES))
            self.run(machine.touch(_THREAD, self.region, start, start + _BLOCK_PAGES))
            self.clock.sleep_until(self.clock.now_ns() + NS_PER_MS)


def _bench(*steps: Callable[[_Bench], None], **changes: Any) -> Callable[[int], _Bench]:
    """Return what makes a machine for so many pages on which `steps` have been done."""

    def prepare(pages: int) -> _Bench:
        shares = {name: pages // changes[name] for name in ("memory_pages",) if name in changes}
        bench = _Bench(pages, **{**changes, **shares})
        for step in steps:
            step(bench)
        return bench

    return prepare


_COLD: Final = (_Bench.write, _Bench.evict)
_DISK: Final = device_profile("hdd-7200")
_ZRAM: Final = device_profile("zram-lz4")
_SHUFFLED: Final = SlotOrder.SHUFFLED

_PATHS: Final[tuple[tuple[str, Callable[[int], _Bench], Callable[[_Bench], None]], ...]] = (
    ("write, first", _bench(), _Bench.write),
    ("write, mapped", _bench(_Bench.write), _Bench.write),
    ("write, swapped, readahead of 8", _bench(*_COLD), _Bench.write),
    ("touch, never written", _bench(), _Bench.touch),
    ("touch, mapped", _bench(_Bench.write), _Bench.touch),
    ("touch, in the swap cache", _bench(*_COLD, _Bench.willneed, _Bench.wait), _Bench.touch),
    ("touch, swapped, readahead of 8", _bench(*_COLD), _Bench.touch),
    ("touch, swapped, readahead of 8 slots", _bench(*_COLD, device=_DISK), _Bench.touch),
    ("touch, swapped, readahead of 32", _bench(*_COLD, page_cluster=5), _Bench.touch),
    ("touch, swapped, no readahead", _bench(*_COLD, page_cluster=0), _Bench.touch),
    ("touch, swapped, one by one, scattered", _bench(*_COLD), _Bench.touch_scattered),
    ("touch, swapped, zram", _bench(*_COLD, device=_ZRAM), _Bench.touch),
    ("touch, swapped, memory for half, clean", _bench(*_COLD, memory_pages=2), _Bench.touch),
    ("write, swapped, memory for half, dirty", _bench(*_COLD, memory_pages=2), _Bench.write),
    ("willneed, swapped", _bench(*_COLD), _Bench.willneed),
    ("willneed, swapped, shuffled slots", _bench(*_COLD, slot_order=_SHUFFLED), _Bench.willneed),
    ("populate, swapped", _bench(*_COLD), _Bench.populate),
    ("lock, swapped", _bench(*_COLD), _Bench.lock),
    ("lock, mapped", _bench(_Bench.write), _Bench.lock),
    ("evict, dirty", _bench(_Bench.write), _Bench.evict),
    ("evict, dirty, shuffled slots", _bench(_Bench.write, slot_order=_SHUFFLED), _Bench.evict),
    ("evict, clean", _bench(*_COLD, _Bench.touch), _Bench.evict),
    ("residency, being read", _bench(*_COLD, _Bench.willneed), _Bench.look),
)
_HALF: Final = _bench(*_COLD, memory_pages=2)
_MIXES: Final = (
    (
        "played with willneed ahead, memory for half, a load writes in order",
        _HALF,
        partial(_Bench.mix, scattered=False),
    ),
    (
        "played with willneed ahead, memory for half, a load writes at random",
        _HALF,
        partial(_Bench.mix, scattered=True),
    ),
)


def measure() -> list[Figure]:
    """Measure everything: about a minute."""
    paths = [rates(name, _UNIT, PAGES, REPETITIONS, partial(prepare, PAGES), act) for name, prepare, act in _PATHS]
    return [*paths, *_mixed(), *_growth(), _page_bytes()]


def _mixed() -> list[Figure]:
    operations = 3 * PAGES - _AHEAD_PAGES  # pages played, advised but for the first ones, and written by the load
    return [rates(name, _UNIT, operations, REPETITIONS, partial(prepare, PAGES), act) for name, prepare, act in _MIXES]


def _growth() -> list[Figure]:
    """Return what a page costs in a large region, as a multiple of what it does in a small one: 1 is linear."""
    figures = []
    for name, prepare, act in (*_PATHS, *_MIXES):
        small, large = (
            rates(name, _UNIT, pages, GROWTH_REPETITIONS, partial(prepare, pages), act).median
            for pages in (SMALL_PAGES, LARGE_PAGES)
        )
        figures.append(Figure(name, f"cost of a page, {LARGE_PAGES} : {SMALL_PAGES} pages", (small / large,)))
    return figures


def _page_bytes() -> Figure:
    """Return what a page costs that is in memory and has a slot, the slot included."""
    tracemalloc.start()
    bench = _bench(*_COLD, _Bench.touch)(PAGES)
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bench.machine.used_pages == PAGES
    return Figure("memory of the model, with 4 slots a page", "bytes per page", (size_bytes / PAGES,))
