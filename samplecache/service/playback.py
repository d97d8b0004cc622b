"""Prefetch and playback RPCs."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any, Final

import grpc.aio

from samplecache.cache.accounting.playback import Block
from samplecache.cache.device.shedding import GATE_POLL_NS
from samplecache.cache.reading import MAX_BLOCK_BYTES, ReadBlock, blocks_in_message
from samplecache.cache.session import Session
from samplecache.clock import NS_PER_S, Clock
from samplecache.errors import InvalidError, LimitError
from samplecache.service import translate
from samplecache.service.base import Context, Handlers, Readers
from samplecache.service.pacing import PacingWheel
from samplecache.service.sending import Outbox, PacedRun, send_unpaced, slack_ns
from samplecache.service.streamed import StreamedSession
from samplecache.service.wire import block_message
from samplecache.v1 import playback_pb2
from samplecache.v1 import samplecache_pb2 as pb

_PROGRESS_S: Final = 0.1
_DEFAULT_HOLD_NS: Final = 10 * NS_PER_S
START_TIMEOUT_S: Final = 10
"""How long a stream may be open before its PlayStart."""

MOST_OPENING: Final = 256
"""How many such streams there may be at a time."""

_COMMAND_QUEUE: Final = 64
"""Commands taken off the wire before they are obeyed; a client that sends faster waits, by HTTP/2 flow control."""


class _Commands:
    """Commands of a client that have arrived. Between blocks its session sleeps here, until it is time or one comes.

    Attributes
    ----------
    arrived : bool
        Whether :meth:`take` has something to tell.
    """

    def __init__(self, requests: AsyncIterator[playback_pb2.PlayRequest], wheel: PacingWheel) -> None:
        self._requests = requests
        self._wheel = wheel
        self._waiting: asyncio.Queue[playback_pb2.PlayRequest]  # once it listens
        self._sleeper: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self.arrived = False
        self._reader: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Begin to take commands off the wire, unless it has been begun."""
        if self._reader is None:
            self._waiting = asyncio.Queue(_COMMAND_QUEUE)
            self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for request in self._requests:
                await self._waiting.put(request)
                self._wake()
        except Exception as error:  # kept for the session: this task has nobody to raise to
            self._failure = error
            self._wake()

    def _wake(self) -> None:
        self.arrived = True
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    def take(self) -> playback_pb2.PlayRequest | None:
        """Return the next command, or None."""
        if self._failure is not None:
            raise self._failure
        if self._waiting.empty():
            self.arrived = False
            return None
        return self._waiting.get_nowait()

    async def sleep_until(self, block: Block) -> None:
        """Sleep until `block` may leave, or a little longer if its lead allows, or until a command arrives."""
        if not self.arrived:
            self._sleeper = self._wheel.sleeper(block.send_ns, slack_ns(block))
            await self._sleeper

    async def during(self, run: PacedRun) -> None:
        """Wait until `run` has ended; a command that arrives ends it."""
        self._sleeper = run.ended
        await run.ended

    async def close(self) -> None:
        """Stop listening."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])


def _blocks_in(session: StreamedSession, coalesce_ns: int) -> int:
    """Return how many blocks go into a message, for the first of which the others may be `coalesce_ns` later."""
    frames, source, target = session.playback.block_frames, session.converter.source, session.converter.target
    if session.converter.resamples:
        return 1
    by_time = 1 + coalesce_ns * source.rate_hz // (frames * NS_PER_S)
    return min(by_time, blocks_in_message(target, frames))


class PrefetchHandlers(Handlers):
    """Prefetch."""

    async def Prefetch(self, request: pb.PrefetchRequest, context: Context) -> AsyncIterator[pb.PrefetchResponse]:
        """Bring a sample's pages in and stream progress; see the contract."""
        now_ns = self.cache.clock.now_ns()
        prefetch = self.cache.prefetch(
            request.sample_id,
            request.start_frame,
            request.frames,
            request.strategy,
            now_ns + translate.nanoseconds(request.deadline, "deadline") if request.HasField("deadline") else None,
            translate.nanoseconds(request.hold, "hold") if request.HasField("hold") else _DEFAULT_HOLD_NS,
        )
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        prefetch.when_ended(lambda: loop.call_soon_threadsafe(ended.set))
        try:
            yield pb.PrefetchResponse(binding=translate.binding(prefetch.order.binding))
            while not prefetch.progress.done:
                progress = prefetch.progress
                yield pb.PrefetchResponse(
                    progress=pb.PrefetchProgress(pages_needed=progress.pages_needed, pages_in=progress.pages_in)
                )
                await _wait(ended, _PROGRESS_S)
        finally:
            prefetch.cancel()
        yield pb.PrefetchResponse(result=translate.prefetch_result(prefetch))


