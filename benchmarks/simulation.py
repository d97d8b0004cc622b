"""The simulated machine's page operations, and the whole cache on it in virtual time."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Generator
from typing import Any, Final

from benchmarks.measuring import Figure, rates
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.cache import CacheSettings
from samplecache.clock import NS_PER_MS, NS_PER_S, VirtualClock
from samplecache.lab.loads import Load
from samplecache.lab.virtual import VirtualCache
from samplecache.lab.workload import Cue, VirtualSample, Workload, beat
from samplecache.simulation.device import device_profile
from samplecache.simulation.machine import Machine
from samplecache.simulation.options import SimulationOptions

PAGES: Final = 1 << 14
"""64 MiB, as in the published traces of whole regions."""
REPETITIONS: Final = 7
CROWDS: Final = 3
"""How often the crowd plays: each takes half a minute."""
SESSIONS: Final = 64
SESSION_NS: Final = 600 * NS_PER_S

_THREAD: Final = 0
_SECONDS: Final = "virtual seconds per second"
_STEREO: Final = AudioFormat(48_000, 2, Encoding.S16)


class _Bench:
    """A machine, one region and one thread."""

    def __init__(self, *, cold: bool, page_cluster: int = 3) -> None:
        self.clock = VirtualClock()
        options = SimulationOptions(
            device=device_profile("ssd-sata"),
            memory_pages=2 * PAGES,
            swap_slots=4 * PAGES,
            page_cluster=page_cluster,
            lock_limit_bytes=None,
        )
        self.machine = Machine(options, self.clock.now_ns)
        self.region = self.machine.map(PAGES)
        self.arguments = (_THREAD, self.region, 0, PAGES)
        if cold:
            self.run(self.machine.write(*self.arguments))
            self.run(self.machine.evict(*self.arguments, 1000 * NS_PER_S))

    def run(self, steps: Generator[int, None, Any]) -> None:
        for wake_ns in steps:
            self.clock.sleep_until(wake_ns)

    def touch(self) -> None:
        self.run(self.machine.touch(*self.arguments))

    def willneed(self) -> None:
        self.run(self.machine.willneed(*self.arguments))


def measure() -> list[Figure]:
    """Measure everything: under five minutes."""
    return [*_page_operations(), _page_bytes(), *_driver(), *_crowd()]


def _page_operations() -> list[Figure]:
    def fresh() -> _Bench:
        return _Bench(cold=False)

    def cold() -> _Bench:
        return _Bench(cold=True)

    def resident() -> _Bench:
        bench = _Bench(cold=True)
        bench.touch()
        return bench

    def cached() -> _Bench:
        bench = _Bench(cold=True)
        bench.willneed()
        bench.clock.sleep_until(bench.clock.now_ns() + 1000 * NS_PER_S)
        return bench

    def written() -> _Bench:
        bench = _Bench(cold=False)
        bench.run(bench.machine.write(*bench.arguments))
        return bench

    operations: list[tuple[str, Callable[[], _Bench], Callable[[_Bench], object]]] = [
        ("write, first", fresh, lambda bench: bench.run(bench.machine.write(*bench.arguments))),
        ("touch, mapped", resident, _Bench.touch),
        ("touch, in the swap cache", cached, _Bench.touch),
        ("touch, swapped, readahead of 8", cold, _Bench.touch),
        ("touch, swapped, no readahead", lambda: _Bench(cold=True, page_cluster=0), _Bench.touch),
        ("willneed, swapped", cold, _Bench.willneed),
        ("populate, swapped", cold, lambda bench: bench.run(bench.machine.populate(*bench.arguments))),
        ("lock, swapped", cold, lambda bench: bench.run(bench.machine.lock(*bench.arguments))),
        ("evict, dirty", written, lambda bench: bench.run(bench.machine.evict(*bench.arguments, 1000 * NS_PER_S))),
        ("residency, swapped", cold, lambda bench: bench.machine.page_flags(bench.region, 0, PAGES)),
    ]
    return [rates(name, "pages per second", PAGES, REPETITIONS, prepare, act) for name, prepare, act in operations]


def _page_bytes() -> Figure:
    """Return what a page costs that is in memory and has a slot, the slot included."""
    tracemalloc.start()
    bench = _Bench(cold=True)
    bench.touch()
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return Figure("memory of the model, with 4 slots a page", "bytes per page", (size_bytes / PAGES,))


def _driver() -> list[Figure]:
    figures = []
    for strategy in ("none", "willneed", "touch"):
        options = SimulationOptions.for_device("hdd-laptop-2008", memory_bytes=64 << 20, swap_bytes=256 << 20)
        values = []
        for _ in range(REPETITIONS):
            virtual = VirtualCache(options, beat(strategy))
            began_ns = time.perf_counter_ns()
            elapsed_ns = virtual.run().elapsed_ns
            values.append(elapsed_ns / (time.perf_counter_ns() - began_ns))
            virtual.close()
        figures.append(Figure(f"the demo's beat, {strategy}", _SECONDS, tuple(values)))
    return figures


def _crowd() -> list[Figure]:
    """Play 64 sessions of ten minutes at once, with memory for a quarter of them and a thread that wants it too."""
    frames = _STEREO.rate_hz * SESSION_NS // NS_PER_S
    samples = tuple(VirtualSample(f"sample-{number:02}", _STEREO, frames) for number in range(SESSIONS))
    cues = tuple(
        Cue(sample.sample_id, number * 100 * NS_PER_MS, "none", None, 100 * NS_PER_MS, 20 * NS_PER_MS)
        for number, sample in enumerate(samples)
    )
    total_bytes = SESSIONS * _STEREO.frames_to_bytes(frames)
    load = Load(total_bytes // 8, 16 << 20, 0, SESSION_NS)
    options = SimulationOptions.for_device("nvme-p3700", memory_bytes=total_bytes // 4, swap_bytes=2 * total_bytes)
    workload, settings = Workload(samples, cues, (load,)), CacheSettings(budget_bytes=2 * total_bytes)
    took_s = []
    for _ in range(CROWDS):
        virtual = VirtualCache(options, workload, settings=settings)
        began_ns = time.perf_counter_ns()
        outcome = virtual.run()
        took_s.append((time.perf_counter_ns() - began_ns) / NS_PER_S)
        virtual.close()
    blocks = sum(performance.stats.blocks for performance in outcome.performances)
    assert blocks == SESSIONS * SESSION_NS // (20 * NS_PER_MS)
    title = f"{SESSIONS} sessions of {SESSION_NS // NS_PER_S} s under pressure, upload included"
    amounts = {
        _SECONDS: outcome.elapsed_ns / NS_PER_S,
        "blocks per second": blocks,
        "pages read in per second": outcome.swap.pswpin,
    }
    return [
        Figure(title, "seconds", tuple(took_s)),
        *(Figure(title, unit, tuple(amount / seconds for seconds in took_s)) for unit, amount in amounts.items()),
    ]
