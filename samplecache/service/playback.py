"""Prefetch and playback RPCs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Final

from samplecache.cache.playback import Block
from samplecache.cache.session import MAX_BLOCK_BYTES, ReadBlock, Session
from samplecache.clock import NS_PER_S
from samplecache.errors import InvalidError
from samplecache.service import translate
from samplecache.service.base import Context, Handlers
from samplecache.v1 import playback_pb2
from samplecache.v1 import samplecache_pb2 as pb

_PROGRESS_S: Final = 0.1
_DEFAULT_HOLD_NS: Final = 10 * NS_PER_S
_COMMAND_QUEUE: Final = 64
"""Commands taken off the wire before they are obeyed; a client that sends faster waits, by HTTP/2 flow control."""


class _Commands:
    """Commands of a client that have arrived, and an alarm that the session sleeps on between blocks."""

    def __init__(self, requests: AsyncIterator[playback_pb2.PlayRequest]) -> None:
        self._requests = requests
        self._waiting: asyncio.Queue[playback_pb2.PlayRequest] = asyncio.Queue(_COMMAND_QUEUE)
        self._alarm = asyncio.Event()
        self._failure: BaseException | None = None
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for request in self._requests:
                await self._waiting.put(request)
                self._alarm.set()
        except Exception as error:  # kept for the session: this task has nobody to raise to
            self._failure = error
            self._alarm.set()

    def take(self) -> playback_pb2.PlayRequest | None:
        """Return the next command, or None."""
        if self._failure is not None:
            raise self._failure
        return None if self._waiting.empty() else self._waiting.get_nowait()

    async def sleep_until(self, time_s: float) -> None:
        """Sleep until `time_s` of the loop's clock or until a command arrives."""
        if not self._waiting.empty() or self._failure is not None:
            return
        self._alarm.clear()
        timer = asyncio.get_running_loop().call_at(time_s, self._alarm.set)
        try:
            await self._alarm.wait()
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Stop listening."""
        self._reader.cancel()
        await asyncio.wait([self._reader])


class PlaybackHandlers(Handlers):
    """Prefetch and Play."""

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

    async def Play(self, request: AsyncIterator[playback_pb2.PlayRequest], context: Context) -> None:
        """Play a sample; see the contract.

        It writes to the stream itself, unlike the others: a generator would cost every block several more awaits.
        """
        requests = aiter(request)
        first = await anext(requests, None)
        if first is None or first.WhichOneof("command") != "start":
            raise InvalidError(
                "a session must begin with PlayStart", remedy="Send PlayStart first", reason="MISSING_START"
            )
        session = self.cache.open_session(translate.play_options(first.start))
        commands = _Commands(requests)
        try:
            await context.write(_started(session))
            await self._play(session, commands, context)
            summary = playback_pb2.PlaySummary(
                stats=translate.playback_stats(session.playback.stats, session.played_pages),
                next_frame=session.playback.next_frame,
            )
            await context.write(playback_pb2.PlayResponse(summary=summary))
        finally:
            session.close()
            await commands.close()

    async def _play(self, session: Session, commands: _Commands, context: Context) -> None:
        """Send blocks, each at its time, and obey commands in between, until the end or a stop."""
        clock = self.cache.clock
        client_ns = 0
        while True:
            while (command := commands.take()) is not None:
                if command.WhichOneof("command") == "stop":
                    return
                if (answer := _obey(session, command)) is not None:
                    await context.write(answer)
            block = session.next_block()
            if block is None:
                break
            if block.send_ns > clock.now_ns():
                await commands.sleep_until(block.send_ns / NS_PER_S)
                if block.send_ns > clock.now_ns():
                    continue
            read = await self._read(session, block, client_ns)
            underrun = session.delivered(read)
            if underrun is not None:
                await context.write(playback_pb2.PlayResponse(underrun=translate.underrun(underrun)))
            for message in _blocks(session, read.offset_frames, read.pcm):
                await context.write(message)
            # A write returns when the client's window has room: what passed since the block was ready, the client took.
            client_ns = clock.now_ns() - read.reading.ready_ns
        tail_frame = session.playback.next_frame - session.converter.held_frames
        for message in _blocks(session, tail_frame, session.converter.flush()):
            await context.write(message)

    async def _read(self, session: Session, block: Block, client_ns: int) -> ReadBlock:
        """Copy a resident block at once, any other on a reader thread: a page fault must not stop the loop."""
        if session.is_resident(block):
            return session.read(block, client_ns)
        return await self.reading(session.read, block, client_ns)


def _obey(session: Session, command: playback_pb2.PlayRequest) -> playback_pb2.PlayResponse | None:
    match command.WhichOneof("command"):
        case "seek":
            session.seek(command.seek.frame)
            return playback_pb2.PlayResponse(seeked=playback_pb2.PlaySeeked(frame=command.seek.frame))
        case "position":
            return playback_pb2.PlayResponse(
                position=playback_pb2.PlayPositionReport(
                    frame=session.playback.next_frame,
                    stats=translate.playback_stats(session.playback.stats, session.played_pages),
                )
            )
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


def _started(session: Session) -> playback_pb2.PlayResponse:
    return playback_pb2.PlayResponse(
        started=playback_pb2.PlayStarted(
            session_id=session.session_id,
            format=translate.audio_format(session.converter.target),
            binding=translate.binding(session.binding),
            sample=translate.sample(session.sample),
            block_frames=session.playback.block_frames,
        )
    )


def _blocks(session: Session, offset_frames: int, pcm: bytes) -> Iterator[playback_pb2.PlayResponse]:
    """Yield `pcm` in messages that are not too large: a resampler gives out in bursts what it held back."""
    source, target = session.converter.source, session.converter.target
    most_frames = MAX_BLOCK_BYTES // target.frame_bytes
    for first in range(0, target.bytes_to_frames(len(pcm)), most_frames):
        start_bytes, stop_bytes = target.frames_to_bytes(first), target.frames_to_bytes(first + most_frames)
        block = playback_pb2.PlayBlock(
            frame_offset=offset_frames + first * source.rate_hz // target.rate_hz, pcm=pcm[start_bytes:stop_bytes]
        )
        yield playback_pb2.PlayResponse(block=block)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
