"""Play: what is heard, and how a session is commanded."""

from __future__ import annotations

import itertools
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf import duration_pb2
from served import RATE_HZ, STEREO, Playing, Serve, Served, pcm, refused, until

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.reading import MAX_BLOCK_BYTES
from samplecache.service import translate
from samplecache.strategy.events import Overloaded
from samplecache.v1 import audio_pb2
from samplecache.v1 import playback_pb2 as play
from samplecache.v1 import samplecache_pb2 as pb

FRAMES = 20_000
DATA = pcm(FRAMES)
FRAME_BYTES = STEREO.frame_bytes
UNLIMITED = play.PACE_UNLIMITED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
OUT_OF_RANGE = grpc.StatusCode.OUT_OF_RANGE
VALUES = np.frombuffer(DATA, "<i2").reshape(-1, 2)


def check_continuous(blocks: list[play.PlayBlock], frame_bytes: int = FRAME_BYTES) -> None:
    """Check that each block begins where the one before ended."""
    for block, following in itertools.pairwise(blocks):
        assert following.frame_offset == block.frame_offset + len(block.pcm) // frame_bytes


# --- what is heard ---


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("channels", [1, 3])
async def test_stored_pcm_is_played_bit_exactly(served: Served, encoding: Encoding, channels: int) -> None:
    audio = AudioFormat(44_100, channels, encoding)
    # Any bytes will do, even floats that are no numbers: nothing may look at them.
    data = np.random.default_rng(7).bytes(9_999 * audio.frame_bytes)
    await served.put_cold("a", data, raw=audio)
    playing = Playing(served, "a", pace=UNLIMITED)
    started = await playing.begin()
    summary = await playing.finish()
    assert playing.pcm == data
    assert started.format == translate.audio_format(audio)
    assert started.block_frames == 882  # 20 ms
    assert (summary.stats.blocks, summary.stats.frames, summary.next_frame) == (12, 9_999, 9_999)
    check_continuous(playing.of("block"), audio.frame_bytes)


async def test_no_block_is_larger_than_promised_however_much_a_resampler_gives_out(served: Served) -> None:
    await served.put("a", DATA)
    wished = {"rate_hz": 768_000, "channels": 1, "encoding": audio_pb2.ENCODING_F64}
    playing = Playing(served, "a", pace=UNLIMITED, format=wished, block=duration_pb2.Duration(seconds=1))
    started = await playing.begin()
    await playing.finish()
    sizes = [len(block.pcm) for block in playing.of("block")]
    assert max(sizes) <= MAX_BLOCK_BYTES
    assert sum(sizes) // 8 == (2 * FRAMES * 768_000 + STEREO.rate_hz) // (2 * STEREO.rate_hz)
    offsets = [block.frame_offset for block in playing.of("block")]
    assert offsets == sorted(offsets)
    assert started.format.rate_hz == 768_000


@pytest.mark.parametrize(
    ("wished", "expected"),
    [
        ({"encoding": audio_pb2.ENCODING_F32}, (VALUES / 32768).astype("<f4")),
        ({"encoding": audio_pb2.ENCODING_F64}, VALUES / 32768),
        ({"encoding": audio_pb2.ENCODING_S32}, VALUES.astype("<i4") << 16),
        ({"channels": 1, "encoding": audio_pb2.ENCODING_F64}, VALUES.mean(axis=1) / 32768),
    ],
)
async def test_pcm_is_converted_to_the_format_asked_for(
    served: Served, wished: dict[str, Any], expected: np.ndarray[Any, Any]
) -> None:
    await served.put("a", DATA)
    playing = Playing(served, "a", pace=UNLIMITED, format=wished)
    started = await playing.begin()
    await playing.finish()
    assert playing.pcm == expected.tobytes()
    assert started.format.rate_hz == RATE_HZ
    assert started.format.channels == wished.get("channels", 2)


@pytest.mark.parametrize(
    ("rate_hz", "frames"), [(96_000, 40_000), (44_100, 18_375), (8_000, 3_333), (768_000, 320_000)]
)
async def test_resampling_keeps_the_length(served: Served, rate_hz: int, frames: int) -> None:
    await served.put("a", DATA)
    playing = Playing(served, "a", pace=UNLIMITED, format={"rate_hz": rate_hz})
    await playing.begin()
    summary = await playing.finish()
    assert len(playing.pcm) == frames * FRAME_BYTES
    assert (summary.stats.frames, summary.next_frame) == (FRAMES, FRAMES)
    assert all(0 < len(block.pcm) <= MAX_BLOCK_BYTES for block in playing.of("block"))


