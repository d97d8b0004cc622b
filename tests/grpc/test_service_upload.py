"""PutSample: what becomes a sample, and what leaves the store as it was."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from served import FINISH, STEREO, Playing, Serve, Served, chunk, chunks, pcm, refused, start

from samplecache.service import translate
from samplecache.v1 import audio_pb2
from samplecache.v1 import playback_pb2 as play
from samplecache.v1 import samplecache_pb2 as pb

FRAMES = 20_000
DATA = pcm(FRAMES)
UNLIMITED = play.PACE_UNLIMITED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def file_of(container: str, codec: str, data: bytes = DATA) -> bytes:
    """A file in which libsndfile stores stereo S16 PCM."""
    file = io.BytesIO()
    frames = np.frombuffer(data, "<i2").reshape(-1, 2)
    with soundfile.SoundFile(file, "w", 48_000, 2, format=container, subtype=codec) as output:
        for begin in range(0, len(frames), 4096):
            output.write(frames[begin : begin + 4096])
    return file.getvalue()


# --- what becomes a sample ---


async def test_raw_pcm_becomes_the_sample_that_was_declared(served: Served) -> None:
    response = await served.put("a.b_c-1", DATA, tags=["kick", "ü"], pinned=True, strategy="willneed")
    sample = response.sample
    assert not response.deduplicated
    assert list(response.evicted_sample_ids) == []
    assert sample.create_time.seconds > 0
    sample.ClearField("create_time")
    page_bytes = served.cache.kernel.page_bytes
    assert translate.audio_format(STEREO) == sample.format
    assert (sample.sample_id, sample.frames, sample.size_bytes) == ("a.b_c-1", FRAMES, len(DATA))
    assert sample.charged_bytes == -(-len(DATA) // page_bytes) * page_bytes
    assert sample.content_sha256 == hashlib.sha256(DATA).digest()
    assert (sample.source, list(sample.tags), sample.pinned, sample.strategy) == (
        "raw",
        ["kick", "ü"],
        True,
        "willneed",
    )
    assert (sample.shared_with, sample.playing) == (0, 0)
    assert await Playing(served, "a.b_c-1", pace=UNLIMITED).whole() == DATA


@pytest.mark.parametrize(
    ("container", "codec", "source", "encoding"),
    [
        ("WAV", "PCM_16", "WAV PCM_16", audio_pb2.ENCODING_S16),
        ("FLAC", "PCM_16", "FLAC PCM_16", audio_pb2.ENCODING_S16),
        ("AIFF", "PCM_16", "AIFF PCM_16", audio_pb2.ENCODING_S16),
        ("OGG", "VORBIS", "OGG VORBIS", audio_pb2.ENCODING_F32),
        ("OGG", "OPUS", "OGG OPUS", audio_pb2.ENCODING_F32),
        ("MP3", "MPEG_LAYER_III", "MP3 MPEG_LAYER_III", audio_pb2.ENCODING_F32),
    ],
)
async def test_files_are_decoded_to_what_libsndfile_reads(
    served: Served, container: str, codec: str, source: str, encoding: Any
) -> None:
    data = file_of(container, codec)
    sample = (await served.put("file", data, raw=None)).sample
    lossless = encoding == audio_pb2.ENCODING_S16
    expected, rate_hz = soundfile.read(io.BytesIO(data), dtype="int16" if lossless else "float32", always_2d=True)
    assert (sample.source, sample.frames) == (source, len(expected))
    assert sample.format == audio_pb2.AudioFormat(rate_hz=rate_hz, channels=2, encoding=encoding)
    assert await Playing(served, "file", pace=UNLIMITED).whole() == expected.tobytes()
    assert sample.content_sha256 == hashlib.sha256(expected.tobytes()).digest()


async def test_a_file_is_stored_in_the_encoding_that_was_asked_for(served: Served) -> None:
    data = file_of("WAV", "PCM_16")
    sample = (await served.put("wide", data, raw=None, store_encoding=audio_pb2.ENCODING_F64)).sample
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float64")
    assert sample.format.encoding == audio_pb2.ENCODING_F64
    assert await Playing(served, "wide", pace=UNLIMITED).whole() == expected.tobytes()


async def test_a_replaced_sample_plays_out_bit_exactly(served: Served) -> None:
    old, new = pcm(30_000, seed=1), pcm(30_000, seed=2)
    await served.put("a", old)
    playing = Playing(served, "a")
    started = await playing.begin()
    assert (await served.put("a", new, replace=True)).sample.content_sha256 == hashlib.sha256(new).digest()
    assert await Playing(served, "a", pace=UNLIMITED).whole() == new
    await playing.finish()
    assert playing.pcm == old
    assert started.sample.content_sha256 == hashlib.sha256(old).digest()


async def test_equal_content_is_stored_once(served: Served) -> None:
    await served.put("a", DATA)
    used_bytes = served.cache.store.used_bytes
    response = await served.put("b", file_of("WAV", "PCM_16"), raw=None)
    assert response.deduplicated
    assert response.sample.shared_with == 1
    assert (served.cache.store.used_bytes, served.cache.store.content_count) == (used_bytes, 1)
    await served.stub.DeleteSample(pb.DeleteSampleRequest(sample_id="a"))
    assert await Playing(served, "b", pace=UNLIMITED).whole() == DATA


# --- what does not ---


@dataclass(frozen=True)
class Broken:
    """Messages that make no sample, and the answer to them."""

    messages: Callable[[], list[pb.PutSampleRequest]]
    code: grpc.StatusCode
    reason: str


def broken(messages: Callable[[], list[pb.PutSampleRequest]], code: grpc.StatusCode, reason: str) -> Any:
    return pytest.param(Broken(messages, code, reason))


def whole(sample_id: str, data: bytes = DATA, **wishes: Any) -> Callable[[], list[pb.PutSampleRequest]]:
    """A faultless stream but for what is wished."""
    return lambda: [start(sample_id, data, **wishes), *chunks(data), FINISH]


ENDS = {
    "nothing at all": broken(list, INVALID, "MISSING_START"),
    "chunk first": broken(lambda: [chunk(0, DATA), FINISH], INVALID, "MISSING_START"),
    "finish first": broken(lambda: [FINISH], INVALID, "MISSING_START"),
    "empty message first": broken(lambda: [pb.PutSampleRequest()], INVALID, "MISSING_START"),
    "no finish": broken(lambda: whole("new")()[:-1], grpc.StatusCode.DATA_LOSS, "UPLOAD_INCOMPLETE"),
    "start only": broken(lambda: whole("new")()[:1], grpc.StatusCode.DATA_LOSS, "UPLOAD_INCOMPLETE"),
    "finish too soon": broken(
        lambda: [start("new", DATA), chunk(0, DATA[:-1]), FINISH], grpc.StatusCode.DATA_LOSS, "UPLOAD_INCOMPLETE"
    ),
    "wrong sha256": broken(whole("new", sha256=bytes(32)), grpc.StatusCode.DATA_LOSS, "CHECKSUM_MISMATCH"),
    "gap": broken(
        lambda: [start("new", DATA), chunk(0, DATA[:100]), chunk(101, DATA[101:])],
        grpc.StatusCode.OUT_OF_RANGE,
        "UPLOAD_OFFSET_MISMATCH",
    ),
    "overlap": broken(
        lambda: [start("new", DATA), chunk(0, DATA[:100]), chunk(99, DATA[99:])],
        grpc.StatusCode.OUT_OF_RANGE,
        "UPLOAD_OFFSET_MISMATCH",
    ),
    "too long": broken(
        lambda: [start("new", DATA), chunk(0, DATA), chunk(len(DATA), b"x"), FINISH],
        grpc.StatusCode.OUT_OF_RANGE,
        "UPLOAD_TOO_LONG",
    ),
    "second start": broken(
        lambda: [start("new", DATA), chunk(0, DATA), start("new", DATA)], INVALID, "UNEXPECTED_PART"
    ),
    "empty message": broken(lambda: [start("new", DATA), pb.PutSampleRequest()], INVALID, "UNEXPECTED_PART"),
    "empty chunk": broken(lambda: [start("new", DATA), chunk(0, b"")], INVALID, "UNEXPECTED_PART"),
    "no size": broken(whole("new", total_bytes=0), INVALID, "INVALID_DECLARATION"),
    "no sha256": broken(whole("new", sha256=b""), INVALID, "INVALID_DECLARATION"),
    "short sha256": broken(whole("new", sha256=bytes(31)), INVALID, "INVALID_DECLARATION"),
    "no id": broken(whole(""), INVALID, "INVALID_SAMPLE_ID"),
    "path": broken(whole("../etc/passwd"), INVALID, "INVALID_SAMPLE_ID"),
    "slash": broken(whole("a/b"), INVALID, "INVALID_SAMPLE_ID"),
    "dot first": broken(whole(".a"), INVALID, "INVALID_SAMPLE_ID"),
    "upper case": broken(whole("A"), INVALID, "INVALID_SAMPLE_ID"),
    "unicode": broken(whole("größe"), INVALID, "INVALID_SAMPLE_ID"),
    "zero byte": broken(whole("a\0b"), INVALID, "INVALID_SAMPLE_ID"),
    "line end": broken(whole("a\n"), INVALID, "INVALID_SAMPLE_ID"),
    "64 characters": broken(whole("a" * 64), INVALID, "INVALID_SAMPLE_ID"),
    "a million characters": broken(whole("ü" * 1_000_000), INVALID, "INVALID_SAMPLE_ID"),
    "id taken": broken(whole("kept"), grpc.StatusCode.ALREADY_EXISTS, "SAMPLE_EXISTS"),
    "17 tags": broken(whole("new", tags=[f"t{n}" for n in range(17)]), INVALID, "INVALID_TAG"),
    "empty tag": broken(whole("new", tags=[""]), INVALID, "INVALID_TAG"),
    "long tag": broken(whole("new", tags=["t" * 65]), INVALID, "INVALID_TAG"),
    "unprintable tag": broken(whole("new", tags=["a\x07"]), INVALID, "INVALID_TAG"),
    "unknown strategy": broken(whole("new", strategy="magic"), INVALID, "UNKNOWN_STRATEGY"),
    "endless strategy": broken(whole("new", strategy="ü" * 1_000_000), INVALID, "UNKNOWN_STRATEGY"),
    "bad upload id": broken(whole("new", upload_id="a b"), INVALID, "INVALID_UPLOAD_ID"),
    "long upload id": broken(whole("new", upload_id="a" * 65), INVALID, "INVALID_UPLOAD_ID"),
    "no rate": broken(
        whole("new", raw=None, raw_format=audio_pb2.AudioFormat(channels=2, encoding=audio_pb2.ENCODING_S16)),
        INVALID,
        "INVALID_FORMAT",
    ),
    "no encoding": broken(
        whole("new", raw=None, raw_format=audio_pb2.AudioFormat(rate_hz=48_000, channels=2)), INVALID, "INVALID_FORMAT"
    ),
    "unknown encoding": broken(whole("new", raw=None, store_encoding=99), INVALID, "INVALID_FORMAT"),
    "65 channels": broken(
        whole(
            "new",
            raw=None,
            raw_format=audio_pb2.AudioFormat(rate_hz=48_000, channels=65, encoding=audio_pb2.ENCODING_U8),
        ),
        INVALID,
        "INVALID_FORMAT",
    ),
    "part of a frame": broken(whole("new", DATA[:-1]), INVALID, "PARTIAL_FRAME"),
    "larger than an upload may be": broken(whole("new", raw=None, total_bytes=1 << 62), EXHAUSTED, "UPLOAD_TOO_LARGE"),
    "text": broken(whole("new", b"these are words, not audio. " * 100, raw=None), INVALID, "UNDECODABLE_AUDIO"),
    "noise": broken(whole("new", DATA, raw=None), INVALID, "UNDECODABLE_AUDIO"),
    "one byte": broken(whole("new", b"R", raw=None), INVALID, "UNDECODABLE_AUDIO"),
    "header only": broken(whole("new", file_of("WAV", "PCM_16", b""), raw=None), INVALID, "EMPTY_AUDIO"),
    "truncated WAV": broken(whole("new", file_of("WAV", "PCM_16")[:-1000], raw=None), INVALID, "TRUNCATED_AUDIO"),
    "PCM that calls itself FLAC": broken(whole("new", b"fLaC" + DATA, raw=None), INVALID, "UNDECODABLE_AUDIO"),
}


@pytest.mark.parametrize("case", ENDS.values(), ids=ENDS.keys())
async def test_a_bad_upload_is_refused_and_changes_nothing(served: Served, case: Broken) -> None:
    await served.put("kept", pcm(1000, seed=3))
    before = served.state()
    await refused(served.send(case.messages()), case.code, case.reason)
    assert served.state() == before
    # The server lives on, and no id is left reserved.
    assert (await served.put("new", DATA)).sample.frames == FRAMES


@pytest.mark.parametrize("codec", ["FLAC", "OGG"])
async def test_a_truncated_compressed_file_makes_no_sample(served: Served, codec: str) -> None:
    data = file_of(codec, {"FLAC": "PCM_16", "OGG": "VORBIS"}[codec])
    before = served.state()
    with pytest.raises(grpc.RpcError) as caught:
        await served.put("cut", data[: len(data) // 2], raw=None)
    assert caught.value.code() is INVALID
    assert served.state() == before


async def test_a_decompression_bomb_is_refused(serve: Serve) -> None:
    served = await serve(max_decoded=1 << 20)
    bomb = file_of("FLAC", "PCM_16", bytes(8 << 20))
    assert len(bomb) < 64 << 10
    before = served.state()
    await refused(served.put("bomb", bomb, raw=None), EXHAUSTED, "DECODED_TOO_LARGE")
    assert served.state() == before


async def test_raw_pcm_is_bound_by_the_same_limit(serve: Serve) -> None:
    served = await serve(max_decoded=64 << 10)
    before = served.state()
    await refused(served.put("long", DATA), EXHAUSTED, "DECODED_TOO_LARGE")
    assert served.state() == before


# --- a full store ---


async def test_a_full_store_evicts_the_least_recently_used(serve: Serve) -> None:
    served = await serve(budget=3 * len(DATA))
    for number in range(2):
        await served.put(f"s{number}", pcm(FRAMES, seed=number))
    await Playing(served, "s0", pace=UNLIMITED).whole()
    response = await served.put("s2", pcm(FRAMES, seed=9))
    assert list(response.evicted_sample_ids) == ["s1"]
    assert served.cache.store.evictions == 1


async def test_pins_are_not_evicted(serve: Serve) -> None:
    served = await serve(budget=3 * len(DATA))
    for number in range(2):
        await served.put(f"s{number}", pcm(FRAMES, seed=number), pinned=True)
    before = served.state()
    info = await refused(served.put("s2", pcm(FRAMES, seed=9)), EXHAUSTED, "STORE_FULL")
    assert int(info.metadata["budget_bytes"]) == 3 * len(DATA)
    assert served.state() == before


async def test_what_is_playing_is_not_evicted(serve: Serve) -> None:
    served = await serve(budget=2 * len(DATA))
    await served.put("s0", DATA)
    playing = Playing(served, "s0")
    await playing.begin()
    await refused(served.put("s1", pcm(FRAMES, seed=9)), EXHAUSTED, "STORE_FULL")
    await playing.finish()
    assert playing.pcm == DATA


async def test_the_number_of_samples_is_bounded(serve: Serve) -> None:
    served = await serve(max_samples=1)
    await served.put("s0", DATA)
    await refused(served.put("s1", DATA), EXHAUSTED, "LIMIT_REACHED")
    await served.put("s0", pcm(FRAMES, seed=2), replace=True)
