"""Uploads that break off, and uploads that go on."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from served import FINISH, WAIT_S, Playing, Serve, Served, chunk, chunks, pcm, refused, start, until

from samplecache.v1 import playback_pb2 as play
from samplecache.v1 import samplecache_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
DATA = pcm(20_000)
HALF_BYTES = len(DATA) // 2
NOT_FOUND = grpc.StatusCode.NOT_FOUND

Break = Callable[[Served, str], Awaitable[None]]


def half(upload_id: str) -> list[pb.PutSampleRequest]:
    return [start("broken", DATA, upload_id=upload_id), chunk(0, DATA[:HALF_BYTES])]


async def arrived(served: Served) -> None:
    """Wait until the first half is there."""
    await until(lambda: [u.committed_bytes for u in served.cache.uploads._active] == [HALF_BYTES])


async def opened(served: Served, upload_id: str, **options: Any) -> Any:
    """A call that has sent the first half and goes on no further."""
    call = served.stub.PutSample(**options)
    for message in half(upload_id):
        await call.write(message)
    await arrived(served)
    return call


# --- ways to break off ---


async def by_cancelling(served: Served, upload_id: str) -> None:
    (await opened(served, upload_id)).cancel()


async def by_deadline(served: Served, upload_id: str) -> None:
    call = await opened(served, upload_id, timeout=1.5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def by_raising_generator(served: Served, upload_id: str) -> None:
    async def messages() -> AsyncIterator[pb.PutSampleRequest]:
        for message in half(upload_id):
            yield message
        await arrived(served)
        raise ZeroDivisionError

    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await served.stub.PutSample(messages())


async def by_closing_the_channel(served: Served, upload_id: str) -> None:
    async with grpc.aio.insecure_channel(served.address) as channel:
        await opened(Served(served.server, channel, served.address), upload_id)


async def by_kill_9(served: Served, upload_id: str) -> None:
    client = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys; sys.path[:0] = sys.argv[4:]; from half_upload import send; send(*sys.argv[1:4])",
        served.address,
        upload_id,
        str(HALF_BYTES),
        str(Path(__file__).parent),
        str(ROOT),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        await arrived(served)
    finally:
        client.kill()
        await client.wait()


async def by_half_closing(served: Served, upload_id: str) -> None:
    call = await opened(served, upload_id)
    await call.done_writing()
    await refused(call, grpc.StatusCode.DATA_LOSS, "UPLOAD_INCOMPLETE")


BREAKS = [by_cancelling, by_deadline, by_raising_generator, by_closing_the_channel, by_kill_9, by_half_closing]


@pytest.mark.parametrize("break_off", BREAKS)
async def test_a_broken_upload_leaves_nothing(served: Served, break_off: Break) -> None:
    await served.put("kept", pcm(1000, seed=3))
    before = served.state()
    await break_off(served, "")
    await until(lambda: len(served.cache.uploads) == 0)
    assert served.state() == before


@pytest.mark.parametrize("break_off", BREAKS)
async def test_a_broken_upload_with_an_id_goes_on_where_it_stands(served: Served, break_off: Break) -> None:
    before = served.state()
    await break_off(served, "once")
    await until(lambda: served.cache.uploads._suspended)
    response = await served.stub.GetUpload(pb.GetUploadRequest(upload_id="once"))
    assert response == pb.GetUploadResponse(committed_bytes=HALF_BYTES, total_bytes=len(DATA))
    assert len(served.cache.store) == 0
    await served.send([start("broken", DATA, upload_id="once"), *chunks(DATA, HALF_BYTES), FINISH])
    assert await Playing(served, "broken", pace=play.PACE_UNLIMITED).whole() == DATA
    await served.stub.DeleteSample(pb.DeleteSampleRequest(sample_id="broken"))
    await until(lambda: served.state() == before)  # the session gives its memory up once nobody works on it any more


# --- resuming ---


async def test_a_resumed_upload_is_not_taken_from_elsewhere(served: Served) -> None:
    await by_cancelling(served, "once")
    await until(lambda: served.cache.uploads._suspended)
    before = served.state()
    info = await refused(
        served.send([start("broken", DATA, upload_id="once"), *chunks(DATA)]),
        grpc.StatusCode.OUT_OF_RANGE,
        "UPLOAD_OFFSET_MISMATCH",
    )
    assert info.metadata["committed_bytes"] == str(HALF_BYTES)
    assert served.state() == before


@pytest.mark.parametrize("other", [{"tags": ["other"]}, {"total_bytes": len(DATA) + 4}, {"sha256": bytes(32)}])
async def test_another_declaration_under_the_same_id_is_refused(served: Served, other: dict[str, Any]) -> None:
    await by_cancelling(served, "once")
    await until(lambda: served.cache.uploads._suspended)
    before = served.state()
    call = served.send([start("broken", DATA, upload_id="once", **other), *chunks(DATA, HALF_BYTES), FINISH])
    await refused(call, grpc.StatusCode.ALREADY_EXISTS, "UPLOAD_DECLARED_OTHERWISE")
    assert served.state() == before


async def test_two_streams_cannot_send_the_same_upload(served: Served) -> None:
    first = await opened(served, "once")
    await refused(served.send(half("once")), grpc.StatusCode.ALREADY_EXISTS, "UPLOAD_IN_USE")
    cancel = served.stub.CancelUpload(pb.CancelUploadRequest(upload_id="once"))
    await refused(cancel, grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_IN_USE")
    for message in (*chunks(DATA, HALF_BYTES), FINISH):
        await first.write(message)
    assert (await first).sample.size_bytes == len(DATA)


async def test_a_finished_upload_answers_again_with_its_sample(served: Served) -> None:
    first = await served.put("a", DATA, upload_id="once")
    before = served.state()
    again = await served.send([start("a", DATA, upload_id="once")])
    assert again.sample == first.sample
    assert served.state() == before
    status = await served.stub.GetUpload(pb.GetUploadRequest(upload_id="once"))
    assert status == pb.GetUploadResponse(committed_bytes=len(DATA), total_bytes=len(DATA), complete=True)
    call = served.send([start("a", DATA, upload_id="once", pinned=True)])
    await refused(call, grpc.StatusCode.ALREADY_EXISTS, "UPLOAD_DECLARED_OTHERWISE")


async def test_a_call_cancelled_while_it_is_decoded_has_all_or_nothing(served: Served) -> None:
    """The client of a call that was cut at its very end asks again, and gets the sample."""
    data = pcm(2_000_000)
    call = served.stub.PutSample()
    for message in (start("a", data, upload_id="once"), *chunks(data), FINISH):
        await call.write(message)
    await until(lambda: all(upload.committed_bytes == len(data) for upload in served.cache.uploads._active))
    call.cancel()
    await until(lambda: not served.cache.uploads._active)
    if len(served.cache.store) == 0:  # cancelled before the finish was seen: all bytes are there, and wait
        assert (await served.stub.GetUpload(pb.GetUploadRequest(upload_id="once"))).committed_bytes == len(data)
    response = await served.send([start("a", data, upload_id="once"), FINISH])
    assert response.sample.size_bytes == len(data)
    assert len(served.cache.uploads) == 0


@pytest.mark.parametrize(
    ("data", "wishes", "reason"),
    [(DATA, {"sha256": bytes(32)}, "CHECKSUM_MISMATCH"), (b"no audio", {"raw": None}, "UNDECODABLE_AUDIO")],
)
async def test_an_upload_that_can_never_succeed_is_forgotten(
    served: Served, data: bytes, wishes: dict[str, Any], reason: str
) -> None:
    before = served.state()
    for _ in range(2):  # the second begins anew
        with pytest.raises(grpc.RpcError) as caught:
            await served.put("a", data, upload_id="once", **wishes)
        assert reason in str(caught.value.trailing_metadata())
        assert served.state() == before
        await refused(served.stub.GetUpload(pb.GetUploadRequest(upload_id="once")), NOT_FOUND, "UPLOAD_NOT_FOUND")
    await served.put("a", DATA, upload_id="once")


@pytest.mark.parametrize("finished", [False, True])
async def test_a_cancelled_upload_is_forgotten(served: Served, finished: bool) -> None:
    if finished:
        await served.put("broken", DATA, upload_id="once")
    else:
        await by_cancelling(served, "once")
        await until(lambda: served.cache.uploads._suspended)
    await served.stub.CancelUpload(pb.CancelUploadRequest(upload_id="once"))
    assert len(served.cache.uploads) == 0
    for call in (served.stub.GetUpload, served.stub.CancelUpload):
        request = (pb.GetUploadRequest if call is served.stub.GetUpload else pb.CancelUploadRequest)(upload_id="once")
        await refused(call(request), NOT_FOUND, "UPLOAD_NOT_FOUND")
    assert len(served.cache.store) == finished


@pytest.mark.parametrize("upload_id", ["", "never", "../x", "ü" * 100_000])
async def test_an_upload_that_never_was_is_not_found(served: Served, upload_id: str) -> None:
    await refused(served.stub.GetUpload(pb.GetUploadRequest(upload_id=upload_id)), NOT_FOUND, "UPLOAD_NOT_FOUND")
    await refused(served.stub.CancelUpload(pb.CancelUploadRequest(upload_id=upload_id)), NOT_FOUND, "UPLOAD_NOT_FOUND")


async def test_a_resumable_upload_expires(serve: Serve) -> None:
    served = await serve(upload_ttl_s=0.05)
    await by_cancelling(served, "once")
    await until(lambda: len(served.cache.uploads) == 0)
    await refused(served.stub.GetUpload(pb.GetUploadRequest(upload_id="once")), NOT_FOUND, "UPLOAD_NOT_FOUND")


async def test_the_number_of_uploads_is_bounded_and_places_come_back(serve: Serve) -> None:
    served = await serve(max_uploads=1)
    first = await opened(served, "")
    await refused(served.put("a", DATA), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_UPLOADS")
    first.cancel()
    await until(lambda: len(served.cache.uploads) == 0)
    for round_ in range(20):  # a place that a cancelled call keeps would soon be missed
        call = served.stub.PutSample()
        await call.write(start(f"s{round_}", DATA))
        call.cancel()
    async with asyncio.timeout(WAIT_S):
        while (response := await put_if_there_is_room(served)) is None:
            pass  # one that was cancelled may only just have come
    assert response.sample.size_bytes == len(DATA)


async def put_if_there_is_room(served: Served) -> pb.PutSampleResponse | None:
    """Upload the data; None if too many uploads are under way."""
    try:
        return await served.put("a", DATA)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return None