class PlayHandlers(Readers):
    """Play, of sessions that somebody opens. Whoever makes it says how by :meth:`open_session` and :meth:`started`."""

    @property
    @abc.abstractmethod
    def clock(self) -> Clock:
        """The clock of the sessions."""

    @abc.abstractmethod
    async def open_session(self, start: playback_pb2.PlayStart) -> Any:
        """Open a session as `start` asks, a :class:`StreamedSession`."""

    @abc.abstractmethod
    def started(self, session: Any) -> playback_pb2.PlayResponse:
        """Return the answer that tells of a session that was opened."""

    @abc.abstractmethod
    async def session_stats(self, session: Any) -> playback_pb2.PlaybackStats:
        """Return what has happened in a session so far."""

    _opening = 0
    """Streams that have not begun yet."""

    @cached_property
    def _wheel(self) -> PacingWheel:
        return PacingWheel(self.clock)

    async def Play(self, request: AsyncIterator[playback_pb2.PlayRequest], context: Context) -> None:
        """Play a sample; see the contract.

        It writes to the stream itself, unlike the others: a generator would cost every block several more awaits.
        """
        requests = aiter(request)
        start = await self._start(requests)
        coalesce_ns = translate.coalesce_ns(start)
        session: StreamedSession = await self.open_session(start)
        commands, outbox = _Commands(requests, self._wheel), Outbox(context, self.clock)
        try:
            await outbox.post(self.started(session))
            await self._play(session, _blocks_in(session, coalesce_ns), commands, outbox)
            summary = playback_pb2.PlaySummary(
                stats=await self.session_stats(session), next_frame=session.playback.next_frame
            )
            await outbox.post(playback_pb2.PlayResponse(summary=summary))
            await outbox.drained()
        except grpc.aio.InternalError:
            # A write to a client that has just gone; that it has, which cancels this call, is only noticed afterwards.
            raise asyncio.CancelledError from None
        finally:
            outbox.close()
            session.close()
            await commands.close()

    async def _start(self, requests: AsyncIterator[playback_pb2.PlayRequest]) -> playback_pb2.PlayStart:
        """Return what opens the session. Streams without one count for no session, and so have a limit of their own."""
        if self._opening >= MOST_OPENING:
            raise LimitError(
                f"{MOST_OPENING} streams are waiting for their PlayStart already, which is the limit",
                remedy="Send PlayStart as soon as a stream is open",
                reason="TOO_MANY_OPENING",
                limit=MOST_OPENING,
            )
        self._opening += 1
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                first = await anext(requests, None)
        except TimeoutError:
            first = None
        finally:
            self._opening -= 1
        if first is None or first.WhichOneof("command") != "start":
            raise InvalidError(
                "a session must begin with PlayStart",
                remedy=f"Send PlayStart first, within {START_TIMEOUT_S} s",
                reason="MISSING_START",
            )
        return first.start

    async def _play(self, session: StreamedSession, blocks: int, commands: _Commands, outbox: Outbox) -> None:
        """Send blocks, so many in a message, each at its time, and obey commands in between, to the end or a stop."""
        clock = self.clock
        while True:
            while commands.arrived and (command := commands.take()) is not None:
                if command.WhichOneof("command") == "stop":
                    return
                if (answer := await self._obey(session, command)) is not None:
                    await outbox.post(answer)
            if (notice := session.place.take_notice()) is not None:
                await outbox.post(playback_pb2.PlayResponse(overload=translate.overload(notice)))
            block = session.next_block()
            if block is None:
                break
            if block.send_ns > clock.now_ns():
                await commands.sleep_until(block)
                if commands.arrived:
                    continue
            if session.playback.stats.blocks:
                # What was read waits here if the client has not taken what came before it, so that little has to be
                # kept. The first block is read while what opened the session is on its way.
                await outbox.drained()
            # A resident block is copied at once, any other on a reader thread: a page fault must not stop the loop.
            # Alone: it is the first, or the first after something has come between, and wanted at once.
            batch = session.read_resident(block, outbox.client_ns, alone=True)
            if batch is not None:
                await self._send_resident(session, batch.read, commands, outbox)
                if not (session.converter.resamples or commands.arrived):
                    await self._run_on(session, blocks, commands, outbox)
                continue
            # What is in RAM sounds before anything is done for what comes after it; for what is not, nothing waits.
            session.start()
            commands.listen()
            if not session.may_read(block):
                await asyncio.sleep(GATE_POLL_NS / NS_PER_S)
                continue
            read = await self.reading(session.read, block, outbox.client_ns)
            await _report_underrun(session, read, outbox)
            for message in _messages(session, read.offset_frames, read.pcm):
                await outbox.post(message)
        tail_frame = session.playback.next_frame - session.converter.held_frames
        for message in _messages(session, tail_frame, session.converter.flush()):
            await outbox.post(message)

    async def _obey(
        self, session: StreamedSession, command: playback_pb2.PlayRequest
    ) -> playback_pb2.PlayResponse | None:
        if command.WhichOneof("command") != "position":
            return _obey(session, command)
        frame = session.playback.next_frame
        report = playback_pb2.PlayPositionReport(frame=frame, stats=await self.session_stats(session))
        return playback_pb2.PlayResponse(position=report)

    async def _send_resident(
        self, session: StreamedSession, read: ReadBlock, commands: _Commands, outbox: Outbox
    ) -> None:
        """Send a block that was in RAM; then do what was put off until something sounds."""
        # Its memory is the next reader's: the messages are made before anything is waited for.
        messages = _messages(session, read.offset_frames, read.pcm)
        await _report_underrun(session, read, outbox)
        for message in messages:
            await outbox.post(message)
        session.start()
        commands.listen()

    async def _run_on(self, session: StreamedSession, blocks: int, commands: _Commands, outbox: Outbox) -> None:
        """Send on what is in RAM until there is something else to do."""
        if not session.playback.paced:
            await send_unpaced(session, blocks, outbox, commands)
            return
        run = PacedRun(session, blocks, outbox, self._wheel, self.clock)
        await commands.during(run)
        if run.unsent is not None:
            await outbox.post(run.unsent)


