"""What is sent goes out one message at a time, each block at its time, and nobody waits for more than has to be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from samplecache.audio.convert import Converter
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.accounting.playback import Block, Playback, Reading
from samplecache.cache.device.shedding import Place
from samplecache.cache.reading import ReadBatch, ReadBlock
from samplecache.clock import NS_PER_MS, VirtualClock
from samplecache.kernel.port import NO_FAULTS
from samplecache.service import translate
from samplecache.service.base import Context
from samplecache.service.pacing import PacingWheel
from samplecache.service.sending import Outbox, PacedRun, send_unpaced
from samplecache.service.streamed import StreamedSession
from samplecache.service.wire import block_message
from samplecache.strategy.events import Overloaded, Underrun, UnderrunCause
from samplecache.v1 import playback_pb2

SLACK_NS = 100 * NS_PER_MS // 16
RATE_HZ = 8000
FRAMES = 160
"""A block: 20 ms."""


class Client:
    """The context of a call whose client takes a message when the test says so."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.taking: list[asyncio.Future[None]] = []
        self.written: list[Any] = []

    async def write(self, message: Any) -> None:
        self.begun.append(message)
        self.taking.append(asyncio.get_running_loop().create_future())
        await self.taking[-1]
        self.written.append(message)

    def take(self) -> None:
        """Take the message that is on its way."""
        self.taking[-1].set_result(None)


class Session:
    """A session of mono U8 of which `resident` frames are in RAM: frame n is the byte n modulo 251."""

    def __init__(self, blocks: int, lead_ns: int | None, resident: int = 0, clock: VirtualClock | None = None) -> None:
        self.playback = Playback(RATE_HZ, blocks * FRAMES, range(blocks * FRAMES), FRAMES, 0, lead_ns)
        audio = AudioFormat(RATE_HZ, 1, Encoding.U8)
        self.converter = Converter(audio, audio)
        self.place = Place()
        self.reads: list[range] = []
        self.client_ns = 0
        self._resident = resident
        self._clock = clock or VirtualClock()

    def next_block(self) -> Block | None:
        return self.playback.next_block()

    def read_resident(self, block: Block, client_ns: int = 0) -> ReadBatch | None:
        if block.frames.stop > self._resident:
            return None
        frames = range(block.frames.start, min(block.frames.start + 4 * FRAMES, self._resident))
        self.reads.append(frames)
        self.client_ns = client_ns
        now_ns = self._clock.now_ns()
        return ReadBatch(ReadBlock(block, pcm(frames), block.frames.start, Reading(now_ns, now_ns, NO_FAULTS)), frames)

    def delivered(self, read: ReadBlock) -> Underrun | None:
        late = self.playback.delivered(read.block, read.reading)
        return late and underrun_of(late.offset_frames, late.late_ns)

    def delivered_in_time(self, frames: range) -> None:
        self.playback.delivered_in_time(frames)


def underrun_of(offset_frames: int, late_ns: int) -> Underrun:
    return Underrun(0, "session-1", "a", "none", offset_frames, late_ns, UnderrunCause.SERVICE, NO_FAULTS)


def told_of(offset_frames: int, late_ns: int) -> playback_pb2.PlayResponse:
    """What a client is told of a late block."""
    return playback_pb2.PlayResponse(underrun=translate.underrun(underrun_of(offset_frames, late_ns)))


def pcm(frames: range) -> bytes:
    return bytes(frame % 251 for frame in frames)


