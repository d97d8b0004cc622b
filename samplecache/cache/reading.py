"""Reads blocks out of sample memory, and notes what became of the thread that did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from samplecache.audio.convert import Converter
from samplecache.audio.format import AudioFormat
from samplecache.cache.accounting.accounts import Account
from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.accounting.playback import Block, Playback, Reading
from samplecache.cache.samples.sample import Content
from samplecache.clock import NS_PER_MS, NS_PER_S, Clock
from samplecache.kernel.port import FaultCounts, ReadableMemory, Span

BATCH_BYTES: Final = 512 << 10
"""How much is read in one go at most: every session may hold as much. Around the copying a read costs much the same."""

MAX_BLOCK_BYTES: Final = 256 << 10
"""How much leaves in one message. A MiB in four takes half the CPU that it takes in sixteen, and in one a third less
still; but while it is made and handed to gRPC every other stream waits."""

BATCH_NS: Final = 400 * NS_PER_MS
"""How much of what is played in real time is read in one go: of what has been read, a strategy need not take care."""

_Copy: TypeAlias = bytes | bytearray | memoryview


class ReadBlock(NamedTuple):
    """A block that was read.

    Attributes
    ----------
    block : Block
        Which.
    pcm : bytes, bytearray or memoryview
        In the session's format; empty while a resampler fills up.
    offset_frames : int
        The sample's frame that it begins with: before the block's first if a resampler held some back. Where a loop
        begins again, that is taken for its start.
    reading : Reading
        How it went.
    """

    block: Block
    pcm: _Copy
    offset_frames: int
    reading: Reading


class ReadBatch(NamedTuple):
    """Blocks that were read in one go, because their pages were in RAM.

    Attributes
    ----------
    read : ReadBlock
        The first block. It accounts for the reading, and its PCM is that of all of them: the calling thread's own,
        which only holds until it reads again.
    frames : range
        Frames of all of them; they follow the first in whole blocks, of which the last may be shorter.
    """

    read: ReadBlock
    frames: range


@dataclass(frozen=True, slots=True)
class ReaderFloor:
    """What readers of a cache stand on.

    Attributes
    ----------
    kernel, clock, meter
        The cache's.
    witness_ns : Callable
        Returns how late sleeping threads were between two times, at worst.
    """

    kernel: ReadableMemory
    clock: Clock
    meter: PageInMeter
    witness_ns: Callable[[int, int], int]


class BlockReader:
    """Reads one session's blocks. Used by one thread at a time, which need not always be the same.

    Parameters
    ----------
    content : Content
        What is read. The caller keeps it mapped.
    playback : Playback
        Cursor and deadlines; not moved here.
    converter : Converter
        From the stored format to the delivered one.
    account : Account
        What became of pages that were brought in for the session.
    floor : ReaderFloor
        What it stands on.
    """

    def __init__(
        self, content: Content, playback: Playback, converter: Converter, account: Account, floor: ReaderFloor
    ) -> None:
        self._content = content
        self._playback = playback
        self._converter = converter
        self._account = account
        self._kernel, self._clock = floor.kernel, floor.clock
        self._meter, self._witness_ns = floor.meter, floor.witness_ns
        self._frame_bytes = content.format.frame_bytes
        most = BATCH_BYTES // self._frame_bytes
        if playback.paced:
            most = min(most, content.format.frames_in(BATCH_NS))
        self._batch_frames = most // playback.block_frames * playback.block_frames
        self._alone_until = 0

    def about_to_read(self, frames: range) -> None:
        """Settle what became of the pages of `frames`, if they were brought in ahead. Does not fault."""
        if self._account.outstanding:
            region = self._content.region
            self._account.read(self._pages(frames), lambda pages: self._kernel.in_core(region, pages))

    def read(self, block: Block, client_ns: int) -> ReadBlock:
        """See :meth:`Session.read`."""
        self.about_to_read(block.frames)
        began_ns = self._clock.now_ns()
        faults_before = self._kernel.thread_faults()
        stored = self._kernel.read(self._content.region, *self._bytes(block.frames))
        faults = self._kernel.thread_faults() - faults_before
        return self._finish(block, stored, began_ns, faults, client_ns)

    def read_resident(self, block: Block, client_ns: int, *, alone: bool = False) -> ReadBatch | None:
        """See :meth:`Session.read_resident`."""
        frames = block.frames if alone else self._batch(block.frames)
        began_ns = self._clock.now_ns()
        found = self._kernel.read_resident(self._content.region, *self._bytes(frames))
        if found is None and len(frames) > len(block.frames):
            self._alone_until = frames.stop
            frames = block.frames
            found = self._kernel.read_resident(self._content.region, *self._bytes(frames))
        if found is None:
            return None
        if self._account.outstanding:
            self._account.read(self._pages(frames), lambda pages: True)
        stored, faults = found
        return ReadBatch(self._finish(block, stored, began_ns, faults, client_ns), frames)

    def resident(self, block: Block) -> range | None:
        """See :meth:`Session.resident`."""
        frames, region = self._batch(block.frames), self._content.region
        if self._kernel.in_core(region, self._pages(frames)):
            return frames
        if len(frames) == len(block.frames):
            return None
        self._alone_until = frames.stop
        return block.frames if self._kernel.in_core(region, self._pages(block.frames)) else None

    def seeked(self) -> None:
        """Take note that the next block is not the one after the last."""
        self._alone_until = 0

    def _batch(self, frames: range) -> range:
        """Return what to read with `frames`: as many whole blocks as shall be, or up to the end."""
        # A resampler goes on from where it stands: what it was given cannot be taken back when a command comes.
        if self._converter.resamples or frames.start < self._alone_until:
            return frames
        stop = min(frames.start + self._batch_frames, self._playback.remaining.stop)
        return range(frames.start, max(frames.stop, stop))

    def _finish(self, block: Block, stored: _Copy, began_ns: int, faults: FaultCounts, client_ns: int) -> ReadBlock:
        if faults.major:
            self._meter.record_faults(faults.major, self._clock.now_ns() - began_ns)
        converter, offset_frames, held_frames, pcm = self._converter, block.frames.start, 0, stored
        if not converter.is_identity:
            offset_frames = max(0, offset_frames - converter.held_frames)
            pcm = converter.convert(stored)
            held_frames = converter.held_frames
        ready_ns = self._clock.now_ns()
        # Asking the witness takes a while, and only a late block needs one.
        late = block.due_ns is not None and ready_ns > block.due_ns
        witness_ns = self._witness_ns(block.send_ns, ready_ns) if late else 0
        reading = Reading(began_ns, ready_ns, faults, witness_ns, client_ns, held_frames)
        return ReadBlock(block, pcm, offset_frames, reading)

    def _bytes(self, frames: range) -> tuple[int, int]:
        return frames.start * self._frame_bytes, len(frames) * self._frame_bytes

    def _pages(self, frames: range) -> Span:
        return self._content.pages_of(frames, self._kernel.page_bytes)


def blocks_in_message(delivered: AudioFormat, block_frames: int) -> int:
    """Return how many blocks of so many frames go into a message at most: one at least."""
    return max(1, MAX_BLOCK_BYTES // delivered.frames_to_bytes(block_frames))


def block_frames(stored: AudioFormat, delivered: AudioFormat, block_ns: int) -> int:
    """Return frames per block at the stored rate, so that no delivered block is larger than a message should be."""
    by_time = stored.rate_hz * block_ns // NS_PER_S
    # A resampler may give out what it held back before: leave it half a block of room.
    room_bytes = MAX_BLOCK_BYTES if stored.rate_hz == delivered.rate_hz else MAX_BLOCK_BYTES // 2
    by_size = room_bytes * stored.rate_hz // (delivered.frame_bytes * delivered.rate_hz)
    return max(1, min(by_time, by_size))
