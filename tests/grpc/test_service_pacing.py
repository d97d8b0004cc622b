"""Play in time: when blocks leave, what makes them late, and that a page fault stops nobody else."""

from __future__ import annotations

import asyncio
import functools
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from google.protobuf import duration_pb2
from served import RATE_HZ, STEREO, WAIT_S, Playing, Serve, Served, drain, pcm, refused, stall, until

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.v1 import playback_pb2 as play
from samplecache.v1 import samplecache_pb2 as pb

HDD = "hdd-laptop-2008"
SEEK_NS = 17_500_000
"""What one positioning of that disk takes, so the least that a cold read there waits."""

BLOCK_NS = 20 * NS_PER_MS
LONG_FRAMES = 4 << 20  # 16 MiB
PLACES = [1 + 1024 * ((number * 1_601) % 4_096) for number in range(1, 41)]
"""Frames far from each other: each on a page that the readahead for another did not bring in."""


SHORT = duration_pb2.Duration(nanos=5 * NS_PER_MS)


def duration(nanoseconds: int) -> duration_pb2.Duration:
    message = duration_pb2.Duration()
    message.FromNanoseconds(nanoseconds)
    return message


async def cold(serve: Serve, **settings: Any) -> Served:
    """A server with the long sample "cold" on a slow disk, and a short one in RAM."""
    served = await serve(device=HDD, **settings)
    await served.put_cold("cold", pcm(LONG_FRAMES))
    await served.put("warm", pcm(RATE_HZ))
    return served


async def jump(playing: Playing, places: list[int]) -> None:
    """Play a block at each of these places."""
    for place in places:
        await playing.send(seek={"frame": place})
        await playing.until("seeked")
        await playing.until("block")


# --- pace ---


async def test_blocks_leave_at_their_time_and_not_before(served: Served) -> None:
    await served.put("a", pcm(RATE_HZ))
    playing = Playing(served, "a")
    sent_ns = time.monotonic_ns()
    await playing.begin()
    arrivals = []
    for _ in range(50):
        await playing.until("block")
        arrivals.append(time.monotonic_ns() - sent_ns)
    lateness = [arrived - number * BLOCK_NS for number, arrived in enumerate(arrivals)]
    assert min(lateness) >= 0
    # The machine's own lateness, seen by threads that only sleep, is not the server's.
    bound_ns = 20 * NS_PER_MS + 2 * served.server.witness.worst_ns
    assert statistics.median(lateness) < bound_ns


async def test_an_unlimited_session_does_not_wait(served: Served) -> None:
    await served.put("a", pcm(20 * RATE_HZ))
    playing = Playing(served, "a", pace=play.PACE_UNLIMITED)
    began_s = time.monotonic()
    await playing.begin()
    summary = await playing.finish()
    assert time.monotonic() - began_s < 10
    assert (summary.stats.frames, summary.stats.late_blocks) == (20 * RATE_HZ, 0)


# --- underruns ---


async def test_a_cold_read_is_an_underrun_everywhere(serve: Serve) -> None:
    """With no strategy and less lead than the disk's seek, each jump to a cold place is a gap, and all hear of it."""
    served = await cold(serve)
    watch = served.stub.WatchEvents(pb.WatchEventsRequest(kinds=[pb.EVENT_KIND_UNDERRUN], sample_id="cold"))
    assert (await watch.read()).WhichOneof("event") == "started"
    playing = Playing(served, "cold", strategy="none", lead=duration(5 * NS_PER_MS), block=SHORT)
    started = await playing.begin()
    await playing.until("block")
    await jump(playing, PLACES[:5])
    await playing.send(stop={})
    stats = (await playing.until("summary")).stats
    by_fault = [late for late in playing.of("underrun") if late.cause == play.UNDERRUN_CAUSE_MAJOR_FAULT]
    assert [late.frame_offset for late in by_fault] == [0, *PLACES[:5]]
    assert all(late.late.ToNanoseconds() >= SEEK_NS - 5 * NS_PER_MS for late in by_fault)
    assert all(late.faults.major >= 1 for late in by_fault)
    # The session's own summary.
    late = playing.of("underrun")
    assert stats.late_blocks == len(late) == sum(stats.late_by_cause)
    assert stats.late_by_cause[play.UNDERRUN_CAUSE_MAJOR_FAULT] == len(by_fault)
    assert stats.faults.major >= len(by_fault)
    assert stats.longest_stall.ToNanoseconds() == max(each.late.ToNanoseconds() for each in late)
    assert stats.longest_read.ToNanoseconds() >= SEEK_NS
    assert stats.first_block.ToNanoseconds() >= SEEK_NS
    # Stats of the server.
    (totals,) = (await served.stub.GetStats(pb.GetStatsRequest())).strategies
    assert (totals.strategy, totals.sessions, totals.blocks) == ("none", 1, stats.blocks)
    assert (totals.late_blocks, totals.longest_stall) == (stats.late_blocks, stats.longest_stall)
    assert (totals.late_by_cause, totals.faults) == (stats.late_by_cause, stats.faults)
    # Events.
    for each in late:
        event = (await asyncio.wait_for(watch.read(), WAIT_S)).underrun
        assert (event.session_id, event.sample_id, event.strategy) == (started.session_id, "cold", "none")
        assert event.underrun == each
    watch.cancel()


