"""Blocks in RAM are read many at a time, others one by one; what comes of it is the same."""

from __future__ import annotations

from typing import Any

import pytest
from cache_parts import PAGE_BYTES, PAGE_FRAMES, GatedKernel, make_cache, pcm, put, put_cold
from session_parts import BLOCK_FRAMES, closed, opened, play, recording

from samplecache.cache import Session
from samplecache.cache.reading import BATCH_BYTES, ReadBatch
from samplecache.clock import NS_PER_S
from samplecache.errors import StateError
from samplecache.kernel.port import FaultCounts, Span

UNPACED: dict[str, Any] = {"lead_ns": None}
PACED: dict[str, Any] = {"lead_ns": 10 * NS_PER_S}


def batch_of(session: Session) -> ReadBatch | None:
    block = session.next_block()
    assert block is not None
    return session.read_resident(block)


def deliver(session: Session, batch: ReadBatch) -> None:
    session.delivered(batch.read)
    while session.playback.next_frame < batch.frames.stop:
        block = session.next_block()
        assert block is not None
        session.delivered_in_time(block.frames)


@pytest.mark.parametrize(
    ("options", "most_bytes"),
    [(UNPACED, BATCH_BYTES), (PACED, 20 * 2 * BLOCK_FRAMES)],  # 400 ms
    ids=["unpaced", "paced"],
)
def test_what_is_in_ram_is_read_in_batches_of_whole_blocks(options: dict[str, Any], most_bytes: int) -> None:
    with make_cache(recording()) as cache:
        data = pcm(100 * PAGE_BYTES)
        put(cache, "pad", data)
        session = opened(cache, **options)
        most_frames = most_bytes // 2 // BLOCK_FRAMES * BLOCK_FRAMES
        played = bytearray()
        while session.next_block() is not None:
            batch = batch_of(session)
            assert batch is not None
            assert batch.frames == range(len(played) // 2, min(len(played) // 2 + most_frames, len(data) // 2))
            played += batch.read.pcm
            deliver(session, batch)
        assert played == data
        stats = session.playback.stats
        assert (stats.blocks, stats.frames) == (-(-len(data) // 2 // BLOCK_FRAMES), len(data) // 2)
        assert (stats.late_blocks, stats.faults) == (0, FaultCounts())
        closed(cache, session)


def test_nothing_cold_is_read_ahead_and_nothing_faults_but_what_is_asked_for() -> None:
    kernel = GatedKernel()
    with make_cache(recording(), kernel=kernel) as cache:
        data = put_cold(cache, "pad", 40)
        region = cache.store.get("pad").content.region
        kernel.touch(region, Span(0, 10))  # what will be played first is in RAM, the rest is not
        session = opened(cache, lead_ns=None)
        batches, singles, played = [], 0, bytearray()
        while (block := session.next_block()) is not None:
            if (batch := session.read_resident(block)) is not None:
                batches.append(batch.frames)
                played += batch.read.pcm
                deliver(session, batch)
            else:
                read = session.read(block)
                singles += read.reading.faults.major
                played += read.pcm
                session.delivered(read)
        assert played == data
        # A batch that would reach what is cold is cut to its first block.
        warm_blocks = 10 * PAGE_FRAMES // BLOCK_FRAMES
        assert [frames.start for frames in batches[:warm_blocks]] == [BLOCK_FRAMES * n for n in range(warm_blocks)]
        assert all(len(frames) <= BLOCK_FRAMES for frames in batches)
        assert singles == session.playback.stats.faults.major > 0
        closed(cache, session)


def test_after_a_seek_batches_are_tried_again() -> None:
    with make_cache(recording()) as cache:
        put_cold(cache, "pad", 200)
        cache.kernel.touch(cache.store.get("pad").content.region, Span(50, 200))
        session = opened(cache, lead_ns=None)
        assert batch_of(session) is None
        session.seek(60 * PAGE_FRAMES)
        batch = batch_of(session)
        assert batch is not None
        first, most_frames = 60 * PAGE_FRAMES, BATCH_BYTES // 2 // BLOCK_FRAMES * BLOCK_FRAMES
        assert batch.frames == range(first, first + most_frames)
        closed(cache, session)


def test_a_loop_is_read_round_by_round() -> None:
    with make_cache(recording()) as cache:
        data = pcm(PAGE_BYTES)
        put(cache, "pad", data)
        session = opened(cache, lead_ns=None, loop=True)
        for _ in range(3):
            batch = batch_of(session)
            assert batch is not None
            assert (batch.frames, batch.read.pcm) == (range(PAGE_FRAMES), data)
            deliver(session, batch)
        assert session.playback.stats.frames == 3 * PAGE_FRAMES
        closed(cache, session)


def test_a_gain_applies_to_all_of_a_batch_and_a_resampler_gets_one_block_at_a_time() -> None:
    with make_cache(recording()) as cache:
        put(cache, "pad", pcm(20 * PAGE_BYTES))
        expected = play(opened(cache, gain=0.5))
        session = opened(cache, gain=0.5, **UNPACED)
        batch = batch_of(session)
        assert batch is not None
        assert batch.read.pcm == expected
        session = opened(cache, rate_hz=44_100, **UNPACED)
        batch = batch_of(session)
        assert batch is not None
        assert batch.frames == range(BLOCK_FRAMES)


def test_a_closed_session_reads_nothing() -> None:
    with make_cache(recording()) as cache:
        put(cache, "pad", pcm(PAGE_BYTES))
        session = opened(cache)
        block = session.next_block()
        closed(cache, session)
        assert block is not None
        with pytest.raises(StateError):
            session.read_resident(block)


def test_who_wants_a_block_at_once_gets_it_alone() -> None:
    with make_cache(recording()) as cache:
        data = pcm(20 * PAGE_BYTES)
        put(cache, "pad", data)
        session = opened(cache, **UNPACED)
        block = session.next_block()
        assert block is not None
        batch = session.read_resident(block, alone=True)
        assert batch is not None
        assert (batch.frames, bytes(batch.read.pcm)) == (range(BLOCK_FRAMES), data[: 2 * BLOCK_FRAMES])