class PlaybackHandlers(PrefetchHandlers, PlayHandlers):
    """Prefetch and Play of the sessions of this process's cache."""

    @property
    def clock(self) -> Clock:
        """The cache's clock."""
        return self.cache.clock

    async def open_session(self, start: playback_pb2.PlayStart) -> Session:
        """Open a session of the cache; its strategy is asked when its first block has been sent."""
        return self.cache.open_session(translate.play_options(start), start=False)

    def started(self, session: Any) -> playback_pb2.PlayResponse:
        """Return the answer that tells of a session that was opened."""
        return started(session)

    async def session_stats(self, session: Any) -> playback_pb2.PlaybackStats:
        """Return what has happened in a session so far."""
        return playback_stats(session)


def _obey(session: StreamedSession, command: playback_pb2.PlayRequest) -> playback_pb2.PlayResponse | None:
    match command.WhichOneof("command"):
        case "seek":
            session.seek(command.seek.frame)
            return playback_pb2.PlayResponse(seeked=playback_pb2.PlaySeeked(frame=command.seek.frame))
        case "gain":
            session.converter.gain = command.gain
        case "loop":
            session.playback.loop = command.loop
        case _:
            raise InvalidError(
                "a second PlayStart, or an empty command, came in the middle of a session",
                remedy="Open a stream for each session; send seek, stop, position, gain or loop",
                reason="UNEXPECTED_COMMAND",
            )
    return None


def started(session: Session) -> playback_pb2.PlayResponse:
    """Return the answer that tells of a session that was opened."""
    response = playback_pb2.PlayResponse()
    told = response.started  # which is written where it is: a first block waits for it
    told.session_id = session.session_id
    translate.audio_format(session.converter.target, told.format)
    translate.binding(session.binding, told.binding)
    translate.sample(session.sample, told.sample)
    told.block_frames = session.playback.block_frames
    return response


def playback_stats(session: Session) -> playback_pb2.PlaybackStats:
    """Return what has happened in a session so far."""
    return translate.playback_stats(session.playback.stats, session.played_pages)


async def _report_underrun(session: StreamedSession, read: ReadBlock, outbox: Outbox) -> None:
    """Account for a block, and tell the client if it was late."""
    underrun = session.delivered(read)
    if underrun is not None:
        await outbox.post(playback_pb2.PlayResponse(underrun=translate.underrun(underrun)))


def _messages(session: StreamedSession, offset_frames: int, pcm: bytes | bytearray | memoryview) -> list[bytes]:
    """Return `pcm` in messages that are not too large: a resampler gives out in bursts what it held back."""
    source, target = session.converter.source, session.converter.target
    most_frames = MAX_BLOCK_BYTES // target.frame_bytes
    return [
        block_message(
            offset_frames + first * source.rate_hz // target.rate_hz,
            pcm[target.frames_to_bytes(first) : target.frames_to_bytes(first + most_frames)],
        )
        for first in range(0, target.bytes_to_frames(len(pcm)), most_frames)
    ]


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