async def test_a_prefetched_sample_has_no_fault(serve: Serve) -> None:
    served = await cold(serve)
    await drain(served.stub.Prefetch(pb.PrefetchRequest(sample_id="cold", strategy="populate")))
    playing = Playing(served, "cold", lead=duration(5 * NS_PER_MS), block=SHORT)
    await playing.begin()
    await playing.until("block")
    await jump(playing, PLACES[:5])
    await playing.send(stop={})
    stats = (await playing.until("summary")).stats
    assert stats.faults.major == 0
    assert stats.late_by_cause[play.UNDERRUN_CAUSE_MAJOR_FAULT] == 0


async def test_a_client_that_does_not_read_is_the_cause(served: Served) -> None:
    """Its window fills up, the block behind it cannot leave, and the one after that is late."""
    wide = AudioFormat(192_000, 8, Encoding.F64)
    await served.put("wide", bytes(96_000 * wide.frame_bytes), raw=wide)
    options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
    async with grpc.aio.insecure_channel(served.address, options=options) as channel:
        playing = Playing(
            Served(served.server, channel, served.address), "wide", loop=True, lead=duration(50 * NS_PER_MS)
        )
        await playing.begin()
        stall_s = asyncio.get_running_loop().time() + 1.0
        await until(lambda: asyncio.get_running_loop().time() > stall_s)
        while not any(each.cause == play.UNDERRUN_CAUSE_CLIENT for each in playing.of("underrun")):
            assert await playing.next() is not None
        playing.call.cancel()
    await until(lambda: served.cache.session_count == 0)


async def test_streams_that_a_stall_made_late_have_their_lead_back_with_one_message(served: Served) -> None:
    data = pcm(2 * RATE_HZ)
    await served.put("a", data)
    playings = [Playing(served, "a") for _ in range(8)]
    for playing in playings:
        await playing.begin()
        await playing.until("block")
        await playing.until("block")
    stall(0.3)
    for playing in playings:
        late = await playing.until("underrun")
        block = await playing.until("block")
        assert block.frame_offset == late.frame_offset
        # The late one, and the five that may leave within the default lead of 100 ms.
        assert len(block.pcm) == 6 * BLOCK_NS * RATE_HZ // NS_PER_S * STEREO.frame_bytes
    for playing in playings:
        summary = await playing.finish()
        assert playing.pcm == data
        assert (summary.stats.blocks, summary.stats.late_blocks) == (100, len(playing.of("underrun")))


# --- one session's faults are its own ---


@asynccontextmanager
async def probing_loop() -> AsyncIterator[list[tuple[int, int]]]:
    """Note, for as long as the block lasts, when a task that only sleeps 1 ms at a time woke, and how late."""
    naps: list[tuple[int, int]] = []

    async def nap() -> None:
        while True:
            due_ns = time.monotonic_ns() + NS_PER_MS
            await asyncio.sleep(NS_PER_MS / NS_PER_S)
            woke_ns = time.monotonic_ns()
            naps.append((woke_ns, woke_ns - due_ns))

    task = asyncio.create_task(nap())
    try:
        yield naps
    finally:
        task.cancel()


def _longer(naps: list[tuple[int, int]], than: int) -> bool:
    return len(naps) > than


