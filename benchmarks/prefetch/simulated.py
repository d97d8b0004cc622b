"""A case in virtual time."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.prefetch.cases import Case, Contender
from benchmarks.prefetch.figures import Heard, Run
from samplecache.lab.virtual import Outcome, Performance, VirtualCache
from samplecache.lab.workload import Workload
from samplecache.service.config import ServerConfig
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.events import Event, Overloaded


def run(case: Case, contender: Contender, seed: int) -> Run:
    """Play `case` once on a fresh machine."""
    workload = case.workload(contender.strategy, contender.tagged)
    total_bytes = sum(sample.format.frames_to_bytes(sample.frames) for sample in workload.samples)
    # Who is resident all along has memory for everything.
    memory_bytes = case.memory_bytes if contender.cold and case.memory_bytes else 2 * total_bytes + (16 << 20)
    options = SimulationOptions.for_device(
        case.simulated_device, memory_bytes=memory_bytes, swap_bytes=4 * total_bytes + (64 << 20), seed=seed
    )
    settings = ServerConfig.load(**dict(case.settings)).cache_settings()
    if not contender.cold:
        workload = replace(workload, warm_up_ns=1)  # which takes the place of making samples cold
    virtual = VirtualCache(replace(options, device=case.device), workload, settings=settings)
    told_ns: dict[str, int] = {}

    def note(event: Event) -> None:
        if isinstance(event, Overloaded) and event.shed:
            told_ns.setdefault(event.session_id, event.time_ns)

    virtual.cache.events.listen(note)
    try:
        outcome = virtual.run()
    finally:
        virtual.close()
    rates_hz = {sample.sample_id: sample.format.rate_hz for sample in workload.samples}
    return Run(
        tuple(
            _heard(performance, rates_hz[performance.cue.sample_id], outcome.began_ns, told_ns)
            for performance in outcome.performances
        ),
        outcome.swap.pswpin,
        _pages_played(workload, outcome, options.page_bytes),
        virtual.cache.prefetch_budget.peak_bytes,
        None,
        outcome.elapsed_ns,
    )


def _heard(performance: Performance, rate_hz: int, began_ns: int, told_ns: dict[str, int]) -> Heard:
    stats, told = performance.stats, told_ns.get(performance.session_id)
    return Heard(
        performance.cue.sample_id,
        performance.strategy,
        stats.blocks,
        stats.late_blocks,
        sum(underrun.offset_frames < rate_hz for underrun in performance.underruns),
        stats.longest_stall_ns,
        stats.first_block_ns,
        stats.faults.major,
        stats.faults.minor,
        None if told is None else told - began_ns - performance.cue.at_ns,
    )


def _pages_played(workload: Workload, outcome: Outcome, page_bytes: int) -> int:
    formats = {sample.sample_id: sample.format for sample in workload.samples}
    pages = 0
    for performance in outcome.performances:
        audio = formats[performance.cue.sample_id]
        pages += sum(
            -(-audio.frames_to_bytes(heard.stop) // page_bytes) - audio.frames_to_bytes(heard.start) // page_bytes
            for heard in performance.heard
        )
    return pages
