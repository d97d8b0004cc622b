"""RPCs that show: strategies, capabilities, stats, events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

from samplecache.cache import SampleCache
from samplecache.clock import Clock
from samplecache.errors import UnavailableError
from samplecache.kernel.port import Capabilities, Operation
from samplecache.service import event_wire, translate
from samplecache.service.base import Context, Handlers
from samplecache.strategy.events import Event
from samplecache.strategy.registry import Registration
from samplecache.v1 import playback_pb2
from samplecache.v1 import samplecache_pb2 as pb

_WATCH_QUEUE: Final = 1024
"""Events kept for a slow watcher; after that it loses some and is told how many."""


class ObservingHandlers(Handlers):
    """ListStrategies, GetCapabilities, GetStats, WatchEvents."""

    def __init__(self, cache: SampleCache, readers: int) -> None:
        super().__init__(cache, readers)
        self._start_unix_ns = time.time_ns()
        self._watchers: set[_Watcher] = set()

    async def ListStrategies(self, request: pb.ListStrategiesRequest, context: Context) -> pb.ListStrategiesResponse:
        """List strategies; see the contract."""
        registry, capabilities = self.cache.registry, self.cache.capabilities
        return pb.ListStrategiesResponse(
            strategies=[_strategy(registration, capabilities) for registration in registry.registrations],
            problems=[pb.PluginProblem(origin=problem.origin, why=problem.why) for problem in registry.problems],
            default_strategy=self.cache.settings.default_strategy,
            explained=self._explained(request),
        )

    def _explained(self, request: pb.ListStrategiesRequest) -> playback_pb2.StrategyBinding | None:
        if not request.explain_sample_id:
            return None
        lead_ns = translate.nanoseconds(request.lead, "lead") if request.HasField("lead") else None
        return translate.binding(self.cache.explain(request.explain_sample_id, lead_ns))

    async def GetCapabilities(self, request: pb.GetCapabilitiesRequest, context: Context) -> pb.GetCapabilitiesResponse:
        """Tell what the kernel can do; see the contract."""
        cache = self.cache
        return translate.capabilities(cache.capabilities, cache.ledger.budget_bytes, cache.kernel.page_bytes)

    async def GetStats(self, request: pb.GetStatsRequest, context: Context) -> pb.GetStatsResponse:
        """Show counters and gauges; see the contract."""
        return await self.blocking(self.stats)

    def stats(self) -> pb.GetStatsResponse:
        """Return the stats; reads ``/proc``, so it may block for a moment."""
        cache = self.cache
        swap = cache.kernel.swap_counts()
        response = pb.GetStatsResponse(
            kernel=cache.capabilities.kernel,
            start_time=translate.timestamp(self._start_unix_ns),
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
            cues=len(cache.schedules),
            triggers=translate.trigger_stats(cache.triggers.figures),
            prefetch_budget=pb.PrefetchBudgetStats(
                budget_bytes=cache.prefetch_budget.budget_bytes,
                effective_bytes=cache.prefetch_budget.effective_bytes,
                used_bytes=cache.prefetch_budget.used_bytes,
                peak_bytes=cache.prefetch_budget.peak_bytes,
                pressure=pb.PressureLevel.Value(f"PRESSURE_LEVEL_{cache.pressure.level.name}"),
            ),
        )
        if cache.witness is not None:
            seen = cache.witness.report()
            response.witness.worst.CopyFrom(translate.duration(seen.worst_ns))
            response.witness.p999.CopyFrom(translate.duration(seen.p999_ns))
            response.witness.steal.CopyFrom(translate.duration(seen.steal_ns or 0))
        return response

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:
        """List the sessions open now; see the contract."""
        return await self.blocking(self.sessions, request.with_residency)

    def sessions(self, with_residency: bool) -> pb.ListSessionsResponse:
        """Return the sessions open now. Looking where pages are takes some milliseconds for a large sample."""
        kernel = self.cache.kernel
        response = pb.ListSessionsResponse()
        for session in self.cache.sessions:
            info = response.sessions.add(
                session_id=session.session_id,
                sample=translate.sample(session.sample),
                binding=translate.binding(session.binding),
                frame=session.playback.next_frame,
                stats=translate.playback_stats(session.playback.stats, session.played_pages),
            )
            if with_residency and (found := session.residency()) is not None:
                info.residency.CopyFrom(translate.residency(found, kernel.page_bytes, with_map=True))
        return response

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        """Stream events; see the contract."""
        clock = self.cache.clock
        watcher = _Watcher(clock, frozenset(request.kinds), request.sample_id, request.schedule_id)
        stop = self.cache.events.listen(watcher.hear)
        self._watchers.add(watcher)
        try:
            now_ns = clock.now_ns()
            yield pb.WatchEventsResponse(time=translate.wall_clock(now_ns, now_ns), started=pb.WatchStarted())
            while (message := await watcher.queue.get()) is not None:
                yield message
            raise UnavailableError(
                "the server is stopping", remedy="Watch elsewhere, or again when it is back", reason="SERVER_STOPPING"
            )
        finally:
            self._watchers.remove(watcher)
            stop()

    def end_watches(self) -> None:
        """End all streams of events: they would never end by themselves, and so hold up a server that stops."""
        for watcher in self._watchers:
            watcher.queue.put_nowait(None)


class _Watcher:
    """A bounded queue of wanted events between the threads on which they happen and the loop; None ends it.

    Parameters
    ----------
    clock : Clock
        The cache's.
    kinds : frozenset of int
        Wanted kinds of event; all if empty.
    sample_id, schedule_id : str
        The wanted sample and schedule; all if empty.
    """

    def __init__(self, clock: Clock, kinds: frozenset[int], sample_id: str, schedule_id: str = "") -> None:
        # Bounded by hand: an end must find room however full it is.
        self.queue: asyncio.Queue[pb.WatchEventsResponse | None] = asyncio.Queue()
        self._clock = clock
        self._kinds = kinds
        self._wanted = {"sample_id": sample_id, "schedule_id": schedule_id}
        self._lost = 0
        self._loop = asyncio.get_running_loop()

    def hear(self, event: Event) -> None:
        """Take an event in, on any thread."""
        self._loop.call_soon_threadsafe(self._put, event)

    def _put(self, event: Event) -> None:
        kind, message = event_wire.event(event, self._clock.now_ns())
        if self._kinds and kind not in self._kinds:
            return
        if any(name and getattr(event, of, "") != name for of, name in self._wanted.items()):
            return
        if self.queue.qsize() >= _WATCH_QUEUE:
            self._lost += 1
            return
        message.lost, self._lost = self._lost, 0
        self.queue.put_nowait(message)


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
