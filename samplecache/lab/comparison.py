"""Strategies compared on a simulated machine, in virtual time: the same on any real one."""

from __future__ import annotations

import dataclasses

from samplecache.cache.settings import CacheSettings
from samplecache.errors import ConfigurationError
from samplecache.lab.virtual import Outcome, VirtualCache
from samplecache.lab.workload import Workload, beat
from samplecache.simulation.memory import RECLAIM_PAGES
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.registry import StrategyRegistry


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What one strategy came to; times in nanoseconds. The fields are the columns, and the keys of ``--json``.

    `strategy` is what was asked for, `bound` what ran: its fallback where the kernel does not permit what it requires.
    """

    strategy: str
    bound: str
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
    pages_useful: int
    pages_late: int
    pages_wasted: int
    pages_played: int
    pswpin: int
    peak_locked_bytes: int

    @classmethod
    def of(cls, strategy: str, outcome: Outcome) -> Row:
        """Return the row for what came of a run."""
        prefetches, totals = outcome.prefetches, outcome.totals.values()
        return cls(
            strategy=strategy,
            bound=", ".join(dict.fromkeys(performance.strategy for performance in outcome.performances)),
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
            pages_useful=sum(total.prefetched.useful for total in totals),
            pages_late=sum(total.prefetched.late for total in totals),
            pages_wasted=sum(total.prefetched.wasted for total in totals),
            pages_played=sum(total.played_pages for total in totals),
            pswpin=outcome.swap.pswpin,
            peak_locked_bytes=outcome.peak_locked_bytes,
        )


def compare(options: SimulationOptions, strategies: list[str], registry: StrategyRegistry) -> list[tuple[Row, str]]:
    """Play the beat once with each strategy, each on a fresh machine; return what came of it, and the trace.

    Raises
    ------
    UnknownStrategyError
        A name that nobody registered.
    ConfigurationError
        A name is empty, or the memory is smaller than :func:`least_pages`.
    ExhaustedError
        The machine is too small.
    """
    if not all(strategies):
        raise ConfigurationError(
            "A strategy without a name cannot be compared",
            remedy=f"Name some of {', '.join(registry.names)}, with one comma between two",
        )
    for strategy in strategies:
        registry.check(strategy)
    workloads = [beat(strategy, options.seed) for strategy in strategies]
    for workload in workloads:
        _check_memory(options, workload)
    results = []
    for strategy, workload in zip(strategies, workloads, strict=True):
        virtual = VirtualCache(options, workload, registry)
        outcome = virtual.run()
        results.append((Row.of(strategy, outcome), virtual.trace() if options.log_events else ""))
        virtual.close()
    return results


def least_pages(options: SimulationOptions, workload: Workload) -> int:
    """Return the least memory, in pages, in which the threads of `workload` cannot keep each other from going on.

    A round of reclaim takes up to ``RECLAIM_PAGES`` from whoever has them. In less memory than that and a page for each
    thread, it takes all that the others have just read and not yet used, and they do the same in turn, forever.
    """
    return RECLAIM_PAGES + len(workload.cues) + CacheSettings().workers


def _check_memory(options: SimulationOptions, workload: Workload) -> None:
    if options.memory_pages < (least := least_pages(options, workload)):
        raise ConfigurationError(
            f"{options.memory_pages} pages of memory: readers and workers would take each other's pages forever",
            remedy=f"Give the machine {least} pages at least, {least * options.page_bytes >> 10} KiB",
        )
