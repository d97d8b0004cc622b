"""What playing under ``window`` comes to on simulated machines, to the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator

import pytest

import samplecache_willneed
import samplecache_window
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.settings import CacheSettings
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.lab.virtual import Outcome, VirtualCache
from samplecache.lab.workload import Cue, VirtualSample, Workload
from samplecache.simulation.device import device_profile
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.registry import StrategyRegistry

PAGE_BYTES = 4096
STEREO = AudioFormat(48_000, 2, Encoding.S16)
FINE = AudioFormat(96_000, 8, Encoding.S16)


def registry() -> StrategyRegistry:
    registry = StrategyRegistry()
    for plugin in (samplecache_willneed, samplecache_window):
        registry.register(plugin, plugin.__name__)
    assert not registry.problems
    return registry


def play(
    workload: Workload,
    device: str = "nvme-p3700",
    *,
    memory_bytes: int = 64 << 20,
    bytes_per_s: int | None = None,
    **settings: int,
) -> tuple[Outcome, VirtualCache]:
    profile = device_profile(device)
    if bytes_per_s is not None:
        profile = profile.throttled(bytes_per_s=bytes_per_s)
    options = SimulationOptions.for_device("nvme-p3700", memory_bytes=memory_bytes, swap_bytes=512 << 20)
    virtual = VirtualCache(
        dataclasses.replace(options, device=profile), workload, registry(), CacheSettings(**settings)
    )
    budget = virtual.cache.prefetch_budget

    def watch() -> Generator[int, None, None]:
        for _ in range(3000):
            assert budget.used_bytes <= budget.budget_bytes
            yield virtual.clock.now_ns() + 10 * NS_PER_MS

    virtual.scheduler.start(watch())
    return virtual.run(), virtual


def streams(
    number: int, seconds: int, strategy: str, hint_ahead_ns: int | None, audio: AudioFormat = STEREO
) -> Workload:
    samples = tuple(VirtualSample(f"s{each}", audio, seconds * audio.rate_hz) for each in range(number))
    first_ns = hint_ahead_ns or 0
    cues = tuple(
        Cue(sample.sample_id, first_ns + 5 * each * NS_PER_MS, strategy, hint_ahead_ns, 100 * NS_PER_MS, 20 * NS_PER_MS)
        for each, sample in enumerate(samples)
    )
    return Workload(samples, cues)


def swap_ins_a_page(outcome: Outcome, workload: Workload) -> float:
    pages = sum(-(-sample.format.frames_to_bytes(sample.frames) // PAGE_BYTES) for sample in workload.samples)
    return outcome.swap.pswpin / pages


@pytest.mark.parametrize("device", ["nvme-p3700", "hdd-laptop-2008", "zram-lz4"])
def test_with_ample_memory_the_reading_thread_takes_no_fault_once_it_plays(device: str) -> None:
    workload = streams(1, 10, "window", 2 * NS_PER_S)
    outcome, _ = play(workload, device)
    willneed, _ = play(streams(1, 10, "willneed", 2 * NS_PER_S), device)
    assert (outcome.late_blocks, outcome.reader_faults.major) == (0, 0)
    # The first page is read at the very time at which the session opens.
    assert outcome.reader_faults.minor <= 1
    assert willneed.reader_faults.minor == 469
    assert swap_ins_a_page(outcome, workload) == 1
    prefetched = outcome.totals["window"].prefetched
    assert (prefetched.asked, prefetched.useful, prefetched.late, prefetched.wasted) == (469, 469, 0, 0)


def test_a_sample_of_twice_the_memory_is_read_in_once() -> None:
    workload = streams(1, 16, "window", None, FINE)
    outcome, virtual = play(workload, memory_bytes=12 << 20)
    willneed, _ = play(streams(1, 16, "willneed", None, FINE), memory_bytes=12 << 20)
    assert outcome.late_blocks == 0
    assert 5 * outcome.reader_faults.major <= willneed.reader_faults.major
    assert outcome.reader_faults.major <= 1
    assert swap_ins_a_page(outcome, workload) <= 1.2
    assert swap_ins_a_page(willneed, workload) > 1.9
    assert virtual.cache.prefetch_budget.peak_bytes <= 3 << 20


@pytest.mark.parametrize("number", [1, 8])
def test_slow_swap_keeps_up_if_it_hears_two_seconds_ahead(number: int) -> None:
    outcome, _ = play(streams(number, 10, "window", 2 * NS_PER_S), bytes_per_s=2_000_000)
    assert (outcome.late_blocks, outcome.reader_faults.major) == (0, 0)


def test_many_sessions_never_exceed_their_budget() -> None:
    workload = streams(30, 3, "window", None)
    outcome, virtual = play(workload, memory_bytes=256 << 20, prefetch_budget_bytes=4 << 20)
    budget = virtual.cache.prefetch_budget
    assert outcome.late_blocks == 0
    assert 3 << 20 < budget.peak_bytes <= 4 << 20
    assert budget.used_bytes == 0
    prefetched = outcome.totals["window"].prefetched
    assert (prefetched.outstanding, prefetched.late) == (0, 0)
    # Shares shrink as sessions come, and what the first ones have too much makes room. It counts as wasted, although
    # here, where memory is ample, nothing has to come in twice.
    assert prefetched.wasted > 0
    assert swap_ins_a_page(outcome, workload) == pytest.approx(1)
