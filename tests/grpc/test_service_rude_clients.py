"""What clients do that nobody should: each costs a bounded amount, is told so, and does not harm other streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import grpc.aio
import pytest
from served import RATE_HZ, Playing, Serve, Served, pcm, refused, until

from samplecache.cache.reading import BATCH_BYTES
from samplecache.service import playback
from samplecache.service.playback import _COMMAND_QUEUE
from samplecache.v1 import playback_pb2 as play

STREAM_WINDOW_BYTES = 8 << 20
"""More than HTTP/2 windows, socket buffers and gRPC together take ahead of a client that does not read."""


class Tap:
    """A proxy before a server that lets answers through a given number of bytes at a time, when told."""

    def __init__(self, target: str) -> None:
        self._target = target.removeprefix("unix:")
        self._writers: list[asyncio.StreamWriter] = []
        self._allowed = asyncio.Semaphore(0)
        self.open = True
        self.passed_bytes = 0

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the server of one client."""
        server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        self._writers += [writer, server_writer]
        with suppress(OSError):
            await asyncio.gather(self._requests(reader, server_writer), self._answers(server_reader, writer))

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            if not self.open:
                await self._allowed.acquire()
            data = await reader.read(1 << 16 if self.open else 1)
            if not data:
                return
            self.passed_bytes += len(data)
            writer.write(data)
            await writer.drain()

    def drip(self) -> None:
        """Let one byte through."""
        self._allowed.release()

    def vanish(self) -> None:
        """Break the connection without a word of HTTP/2."""
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def tapped(served: Served, path: str) -> AsyncIterator[tuple[Tap, Served]]:
    """A tap before the server, and a client that only knows the tap."""
    tap = Tap(served.address)
    server = await asyncio.start_unix_server(tap.connect, path)
    try:
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            yield tap, Served(served.server, channel, f"unix:{path}")
    finally:
        tap.vanish()
        server.close()


async def test_a_client_that_reads_a_byte_at_a_time_stands_still_and_nobody_else_does(
    served: Served, tmp_path: object
) -> None:
    data = pcm(10 * RATE_HZ)
    await served.put("a", data)
    async with tapped(served, f"{tmp_path}/tap.sock") as (tap, slow):
        dripping = Playing(slow, "a", loop=True, pace=play.PACE_UNLIMITED)
        await dripping.begin()
        tap.open = False
        (session,) = served.cache._sessions
        # Others play while it takes a byte now and then.
        for _ in range(2):
            assert await Playing(served, "a", frames=RATE_HZ, pace=play.PACE_UNLIMITED).whole() == data[: 4 * RATE_HZ]
            tap.drip()
        stood_at = session.playback.stats.frames
        passed_bytes = tap.passed_bytes
        for _ in range(50):
            tap.drip()
        await until(lambda: tap.passed_bytes >= passed_bytes + 50)
        assert await Playing(served, "a", frames=RATE_HZ, pace=play.PACE_UNLIMITED).whole() == data[: 4 * RATE_HZ]
        # What was read for it is bounded by the windows, and fifty bytes moved nothing.
        assert session.playback.stats.frames - stood_at <= BATCH_BYTES // 4
        assert 4 * session.playback.stats.frames < tap.passed_bytes + STREAM_WINDOW_BYTES
    await until(lambda: served.cache.session_count == 0)


async def test_a_connection_that_breaks_mid_stream_leaves_nothing_behind(served: Served, tmp_path: object) -> None:
    data = pcm(RATE_HZ)
    await served.put("a", data)
    async with tapped(served, f"{tmp_path}/tap.sock") as (tap, lost):
        playings = [Playing(lost, "a", loop=True) for _ in range(5)]
        for playing in playings:
            await playing.begin()
            await playing.until("block")
        assert served.cache.session_count == 5
        tap.vanish()
        await until(lambda: served.cache.session_count == 0)
        with pytest.raises(grpc.RpcError):
            await playings[0].finish()
    assert served.server._servicer._opening == 0
    assert await Playing(served, "a").whole() == data
    await served.evict("a")


