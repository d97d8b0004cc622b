"""Prefetch: binding, progress, result; locks that outlive it; cancelling."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from hook_plugin import HookPlugin
from served import Playing, Serve, Served, drain, pcm, refused, until

from samplecache.strategy.events import PrefetchDone
from samplecache.v1 import playback_pb2 as play
from samplecache.v1 import samplecache_pb2 as pb

DATA = pcm(20_480)  # 20 pages
PAGES = 20
PAGE_BYTES = 4096
LONG = pcm(8 << 20)  # 32 MiB: two thirds of a second on a disk of 2008
LONG_PAGES = 8192
HDD = "hdd-laptop-2008"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def prefetch(served: Served, sample_id: str = "a", **wishes: Any) -> Any:
    return served.stub.Prefetch(pb.PrefetchRequest(sample_id=sample_id, **wishes))


async def ended(served: Served, **wishes: Any) -> tuple[play.StrategyBinding, pb.PrefetchResult]:
    """Binding and result of a prefetch, with the order of its answers checked."""
    answers = await drain(prefetch(served, **wishes))
    kinds = [answer.WhichOneof("event") for answer in answers]
    assert kinds == ["binding", *["progress"] * (len(kinds) - 2), "result"]
    steps = [answer.progress.pages_in for answer in answers[1:-1]]
    assert steps == sorted(steps)
    return answers[0].binding, answers[-1].result


@pytest.mark.parametrize("strategy", ["willneed", "touch", "populate", "mlock"])
async def test_a_prefetch_brings_in_what_is_not_there(served: Served, strategy: str) -> None:
    await served.put_cold("a", DATA)
    binding, result = await ended(served, strategy=strategy)
    assert binding == play.StrategyBinding(strategy=strategy, chosen_by=play.CHOSEN_BY_REQUEST)
    assert (result.pages_needed, result.pages_brought_in, result.pages_failed) == (PAGES, PAGES, 0)
    assert result.pages_locked == (PAGES if strategy == "mlock" else 0)
    assert (result.in_time, list(result.notes)) == (True, [])
    assert result.elapsed.ToNanoseconds() > 0
    assert await served.in_core("a") == PAGES
    _, again = await ended(served, strategy=strategy)
    assert (again.pages_needed, again.pages_brought_in) == (0, 0)


async def test_willneed_is_the_default(served: Served) -> None:
    await served.put_cold("a", DATA)
    binding, result = await ended(served)
    assert binding == play.StrategyBinding(strategy="willneed", chosen_by=play.CHOSEN_BY_SERVER)
    assert (result.pages_brought_in, result.in_time) == (PAGES, True)


async def test_none_brings_in_nothing(serve: Serve) -> None:
    served = await serve(default_strategy="")
    await served.put_cold("a", DATA)
    binding, result = await ended(served)
    assert binding == play.StrategyBinding(strategy="none", chosen_by=play.CHOSEN_BY_NONE)
    assert (result.pages_needed, result.pages_brought_in, result.pages_failed) == (PAGES, 0, PAGES)
    assert not result.in_time
    assert await served.in_core("a") == 0


async def test_a_span_is_brought_in_and_no_more(served: Served) -> None:
    await served.put_cold("a", DATA)
    _, result = await ended(served, strategy="mlock", start_frame=4096, frames=2048)
    assert (result.pages_needed, result.pages_brought_in, result.pages_locked) == (2, 2, 2)
    _, result = await ended(served, strategy="touch", start_frame=20_480)
    assert (result.pages_needed, result.in_time) == (0, True)


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        ({"start_frame": 20_481}, grpc.StatusCode.OUT_OF_RANGE, "SPAN_OUT_OF_RANGE"),
        ({"frames": 20_481}, grpc.StatusCode.OUT_OF_RANGE, "SPAN_OUT_OF_RANGE"),
        ({"start_frame": 1, "frames": 2**64 - 1}, grpc.StatusCode.OUT_OF_RANGE, "SPAN_OUT_OF_RANGE"),
        ({"strategy": "magic"}, INVALID, "UNKNOWN_STRATEGY"),
        ({"sample_id": "b"}, grpc.StatusCode.NOT_FOUND, "SAMPLE_NOT_FOUND"),
        ({"sample_id": "/"}, INVALID, "INVALID_SAMPLE_ID"),
        ({"deadline": {"seconds": -1}}, INVALID, "INVALID_DURATION"),
        ({"hold": {"nanos": -1}}, INVALID, "INVALID_DURATION"),
        ({"hold": {"seconds": 3600, "nanos": 1}}, INVALID, "INVALID_HOLD"),
    ],
)
async def test_a_bad_request_is_refused(
    served: Served, request_: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    await served.put_cold("a", DATA)
    await refused(drain(prefetch(served, **{"strategy": "touch", **request_})), code, reason)
    assert await served.in_core("a") == 0
    assert served.cache.prefetch_count == 0


# --- deadlines ---


@pytest.mark.parametrize(
    ("deadline", "in_time"),
    [(None, True), (duration_pb2.Duration(), False), (duration_pb2.Duration(seconds=3600), True)],
)
async def test_a_deadline_that_passes_is_no_error(
    served: Served, deadline: duration_pb2.Duration | None, in_time: bool
) -> None:
    await served.put_cold("a", DATA)
    _, result = await ended(served, strategy="touch", deadline=deadline)
    assert (result.in_time, result.pages_brought_in) == (in_time, PAGES)


async def test_the_nearest_deadline_is_served_first(serve: Serve) -> None:
    served = await serve(device=HDD, prefetch_threads=1)
    await served.put_cold("far", LONG)
    await served.put_cold("near", DATA)
    done: list[str] = []
    served.cache.events.listen(lambda event: done.append(event.sample_id) if isinstance(event, PrefetchDone) else None)
    far = prefetch(served, "far", strategy="touch", deadline={"seconds": 3600})
    await far.read()
    await until(lambda: served.cache.prefetch_count == 1)
    near = prefetch(served, "near", strategy="touch", deadline={"seconds": 1})
    await asyncio.gather(_rest(far), _rest(near))
    assert done == ["near", "far"]


async def _rest(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


# --- cancelling ---


async def test_cancelling_stops_the_work(serve: Serve) -> None:
    served = await serve(device=HDD, prefetch_threads=1)
    await served.put_cold("a", LONG)
    heard: list[PrefetchDone] = []
    served.cache.events.listen(lambda event: heard.append(event) if isinstance(event, PrefetchDone) else None)
    call = prefetch(served, strategy="touch")
    assert (await call.read()).WhichOneof("event") == "binding"
    region = served.cache.store.get("a").content.region
    await until(lambda: served.cache.kernel.residency(region, region.span).in_core > 0)
    call.cancel()
    await until(lambda: heard)
    assert heard[0].cancelled
    arrived = await served.in_core("a")
    assert arrived < LONG_PAGES
    # On a disk that reads 64 pages in 5 ms, work that went on would show.
    later_s = asyncio.get_running_loop().time() + 0.1
    await until(lambda: asyncio.get_running_loop().time() > later_s)
    assert await served.in_core("a") - arrived <= 8  # what the last fault's readahead still had under way
    await until(lambda: served.cache.store.get("a").content.leases == 0)


async def test_the_number_of_prefetches_is_bounded(serve: Serve) -> None:
    served = await serve(device=HDD, prefetch_threads=1, max_prefetches=1)
    await served.put_cold("a", LONG)
    call = prefetch(served, strategy="touch")
    await call.read()
    await refused(drain(prefetch(served, strategy="touch")), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_PREFETCHES")
    call.cancel()
    await until(lambda: served.cache.prefetch_count == 0)
    assert (await ended(served, strategy="none"))[1].pages_failed > 0


# --- locks ---


async def test_locks_are_held_and_then_let_go(served: Served) -> None:
    await served.put_cold("a", DATA)
    _, result = await ended(served, strategy="mlock", hold={"seconds": 1})
    assert result.pages_locked == PAGES
    assert served.cache.ledger.locked_bytes == PAGES * PAGE_BYTES
    await until(lambda: served.cache.ledger.locked_bytes == 0)
    assert served.cache.store.get("a").content.leases == 0


async def test_no_hold_lets_go_at_once(served: Served) -> None:
    await served.put_cold("a", DATA)
    await ended(served, strategy="mlock", hold={})
    await until(lambda: served.cache.ledger.locked_bytes == 0)


async def test_a_session_takes_locks_over(served: Served) -> None:
    await served.put_cold("a", DATA)
    await ended(served, strategy="mlock", hold={"seconds": 1})
    taken_s = asyncio.get_running_loop().time()
    playing = Playing(served, "a", loop=True)
    await playing.begin()
    await until(lambda: asyncio.get_running_loop().time() > taken_s + 1.2)
    assert served.cache.ledger.locked_bytes == PAGES * PAGE_BYTES
    playing.call.cancel()
    await until(lambda: served.cache.ledger.locked_bytes == 0)


async def test_a_lock_budget_that_is_too_small_is_said(serve: Serve) -> None:
    served = await serve(lock_budget=3 * PAGE_BYTES)
    served.cache.registry.register(HookPlugin(), "tests 1")
    await served.put_cold("a", DATA)
    _, result = await ended(served, strategy="lock-all")
    assert result.pages_locked == 3
    assert list(result.notes) == [f"The lock budget of {3 * PAGE_BYTES} bytes is used up. Raise it, or hold less."]
    assert result.pages_brought_in >= 3  # and what the faults read ahead
    assert result.pages_brought_in + result.pages_failed == PAGES


# --- who chooses ---


async def test_the_choice_goes_from_request_to_sample_to_hook_to_server(serve: Serve) -> None:
    served = await serve(default_strategy="populate")
    plugin = HookPlugin()
    served.cache.registry.register(plugin, "tests 1")
    await served.put("bare", DATA)
    await served.put("own", DATA, strategy="mlock")
    await served.put("auto", DATA, strategy="auto", tags=["touch"])
    await served.put("helpless", DATA, strategy="auto")
    chosen = {
        (sample_id, wish): (await ended(served, sample_id=sample_id, strategy=wish))[0]
        for sample_id, wish in (
            ("own", "willneed"),
            ("own", ""),
            ("auto", ""),
            ("auto", "auto"),
            ("bare", ""),
            ("helpless", ""),
        )
    }
    assert {key: (binding.strategy, binding.chosen_by) for key, binding in chosen.items()} == {
        ("own", "willneed"): ("willneed", play.CHOSEN_BY_REQUEST),
        ("own", ""): ("mlock", play.CHOSEN_BY_SAMPLE),
        ("auto", ""): ("touch", play.CHOSEN_BY_HOOK),
        ("auto", "auto"): ("touch", play.CHOSEN_BY_HOOK),
        ("bare", ""): ("populate", play.CHOSEN_BY_SERVER),
        ("helpless", ""): ("populate", play.CHOSEN_BY_HOOK),
    }
    assert chosen["helpless", ""].why == "80 KiB sound for less than 1000 ms: all of them are brought in at once"
    assert chosen["auto", ""].why == ""
    assert [type(event) for event in plugin.observed] == [PrefetchDone] * 6


async def test_a_strategy_that_fails_harms_nobody(served: Served) -> None:
    served.cache.registry.register(HookPlugin(), "tests 1")
    await served.put_cold("a", DATA)
    _, result = await ended(served, strategy="raising")
    assert result.pages_failed == PAGES
    assert len(result.notes) == 1
    assert result.notes[0].endswith("Mend the plugin or choose another strategy; playing goes on without its advice.")
    assert await Playing(served, "a", strategy="raising", pace=play.PACE_UNLIMITED).whole() == DATA