class Wheel:
    """Keeps who wants to be woken, and when."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, Any]] = []

    def call(self, time_ns: int, slack_ns: int, callback: Any) -> None:
        self.calls.append((time_ns, slack_ns, callback))

    def turn(self, clock: VirtualClock) -> None:
        """Wake who is next."""
        time_ns, _, callback = self.calls.pop(0)
        clock.sleep_until(time_ns)
        callback()


def outbox_to(client: Client, clock: VirtualClock) -> Outbox:
    return Outbox(cast("Context", client), clock)


def run_of(session: Session, outbox: Outbox, wheel: Wheel, clock: VirtualClock, blocks: int = 1) -> PacedRun:
    return PacedRun(cast("StreamedSession", session), blocks, outbox, cast("PacingWheel", wheel), clock)


def blocks_up_to(count: int) -> list[bytes]:
    """The messages of the first blocks."""
    return [block_message(n * FRAMES, pcm(range(n * FRAMES, (n + 1) * FRAMES))) for n in range(count)]


async def test_who_posts_waits_for_the_message_before_only() -> None:
    client, clock = Client(), VirtualClock()
    outbox = outbox_to(client, clock)
    await outbox.post(b"1")
    assert (client.begun, client.written, outbox.free) == ([b"1"], [], False)
    second = asyncio.create_task(outbox.post(b"2"))
    for _ in range(3):  # turns of the loop
        await asyncio.sleep(0)
    assert client.begun == [b"1"]
    clock.sleep_until(7)
    client.take()
    await second
    assert (client.begun, client.written, outbox.client_ns) == ([b"1", b"2"], [b"1"], 7)
    client.take()
    await outbox.drained()
    assert (client.written, outbox.client_ns) == ([b"1", b"2"], 0)


async def test_a_message_that_went_out_before_anybody_asked_kept_nobody_waiting() -> None:
    client, clock = Client(), VirtualClock()
    outbox = outbox_to(client, clock)
    await outbox.post(b"1")
    client.take()
    clock.sleep_until(7)
    await outbox.post(b"2")
    assert outbox.client_ns == 0


async def test_what_sending_fails_with_reaches_whoever_sends_next() -> None:
    client = Client()
    outbox = outbox_to(client, VirtualClock())
    await outbox.post(b"1")
    client.taking[-1].set_exception(ConnectionError("gone"))
    with pytest.raises(ConnectionError, match="gone"):
        await outbox.post(b"2")
    assert outbox.free


async def test_what_is_given_up_is_finished_with() -> None:
    client = Client()
    outbox = outbox_to(client, VirtualClock())
    await outbox.post(b"1")
    outbox.close()
    assert client.taking[-1].cancelled()
    assert outbox.free


async def test_blocks_leave_at_their_times() -> None:
    client, clock, wheel = Client(), VirtualClock(), Wheel()
    session, outbox = Session(3, 100 * NS_PER_MS, resident=3 * FRAMES), outbox_to(client, clock)
    run = run_of(session, outbox, wheel, clock)
    for number in range(3):
        assert [(time_ns, slack_ns) for time_ns, slack_ns, _ in wheel.calls] == [(number * 20 * NS_PER_MS, SLACK_NS)]
        assert not run.ended.done()
        wheel.turn(clock)
        client.take()
        await asyncio.sleep(0)
    assert run.ended.done()
    assert client.begun == blocks_up_to(3)
    assert session.playback.stats.frames == 3 * FRAMES


async def one_turn(client: Client) -> None:
    """Have the message under way taken, and who waits for that go on."""
    client.take()
    for _ in range(2):  # turns of the loop
        await asyncio.sleep(0)


LEAD_NS = 100 * NS_PER_MS


async def late_run(client: Client, clock: VirtualClock, wheel: Wheel, session: Session) -> PacedRun:
    """A run of which the first message went out and the second block is a millisecond late, for it was not taken."""
    run = run_of(session, outbox_to(client, clock), wheel, clock)
    wheel.turn(clock)
    wheel.turn(clock)
    assert client.begun == blocks_up_to(1)
    clock.sleep_until(121 * NS_PER_MS)  # the second is due after 120
    await one_turn(client)
    return run


async def test_a_block_that_is_late_brings_with_it_what_may_leave_by_then() -> None:
    client, clock, wheel = Client(), VirtualClock(), Wheel()
    session = Session(9, LEAD_NS, resident=9 * FRAMES, clock=clock)
    run = await late_run(client, clock, wheel, session)
    assert client.begun[1:] == [told_of(FRAMES, NS_PER_MS)]
    assert session.client_ns == 121 * NS_PER_MS
    await one_turn(client)
    # Of the blocks after it, five may leave within the lead; the session reads four blocks at a time.
    assert session.reads == [range(4 * FRAMES), range(FRAMES, 5 * FRAMES)]
    caught_up = range(FRAMES, 5 * FRAMES)
    assert client.begun[2:] == [block_message(FRAMES, pcm(caught_up))]
    await one_turn(client)
    assert (session.playback.next_frame, session.playback.stats.blocks) == (5 * FRAMES, 5)
    assert (session.playback.stats.late_blocks, session.playback.stats.longest_stall_ns) == (1, NS_PER_MS)
    # It goes on in time: the audio clock stood still for the millisecond.
    rest = [(20 * n + 1, block) for n, block in enumerate(blocks_up_to(9))][5:]
    begun = await play_out(run, client, wheel, clock)
    assert [message for _, message in begun] == [message for _, message in rest]
    assert [time_ms for time_ms, _ in begun] == [121, 121, *(time_ms for time_ms, _ in rest[2:])]
    assert session.playback.stats.blocks == 9


async def test_what_comes_along_with_a_late_block_is_what_may_leave_and_no_more() -> None:
    client, clock, wheel = Client(), VirtualClock(), Wheel()
    session = Session(9, 30 * NS_PER_MS, resident=9 * FRAMES, clock=clock)
    run = run_of(session, outbox_to(client, clock), wheel, clock)
    wheel.turn(clock)
    clock.sleep_until(55 * NS_PER_MS)  # the second was due after 50, so it is as if playing had begun after 5
    await one_turn(client)
    wheel.turn(clock)
    await one_turn(client)
    caught_up = range(FRAMES, 3 * FRAMES)
    assert client.begun[1:] == [told_of(FRAMES, 5 * NS_PER_MS), block_message(FRAMES, pcm(caught_up))]
    await one_turn(client)
    rest = [(20 * n + 5, block) for n, block in enumerate(blocks_up_to(9))][3:]
    assert await play_out(run, client, wheel, clock) == rest


async def test_messages_of_several_blocks_go_on_from_where_a_late_one_has_caught_up() -> None:
    client, clock, wheel = Client(), VirtualClock(), Wheel()
    session = Session(12, 30 * NS_PER_MS, resident=12 * FRAMES, clock=clock)
    run = run_of(session, outbox_to(client, clock), wheel, clock, blocks=2)
    wheel.turn(clock)
    clock.sleep_until(35 * NS_PER_MS)
    wheel.calls[-1][2]()
    await one_turn(client)
    assert client.begun == [told_of(0, 5 * NS_PER_MS), block_message(0, pcm(range(2 * FRAMES)))]
    await one_turn(client)
    assert session.playback.stats.blocks == 2
    begun = await play_out(run, client, wheel, clock)
    assert b"".join(playback_pb2.PlayResponse.FromString(message).block.pcm for _, message in begun) == pcm(
        range(2 * FRAMES, 12 * FRAMES)
    )
    assert session.playback.stats.blocks == 12


async def test_who_ends_a_run_that_tells_of_a_late_block_has_the_block_to_send() -> None:
    client, clock, wheel = Client(), VirtualClock(), Wheel()
    session = Session(9, LEAD_NS, resident=9 * FRAMES, clock=clock)
    run = await late_run(client, clock, wheel, session)
    run.ended.set_result(None)
    await one_turn(client)
    assert client.begun[1:] == [told_of(FRAMES, NS_PER_MS)]
    assert run.unsent == block_message(FRAMES, pcm(range(FRAMES, 5 * FRAMES)))


@pytest.mark.parametrize("resident", [FRAMES, 9 * FRAMES])
async def test_a_late_block_is_left_to_others_if_it_is_not_in_ram_or_there_is_a_notice(resident: int) -> None:
    client, clock, wheel = Client(), VirtualClock(), Wheel()
    session = Session(9, LEAD_NS, resident=resident, clock=clock)
    if resident > FRAMES:
        session.place.notice = Overloaded(0, "session-1", "a", "none", True, 1, 1)
    outbox = outbox_to(client, clock)
    session.playback.delivered_in_time(range(FRAMES))
    run = run_of(session, outbox, wheel, clock)
    clock.sleep_until(121 * NS_PER_MS)
    wheel.turn(clock)
    assert run.ended.done()
    assert (client.begun, session.playback.stats.frames, run.unsent) == ([], FRAMES, None)


class Commands:
    """Commands that arrive as `arriving` says."""

    def __init__(self, arriving: Callable[[], bool]) -> None:
        self._arriving = arriving

    @property
    def arrived(self) -> bool:
        return self._arriving()


async def unpaced(
    session: Session, client: Client, arriving: Callable[[], bool] = lambda: False, blocks: int = 1
) -> None:
    """Send what is in RAM to a client that takes each message a turn of the loop after it was begun."""
    outbox, commands = outbox_to(client, VirtualClock()), Commands(arriving)
    sending = asyncio.create_task(send_unpaced(cast("StreamedSession", session), blocks, outbox, commands))
    while not sending.done():
        await asyncio.sleep(0)
        assert len(client.begun) <= len(client.written) + 1
        if client.taking and not client.taking[-1].done():
            client.take()
    await sending


async def test_without_hurry_a_block_follows_as_soon_as_the_one_before_is_out() -> None:
    client, session = Client(), Session(7, None, resident=6 * FRAMES)
    await unpaced(session, client)
    assert client.written == blocks_up_to(6)
    assert session.reads == [range(4 * FRAMES), range(4 * FRAMES, 6 * FRAMES)]
    assert (session.playback.next_frame, session.playback.stats.blocks) == (6 * FRAMES, 6)


async def test_without_hurry_messages_of_several_blocks_are_accounted_for_block_by_block() -> None:
    client, session = Client(), Session(6, None, resident=6 * FRAMES)
    await unpaced(session, client, blocks=3)
    spans = [range(3 * FRAMES), range(3 * FRAMES, 4 * FRAMES), range(4 * FRAMES, 6 * FRAMES)]
    assert client.written == [block_message(span.start, pcm(span)) for span in spans]
    assert (session.playback.stats.blocks, session.playback.stats.frames) == (6, 6 * FRAMES)


async def test_without_hurry_a_command_is_seen_to_after_the_message_under_way() -> None:
    client, session = Client(), Session(4, None, resident=4 * FRAMES)
    await unpaced(session, client, lambda: len(client.written) == 2)
    assert client.written == blocks_up_to(2)
    assert (session.playback.next_frame, session.playback.stats.blocks) == (2 * FRAMES, 2)


async def test_without_hurry_a_notice_comes_before_what_is_read_next() -> None:
    client, session = Client(), Session(8, None, resident=8 * FRAMES)

    def overloaded() -> bool:
        session.place.notice = Overloaded(0, "session-1", "a", "none", True, 1, 1)
        return False

    await unpaced(session, client, overloaded)
    assert client.written == blocks_up_to(4)


async def test_who_ends_a_run_stops_it() -> None:
    client, clock, wheel = Client(), VirtualClock(), Wheel()
    session = Session(3, 100 * NS_PER_MS, resident=3 * FRAMES)
    run = run_of(session, outbox_to(client, clock), wheel, clock)
    run.ended.set_result(None)
    wheel.turn(clock)
    assert (client.begun, session.playback.stats.frames) == ([], 0)


async def test_a_run_fails_as_sending_does_and_its_wheel_turns_on() -> None:
    class Broken(Client):
        def write(self, message: Any) -> Coroutine[Any, Any, None]:
            raise ConnectionError("gone")

    clock, wheel = VirtualClock(), Wheel()
    run = run_of(Session(3, 100 * NS_PER_MS, resident=3 * FRAMES), outbox_to(Broken(), clock), wheel, clock)
    wheel.turn(clock)
    with pytest.raises(ConnectionError, match="gone"):
        await run.ended


async def play_out(run: PacedRun, client: Client, wheel: Wheel, clock: VirtualClock) -> list[tuple[int, Any]]:
    """Play until the run ends; return when each message was begun, in milliseconds, and the message."""
    begun = []
    while not run.ended.done():
        before = len(client.begun)
        wheel.turn(clock)
        if len(client.begun) > before:
            begun.append((clock.now_ns() // NS_PER_MS, client.begun[-1]))
            client.take()
    return begun


async def test_what_is_in_ram_is_read_when_it_is_due_and_the_rest_is_left_to_others() -> None:
    client, clock, wheel = Client(), VirtualClock(), Wheel()
    session = Session(8, 100 * NS_PER_MS, resident=6 * FRAMES)
    run = run_of(session, outbox_to(client, clock), wheel, clock)
    messages = blocks_up_to(6)
    assert await play_out(run, client, wheel, clock) == [(20 * n, messages[n]) for n in range(6)]
    assert session.reads == [range(4 * FRAMES), range(4 * FRAMES, 6 * FRAMES)]
    assert (session.playback.next_frame, session.playback.stats.blocks) == (6 * FRAMES, 6)


async def test_blocks_of_one_message_leave_when_the_last_of_them_may_and_each_is_accounted_for() -> None:
    client, clock, wheel = Client(), VirtualClock(), Wheel()
    session = Session(7, 200 * NS_PER_MS, resident=7 * FRAMES)
    run = run_of(session, outbox_to(client, clock), wheel, clock, blocks=3)
    spans = [range(3 * FRAMES), range(3 * FRAMES, 4 * FRAMES), range(4 * FRAMES, 7 * FRAMES)]
    expected = list(zip((40, 60, 120), (block_message(span.start, pcm(span)) for span in spans), strict=True))
    assert await play_out(run, client, wheel, clock) == expected
    assert (session.playback.stats.blocks, session.playback.stats.frames) == (7, 7 * FRAMES)


async def test_what_was_read_and_not_sent_is_not_accounted_for() -> None:
    client, clock, wheel = Client(), VirtualClock(), Wheel()
    session = Session(8, 200 * NS_PER_MS, resident=8 * FRAMES)
    run = run_of(session, outbox_to(client, clock), wheel, clock, blocks=3)
    wheel.turn(clock)
    assert session.reads == [range(4 * FRAMES)]
    run.ended.set_result(None)
    wheel.turn(clock)
    assert (client.begun, session.playback.next_frame, session.playback.stats.blocks) == ([], 0, 0)


async def test_a_notice_ends_a_run_before_it_reads_on() -> None:
    client, clock, wheel = Client(), VirtualClock(), Wheel()
    session = Session(8, 200 * NS_PER_MS, resident=8 * FRAMES)
    run = run_of(session, outbox_to(client, clock), wheel, clock)
    wheel.turn(clock)
    client.take()
    session.place.notice = Overloaded(0, "session-1", "a", "none", True, 1, 1)
    assert len(await play_out(run, client, wheel, clock)) == 3
    assert session.reads == [range(4 * FRAMES)]
