"""Random workloads on random machines: what holds of sessions, locks and memory whatever happens."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator

import hypothesis.strategies as st
from hypothesis import given, settings

import samplecache_mlock
import samplecache_populate
import samplecache_touch
import samplecache_willneed
import samplecache_window
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.lab.loads import Load
from samplecache.lab.virtual import VirtualCache
from samplecache.lab.workload import Cue, VirtualSample, Workload
from samplecache.simulation.device import PROFILES
from samplecache.simulation.options import SimulationOptions, SlotOrder, WillneedMode
from samplecache.strategy.registry import StrategyRegistry

REGISTRY = StrategyRegistry()
for plugin in (samplecache_willneed, samplecache_touch, samplecache_mlock, samplecache_populate, samplecache_window):
    REGISTRY.register(plugin, plugin.__name__)

FORMATS = st.builds(
    AudioFormat, st.sampled_from([8_000, 44_100, 96_000]), st.sampled_from([1, 2, 6]), st.sampled_from(Encoding)
)


@st.composite
def machines(draw: st.DrawFn) -> SimulationOptions:
    memory_pages = draw(st.integers(300, 1500))
    return SimulationOptions(
        device=draw(st.sampled_from(list(PROFILES.values()))),
        memory_pages=memory_pages,
        swap_slots=1 << 16,
        page_cluster=draw(st.integers(0, 5)),
        willneed=draw(st.sampled_from(WillneedMode)),
        lock_limit_bytes=draw(st.integers(0, memory_pages // 2)) * 4096,
        slot_order=SlotOrder.SHUFFLED if draw(st.booleans()) else SlotOrder.CLUSTERS,
        seed=draw(st.integers(0, 3)),
    )


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    samples = tuple(
        VirtualSample(f"sample-{number}", draw(FORMATS), draw(st.integers(1, 120_000)))
        for number in range(draw(st.integers(1, 3)))
    )
    cues = tuple(
        Cue(
            sample_id=(sample := draw(st.sampled_from(samples))).sample_id,
            at_ns=draw(st.integers(0, 2 * NS_PER_S)),
            strategy=draw(st.sampled_from(["", *REGISTRY.names])),
            hint_ahead_ns=draw(st.none() | st.integers(0, 2 * NS_PER_S)),
            lead_ns=draw(st.none() | st.integers(0, 100 * NS_PER_MS)),
            block_ns=draw(st.integers(1, 100)) * NS_PER_MS,
            frames=draw(st.integers(0, sample.frames)),
        )
        for _ in range(draw(st.integers(1, 6)))
    )
    loads = draw(
        st.lists(st.builds(Load, st.integers(1, 4 << 20), st.just(8 << 20), st.just(0), st.just(NS_PER_S)), max_size=2)
    )
    return Workload(samples, cues, tuple(loads))


@settings(max_examples=60, deadline=None)
@given(machines(), workloads())
def test_every_session_is_accounted_for(options: SimulationOptions, workload: Workload) -> None:
    virtual = VirtualCache(options, workload, REGISTRY)
    machine, ledger, budget = virtual.kernel.machine, virtual.cache.ledger, virtual.cache.prefetch_budget

    def watch() -> Generator[int, None, None]:
        for _ in range(300):
            assert machine.used_pages <= options.memory_pages
            assert machine.locked_pages * options.page_bytes <= ledger.budget_bytes
            assert 0 <= budget.used_bytes <= budget.budget_bytes
            yield virtual.clock.now_ns() + 10 * NS_PER_MS

    virtual.scheduler.start(watch())
    outcome = virtual.run()

    lengths = {sample.sample_id: sample.frames for sample in workload.samples}
    for performance in outcome.performances:
        cue, stats = performance.cue, performance.stats
        frames = cue.frames or lengths[cue.sample_id]
        assert performance.heard == [range(frames)]
        assert stats.frames == frames
        assert stats.late_blocks == len(performance.underruns) == sum(stats.late_by_cause.values())
        assert stats.longest_stall_ns == max((late.late_ns for late in performance.underruns), default=0)
        assert stats.late_blocks == 0 or cue.lead_ns is not None
    assert sum(totals.late_blocks for totals in outcome.totals.values()) == outcome.late_blocks
    assert sum(totals.sessions for totals in outcome.totals.values()) == len(workload.cues)
    announced = [cue for cue in workload.cues if cue.hint_ahead_ns is not None]
    assert len(outcome.prefetches) == len(announced)
    assert all(0 <= prefetch.pages_brought_in <= prefetch.pages_needed for prefetch in outcome.prefetches)
    assert (virtual.cache.session_count, virtual.cache.prefetch_count) == (0, 0)
    assert (budget.used_bytes, budget.peak_bytes <= budget.budget_bytes) == (0, True)
    # Every page that was brought in ahead has come to something, for its strategy and for the session that had it.
    assert all(totals.prefetched.outstanding == 0 for totals in outcome.totals.values())
    assert all(performance.stats.prefetched.outstanding == 0 for performance in outcome.performances)
    useful = [performance.stats.prefetched.useful for performance in outcome.performances]
    assert sum(totals.prefetched.useful for totals in outcome.totals.values()) == sum(useful)
    assert (machine.locked_pages, ledger.locked_bytes) == (0, 0)
    assert outcome.peak_locked_bytes <= ledger.budget_bytes
    assert machine.used_pages <= options.memory_pages
    virtual.close()
    assert machine.used_pages == 0


@settings(max_examples=15, deadline=None)
@given(machines(), workloads())
def test_a_run_is_the_same_again(options: SimulationOptions, workload: Workload) -> None:
    options = dataclasses.replace(options, log_events=1 << 16)
    traces = []
    for _ in range(2):
        virtual = VirtualCache(options, workload, REGISTRY)
        virtual.run()
        traces.append(virtual.trace())
    assert traces[0] == traces[1]