class Gone:
    """The context of a call whose client goes away while its second answer is being written."""

    def __init__(self) -> None:
        self.written: list[object] = []

    async def write(self, message: object) -> None:
        if self.written:
            raise grpc.aio.InternalError("the transport is closed")
        self.written.append(message)


async def test_a_write_to_a_client_that_has_gone_is_a_cancelled_call_and_no_error_of_ours(served: Served) -> None:
    await served.put("a", pcm(RATE_HZ))

    async def requests() -> AsyncIterator[play.PlayRequest]:
        yield play.PlayRequest(start=play.PlayStart(sample_id="a"))

    with pytest.raises(asyncio.CancelledError):
        await served.server._servicer.Play(requests(), Gone())
    await until(lambda: served.cache.session_count == 0)


async def test_of_more_streams_than_sessions_the_rest_is_told_and_the_first_play_on(serve: Serve) -> None:
    served = await serve(max_sessions=8)
    data = pcm(RATE_HZ)
    await served.put("a", data)
    playings = [Playing(served, "a", loop=True) for _ in range(8)]
    for playing in playings:
        await playing.begin()

    async def one_too_many() -> None:
        info = await refused(
            Playing(served, "a").begin(), grpc.StatusCode.RESOURCE_EXHAUSTED, reason="TOO_MANY_SESSIONS"
        )
        assert info.metadata["limit"] == "8"

    await asyncio.gather(*(one_too_many() for _ in range(500)))
    for playing in playings:
        await playing.send(stop={})
    await asyncio.gather(*(playing.finish() for playing in playings))
    assert all(playing.pcm == (data * 20)[: len(playing.pcm)] for playing in playings)
    await until(lambda: served.cache.session_count == 0)


async def test_streams_that_never_begin_are_counted_and_ended(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playback, "MOST_OPENING", 8)
    served = await serve()
    await served.put("a", pcm(100))
    silent = [served.stub.Play() for _ in range(8)]
    await until(lambda: served.server._servicer._opening == 8)
    await refused(Playing(served, "a").begin(), grpc.StatusCode.RESOURCE_EXHAUSTED, reason="TOO_MANY_OPENING")
    for call in silent:
        call.cancel()
    await until(lambda: served.server._servicer._opening == 0)
    monkeypatch.setattr(playback, "START_TIMEOUT_S", 0)
    await refused(served.stub.Play().read(), grpc.StatusCode.INVALID_ARGUMENT, reason="MISSING_START")
    assert served.server._servicer._opening == 0


async def test_a_thousand_seeks_are_all_obeyed_in_their_order(served: Served) -> None:
    data = pcm(10 * RATE_HZ)
    await served.put("a", data)
    seeking = Playing(served, "a", loop=True)
    await seeking.begin()
    places = [(number * 7919) % (9 * RATE_HZ) for number in range(1000)]

    async def send() -> None:
        for place in places:
            await seeking.send(seek={"frame": place})

    sending = asyncio.create_task(send())
    for place in places:
        assert (await seeking.until("seeked")).frame == place
    await sending
    block = await seeking.until("block")
    assert block.frame_offset == places[-1]
    assert block.pcm == data[4 * places[-1] : 4 * places[-1] + len(block.pcm)]
    seeking.call.cancel()
    await until(lambda: served.cache.session_count == 0)
    await served.evict("a")


async def test_seeks_that_nobody_awaits_wait_on_the_wire(served: Served) -> None:
    """A client that sends and does not read is held up by HTTP/2, not stored up in the server."""
    await served.put("a", pcm(10 * RATE_HZ))
    options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
    async with grpc.aio.insecure_channel(served.address, options=options) as channel:
        rude = Playing(Served(served.server, channel, served.address), "a", loop=True, pace=play.PACE_UNLIMITED)
        await rude.begin()
        (session,) = served.cache._sessions
        for number in range(2000):
            await rude.send(seek={"frame": number})
        assert len(session._prefetches) <= _COMMAND_QUEUE
        rude.call.cancel()
    await until(lambda: served.cache.session_count == 0)
