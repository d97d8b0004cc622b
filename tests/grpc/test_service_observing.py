"""RPCs that show: strategies, capabilities, stats, events."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from hook_plugin import HookPlugin
from served import WAIT_S, Playing, Serve, Served, drain, pcm, refused, until

from samplecache.clock import NS_PER_S
from samplecache.strategy.events import Evicted
from samplecache.v1 import playback_pb2 as play
from samplecache.v1 import samplecache_pb2 as pb

DATA = pcm(20_000)
OPERATIONS = ["willneed", "cold", "pageout", "populate", "touch", "lock", "evict", "residency", "fault_counts"]


async def watch(served: Served, **request: Any) -> Any:
    """A watch that has begun."""
    call = served.stub.WatchEvents(pb.WatchEventsRequest(**request))
    first = await asyncio.wait_for(call.read(), WAIT_S)
    assert first.WhichOneof("event") == "started"
    assert first.lost == 0
    assert abs(first.time.ToNanoseconds() - time.time_ns()) < WAIT_S * 1e9
    return call


async def event(call: Any) -> pb.WatchEventsResponse:
    answer: pb.WatchEventsResponse = await asyncio.wait_for(call.read(), WAIT_S)
    return answer


async def test_strategies_are_listed_by_name(serve: Serve) -> None:
    served = await serve(default_strategy="willneed")
    response = await served.stub.ListStrategies(pb.ListStrategiesRequest())
    found = {strategy.name: strategy for strategy in response.strategies}
    assert list(found) == sorted(found)
    assert {"none", "willneed", "touch", "mlock", "populate"} <= set(found)
    assert response.default_strategy == "willneed"
    assert list(response.problems) == []
    lock = found["mlock"]
    assert (list(lock.requires), lock.fallback, lock.permitted, lock.useful, lock.why) == (
        ["lock"],
        "willneed",
        True,
        True,
        "",
    )
    assert lock.summary.startswith("Lock as much from the head")
    assert lock.origin.startswith("samplecache ")
    assert (found["none"].fallback, found["none"].origin) == ("", "samplecache")


async def test_auto_is_explained_as_it_would_be_bound(serve: Serve) -> None:
    served = await serve(default_strategy="auto")
    await served.put("a", DATA)
    explained = (await served.stub.ListStrategies(pb.ListStrategiesRequest(explain_sample_id="a"))).explained
    started = await Playing(served, "a", pace=play.PACE_UNLIMITED).begin()
    assert explained == started.binding
    assert explained.why
    ghost = pb.ListStrategiesRequest(explain_sample_id="ghost")
    await refused(served.stub.ListStrategies(ghost), grpc.StatusCode.NOT_FOUND, "SAMPLE_NOT_FOUND")
    past = pb.ListStrategiesRequest(explain_sample_id="a", lead=duration_pb2.Duration(seconds=-1))
    await refused(served.stub.ListStrategies(past), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_DURATION")


async def test_a_strategy_that_is_permitted_may_be_useless(serve: Serve) -> None:
    served = await serve(swap=0)
    response = await served.stub.ListStrategies(pb.ListStrategiesRequest())
    willneed = next(strategy for strategy in response.strategies if strategy.name == "willneed")
    assert (willneed.permitted, willneed.useful) == (True, False)
    assert "no swap is configured" in willneed.why
    assert willneed.why.endswith("Give the simulated machine swap slots.")


async def test_capabilities_answer_for_every_operation(served: Served) -> None:
    response = await served.stub.GetCapabilities(pb.GetCapabilitiesRequest())
    assert [capability.operation for capability in response.capabilities] == OPERATIONS
    assert all(capability.why and capability.permitted for capability in response.capabilities)
    assert not any(capability.remedy for capability in response.capabilities if capability.useful)
    assert (response.kernel, response.page_bytes, response.swap_bytes) == ("simulated", 4096, 256 << 20)
    assert "nvme-p3700" in response.release
    assert "seed 0" in response.release
    assert response.HasField("lock_limit_bytes")
    assert response.lock_limit_bytes == 8 << 20
    assert response.lock_budget_bytes == 6 << 20


async def test_stats_show_the_cache_as_it_is(serve: Serve) -> None:
    before_ns = time.time_ns()
    served = await serve(budget=1 << 20, lock_budget=64 << 10)
    await served.put_cold("a", DATA)
    await served.put("b", DATA)
    playing = Playing(served, "a", strategy="mlock", loop=True)
    await playing.begin()
    await playing.until("block")
    stats = await served.stub.GetStats(pb.GetStatsRequest())
    assert before_ns <= stats.start_time.ToNanoseconds() <= time.time_ns()
    assert (stats.kernel, stats.samples, stats.contents) == ("simulated", 2, 1)
    assert (stats.used_bytes, stats.budget_bytes) == (81_920, 1 << 20)
    assert (stats.sessions, stats.uploads, stats.evictions) == (1, 0, 0)
    assert stats.lock_budget_bytes == 64 << 10
    assert stats.swap_out_pages >= 20
    assert [(each.strategy, each.sessions) for each in stats.strategies] == [("mlock", 1)]
    assert stats.strategies[0].blocks >= 1
    assert stats.witness.HasField("worst")
    playing.call.cancel()
    await until(lambda: served.cache.session_count == 0)
    ended = await served.stub.GetStats(pb.GetStatsRequest())
    assert (ended.sessions, ended.locked_bytes) == (0, 0)


async def test_a_watch_tells_of_prefetches_and_evictions(serve: Serve) -> None:
    served = await serve(budget=2 * 81_920)
    await served.put_cold("a", DATA)
    call = await watch(served)
    request = pb.PrefetchRequest(sample_id="a", strategy="touch", hold=duration_pb2.Duration())
    result = (await drain(served.stub.Prefetch(request)))[-1].result
    done = (await event(call)).prefetch_done
    assert (done.sample_id, done.strategy, done.cancelled) == ("a", "touch", False)
    assert (done.result.pages_needed, done.result.pages_brought_in, done.result.pages_failed) == (20, 20, 0)
    assert done.result.elapsed == result.elapsed
    assert done.result.in_time
    await until(lambda: served.cache.store.get("a").content.leases == 0)
    await served.put("b", pcm(40_000))
    assert (await event(call)).evicted == pb.EvictedEvent(sample_id="a", freed_bytes=81_920)
    call.cancel()


async def test_every_page_brought_in_ahead_is_accounted_for(serve: Serve) -> None:
    served = await serve()
    await served.put_cold("a", DATA)
    call = await watch(served, kinds=[pb.EVENT_KIND_SESSION_ENDED])
    result = (await drain(served.stub.Prefetch(pb.PrefetchRequest(sample_id="a", strategy="touch"))))[-1].result
    assert result.prefetched == play.PrefetchedPages(asked=20, outstanding=20)
    playing = Playing(served, "a", strategy="none", pace=play.PACE_UNLIMITED)
    await playing.begin()
    stats = (await playing.finish()).stats
    useful = play.PrefetchedPages(asked=20, useful=20)
    assert (stats.prefetched, stats.played_pages) == (useful, 20)
    assert (await event(call)).session_ended == pb.SessionEndedEvent(
        session_id=playing.seen[0].started.session_id,
        sample_id="a",
        strategy="none",
        blocks=stats.blocks,
        prefetched=useful,
        played_pages=20,
    )
    sums = {each.strategy: each for each in (await served.stub.GetStats(pb.GetStatsRequest())).strategies}
    assert (sums["touch"].prefetched, sums["touch"].played_pages) == (useful, 0)
    assert (sums["none"].prefetched, sums["none"].played_pages) == (play.PrefetchedPages(), 20)
    call.cancel()


async def test_stats_show_how_triggers_stand(serve: Serve) -> None:
    served = await serve()
    await served.put("a", DATA, tags=["trigger"])
    await until(lambda: served.cache.triggers.settled)
    stats = await served.stub.GetStats(pb.GetStatsRequest())
    assert stats.triggers == pb.TriggerStats(samples=1, heads=1, locked_pages=stats.locked_bytes // 4096)
    assert stats.triggers.locked_pages >= 1


async def test_stats_show_what_is_brought_in_ahead(serve: Serve) -> None:
    served = await serve(prefetch_budget=1 << 20)
    await served.put("a", DATA)
    idle = (await served.stub.GetStats(pb.GetStatsRequest())).prefetch_budget
    none = pb.PRESSURE_LEVEL_NONE
    assert idle == pb.PrefetchBudgetStats(budget_bytes=1 << 20, effective_bytes=1 << 20, pressure=none)
    served.cache.evict("a", timeout_ns=NS_PER_S)
    await drain(served.stub.Prefetch(pb.PrefetchRequest(sample_id="a", strategy="window")))
    ahead = (await served.stub.GetStats(pb.GetStatsRequest())).prefetch_budget
    pages = -(-len(DATA) // 4096)
    assert ahead.used_bytes == ahead.peak_bytes == pages * 4096


async def test_a_watch_tells_of_what_fell_short(serve: Serve) -> None:
    served = await serve(lock_budget=8192)
    served.cache.registry.register(HookPlugin(), "tests 1")
    await served.put("a", DATA)
    call = await watch(served, kinds=[pb.EVENT_KIND_DEGRADED])
    await drain(served.stub.Prefetch(pb.PrefetchRequest(sample_id="a", strategy="lock-all")))
    degraded = (await event(call)).degraded
    assert (degraded.sample_id, degraded.strategy, degraded.wanted) == ("a", "lock-all", "lock-all")
    assert degraded.why == "The lock budget of 8192 bytes is used up. Raise it, or hold less."
    call.cancel()


async def test_a_watch_tells_of_a_strategy_that_was_not_permitted(serve: Serve) -> None:
    served = await serve(swap=0)
    served.cache.registry.register(HookPlugin(), "tests 1")
    await served.put("a", DATA)
    call = await watch(served, kinds=[pb.EVENT_KIND_DEGRADED])
    playing = Playing(served, "a", strategy="evict-all", frames=1)
    binding = (await playing.begin()).binding
    assert (binding.strategy, binding.degraded_from) == ("touch", "evict-all")
    assert binding.chosen_by == play.CHOSEN_BY_REQUEST
    degraded = (await event(call)).degraded
    assert (degraded.sample_id, degraded.strategy, degraded.wanted) == ("a", "touch", "evict-all")
    assert degraded.why == "; ".join(binding.notes)
    await playing.finish()
    call.cancel()


async def test_a_watch_can_be_of_one_kind_and_one_sample(serve: Serve) -> None:
    served = await serve()
    for name in ("a", "b"):
        await served.put(name, DATA)
    of_b = await watch(served, sample_id="b")
    evictions = await watch(served, kinds=[pb.EVENT_KIND_EVICTED])
    for name in ("a", "b"):
        await drain(served.stub.Prefetch(pb.PrefetchRequest(sample_id=name)))
    assert (await event(of_b)).prefetch_done.sample_id == "b"
    served.cache.events.publish(Evicted(served.cache.clock.now_ns(), "a", 1))
    assert (await event(evictions)).evicted.sample_id == "a"
    for call in (of_b, evictions):
        call.cancel()


async def test_a_slow_watcher_is_told_how_much_it_lost(served: Served) -> None:
    call = await watch(served)

    def publish(number: int) -> None:
        served.cache.events.publish(Evicted(served.cache.clock.now_ns(), "a", number))

    for number in range(5_000):  # all before the loop has a turn
        publish(number)
    for number in range(1024):
        answer = await event(call)
        assert (answer.evicted.freed_bytes, answer.lost) == (number, 0)
    for number, lost in ((7, 5_000 - 1024), (8, 0)):
        publish(number)
        answer = await event(call)
        assert (answer.evicted.freed_bytes, answer.lost) == (number, lost)
    call.cancel()


async def test_watches_end_when_the_server_stops(serve: Serve) -> None:
    served = await serve(grace_s=60.0)
    call = await watch(served)
    stopping = asyncio.create_task(served.server.stop())
    await refused(event(call), grpc.StatusCode.UNAVAILABLE, "SERVER_STOPPING")
    await asyncio.wait_for(stopping, WAIT_S)


@pytest.mark.parametrize("method", ["ListStrategies", "GetCapabilities", "GetStats"])
async def test_what_only_shows_changes_nothing(served: Served, method: str) -> None:
    await served.put("a", DATA)
    before = served.state()
    request = {"ListStrategies": pb.ListStrategiesRequest, "GetCapabilities": pb.GetCapabilitiesRequest}
    for _ in range(3):
        await getattr(served.stub, method)(request.get(method, pb.GetStatsRequest)())
    assert served.state() == before
    assert await Playing(served, "a", pace=play.PACE_UNLIMITED).whole() == DATA