async def test_a_fault_does_not_stop_the_event_loop(serve: Serve) -> None:
    served = await cold(serve)
    playing = Playing(served, "cold", strategy="none", lead=duration(0), block=SHORT)
    await playing.begin()
    await playing.until("block")
    lags_ns = []
    async with probing_loop() as naps:
        for place in PLACES:
            began = len(naps)
            await jump(playing, [place])
            await until(functools.partial(_longer, naps, began))
            lags_ns.append(max(late_ns for _, late_ns in naps[began:]))
    await playing.send(stop={})
    stats = (await playing.until("summary")).stats
    assert stats.faults.major >= len(PLACES)
    # A read on the loop would stop it for a seek each time. The machine may do so now and then.
    assert statistics.median(lags_ns) < SEEK_NS // 2


async def test_a_faulting_session_does_not_delay_a_warm_one(serve: Serve) -> None:
    served = await cold(serve)
    faulting = Playing(served, "cold", strategy="none", lead=duration(0), block=SHORT)
    await faulting.begin()
    await faulting.until("block")
    warm = Playing(served, "warm")
    began_ns = time.monotonic_ns()
    await warm.begin()
    jumping = asyncio.create_task(jump(faulting, PLACES))
    lateness_ns = []
    for number in range(40):
        await warm.until("block")
        lateness_ns.append(time.monotonic_ns() - began_ns - number * BLOCK_NS)
    await jumping
    stats = (await warm.finish()).stats
    assert stats.faults.major == 0
    assert stats.late_by_cause[play.UNDERRUN_CAUSE_MAJOR_FAULT] == 0
    assert statistics.median(lateness_ns) < SEEK_NS // 2 + 2 * served.server.witness.worst_ns
    faulting.call.cancel()


async def test_a_slow_reader_does_not_stop_another_stream(served: Served) -> None:
    data = pcm(RATE_HZ)
    await served.put("a", data)
    slow = Playing(served, "a", loop=True, pace=play.PACE_UNLIMITED)
    await slow.begin()  # and never reads: the server stands still in its window
    assert await Playing(served, "a").whole() == data
    slow.call.cancel()


@pytest.mark.parametrize("readers", [1, 4])
async def test_more_faulting_sessions_than_readers_all_get_their_pcm(serve: Serve, readers: int) -> None:
    served = await serve(device=HDD, readers=readers)
    data = pcm(100_000)
    await served.put_cold("a", data)
    playings = [Playing(served, "a", start_frame=10_000 * number, frames=10_000) for number in range(10)]
    heard = await asyncio.gather(*(playing.whole() for playing in playings))
    assert b"".join(heard) == data


async def test_blocks_that_may_wait_come_several_in_a_message(served: Served) -> None:
    data = pcm(RATE_HZ)
    await served.put("a", data)
    playing = Playing(
        served, "a", block=duration(BLOCK_NS), lead=duration(10 * BLOCK_NS), coalesce=duration(3 * BLOCK_NS)
    )
    assert await playing.whole() == data
    block_bytes = 4 * RATE_HZ // 50
    first, *rest = [len(block.pcm) // block_bytes for block in playing.of("block")]
    assert first == 1
    assert set(rest) <= {1, 2, 3, 4}  # a block that would be late on this machine goes alone
    assert sum(rest) == 49
    assert len(rest) < 30
    (summary,) = playing.of("summary")
    assert (summary.stats.blocks, summary.stats.frames, summary.next_frame) == (50, RATE_HZ, RATE_HZ)


async def test_without_hurry_messages_are_as_long_as_was_asked_for(served: Served) -> None:
    data = pcm(RATE_HZ)
    await served.put("a", data)
    playing = Playing(served, "a", block=duration(BLOCK_NS), coalesce=duration(4 * BLOCK_NS), pace=play.PACE_UNLIMITED)
    assert await playing.whole() == data
    first, second, *_ = [len(block.pcm) for block in playing.of("block")]
    assert (first, second) == (4 * RATE_HZ // 50, 5 * 4 * RATE_HZ // 50)


async def test_blocks_must_not_wait_for_more_than_half_of_the_lead(served: Served) -> None:
    await served.put("a", pcm(RATE_HZ))
    playing = Playing(served, "a", lead=duration(100 * NS_PER_MS), coalesce=duration(50 * NS_PER_MS + 1))
    await refused(playing.whole(), grpc.StatusCode.INVALID_ARGUMENT, "COALESCE_TOO_LONG")
    await until(lambda: served.cache.session_count == 0)
