"""Strategies compared on a simulated machine, in virtual time: the same on any real one."""

from __future__ import annotations

import dataclasses

from samplecache.lab.virtual import Outcome, VirtualCache
from samplecache.lab.workload import beat
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.registry import StrategyRegistry


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What one strategy came to; times in nanoseconds. The fields are the columns, and the keys of ``--json``."""

    strategy: str
    blocks: int
    late_blocks: int
    longest_stall_ns: int
    reader_major_faults: int
    reader_minor_faults: int
    worker_major_faults: int
    worker_minor_faults: int
    prefetches: int
    prefetches_in_time: int
    pages_needed: int
    pages_brought_in: int
    pswpin: int
    peak_locked_bytes: int

    @classmethod
    def of(cls, strategy: str, outcome: Outcome) -> Row:
        """Return the row for what came of a run."""
        prefetches = outcome.prefetches
        return cls(
            strategy=strategy,
            blocks=sum(performance.stats.blocks for performance in outcome.performances),
            late_blocks=outcome.late_blocks,
            longest_stall_ns=outcome.longest_stall_ns,
            reader_major_faults=outcome.reader_faults.major,
            reader_minor_faults=outcome.reader_faults.minor,
            worker_major_faults=outcome.worker_faults.major,
            worker_minor_faults=outcome.worker_faults.minor,
            prefetches=len(prefetches),
            prefetches_in_time=sum(prefetch.in_time for prefetch in prefetches),
            pages_needed=sum(prefetch.pages_needed for prefetch in prefetches),
            pages_brought_in=sum(prefetch.pages_brought_in for prefetch in prefetches),
            pswpin=outcome.swap.pswpin,
            peak_locked_bytes=outcome.peak_locked_bytes,
        )


def compare(options: SimulationOptions, strategies: list[str], registry: StrategyRegistry) -> list[tuple[Row, str]]:
    """Play the beat once with each strategy, each on a fresh machine; return what came of it, and the trace.

    Raises
    ------
    UnknownStrategyError
        A name that nobody registered.
    ExhaustedError
        The machine is too small.
    """
    for strategy in strategies:
        registry.check(strategy)
    results = []
    for strategy in strategies:
        virtual = VirtualCache(options, beat(strategy, options.seed), registry)
        outcome = virtual.run()
        results.append((Row.of(strategy, outcome), virtual.trace() if options.log_events else ""))
        virtual.close()
    return results