@pytest.mark.parametrize("gain", [0.0, 0.5, 16.0])
async def test_gain_is_linear(served: Served, gain: float) -> None:
    quiet = (VALUES // 32).astype("<i2")
    await served.put("a", quiet.tobytes())
    wished = {"encoding": audio_pb2.ENCODING_F64}
    heard = await Playing(served, "a", pace=UNLIMITED, gain=gain, format=wished).whole()
    assert heard == (quiet / 32768 * gain).tobytes()


async def test_a_part_is_played(served: Served) -> None:
    await served.put("a", DATA)
    playing = Playing(served, "a", start_frame=1_001, frames=5_000, pace=UNLIMITED)
    await playing.begin()
    summary = await playing.finish()
    assert playing.pcm == DATA[1_001 * FRAME_BYTES : 6_001 * FRAME_BYTES]
    assert (playing.of("block")[0].frame_offset, summary.next_frame) == (1_001, 6_001)
    nothing = Playing(served, "a", start_frame=FRAMES, loop=True)
    await nothing.begin()
    assert (await nothing.finish()) == play.PlaySummary(stats=nothing.of("summary")[0].stats, next_frame=FRAMES)
    assert nothing.of("block") == []


async def test_a_loop_begins_again_until_it_is_switched_off(served: Served) -> None:
    await served.put("a", DATA)
    playing = Playing(served, "a", start_frame=100, frames=2_500, loop=True)
    await playing.begin()
    while len(playing.pcm) < 3 * 2_500 * FRAME_BYTES:
        await playing.until("block")
    await playing.send(loop=False)
    summary = await playing.finish()
    rounds, rest = divmod(len(playing.pcm), 2_500 * FRAME_BYTES)
    assert rest == 0
    assert rounds >= 3
    assert playing.pcm == DATA[100 * FRAME_BYTES : 2_600 * FRAME_BYTES] * rounds
    assert summary.next_frame == 2_600


@pytest.mark.parametrize(("block", "frames"), [(1, 48), (5, 240), (100, 4_800), (1000, 16_384)])
async def test_blocks_are_as_long_as_asked_for_and_below_256_kib(served: Served, block: int, frames: int) -> None:
    await served.put("a", DATA)
    length = duration_pb2.Duration()
    length.FromMilliseconds(block)
    playing = Playing(served, "a", block=length, pace=UNLIMITED, format={"encoding": audio_pb2.ENCODING_F64})
    assert (await playing.begin()).block_frames == frames
    await playing.finish()
    assert {len(one.pcm) // (2 * 8) for one in playing.of("block")[:-1]} == {frames}
    assert playing.pcm == (VALUES / 32768).tobytes()


# --- what is refused ---


@pytest.mark.parametrize(
    ("wishes", "code", "reason"),
    [
        ({"sample_id": "b"}, grpc.StatusCode.NOT_FOUND, "SAMPLE_NOT_FOUND"),
        ({"sample_id": "../a"}, INVALID, "INVALID_SAMPLE_ID"),
        ({"start_frame": FRAMES + 1}, OUT_OF_RANGE, "SPAN_OUT_OF_RANGE"),
        ({"frames": FRAMES + 1}, OUT_OF_RANGE, "SPAN_OUT_OF_RANGE"),
        ({"start_frame": 2**64 - 1, "frames": 2**64 - 1}, OUT_OF_RANGE, "SPAN_OUT_OF_RANGE"),
        ({"strategy": "magic"}, INVALID, "UNKNOWN_STRATEGY"),
        ({"gain": float("nan")}, INVALID, "INVALID_GAIN"),
        ({"gain": float("inf")}, INVALID, "INVALID_GAIN"),
        ({"gain": -0.001}, INVALID, "INVALID_GAIN"),
        ({"gain": 16.001}, INVALID, "INVALID_GAIN"),
        ({"gain": 17.0}, INVALID, "INVALID_GAIN"),
        ({"format": {"rate_hz": 999}}, INVALID, "INVALID_FORMAT"),
        ({"format": {"rate_hz": 768_001}}, INVALID, "INVALID_FORMAT"),
        ({"format": {"channels": 65}}, INVALID, "INVALID_FORMAT"),
        ({"sample_id": "surround", "format": {"channels": 3}}, INVALID, "UNSUPPORTED_CHANNELS"),
        ({"format": {"encoding": 42}}, INVALID, "INVALID_FORMAT"),
        ({"block": {"nanos": 999_999}}, INVALID, "INVALID_BLOCK"),
        ({"block": {"seconds": 1, "nanos": 1}}, INVALID, "INVALID_BLOCK"),
        ({"block": {"seconds": -1}}, INVALID, "INVALID_DURATION"),
        ({"lead": {"seconds": 30, "nanos": 1}}, INVALID, "INVALID_LEAD"),
        ({"lead": {"seconds": 1, "nanos": -1}}, INVALID, "INVALID_DURATION"),
    ],
)
async def test_a_bad_start_is_refused(
    served: Served, wishes: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    await served.put("a", DATA)
    await served.put("surround", DATA, raw=AudioFormat(48_000, 5, Encoding.S16))
    before = served.state()
    playing = Playing(served, **{"sample_id": "a", **wishes})
    await refused(playing.whole(), code, reason)
    assert playing.seen == []
    assert served.cache.session_count == 0
    assert served.state() == before


@pytest.mark.parametrize(
    "first", [None, {}, {"stop": {}}, {"seek": {"frame": 1}}, {"position": {}}, {"gain": 1.0}, {"loop": True}]
)
async def test_the_first_command_must_be_a_start(served: Served, first: dict[str, Any] | None) -> None:
    playing = Playing(served)
    if first is None:
        await playing.call.done_writing()
    else:
        await playing.send(**first)
    await refused(playing.finish(), INVALID, "MISSING_START")


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ({}, INVALID, "UNEXPECTED_COMMAND"),
        ({"start": {"sample_id": "a"}}, INVALID, "UNEXPECTED_COMMAND"),
        ({"gain": float("nan")}, INVALID, "INVALID_GAIN"),
        ({"gain": -1.0}, INVALID, "INVALID_GAIN"),
        ({"gain": 17.0}, INVALID, "INVALID_GAIN"),
        ({"seek": {"frame": FRAMES + 1}}, OUT_OF_RANGE, "SEEK_OUT_OF_RANGE"),
        ({"seek": {"frame": 2**64 - 1}}, OUT_OF_RANGE, "SEEK_OUT_OF_RANGE"),
    ],
)
async def test_a_bad_command_ends_the_session(
    served: Served, command: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    await served.put("a", DATA)
    playing = Playing(served, "a", loop=True)
    await playing.begin()
    await playing.send(**command)
    await refused(playing.finish(), code, reason)
    await until(lambda: served.cache.session_count == 0)
    assert playing.pcm == (DATA * 2)[: len(playing.pcm)]


async def test_sessions_are_bounded_and_their_places_come_back(serve: Serve) -> None:
    served = await serve(max_sessions=2)
    await served.put("a", DATA)
    playings = [Playing(served, "a", loop=True) for _ in range(2)]
    for playing in playings:
        await playing.begin()
    third = Playing(served, "a")
    await refused(third.whole(), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_SESSIONS")
    for playing in playings:
        playing.call.cancel()
    await until(lambda: served.cache.session_count == 0)
    assert await Playing(served, "a", pace=UNLIMITED).whole() == DATA


# --- commands ---


@pytest.mark.parametrize("frame", [0, 1, 7_777, FRAMES - 1, FRAMES])
async def test_after_a_seek_playing_goes_on_there(served: Served, frame: int) -> None:
    await served.put("a", DATA)
    playing = Playing(served, "a", start_frame=3_000)
    await playing.begin()
    await playing.until("block")
    await playing.send(seek={"frame": frame})
    assert (await playing.until("seeked")).frame == frame
    before = len(playing.of("block"))
    summary = await playing.finish()
    after = playing.of("block")[before:]
    assert b"".join(block.pcm for block in after) == DATA[frame * FRAME_BYTES :]
    assert [block.frame_offset for block in after[:1]] == [frame][: len(after)]
    check_continuous(after)
    check_continuous(playing.of("block")[:before])
    assert summary.next_frame == FRAMES


async def test_a_position_is_that_of_the_next_block(served: Served) -> None:
    await served.put("a", DATA)
    playing = Playing(served, "a")
    await playing.begin()
    await playing.until("block")
    await playing.send(position={})
    report = await playing.until("position")
    blocks = playing.of("block")
    assert report.frame == blocks[-1].frame_offset + len(blocks[-1].pcm) // FRAME_BYTES
    assert (report.stats.blocks, report.stats.frames) == (len(blocks), report.frame)
    assert report.stats.first_block.ToNanoseconds() > 0
    assert (await playing.until("block")).frame_offset == report.frame
    await playing.finish()


async def test_a_stop_ends_with_the_summary(served: Served) -> None:
    await served.put("a", DATA)
    playing = Playing(served, "a", loop=True)
    await playing.begin()
    await playing.until("block")
    await playing.send(stop={})
    await playing.until("summary")
    assert await playing.next() is None
    assert await playing.call.code() is grpc.StatusCode.OK
    summary, blocks = playing.of("summary")[0], playing.of("block")
    assert summary.stats.blocks == len(blocks)
    assert summary.next_frame == blocks[-1].frame_offset + len(blocks[-1].pcm) // FRAME_BYTES
    await until(lambda: served.cache.session_count == 0)


async def test_gain_changes_from_the_next_block_on(served: Served) -> None:
    await served.put("a", DATA)
    playing = Playing(served, "a")
    await playing.begin()
    await playing.until("block")
    await playing.send(gain=0.0)
    await playing.send(position={})
    changed = (await playing.until("position")).frame
    await playing.finish()
    assert playing.pcm == DATA[: changed * FRAME_BYTES] + bytes(len(DATA) - changed * FRAME_BYTES)


async def test_a_flood_of_commands_is_answered_one_by_one(served: Served) -> None:
    """More commands than the server takes off the wire at a time wait; none is lost."""
    await served.put("a", DATA)
    playing = Playing(served, "a", loop=True)
    await playing.begin()
    for frame in range(1_000):
        await playing.send(seek={"frame": frame})
    await playing.send(stop={})
    await playing.finish()
    assert [seeked.frame for seeked in playing.of("seeked")] == list(range(1_000))


async def test_a_session_plays_on_when_the_client_half_closes(served: Served) -> None:
    await served.put("a", DATA)
    playing = Playing(served, "a")
    await playing.send(start={"sample_id": "a"})
    await playing.call.done_writing()  # before the first answer is read
    await playing.finish()
    assert playing.pcm == DATA


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_a_client_that_vanishes_leaves_nothing_behind(served: Served, how: str) -> None:
    await served.put("a", DATA)
    async with grpc.aio.insecure_channel(served.address) as channel:
        playing = Playing(Served(served.server, channel, served.address), "a", loop=True, strategy="mlock")
        await playing.begin()
        await playing.until("block")
        assert served.cache.session_count == 1
        await until(lambda: served.cache.ledger.locked_bytes == 81_920)
        if how == "cancel":
            playing.call.cancel()
    await until(lambda: served.cache.session_count == 0)
    await until(lambda: served.cache.ledger.locked_bytes == 0)
    content = served.cache.store.get("a").content
    assert (content.leases, content.playing) == (0, 0)


async def test_what_was_played_is_summed_up_per_strategy(served: Served) -> None:
    await served.put("a", DATA)
    for strategy in ("none", "touch", "touch"):
        await Playing(served, "a", strategy=strategy, pace=UNLIMITED).whole()
    stats = await served.stub.GetStats(pb.GetStatsRequest())
    sums = {each.strategy: (each.sessions, each.blocks) for each in stats.strategies}
    assert sums == {"none": (1, 21), "touch": (2, 42)}


async def test_a_session_that_has_to_yield_is_told_and_gets_its_pcm_all_the_same(served: Served) -> None:
    """Its pages do not come while it yields; each of its blocks waits, and then for the device."""
    await served.put_cold("a", DATA)
    playing = Playing(served, "a", strategy="none", frames=2000)
    started = await playing.begin()
    (session,) = served.cache._sessions
    session.place.shed = True
    session.place.notice = Overloaded(
        served.cache.clock.now_ns(),
        started.session_id,
        "a",
        "none",
        shed=True,
        needed_bytes_per_s=2,
        device_bytes_per_s=1,
    )
    overload = await playing.until("overload")
    assert overload == play.Overload(shed=True, needed_bytes_per_s=2, device_bytes_per_s=1)
    session.place.shed = False
    await playing.finish()
    assert playing.pcm == DATA[: 2000 * FRAME_BYTES]
