"""Prometheus metrics: what GetStats shows, read at the scrape, and a histogram of RPCs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from samplecache.errors import ConfigurationError
from samplecache.v1 import playback_pb2
from samplecache.v1 import samplecache_pb2 as pb

_GAUGES: Final = {
    "samples": "Samples stored.",
    "contents": "Distinct contents stored.",
    "used_bytes": "Bytes of the budget in use.",
    "budget_bytes": "The budget, in bytes.",
    "locked_bytes": "Bytes locked.",
    "lock_budget_bytes": "The lock budget, in bytes.",
    "sessions": "Playback sessions open.",
    "prefetches": "Prefetches under way.",
    "uploads": "Uploads under way or resumable.",
    "cues": "Cues announced whose time is not over.",
}
_COUNTERS: Final = {
    "evictions": "Samples evicted by the store.",
    "swap_in_pages": "Pages read from swap by the whole machine.",
    "swap_out_pages": "Pages written to swap by the whole machine.",
}
_STRATEGY_COUNTERS: Final[dict[str, tuple[str, Callable[[pb.StrategyStats], float]]]] = {
    "sessions_opened": ("Playback sessions opened.", lambda stats: stats.sessions),
    "blocks": ("Blocks delivered.", lambda stats: stats.blocks),
    "minor_faults": ("Minor faults of the threads that read blocks.", lambda stats: stats.faults.minor),
    "major_faults": ("Major faults of the threads that read blocks.", lambda stats: stats.faults.major),
    "prefetches_ended": ("Prefetches ended.", lambda stats: stats.prefetches),
    "prefetch_pages_needed": ("Pages that prefetches needed.", lambda stats: stats.pages_needed),
    "prefetch_pages_brought_in": ("Pages that prefetches brought in.", lambda stats: stats.pages_brought_in),
    "pages_played": ("Pages that sessions have played.", lambda stats: stats.played_pages),
}


_PREFETCH_BUDGET_GAUGES: Final = {
    "budget_bytes": "The prefetch budget, in bytes.",
    "effective_bytes": "What of the prefetch budget may be used while memory is as short as now.",
    "used_bytes": "Bytes brought in ahead and not read yet.",
    "peak_bytes": "The most bytes brought in ahead and not read yet, at a time.",
}


class _CacheCollector(Collector):
    """Turns stats into metrics at each scrape."""

    def __init__(self, stats: Callable[[], pb.GetStatsResponse]) -> None:
        self._stats = stats

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are not checked before the first scrape, which may come before the cache is ready."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        stats = self._stats()
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"samplecache_{name}", text, value=getattr(stats, name))
        for name, text in _PREFETCH_BUDGET_GAUGES.items():
            value = getattr(stats.prefetch_budget, name)
            yield GaugeMetricFamily(f"samplecache_prefetch_{name}", text, value=value)
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"samplecache_{name}", text, value=getattr(stats, name))
        for name, (text, value) in _STRATEGY_COUNTERS.items():
            family = CounterMetricFamily(f"samplecache_{name}", text, labels=["strategy"])
            for strategy in stats.strategies:
                family.add_metric([strategy.strategy], value(strategy))
            yield family
        yield self._late(stats)
        yield from self._prefetched(stats)
        yield from self._triggers(stats)
        worst = stats.witness.worst.ToTimedelta().total_seconds()
        yield GaugeMetricFamily(
            "samplecache_witness_worst_seconds", "Latest wake-up of a sleeping thread.", value=worst
        )

    def _late(self, stats: pb.GetStatsResponse) -> Metric:
        family = CounterMetricFamily("samplecache_late_blocks", "Blocks that were late.", labels=["strategy", "cause"])
        for strategy in stats.strategies:
            for number, count in enumerate(strategy.late_by_cause):
                if number:
                    cause = playback_pb2.UnderrunCause.Name(number)  # type: ignore[arg-type]
                    family.add_metric([strategy.strategy, cause.removeprefix("UNDERRUN_CAUSE_").lower()], count)
        return family

    def _prefetched(self, stats: pb.GetStatsResponse) -> Iterable[Metric]:
        ended = CounterMetricFamily(
            "samplecache_prefetched_pages", "Pages brought in ahead, by outcome.", labels=["strategy", "outcome"]
        )
        outstanding = GaugeMetricFamily(
            "samplecache_prefetched_pages_outstanding", "Pages brought in ahead, not read yet.", labels=["strategy"]
        )
        for strategy in stats.strategies:
            for outcome in ("useful", "late", "wasted"):
                ended.add_metric([strategy.strategy, outcome], getattr(strategy.prefetched, outcome))
            outstanding.add_metric([strategy.strategy], strategy.prefetched.outstanding)
        return ended, outstanding

    def _triggers(self, stats: pb.GetStatsResponse) -> Iterable[Metric]:
        pages = GaugeMetricFamily("samplecache_trigger_pages", "Pages of trigger heads in RAM.", labels=["how"])
        pages.add_metric(["locked"], stats.triggers.locked_pages)
        pages.add_metric(["warm"], stats.triggers.warm_pages)
        yield pages
        yield CounterMetricFamily(
            "samplecache_trigger_pages_repopulated",
            "Pages of trigger heads populated again because they went cold.",
            value=stats.triggers.repopulated_pages,
        )


class Metrics:
    """The metrics of one server.

    Parameters
    ----------
    stats : Callable
        Returns the stats now; called on the metrics server's thread.
    """

    def __init__(self, stats: Callable[[], pb.GetStatsResponse]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_CacheCollector(stats))
        self._calls = Histogram(
            "samplecache_rpc_duration_seconds",
            "How long RPCs took, streams from first to last message.",
            ["method", "code"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
            registry=self._registry,
        )
        self._server: Any = None

    def observe_call(self, method: str, code: str, elapsed_s: float) -> None:
        """Count an RPC that ended. Any thread."""
        self._calls.labels(method.rpartition("/")[2], code).observe(elapsed_s)

    def listen(self, port: int) -> int:
        """Serve ``/metrics`` on localhost and return the port.

        Raises
        ------
        ConfigurationError
            The port is taken, or not ours to take.
        """
        try:
            self._server, _ = start_http_server(port, addr="127.0.0.1", registry=self._registry)
        except OSError as error:
            raise ConfigurationError(
                f"metrics cannot be served on port {port}: {error.strerror}",
                remedy="Set metrics_port to a free port, or to 0 to have one picked",
                port=port,
            ) from error
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
