"""RPCs that show: strategies, capabilities, stats, events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

from samplecache.kernel.port import Capabilities, Operation
from samplecache.service import translate
from samplecache.service.base import Context, Handlers
from samplecache.strategy.events import Event
from samplecache.strategy.registry import Registration
from samplecache.v1 import samplecache_pb2 as pb

_WATCH_QUEUE: Final = 1024
"""Events kept for a slow watcher; after that it loses some and is told how many."""


class ObservingHandlers(Handlers):
    """ListStrategies, GetCapabilities, GetStats, WatchEvents."""

    start_unix_ns = time.time_ns()

    async def ListStrategies(self, request: pb.ListStrategiesRequest, context: Context) -> pb.ListStrategiesResponse:
        """List strategies; see the contract."""
        registry, capabilities = self.cache.registry, self.cache.capabilities
        return pb.ListStrategiesResponse(
            strategies=[_strategy(registration, capabilities) for registration in registry.registrations],
            problems=[pb.PluginProblem(origin=problem.origin, why=problem.why) for problem in registry.problems],
            default_strategy=self.cache.settings.default_strategy,
        )

    async def GetCapabilities(self, request: pb.GetCapabilitiesRequest, context: Context) -> pb.GetCapabilitiesResponse:
        """Tell what the kernel can do; see the contract."""
        found = self.cache.capabilities
        return pb.GetCapabilitiesResponse(
            kernel=found.kernel,
            release=found.release,
            capabilities=[
                pb.Capability(
                    operation=operation.value,
                    permitted=capability.permitted,
                    useful=capability.useful,
                    why=capability.why,
                    remedy=capability.remedy,
                )
                for operation, capability in found.operations.items()
            ],
            swap_bytes=found.swap_bytes,
            swap_device=found.swap_device,
            lock_limit_bytes=found.lock_limit_bytes,
            lock_budget_bytes=self.cache.ledger.budget_bytes,
            page_bytes=self.cache.kernel.page_bytes,
        )

    async def GetStats(self, request: pb.GetStatsRequest, context: Context) -> pb.GetStatsResponse:
        """Show counters and gauges; see the contract."""
        return await self.blocking(self.stats)

    def stats(self) -> pb.GetStatsResponse:
        """Return the stats; reads ``/proc``, so it may block for a moment."""
        cache = self.cache
        swap = cache.kernel.swap_counts()
        response = pb.GetStatsResponse(
            kernel=cache.capabilities.kernel,
            start_time=translate.timestamp(self.start_unix_ns),
            samples=len(cache.store),
            contents=cache.store.content_count,
            used_bytes=cache.store.used_bytes,
            budget_bytes=cache.store.budget_bytes,
            locked_bytes=cache.ledger.locked_bytes,
            lock_budget_bytes=cache.ledger.budget_bytes,
            sessions=cache.session_count,
            prefetches=cache.prefetch_count,
            uploads=len(cache.uploads),
            evictions=cache.store.evictions,
            strategies=translate.strategy_stats(cache.totals.snapshot()),
            swap_in_pages=swap.pswpin,
            swap_out_pages=swap.pswpout,
        )
        if cache.witness is not None:
            seen = cache.witness.report()
            response.witness.worst.CopyFrom(translate.duration(seen.worst_ns))
            response.witness.p999.CopyFrom(translate.duration(seen.p999_ns))
            response.witness.steal.CopyFrom(translate.duration(seen.steal_ns or 0))
        return response

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        """Stream events; see the contract."""
        kinds, sample_id = set(request.kinds), request.sample_id
        watcher = _Watcher()
        stop = self.cache.events.listen(watcher.hear)
        try:
            now_ns = self.cache.clock.now_ns()
            yield pb.WatchEventsResponse(time=translate.wall_clock(now_ns, now_ns), started=pb.WatchStarted())
            lost = 0
            while True:
                event = await watcher.queue.get()
                kind, message = translate.event(event, self.cache.clock.now_ns())
                if (kinds and kind not in kinds) or (sample_id and getattr(event, "sample_id", "") != sample_id):
                    continue
                message.lost, lost = watcher.lost - lost, watcher.lost
                yield message
        finally:
            stop()


class _Watcher:
    """A bounded queue between the threads on which events happen and the loop."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event] = asyncio.Queue(_WATCH_QUEUE)
        self.lost = 0
        self._loop = asyncio.get_running_loop()

    def hear(self, event: Event) -> None:
        """Take an event in, on any thread."""
        self._loop.call_soon_threadsafe(self._put, event)

    def _put(self, event: Event) -> None:
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.lost += 1


def _strategy(registration: Registration, capabilities: Capabilities) -> pb.Strategy:
    strategy = registration.strategy
    requires = sorted(strategy.requires, key=lambda operation: operation.value)
    lacking = [operation for operation in requires if not capabilities.useful(operation)]
    return pb.Strategy(
        name=strategy.name,
        summary=strategy.summary(),
        origin=registration.origin,
        requires=[operation.value for operation in requires],
        fallback="" if strategy.name == "none" else strategy.fallback,
        permitted=all(map(capabilities.permitted, requires)),
        useful=not lacking,
        why=" ".join(_why(capabilities, operation) for operation in lacking),
    )


def _why(capabilities: Capabilities, operation: Operation) -> str:
    capability = capabilities.operations[operation]
    return " ".join(f"{sentence.rstrip('.')}." for sentence in (capability.why, capability.remedy) if sentence)
