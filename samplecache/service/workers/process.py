"""A worker: a process that streams out of the owner's memory; ``python -m samplecache.service.workers.process FD``.

It answers Play by itself and passes everything else on. It ends when it is told to, or at once when the owner has gone,
for the memory has gone with it.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import signal
import socket
import sys
from typing import Any, Final, cast

import grpc
import grpc.aio

from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.reading import ReaderFloor
from samplecache.clock import Clock, MonotonicClock
from samplecache.errors import OutOfRangeError, SamplecacheError
from samplecache.kernel.linux_remote import RemoteMemory, RemoteRegion
from samplecache.service.auth import TokenInterceptor, read_token
from samplecache.service.collecting import keep_for_good
from samplecache.service.config import ServerConfig
from samplecache.service.listening import OPTIONS, TOGETHER, listen
from samplecache.service.logging import configure_log
from samplecache.service.playback import PlayHandlers
from samplecache.service.status import StatusInterceptor
from samplecache.service.threads import yielding_threads
from samplecache.service.workers.link import Link, Message, pack_error, unpack_error
from samplecache.service.workers.proxy import Proxy
from samplecache.service.workers.session import RemoteSession
from samplecache.v1 import playback_pb2, samplecache_pb2
from samplecache.witness import Witness

TELL_S: Final = 0.05
"""How often the owner is told what was played; no strategy sees an older playhead. Each costs what a block does."""

_SERVICE: Final = samplecache_pb2.DESCRIPTOR.services_by_name["SampleCacheService"].full_name


class RemoteSessions(PlayHandlers):
    """Plays what the owner opens.

    Parameters
    ----------
    link : Link
        To the owner.
    floor : ReaderFloor
        What sessions stand on.
    readers : int
        Threads for reads that may fault.
    """

    def __init__(self, link: Link, floor: ReaderFloor, readers: int) -> None:
        super().__init__(readers)
        self._link = link
        self._floor = floor
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._sessions: set[RemoteSession] = set()

    @property
    def clock(self) -> Clock:
        """The clock that all processes of a machine share."""
        return self._floor.clock

    async def open_session(self, start: playback_pb2.PlayStart) -> RemoteSession:
        """Have the owner open a session."""
        answer = self._ask(say="open", start=base64.b64encode(start.SerializeToString()).decode())
        try:
            opened = await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(self._give_up)
            raise
        session = RemoteSession(opened, self._floor, self._closed)
        self._sessions.add(session)
        return session

    def started(self, session: Any) -> playback_pb2.PlayResponse:
        """Return the answer that the owner has made."""
        return cast("RemoteSession", session).started

    async def session_stats(self, session: Any) -> playback_pb2.PlaybackStats:
        """Return what the owner's books say of a session."""
        self.tell_now()
        answer = await self._ask(say="stats", session=session.session_id)
        return playback_pb2.PlaybackStats.FromString(base64.b64decode(answer["stats"]))

    def _ask(self, **question: Any) -> asyncio.Future[Message]:
        number = next(self._numbers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._link.send(number=number, **question)
        return answer

    def hear(self, message: Message) -> None:
        """Take in what the owner answers."""
        answer = self._asked.pop(message["number"])
        if answer.cancelled():
            return
        if message["say"] == "refused":
            answer.set_exception(unpack_error(message["error"]))
        else:
            answer.set_result(message)

    async def tell(self) -> None:
        """Tell the owner what happens, for ever."""
        while True:
            await asyncio.sleep(TELL_S)
            self.tell_now()

    def tell_now(self) -> None:
        """Tell the owner what has happened since it was last told."""
        told = {}
        for session in self._sessions:
            if session.happened:
                told[session.session_id], session.happened = session.happened, []
        if told:
            self._link.send(say="played", sessions=told)

    def _closed(self, session: RemoteSession) -> None:
        self.tell_now()
        self._sessions.discard(session)
        self._link.send(say="close", session=session.session_id)

    def _give_up(self, answer: asyncio.Future[Message]) -> None:
        """Close a session that was opened for a call that has gone."""
        if not answer.cancelled() and answer.exception() is None:
            self._link.send(say="close", session=answer.result()["session"])


def _witness_ns(witness: Witness, start_ns: int, stop_ns: int) -> int:
    try:
        return witness.lateness_between(start_ns, stop_ns)
    except OutOfRangeError:
        return 0  # older than it remembers: then it cannot be called as a witness


async def _work(end: socket.socket) -> None:
    link = await Link.over(end)
    messages = link.messages()
    order = await anext(messages)
    config = ServerConfig(**order["config"])
    stopping: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    try:
        memory = RemoteMemory(order["pid"])
        memory.read(RemoteRegion(order["address"], 1), 0, 1)  # better now than with the first client
        with Witness() as witness:
            floor = ReaderFloor(
                memory, MonotonicClock(), PageInMeter(), lambda start, stop: _witness_ns(witness, start, stop)
            )
            sessions = RemoteSessions(link, floor, config.readers)
            with yielding_threads():
                channel = grpc.aio.insecure_channel(order["owner"])
                server = _server(config, sessions, link, channel)
                for address in order["addresses"]:
                    listen(server, address, config.tls_cert, config.tls_key)
                await server.start()
            keep_for_good()
            async with channel:
                link.send(say="ready")
                telling = asyncio.create_task(sessions.tell())
                hearing = asyncio.create_task(_hear(messages, sessions, stopping))
                grace_s = await stopping
                await server.stop(grace_s)
                hearing.cancel()
                telling.cancel()
                sessions.tell_now()
                sessions.close()
    except SamplecacheError as error:
        link.send(say="failed", error=pack_error(error))
    link.close()
    await asyncio.sleep(0)


async def _hear(messages: Any, sessions: RemoteSessions, stopping: asyncio.Future[float]) -> None:
    async for message in messages:
        if message["say"] == "stop":
            stopping.set_result(message["grace_s"])
        else:
            sessions.hear(message)
    # The owner has gone, and with it the samples. Clients hear UNAVAILABLE when their connection breaks.
    os._exit(1)


def _server(config: ServerConfig, sessions: RemoteSessions, link: Link, channel: grpc.aio.Channel) -> grpc.aio.Server:
    def observe(method: str, code: str, elapsed_s: float) -> None:
        if method.endswith("/Play"):  # the owner counts the others itself
            link.send(say="call", method=method, code=code, elapsed_s=elapsed_s)

    interceptors: list[grpc.aio.ServerInterceptor] = [StatusInterceptor(observe)]
    if config.token_file is not None:
        interceptors.append(TokenInterceptor(read_token(config.token_file)))
    server = grpc.aio.server(interceptors=interceptors, options=(*OPTIONS, TOGETHER))
    play = grpc.stream_stream_rpc_method_handler(
        sessions.Play,
        request_deserializer=playback_pb2.PlayRequest.FromString,
        response_serializer=playback_pb2.PlayResponse.SerializeToString,
    )
    own = grpc.method_handlers_generic_handler(_SERVICE, {"Play": play})
    server.add_generic_rpc_handlers((own, Proxy(channel)))
    return server


def main() -> None:
    """Work on the socket whose descriptor is the only argument."""
    import uvloop

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, which then tells its workers
    configure_log()
    uvloop.run(_work(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
