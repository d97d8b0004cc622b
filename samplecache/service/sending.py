"""What a stream sends, without a task being woken for every message.

gRPC's write is a coroutine that waits for the write's end. A task that awaits it is woken once for that, and once more
when the next block is due: on a loop that paces hundreds of streams this costs as much as the sending. Nobody needs to
know when a block has been written before the next is to be, so the coroutine is stepped by hand, and finished then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from samplecache.cache.accounting.playback import Block
from samplecache.cache.reading import ReadBlock, blocks_in_message
from samplecache.clock import NS_PER_S, Clock
from samplecache.service import translate
from samplecache.service.base import Context
from samplecache.service.pacing import PacingWheel
from samplecache.service.streamed import StreamedSession
from samplecache.service.wire import block_message, block_messages
from samplecache.strategy.events import Underrun
from samplecache.v1 import playback_pb2

Message = playback_pb2.PlayResponse | bytes

SLACK_PER_LEAD: Final = 16
"""A block may leave so small a part of its lead later than it could, if others leave then."""


class Outbox:
    """Sends one client's messages, one at a time as gRPC wants it; who posts one need not wait for its way out.

    For the event loop's thread. Nothing here blocks.

    Parameters
    ----------
    context : ServicerContext
        Of the call.
    clock : Clock
        What `client_ns` is measured on.

    Attributes
    ----------
    send : Callable
        Sends a message and waits for its end; only while :attr:`free`.
    client_ns : int
        How long the client kept the last message from being sent, as far as anybody had to wait for that.
    """

    def __init__(self, context: Context, clock: Clock) -> None:
        self.send: Callable[[Message], Coroutine[Any, Any, None]] = context.write
        self._now_ns = clock.now_ns
        self._writing: Coroutine[Any, Any, None] | None = None
        self._written: asyncio.Future[Any] | None = None
        self._began_ns = 0
        self._awaited = False
        self.client_ns = 0

    @property
    def free(self) -> bool:
        """Whether no message is on its way out any more. Raises what sending it failed with."""
        while self._writing is not None:
            if self._written is not None and not self._written.done():
                return False
            self._step(self._writing)
        return True

    def begin(self, message: Message) -> None:
        """Begin to send `message`; only while :attr:`free`."""
        self._writing = self.send(message)
        self._began_ns = self._now_ns()
        self._step(self._writing)

    def when_free(self, callback: Callable[[object], object]) -> None:
        """Have `callback` called when it may be free; only while it is not."""
        self._awaited = True
        if self._written is not None:
            self._written.add_done_callback(callback)

    async def drained(self) -> None:
        """Wait until it is free."""
        while not self.free:
            self._awaited = True
            if self._written is not None:
                await self._written

    async def post(self, message: Message) -> None:
        """Send `message`, as soon as the one before is out; wait for that only."""
        await self.drained()
        self.begin(message)

    def close(self) -> None:
        """Give up what is on its way out."""
        if self._writing is not None:
            if self._written is not None:
                self._written.cancel()
            self._writing.close()
            self._writing = None

    def _step(self, writing: Coroutine[Any, Any, None]) -> None:
        """Go on with a write up to where it has to wait, as a task does, but on whoever asks."""
        try:
            waits_for = writing.send(None)
        except BaseException as end:
            self._writing = self._written = None
            self.client_ns = self._now_ns() - self._began_ns if self._awaited else 0
            self._awaited = False
            if not isinstance(end, StopIteration):
                raise
        else:
            if waits_for is not None:
                waits_for._asyncio_future_blocking = False  # by this a task tells a future that it was awaited
            self._written = waits_for


class Commands(Protocol):
    """Commands of a client that come while blocks are sent.

    Attributes
    ----------
    arrived : bool
        Whether there are any.
    """

    @property
    def arrived(self) -> bool:
        """Whether there are any."""


class _Shelf:
    """Messages of blocks that were read in one go, and accounts for those that are sent.

    Parameters
    ----------
    session : StreamedSession
        Whose blocks they are. It does not resample.
    blocks : int
        How many go into a message.

    Attributes
    ----------
    messages : deque of bytes
        Those that were read and not sent yet. Whoever sends one takes it out.
    """

    def __init__(self, session: StreamedSession, blocks: int) -> None:
        self.messages: deque[bytes] = deque()
        self._session = session
        self._block_frames = session.playback.block_frames
        self._step = blocks * self._block_frames
        self._frames = range(0)
        self._read: ReadBlock | None = None

    def fill(self, block: Block, client_ns: int) -> bool:
        """Read `block` and what comes after it; return whether that is in RAM, and in time. Only when none are left."""
        batch = self._session.read_resident(block, client_ns)
        if batch is None or (block.due_ns is not None and batch.read.reading.ready_ns > block.due_ns):
            return False
        self._read = batch.read
        self._put(batch.frames, batch.read.pcm)
        return True

    def catch_up(self, block: Block, client_ns: int) -> tuple[Underrun | None, bytes] | None:
        """Account for `block`, which is late, and return that and a message of it and all that may leave by now.

        None if it is not in RAM. What was read before is read again. It is one message because streams that are late
        are so together: would each block take its turn among all of them, it would be late too when that came.
        """
        session = self._session
        batch = session.read_resident(block, client_ns)
        if batch is None:
            return None
        underrun = session.delivered(batch.read)
        begin, target = batch.frames.start, session.converter.target
        most_frames = blocks_in_message(target, self._block_frames) * self._block_frames
        may_leave = session.playback.may_leave_by(batch.read.reading.ready_ns)
        stop = min(may_leave, begin + most_frames, batch.frames.stop)
        if block.frames.stop < stop:
            session.delivered_in_time(range(block.frames.stop, stop))
        pcm, sent_bytes = memoryview(batch.read.pcm), target.frames_to_bytes(stop - begin)
        message = block_message(begin, pcm[:sent_bytes])
        self._read = None
        self._put(range(stop, batch.frames.stop), pcm[sent_bytes:])
        return underrun, message

    def _put(self, frames: range, pcm: bytes | bytearray | memoryview) -> None:
        self._frames = frames
        frame_bytes = self._session.converter.target.frame_bytes
        self.messages = deque(block_messages(frames, self._step, frame_bytes, pcm))

    def sent(self, messages: int) -> None:
        """Account for the blocks of so many messages, the next ones: all that were read are in time."""
        session, read, start = self._session, self._read, self._frames.start
        stop = min(start + messages * self._step, self._frames.stop)
        self._frames = range(stop, self._frames.stop)
        if read is not None and messages:
            self._read = None
            session.delivered(read)
            start = read.block.frames.stop
        if start < stop:
            session.delivered_in_time(range(start, stop))

    def hold_ns(self) -> int:
        """Return how long the next block waits for the last of those that are to leave in one message with it."""
        if self._step == self._block_frames or not self.messages:
            return 0
        frames = min(self._step, len(self._frames))
        before_last = (frames - 1) // self._block_frames * self._block_frames
        return before_last * NS_PER_S // self._session.converter.source.rate_hz


async def send_unpaced(session: StreamedSession, blocks: int, outbox: Outbox, commands: Commands) -> None:
    """Send what is in RAM as fast as the client takes it. For the event loop's thread.

    Here somebody does wait for each write's end, and a task that awaits it is the cheapest to be woken. What else is to
    be done is done for all messages of a read in one go: between two messages gRPC puts whatever runs there out of the
    CPU's caches. It ends where somebody has to see to something: before a block that is not in RAM, a command, a
    notice, or the end. What it had read and not sent is read again.

    Parameters
    ----------
    session : StreamedSession
        Whose blocks they are. It does not resample.
    blocks : int
        How many blocks go into a message.
    outbox : Outbox
        What sends them.
    commands : Commands
        What comes in between.
    """
    shelf, send = _Shelf(session, blocks), outbox.send
    await outbox.drained()
    while session.place.notice is None and (block := session.next_block()) is not None and shelf.fill(block, 0):
        begun, messages = 0, shelf.messages
        try:
            while messages:
                begun += 1
                await send(messages.popleft())
                if commands.arrived:
                    return
        finally:
            shelf.sent(begun)


class PacedRun:
    """Streams what is in RAM, each block at its time, from the wheel's turns. For the event loop's thread.

    It ends where somebody has to see to something: before a block that is not in RAM, a notice, the end, or when its
    end is set by another, as an arriving command does. What it had read and not sent is read again.

    Parameters
    ----------
    session : StreamedSession
        Whose blocks they are; accounted for as they are sent. It is paced, and does not resample.
    blocks : int
        How many blocks go into a message. It leaves when the last of them may.
    outbox : Outbox
        What sends them.
    wheel : PacingWheel
        What wakes it.
    clock : Clock
        What deadlines are on.

    Attributes
    ----------
    ended : Future
        Done when nothing more will be sent; the last message may still be on its way out.
    unsent : bytes or None
        A message that is accounted for, and goes out next. Whoever ends the run sends it.
    """

    def __init__(
        self,
        session: StreamedSession,
        blocks: int,
        outbox: Outbox,
        wheel: PacingWheel,
        clock: Clock,
    ) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._session = session
        self._shelf = _Shelf(session, blocks)
        self._outbox = outbox
        self._wheel = wheel
        self._now_ns = clock.now_ns
        self._block: Block | None = None
        self.unsent: bytes | None = None
        if self._go_on():
            self.ended.set_result(None)

    def _go_on(self) -> bool:
        """Have the wheel turn for the next block; return whether there is none."""
        self._block = block = self._session.next_block()
        if block is None:
            return True
        self._come_back(block)
        return False

    def _come_back(self, block: Block) -> None:
        """Have the wheel turn when the next message may leave, or else when its first block is to be read."""
        self._wheel.call(block.send_ns + self._shelf.hold_ns(), slack_ns(block), self._turn)

    def _turn(self, _: object = None) -> None:
        if self.ended.done():
            return
        try:
            if self._send():
                self.ended.set_result(None)
        except BaseException as error:  # whoever waits for the end hears of it; the wheel has others to wake
            self.ended.set_exception(error)

    def _send(self) -> bool:
        """Send what is due, see to it that the rest will be, and return whether nothing more is to be done here."""
        outbox, shelf, block = self._outbox, self._shelf, self._block
        if not outbox.free:
            outbox.when_free(self._turn)
            return False
        if self.unsent is not None:
            outbox.begin(self.unsent)
            self.unsent = None
            return self._go_on()
        if block is None or block.due_ns is None:
            return True
        if self._now_ns() > block.due_ns:
            return self._catch_up(block)
        if not shelf.messages:
            if self._session.place.notice is not None or not shelf.fill(block, outbox.client_ns):
                return True
            if shelf.hold_ns():
                self._come_back(block)
                return False
        shelf.sent(1)
        outbox.begin(shelf.messages.popleft())
        return self._go_on()

    def _catch_up(self, block: Block) -> bool:
        """Tell of `block`, which is late, and send it with what may leave by now; return what :meth:`_send` does."""
        if self._session.place.notice is not None:
            return True
        caught_up = self._shelf.catch_up(block, self._outbox.client_ns)
        if caught_up is None:
            return True
        underrun, self.unsent = caught_up
        if underrun is not None:
            self._outbox.begin(playback_pb2.PlayResponse(underrun=translate.underrun(underrun)))
        return self._send()


def slack_ns(block: Block) -> int:
    """Return how much later than it may leave a block may be sent."""
    return 0 if block.due_ns is None else (block.due_ns - block.send_ns) // SLACK_PER_LEAD
