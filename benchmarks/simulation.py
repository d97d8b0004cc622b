"""The whole cache on a simulated machine in virtual time."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.measuring import Figure
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.settings import CacheSettings
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.lab.loads import Load
from samplecache.lab.virtual import VirtualCache
from samplecache.lab.workload import Cue, VirtualSample, Workload, beat
from samplecache.simulation.options import SimulationOptions

REPETITIONS: Final = 3
SESSIONS: Final = 64
SESSION_NS: Final = 300 * NS_PER_S

_SECONDS: Final = "virtual seconds per second"
_STEREO: Final = AudioFormat(48_000, 2, Encoding.S16)


def measure() -> list[Figure]:
    """Measure everything: a minute or two, most of it for 64 sessions of five minutes."""
    return [*_driver(), *_crowd()]


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
    """Play 64 sessions of five minutes at once, with memory for a quarter of them and a thread that wants it too."""
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
    virtual = VirtualCache(options, workload, settings=settings)
    began_ns = time.perf_counter_ns()
    outcome = virtual.run()  # once: it takes too long for more
    took_s = (time.perf_counter_ns() - began_ns) / NS_PER_S
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
        Figure(title, "seconds", (took_s,)),
        *(Figure(title, unit, (amount / took_s,)) for unit, amount in amounts.items()),
    ]
