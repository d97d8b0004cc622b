"""Triggers in virtual time: five hundred cold one-shots, larger than memory, struck without announcement."""

from __future__ import annotations

import random

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache import CacheSettings
from samplecache.clock import NS_PER_S
from samplecache.kernel.port import FaultCounts
from samplecache.lab.service_costs import ServiceCosts
from samplecache.lab.virtual import Outcome, VirtualCache
from samplecache.lab.workload import Cue, VirtualSample, Workload
from samplecache.simulation.options import SimulationOptions

ONE_SHOTS = 500
MEMORY_BYTES = 32 << 20
LOCK_BYTES = 8 << 20
SECONDS = 30
FORMAT = AudioFormat(44_100, 2, Encoding.S16)
COSTS = ServiceCosts(open_ns=(200_000,), handover_ns=(100_000,), block_ns=(100_000,))


def one_shots(*tags: str) -> Workload:
    """64 hits a minute, any of them, none announced."""
    hand = random.Random(4)
    samples = [
        VirtualSample(f"hit-{number:03}", FORMAT, int(44_100 * (0.3 + 0.6 * hand.random())), tags=tags)
        for number in range(ONE_SHOTS)
    ]
    assert sum(FORMAT.frames_to_bytes(sample.frames) for sample in samples) > 1.5 * MEMORY_BYTES
    times_ns = sorted(int(SECONDS * NS_PER_S * hand.random()) for _ in range(64 * SECONDS // 60))
    cues = [Cue(hand.choice(samples).sample_id, at_ns, "willneed", hint_ahead_ns=None) for at_ns in times_ns]
    return Workload(tuple(samples), tuple(cues))


def played(workload: Workload) -> Outcome:
    options = SimulationOptions.for_device("hdd-laptop-2008", memory_bytes=MEMORY_BYTES, swap_bytes=256 << 20)
    settings = CacheSettings(lock_budget_bytes=LOCK_BYTES, trigger_lock_bytes=LOCK_BYTES)
    virtual = VirtualCache(options, workload, settings=settings, costs=COSTS)
    outcome = virtual.run()
    virtual.close()
    return outcome


def slowest_first_block_ns(outcome: Outcome) -> int:
    """The 99th percentile of so few is the slowest."""
    return max(performance.stats.first_block_ns for performance in outcome.performances)


RESIDENT_NS = COSTS.open_ns[0] + COSTS.block_ns[0]
"""What a block costs that finds its pages mapped."""


def test_a_trigger_starts_as_if_it_were_resident() -> None:
    outcome = played(one_shots("trigger"))
    assert slowest_first_block_ns(outcome) == RESIDENT_NS
    assert outcome.late_blocks == 0
    assert outcome.reader_faults.major < 10
    assert 0 < outcome.peak_locked_bytes <= LOCK_BYTES


def test_without_a_trigger_it_waits_for_the_disk() -> None:
    outcome = played(one_shots("drums"))
    assert slowest_first_block_ns(outcome) > 20 * RESIDENT_NS
    assert outcome.peak_locked_bytes == 0
    assert outcome.reader_faults != FaultCounts()


def test_a_run_ends_without_cues() -> None:
    assert played(Workload(one_shots("trigger").samples[:3], ())).performances == ()
