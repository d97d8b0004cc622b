"""One session's cursor, deadlines and glitch accounting. No I/O, no clock: it is told the time and says what to do.

The audio clock of a session starts when it does. Block *n* begins *t(n)* after the start, *t* being the sum of the
lengths of the blocks before it, less what a resampler holds back of them. The client sounds it ``lead_ns`` after that,
so the server may send it from ``start + t(n)`` on, and it is late if it is not ready at ``start + t(n) + lead_ns``. A
late block is heard as a gap of that length, after which playing goes on where it stopped: so the start moves back by
the gap, as for a player that waits.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from samplecache.cache.accounting.accounts import PageOutcomes
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import OutOfRangeError
from samplecache.kernel.port import NO_FAULTS, FaultCounts
from samplecache.strategy.events import UnderrunCause

WAITED_NS: Final = NS_PER_MS
"""A read with minor faults that took so long has slept in one of them: alone, one takes a microsecond or two."""

BACKLOG_NS: Final = NS_PER_MS
"""A read that begins so much after its block could have been sent is behind: the reads before it share the blame."""


class Block(NamedTuple):  # as all that is made for each block: a tuple costs half of what a frozen dataclass does
    """A block to be read and sent.

    Attributes
    ----------
    frames : range
        Frames of the sample.
    send_ns : int
        When it may leave, nanoseconds on the cache's clock.
    due_ns : int or None
        When it must be ready; None if there is no hurry (unlimited pace).
    """

    frames: range
    send_ns: int
    due_ns: int | None


class Reading(NamedTuple):
    """How reading a block went.

    Attributes
    ----------
    began_ns, ready_ns : int
        When the read began and when the block was ready, nanoseconds on the cache's clock.
    faults : FaultCounts
        Faults of the thread that read it, while it did.
    witness_ns : int
        How late threads that only sleep were meanwhile, at worst.
    client_ns : int
        How long the client had kept the block before from being sent.
    held_frames : int
        Frames read so far that a resampler still holds back.
    """

    began_ns: int
    ready_ns: int
    faults: FaultCounts
    witness_ns: int = 0
    client_ns: int = 0
    held_frames: int = 0


@dataclass(frozen=True, slots=True)
class Late:
    """A block that was not ready when it was due.

    Attributes
    ----------
    offset_frames : int
        Its first frame.
    late_ns : int
        How late it was.
    cause : UnderrunCause
        Why.
    faults : FaultCounts
        Faults that count towards it.
    """

    offset_frames: int
    late_ns: int
    cause: UnderrunCause
    faults: FaultCounts


@dataclass(slots=True)
class PlaybackStats:
    """What happened in a session so far; times in nanoseconds.

    A near miss is a block that was in time although reading it waited for a page. `prefetched` is what became of pages
    that were brought in ahead for the session, by its own strategy or by prefetches that it took over.
    """

    blocks: int = 0
    frames: int = 0
    late_blocks: int = 0
    near_misses: int = 0
    longest_stall_ns: int = 0
    longest_read_ns: int = 0
    first_block_ns: int = 0
    faults: FaultCounts = field(default_factory=FaultCounts)
    late_by_cause: Counter[UnderrunCause] = field(default_factory=Counter)
    prefetched: PageOutcomes = field(default_factory=PageOutcomes)

    @property
    def late_for_pages(self) -> int:
        """Late blocks whose pages were not there: not the client's doing, nor the machine's."""
        return self.late_by_cause[UnderrunCause.MAJOR_FAULT] + self.late_by_cause[UnderrunCause.PAGE_WAIT]


class Playback:
    """Where a session stands and what it has suffered. Used by one thread at a time.

    Parameters
    ----------
    rate_hz : int
        The sample's rate.
    sample_frames : int
        The sample's length.
    frames : range
        Frames to play.
    block_frames : int
        Frames per block; the last before the end may be shorter.
    start_ns : int
        When it starts.
    lead_ns : int or None
        How long after a block may leave it is due; None for unlimited pace, where nothing is late.
    loop : bool
        Whether to begin again after the last frame.
    """

    def __init__(
        self,
        rate_hz: int,
        sample_frames: int,
        frames: range,
        block_frames: int,
        start_ns: int,
        lead_ns: int | None,
        *,
        loop: bool = False,
    ) -> None:
        self.loop = loop
        self.stats = PlaybackStats()
        self._rate_hz = rate_hz
        self._sample_frames = sample_frames
        self._frames = frames
        self.block_frames = block_frames
        self._start_ns = start_ns
        self._opened_ns = start_ns
        self._lead_ns = lead_ns
        self._next_frame = frames.start
        self._played_frames = 0
        self._held_frames = 0
        self._backlog = NO_FAULTS

    @property
    def opened_ns(self) -> int:
        """When it began, in nanoseconds on the cache's clock."""
        return self._opened_ns

    @property
    def paced(self) -> bool:
        """Whether blocks leave in real time, and so can be late."""
        return self._lead_ns is not None

    @property
    def next_frame(self) -> int:
        """The frame that the next block begins with."""
        return self._next_frame

    @property
    def remaining(self) -> range:
        """Frames from here to the end of what is to be played."""
        return range(self._next_frame, self._frames.stop)

    @property
    def played(self) -> range:
        """Frames of this round that have been read."""
        return range(self._frames.start, max(self._frames.start, self._next_frame))

    @property
    def lead_ns(self) -> int:
        """How long before it is due a block may be read, in nanoseconds."""
        return self._lead_ns or 0

    @property
    def path(self) -> tuple[tuple[range, int | None], ...]:
        """What will be read, in order: the rest of this round and, of a loop, the next; each with when it is due.

        That is None if there is no hurry. Asking changes nothing, so another thread than the playing one may: what it
        is told is at most the block that is being accounted for just then out of date.
        """
        frames, start = self._frames, self._next_frame
        repeats = bool(self.loop and frames)
        if repeats and start >= frames.stop:
            start = frames.start
        rest = range(start, frames.stop)
        ahead = [(rest, self._due_ns(self._played_frames - self._held_frames) if rest else None)]
        if repeats:
            ahead.append((frames, self._due_ns(self._played_frames + len(rest))))
        return tuple(ahead)

    def _due_ns(self, frames: int) -> int | None:
        """Return when the block is due that so many frames go before."""
        return None if self._lead_ns is None else self._start_ns + frames * NS_PER_S // self._rate_hz + self._lead_ns

    @property
    def wrap(self) -> tuple[range, int] | None:
        """Frames that playing begins again with, and when that is at the earliest; None if it will not.

        The time is that of the first block of the next round, in nanoseconds.
        """
        if not (self.loop and self._frames):
            return None
        left = len(self.remaining)
        return self._frames, self._start_ns + (self._played_frames + left) * NS_PER_S // self._rate_hz

    def next_block(self) -> Block | None:
        """Return the block to read next, or None at the end. Asking again gives the same."""
        stop = self._frames.stop
        if self._next_frame >= stop:
            if not (self.loop and self._frames):
                return None
            self._next_frame = self._frames.start
        frames = range(self._next_frame, min(self._next_frame + self.block_frames, stop))
        if self._lead_ns is None:
            return Block(frames, self._opened_ns, None)
        # The client waits for what it has not got yet, not for what was read and is held back.
        send_ns = self._start_ns + (self._played_frames - self._held_frames) * NS_PER_S // self._rate_hz
        return Block(frames, send_ns, send_ns + self._lead_ns)

    def may_leave_by(self, now_ns: int) -> int:
        """Return the frame up to which blocks may leave by `now_ns`: whole ones, or what is left before the end."""
        if self._lead_ns is None:
            return self._frames.stop
        behind_frames = (now_ns - self._start_ns) * self._rate_hz // NS_PER_S - self._played_frames + self._held_frames
        blocks = max(0, behind_frames // self.block_frames + 1)
        return min(self._next_frame + blocks * self.block_frames, self._frames.stop)

    def delivered_in_time(self, frames: range) -> None:
        """Account for `frames`: whole blocks that took no read of their own and were ready when they were due."""
        length = len(frames)
        self._next_frame = frames.stop
        self._played_frames += length
        self._backlog = NO_FAULTS
        stats = self.stats
        stats.blocks += -(-length // self.block_frames)
        stats.frames += length

    def delivered(self, block: Block, reading: Reading) -> Late | None:
        """Account for a block that was read; return how it was late, if it was."""
        frames = len(block.frames)
        self._next_frame = block.frames.stop
        self._played_frames += frames
        self._held_frames = reading.held_frames
        stats = self.stats
        stats.blocks += 1
        stats.frames += frames
        faults = reading.faults
        if faults is not NO_FAULTS:
            stats.faults += faults
        read_ns = reading.ready_ns - reading.began_ns
        if read_ns > stats.longest_read_ns:
            stats.longest_read_ns = read_ns
        if stats.blocks == 1:
            stats.first_block_ns = reading.ready_ns - self._opened_ns
        waited = reading.faults.major or (reading.faults.minor and read_ns >= WAITED_NS)
        if block.due_ns is None:
            stats.near_misses += bool(waited)
            return None
        if reading.began_ns - block.send_ns < BACKLOG_NS:
            self._backlog = faults
        elif faults is not NO_FAULTS:
            self._backlog += faults
        late_ns = reading.ready_ns - block.due_ns
        if late_ns <= 0:
            stats.near_misses += bool(waited)
            return None
        late = Late(block.frames.start, late_ns, self._cause(late_ns, reading), self._backlog)
        stats.late_blocks += 1
        stats.longest_stall_ns = max(stats.longest_stall_ns, late_ns)
        stats.late_by_cause[late.cause] += 1
        self._start_ns += late_ns
        self._backlog = NO_FAULTS
        return late

    def seek(self, frame: int, now_ns: int) -> None:
        """Go on at `frame`, with the audio clock starting anew.

        Raises
        ------
        OutOfRangeError
            The sample has no such frame; nothing changed. The reason is ``SEEK_OUT_OF_RANGE``.
        """
        if not 0 <= frame <= self._sample_frames:
            raise OutOfRangeError(
                f"frame {frame} is past a sample of {self._sample_frames} frames",
                remedy=f"Seek to a frame inside [0, {self._sample_frames}]",
                reason="SEEK_OUT_OF_RANGE",
                frame=frame,
            )
        if frame not in self._frames and frame != self._frames.stop:
            self._frames = range(min(frame, self._frames.start), max(self._frames.stop, self._sample_frames))
        self._next_frame = frame
        self._start_ns = now_ns
        self._played_frames = 0
        self._held_frames = 0
        self._backlog = NO_FAULTS

    def _cause(self, late_ns: int, reading: Reading) -> UnderrunCause:
        """Tell why, from the reader's major faults, the witness, its minor faults and the client, in that order.

        A witness or a client accounts for a late block if it was itself held up for at least half as long: what it saw
        is a lower bound, since a witness looks only every few milliseconds.
        """
        if self._backlog.major:
            return UnderrunCause.MAJOR_FAULT
        if 2 * reading.witness_ns >= late_ns:
            return UnderrunCause.SCHEDULING
        if self._backlog.minor and reading.ready_ns - reading.began_ns >= late_ns:
            return UnderrunCause.PAGE_WAIT
        if 2 * reading.client_ns >= late_ns:
            return UnderrunCause.CLIENT
        return UnderrunCause.SERVICE
