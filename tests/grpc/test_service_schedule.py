"""The schedule RPCs: what is announced, repeated, replaced and cancelled, and what is told of it."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from served import Serve, Served, pcm, refused, until

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.v1 import samplecache_pb2 as pb
from samplecache.v1 import schedule_pb2 as sched

DATA = pcm(40_000)
PAGES = 40


def after(sample_id: str, after_ms: int = 60_000, **wishes: Any) -> sched.Cue:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(after_ms * NS_PER_MS)
    return sched.Cue(sample_id=sample_id, after=duration, **wishes)


def stamp(unix_ns: int) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromNanoseconds(unix_ns)
    return message


async def announce(served: Served, *cues: sched.Cue, **wishes: Any) -> sched.ScheduleResponse:
    return await served.stub.Schedule(sched.ScheduleRequest(cues=cues, **wishes))


def states(cues: Any) -> list[tuple[str, int]]:
    return [(cue.cue_id, cue.state) for cue in cues]


@pytest.fixture
async def stored(served: Served) -> Served:
    await served.put_cold("a", DATA)
    await served.put("b", DATA[::-1])
    return served


async def test_a_cue_is_in_memory_before_its_time_and_a_watcher_is_told(stored: Served) -> None:
    call = stored.stub.WatchEvents(pb.WatchEventsRequest(schedule_id="song"))
    assert (await call.read()).WhichOneof("event") == "started"
    response = await announce(
        stored, after("a", 300, strategy="touch"), after("b", cue_id="later", sureness=0.5), schedule_id="song"
    )
    assert (response.schedule_id, states(response.cues)) == (
        "song",
        [("1", sched.CUE_STATE_WAITING), ("later", sched.CUE_STATE_WAITING)],
    )
    assert response.cues[0].at.ToNanoseconds() - response.server_time.ToNanoseconds() == 300 * NS_PER_MS
    assert [cue.sureness for cue in response.cues] == [1.0, 0.5]
    settled = (await call.read()).cue_settled
    call.cancel()
    cue = settled.cue
    assert (settled.schedule_id, cue.cue_id, cue.state) == ("song", "1", sched.CUE_STATE_READY)
    assert (cue.sample_id, cue.strategy, cue.pages_needed, cue.pages_brought_in) == ("a", "touch", PAGES, PAGES)
    assert 0 < cue.margin.ToNanoseconds() < 300 * NS_PER_MS
    assert await stored.in_core("a") == PAGES
    shown = await stored.stub.GetSchedule(sched.GetScheduleRequest(schedule_id="song"))
    assert states(shown.cues) == [("1", sched.CUE_STATE_READY), ("later", sched.CUE_STATE_WAITING)]
    assert (await stored.stub.GetStats(pb.GetStatsRequest())).cues == 2


async def test_a_schedule_is_replaced_and_cancelled(stored: Served) -> None:
    name = (await announce(stored, after("a"), after("b"))).schedule_id
    response = await announce(stored, after("b", 50_000, cue_id="2"), after("a", cue_id="3"), schedule_id=name)
    assert states(response.cues) == [("2", sched.CUE_STATE_WAITING), ("3", sched.CUE_STATE_WAITING)]
    response = await announce(stored, after("a", cue_id="4"), schedule_id=name, keep_others=True)
    assert [cue.cue_id for cue in response.cues] == ["2", "3", "4"]
    request = sched.CancelScheduleRequest(schedule_id=name, cue_ids=["3"])
    assert states((await stored.stub.CancelSchedule(request)).cues) == [("3", sched.CUE_STATE_CANCELLED)]
    request = sched.CancelScheduleRequest(schedule_id=name)
    assert [cue.cue_id for cue in (await stored.stub.CancelSchedule(request)).cues] == ["2", "4"]
    assert (await stored.stub.CancelSchedule(request)).cues == []


async def test_cancelling_stops_a_prefetch(serve: Serve) -> None:
    served = await serve(device="hdd-laptop-2008")
    await served.put_cold("a", pcm(4_000_000))
    name = (await announce(served, after("a", 100, strategy="touch"))).schedule_id
    await until(lambda: served.cache.prefetch_count)
    await served.stub.CancelSchedule(sched.CancelScheduleRequest(schedule_id=name))
    await until(lambda: not served.cache.prefetch_count and served.cache.store.get("a").content.leases == 0)
    assert 0 <= await served.in_core("a") < 1000


async def test_a_request_that_comes_again_is_answered_as_the_first_time(stored: Served) -> None:
    first = await announce(stored, after("a"), request_id="once")
    again = await announce(stored, after("a"), request_id="once")
    assert (again.schedule_id, len(again.cues)) == (first.schedule_id, 1)
    assert len(stored.cache.schedules) == 1
    assert (await announce(stored, after("a"))).schedule_id != first.schedule_id
    await refused(
        stored.stub.Schedule(sched.ScheduleRequest(cues=[after("b")], request_id="once")),
        grpc.StatusCode.INVALID_ARGUMENT,
        "REQUEST_ID_REUSED",
    )


@pytest.mark.parametrize("ahead_s", [0, 86_400, -86_400], ids=["one clock", "a day ahead", "a day behind"])
async def test_absolute_times_are_by_the_clock_that_the_client_shows(stored: Served, ahead_s: int) -> None:
    now_ns = time.time_ns() + ahead_s * NS_PER_S
    cue = sched.Cue(sample_id="a", at=stamp(now_ns + 20 * NS_PER_S))
    response = await announce(stored, cue, client_time=stamp(now_ns))
    until_ns = response.cues[0].at.ToNanoseconds() - response.server_time.ToNanoseconds()
    assert 19 * NS_PER_S < until_ns < 21 * NS_PER_S


@pytest.mark.parametrize(
    ("cue", "code", "reason"),
    [
        (sched.Cue(sample_id="a"), "INVALID_ARGUMENT", "MISSING_CUE_TIME"),
        (after("a", cue_id="a/b"), "INVALID_ARGUMENT", "INVALID_CUE_ID"),
        (after("a", cue_id="twice"), "INVALID_ARGUMENT", "REPEATED_CUE_ID"),
        (after("a", sureness=1.01), "INVALID_ARGUMENT", "INVALID_SURENESS"),
        (after("a", sureness=float("nan")), "INVALID_ARGUMENT", "INVALID_SURENESS"),
        (after("a", 3_600_001), "INVALID_ARGUMENT", "INVALID_CUE_TIME"),
        (sched.Cue(sample_id="a", at=stamp(NS_PER_S)), "INVALID_ARGUMENT", "INVALID_CUE_TIME"),
        (sched.Cue(sample_id="a", at={"seconds": -1}), "INVALID_ARGUMENT", "INVALID_TIMESTAMP"),
        (sched.Cue(sample_id="a", after={"seconds": -1}), "INVALID_ARGUMENT", "INVALID_DURATION"),
        (after("a", strategy="magic"), "INVALID_ARGUMENT", "UNKNOWN_STRATEGY"),
        (after("A"), "INVALID_ARGUMENT", "INVALID_SAMPLE_ID"),
        (after("none"), "NOT_FOUND", "SAMPLE_NOT_FOUND"),
        (after("a", frames=1 << 40), "OUT_OF_RANGE", "SPAN_OUT_OF_RANGE"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_announced_changes_nothing(stored: Served, cue: sched.Cue, code: str, reason: str) -> None:
    await announce(stored, after("b", cue_id="before"), schedule_id="song")
    request = sched.ScheduleRequest(schedule_id="song", cues=[after("b", cue_id="twice"), cue])
    info = await refused(stored.stub.Schedule(request), grpc.StatusCode[code], reason)
    assert info.metadata["remedy"]
    shown = await stored.stub.GetSchedule(sched.GetScheduleRequest(schedule_id="song"))
    assert [cue.cue_id for cue in shown.cues] == ["before"]


async def test_names_of_schedules_and_requests_are_checked(stored: Served) -> None:
    for wish, reason in (({"schedule_id": "a b"}, "INVALID_SCHEDULE_ID"), ({"request_id": "?"}, "INVALID_REQUEST_ID")):
        request = sched.ScheduleRequest(cues=[after("a")], **wish)
        await refused(stored.stub.Schedule(request), grpc.StatusCode.INVALID_ARGUMENT, reason)


async def test_there_are_not_more_cues_than_allowed(serve: Serve) -> None:
    served = await serve(max_cues=3)
    await served.put("a", DATA)
    name = (await announce(served, after("a"), after("a"), after("a"))).schedule_id
    request = sched.ScheduleRequest(cues=[after("a")])
    info = await refused(served.stub.Schedule(request), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CUES")
    assert "raise max_cues" in info.metadata["remedy"]
    await announce(served, after("a"), after("a"), schedule_id=name)
    await announce(served, after("a"))


async def test_what_is_not_there_is_not_found(stored: Served) -> None:
    get = sched.GetScheduleRequest(schedule_id="none")
    await refused(stored.stub.GetSchedule(get), grpc.StatusCode.NOT_FOUND, "SCHEDULE_NOT_FOUND")
    cancel = sched.CancelScheduleRequest(schedule_id="none")
    await refused(stored.stub.CancelSchedule(cancel), grpc.StatusCode.NOT_FOUND, "SCHEDULE_NOT_FOUND")
    name = (await announce(stored, after("a"))).schedule_id
    cancel = sched.CancelScheduleRequest(schedule_id=name, cue_ids=["1", "9"])
    await refused(stored.stub.CancelSchedule(cancel), grpc.StatusCode.NOT_FOUND, "SCHEDULE_NOT_FOUND")
    cancel.allow_missing = True
    assert [cue.cue_id for cue in (await stored.stub.CancelSchedule(cancel)).cues] == ["1"]


async def test_a_sample_that_goes_before_its_time_is_told(stored: Served) -> None:
    call = stored.stub.WatchEvents(pb.WatchEventsRequest(kinds=[pb.EVENT_KIND_CUE_SETTLED]))
    await call.read()
    await announce(stored, after("a", 700))
    await stored.stub.DeleteSample(pb.DeleteSampleRequest(sample_id="a"))
    cue = (await call.read()).cue_settled.cue
    assert (cue.sample_id, cue.state) == ("a", sched.CUE_STATE_FAILED)
    assert cue.why.startswith("there is no sample 'a'. Upload it")
    call.cancel()
