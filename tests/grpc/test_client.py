"""The client against a real server on the simulated kernel."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from server_process import ServerProcess, running_server

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.client import Client, ClientError
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import AudioError, InvalidSampleIdError
from samplecache.v1 import playback_pb2 as playback
from samplecache.v1 import sample_pb2
from samplecache.v1 import samplecache_pb2 as pb

MONO = AudioFormat(8_000, 1, Encoding.S16)
PAGE_BYTES = 4096
SLOW_PAGES = 4096
"""16 MiB: a simulated disk of 2008 needs hundreds of milliseconds to bring that in."""


def ramp(frames: int) -> bytes:
    """Frames of which each tells its number, modulo 2 ** 15."""
    return (np.arange(frames) % 32_768).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.target) as connected:
        yield connected
        for sample in list(connected.list_samples()):
            connected.delete(sample.sample_id)


def put(client: Client, sample_id: str, pcm: bytes, **wishes: object) -> pb.PutSampleResponse:
    return client.put_file(io.BytesIO(pcm), sample_id, raw_format=MONO, **wishes)  # type: ignore[arg-type]


# --- samples ---


def test_put_stores_what_was_sent_and_says_how(client: Client) -> None:
    sent: list[int] = []
    pcm = ramp(100_000)
    response = put(
        client, "ramp", pcm, tags=["a", "b"], pinned=True, strategy="willneed", progress=sent.append, resumable=False
    )
    sample = response.sample
    assert (sample.sample_id, sample.frames, sample.size_bytes) == ("ramp", 100_000, 200_000)
    assert (list(sample.tags), sample.pinned, sample.strategy) == (["a", "b"], True, "willneed")
    assert sent == [0, 65_536, 131_072, 196_608, 200_000]
    with client.play("ramp", realtime=False) as stream:
        assert b"".join(event.pcm for event in stream if isinstance(event, playback.PlayBlock)) == pcm


def test_put_makes_the_id_from_the_file_name_and_reads_paths(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "Snare (Live) 2.raw"
    file.write_bytes(ramp(10))
    assert client.put_file(str(file), raw_format=MONO).sample.sample_id == "snare-live-2"
    assert client.put_file(file, raw_format=MONO, replace=True).sample.sample_id == "snare-live-2"
    with file.open("rb") as opened, pytest.raises(ClientError) as caught:
        client.put_file(opened, raw_format=MONO)
    assert caught.value.code is grpc.StatusCode.ALREADY_EXISTS


def test_put_spools_what_cannot_seek(client: Client) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    pcm = ramp(50_000)
    assert client.put_file(Pipe(pcm), "piped", raw_format=MONO).sample.frames == 50_000


def test_put_converts_to_the_encoding_that_was_asked_for(client: Client, tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8_000, subtype="PCM_16")
    sample = client.put_file(tmp_path / "a.wav", store_encoding=Encoding.F32).sample
    assert (sample.size_bytes, sample.source) == (400, "WAV PCM_16")


@pytest.mark.parametrize(("source", "error"), [(io.BytesIO(b""), AudioError), (io.BytesIO(b"x"), InvalidSampleIdError)])
def test_put_refuses_before_it_connects(source: io.BytesIO, error: type[Exception]) -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(error):
        client.put_file(source, "empty" if error is AudioError else None)


def test_list_goes_through_all_pages_by_id_and_tag(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samplecache.client.client.PAGE_SIZE", 2)
    for name in "dbeac":
        put(client, name, ramp(10), tags=["vowel" if name in "ae" else "consonant"])
    assert [sample.sample_id for sample in client.list_samples()] == ["a", "b", "c", "d", "e"]
    assert [sample.sample_id for sample in client.list_samples(["vowel"])] == ["a", "e"]


def test_update_changes_only_what_is_given(client: Client) -> None:
    put(client, "ramp", ramp(10), tags=["old"], pinned=True, strategy="touch")
    assert client.update("ramp", pinned=False).tags == ["old"]
    changed = client.update("ramp", tags=[], strategy="")
    assert (list(changed.tags), changed.pinned, changed.strategy) == ([], False, "")
    assert client.get("ramp") == changed


def test_delete_of_what_is_not_there(client: Client) -> None:
    client.delete("nothing", allow_missing=True)
    with pytest.raises(ClientError) as caught:
        client.delete("nothing")
    error = caught.value
    assert (error.code, error.reason_code) == (grpc.StatusCode.NOT_FOUND, "SAMPLE_NOT_FOUND")
    assert error.remedy
    assert str(error) == f"{error.message}. {error.remedy}."
    assert error.message.count(error.remedy) == 0


# --- paging ---


def test_prefetch_of_an_evicted_sample_brings_all_in(client: Client) -> None:
    put(client, "ramp", ramp(20 * PAGE_BYTES // 2))
    assert client.evict("ramp", timeout_ns=10 * NS_PER_S) == pb.EvictSampleResponse(pages=20, pages_left=0)
    assert client.residency("ramp") == sample_pb2.Residency(page_bytes=PAGE_BYTES, swapped=20, exact=True)
    events = list(client.prefetch("ramp", strategy="populate", deadline_ns=10 * NS_PER_S))
    assert isinstance(events[0], playback.StrategyBinding)
    assert events[0].strategy == "populate"
    result = events[-1]
    assert isinstance(result, pb.PrefetchResult)
    assert (result.pages_needed, result.pages_brought_in, result.in_time) == (20, 20, True)
    assert client.residency("ramp", with_map=True).map == bytes([3]) * 20


def test_a_cancelled_prefetch_stops(client: Client) -> None:
    put(client, "large", ramp(SLOW_PAGES * PAGE_BYTES // 2))
    assert client.evict("large").pages_left == 0
    with client.watch([pb.EVENT_KIND_PREFETCH_DONE]) as events:
        assert next(events).HasField("started")
        call = client.prefetch("large", strategy="touch")
        assert isinstance(next(call), playback.StrategyBinding)
        assert next(event for event in call if isinstance(event, pb.PrefetchProgress) and event.pages_needed)
        call.cancel()
        with pytest.raises(ClientError, match="was cancelled"):
            call.result()
        done = next(events).prefetch_done
    assert done.cancelled
    assert done.result.pages_brought_in < done.result.pages_needed == SLOW_PAGES
    assert client.residency("large").swapped > 0


# --- playback ---


def first(stream: Iterator[object], kind: type) -> object:
    """Return the next event of that kind; those before it are passed over."""
    return next(event for event in stream if isinstance(event, kind))


def test_play_converts_and_cuts(client: Client) -> None:
    put(client, "ramp", ramp(8_000))
    with client.play(
        "ramp", start_frame=100, frames=800, channels=2, encoding=Encoding.F32, block_ns=50 * NS_PER_MS, realtime=False
    ) as stream:
        started, *blocks, summary = stream
    assert isinstance(started, playback.PlayStarted)
    assert (started.format.rate_hz, started.format.channels, started.block_frames) == (8_000, 2, 400)
    assert [block.frame_offset for block in blocks if isinstance(block, playback.PlayBlock)] == [100, 500]
    pcm = np.concatenate([np.frombuffer(block.pcm, "<f4") for block in blocks if isinstance(block, playback.PlayBlock)])
    assert np.array_equal(pcm, np.repeat(np.arange(100, 900) / 32_768, 2).astype("f4"))
    assert isinstance(summary, playback.PlaySummary)
    assert (summary.next_frame, summary.stats.blocks, summary.stats.frames) == (900, 2, 800)


def test_seek_goes_on_elsewhere_and_stop_ends(client: Client) -> None:
    put(client, "ramp", ramp(800_000))
    with client.play("ramp") as stream:
        first(stream, playback.PlayBlock)
        stream.seek(500_000)
        assert first(stream, playback.PlaySeeked) == playback.PlaySeeked(frame=500_000)
        block = first(stream, playback.PlayBlock)
        assert block == playback.PlayBlock(frame_offset=500_000, pcm=ramp(500_160)[-320:])
        stream.stop()
        summary = first(stream, playback.PlaySummary)
        assert isinstance(summary, playback.PlaySummary)
        assert 500_160 <= summary.next_frame < 800_000
        assert list(stream) == []
        stream.seek(0)  # does nothing any more


def test_gain_from_another_thread_holds_from_a_next_block_on(client: Client) -> None:
    put(client, "loud", (np.full(800_000, 1_000, "<i2")).tobytes())
    with client.play("loud", gain=2.0) as stream:
        block = first(stream, playback.PlayBlock)
        assert isinstance(block, playback.PlayBlock)
        assert set(np.frombuffer(block.pcm, "<i2")) == {2_000}
        thread = threading.Thread(target=stream.set_gain, args=(0.5,))
        thread.start()
        thread.join()
        levels = (set(np.frombuffer(event.pcm, "<i2")) for event in stream if isinstance(event, playback.PlayBlock))
        assert next(level for level in levels if level != {2_000}) == {500}


def test_loop_plays_on_until_it_is_switched_off(client: Client) -> None:
    put(client, "short", ramp(400))
    with client.play("short", loop=True) as stream:
        offsets = []
        for event in stream:
            if isinstance(event, playback.PlayBlock):
                offsets.append(event.frame_offset)
                if len(offsets) == 7:
                    stream.set_loop(False)
    assert offsets[:7] == [0, 160, 320, 0, 160, 320, 0]
    assert offsets[-1] == 320


def test_position_tells_where_it_stands(client: Client) -> None:
    put(client, "ramp", ramp(800_000))
    with client.play("ramp", start_frame=320) as stream:
        block = first(stream, playback.PlayBlock)
        assert isinstance(block, playback.PlayBlock)
        stream.request_position()
        report = first(stream, playback.PlayPositionReport)
        assert isinstance(report, playback.PlayPositionReport)
        assert report.frame == 320 + 160 * report.stats.blocks
        assert report.stats.blocks >= 1


def test_close_ends_the_iteration_and_the_session(client: Client) -> None:
    put(client, "ramp", ramp(800_000))
    stream = client.play("ramp")
    first(stream, playback.PlayBlock)
    assert client.get("ramp").playing == 1
    stream.close()
    assert not [event for event in stream if isinstance(event, playback.PlaySummary)]


def test_what_cannot_be_played_is_told_by_the_stream(client: Client) -> None:
    with client.play("nothing") as stream, pytest.raises(ClientError) as caught:
        next(stream)
    assert caught.value.reason_code == "SAMPLE_NOT_FOUND"


# --- the server ---


def test_the_server_tells_about_itself(client: Client) -> None:
    assert client.health()
    assert {"none", "willneed", "touch", "mlock", "populate"} <= {
        strategy.name for strategy in client.strategies().strategies
    }
    assert client.capabilities().kernel == "simulated"
    put(client, "ramp", ramp(10))
    assert client.stats().samples == 1


def test_nobody_listens() -> None:
    with Client("127.0.0.1:1") as client:
        with pytest.raises(ClientError) as caught:
            client.stats()
        assert caught.value.message == "no server answers at 127.0.0.1:1"
        assert "samplecache serve" in caught.value.remedy
        with pytest.raises(ClientError) as caught:
            client.wait_ready(200 * NS_PER_MS)
        assert caught.value.message == "no server was ready at 127.0.0.1:1 within 0.2 s"


def test_token(tmp_path: Path) -> None:
    good = "open sesame"
    (tmp_path / "token").write_text(f"{good}\n")
    with running_server(tmp_path, "--token-file", str(tmp_path / "token")) as server:
        with Client(server.target, token=good) as client:
            assert list(client.list_samples()) == []
        for token in (None, "other"):
            with Client(server.target, token=token) as client, pytest.raises(ClientError) as caught:
                list(client.list_samples())
            assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
            assert "--token" in caught.value.remedy
