"""What happened, as data: for ``samplecache_observe``, for clients that watch, for metrics."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from samplecache.kernel.port import FaultCounts


class UnderrunCause(enum.Enum):
    """Why a block was late: told from the reader's major faults, the witness, the reader's minor faults, the client."""

    MAJOR_FAULT = "major_fault"
    """The thread that read the block took a major fault."""
    PAGE_WAIT = "page_wait"
    """It took only minor faults but slept in the read: the page was still on its way from the device."""
    SCHEDULING = "scheduling"
    """Threads that only sleep were late at the same time: the machine stalled, not memory."""
    CLIENT = "client"
    """The client was not taking blocks."""
    SERVICE = "service"
    """None of these: the service itself was too slow."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at ``time_ns``, nanoseconds on the cache's clock."""

    time_ns: int


@dataclass(frozen=True, slots=True)
class Underrun(Event):
    """A block was not ready when it was due.

    Attributes
    ----------
    session_id : str
        The playback session.
    sample_id : str
        The sample it plays.
    strategy : str
        The strategy bound to it.
    offset_frames : int
        First frame of the late block.
    late_ns : int
        How long after its deadline it was ready: the length of the gap.
    cause : UnderrunCause
        Why.
    faults : FaultCounts
        Faults that the thread that read the block took while reading it.
    """

    session_id: str
    sample_id: str
    strategy: str
    offset_frames: int
    late_ns: int
    cause: UnderrunCause
    faults: FaultCounts


@dataclass(frozen=True, slots=True)
class PrefetchDone(Event):
    """A prefetch ended.

    Attributes
    ----------
    sample_id : str
        The sample.
    strategy : str
        The strategy that was used.
    pages_needed : int
        Pages that were not in RAM when it began.
    pages_brought_in : int
        Of those, how many were in RAM when it ended.
    elapsed_ns : int
        How long it took, in nanoseconds.
    in_time : bool
        Whether it ended before its deadline (True if it had none).
    cancelled : bool
        Whether it was cancelled.
    """

    sample_id: str
    strategy: str
    pages_needed: int
    pages_brought_in: int
    elapsed_ns: int
    in_time: bool
    cancelled: bool


@dataclass(frozen=True, slots=True)
class Degraded(Event):
    """Something got less than it asked for: a strategy its fallback, a lock part of its span, a plugin no say.

    Attributes
    ----------
    sample_id : str
        The sample.
    strategy : str
        What it got.
    wanted : str
        What it asked for.
    why : str
        The reason, in one sentence, with the remedy.
    """

    sample_id: str
    strategy: str
    wanted: str
    why: str


@dataclass(frozen=True, slots=True)
class Evicted(Event):
    """The store dropped a sample to make room.

    Attributes
    ----------
    sample_id : str
        The sample that is gone.
    freed_bytes : int
        Bytes of the budget that this freed; 0 if another id shares the content.
    """

    sample_id: str
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class SessionEnded(Event):
    """A session ended, and what became of every page that was brought in ahead for it is known.

    Attributes
    ----------
    session_id : str
        The session.
    sample_id : str
        The sample that it played.
    strategy : str
        The strategy bound to it.
    blocks, late_blocks : int
        Blocks delivered, and those that were late.
    pages_played : int
        Pages of the frames delivered, each once a round.
    pages_asked, pages_useful, pages_late, pages_wasted : int
        Pages brought in ahead for it, and what became of them: the first is the sum of the others.
    """

    session_id: str
    sample_id: str
    strategy: str
    blocks: int
    late_blocks: int
    pages_played: int
    pages_asked: int
    pages_useful: int
    pages_late: int
    pages_wasted: int


class CueState(enum.Enum):
    """How a cue of a schedule stands."""

    WAITING = "waiting"
    """Its prefetch will begin as late as is safe."""
    FETCHING = "fetching"
    """Its pages are being brought in."""
    READY = "ready"
    """All of its pages were in RAM before its time."""
    LATE = "late"
    """Its time came before all of its pages had."""
    GAVE_WAY = "gave_way"
    """Its time came and it was not prefetched: there was no room."""
    CANCELLED = "cancelled"
    """It was cancelled or replaced."""
    FAILED = "failed"
    """It could not be prefetched."""

    @property
    def settled(self) -> bool:
        """Whether it stays that way."""
        return self not in (CueState.WAITING, CueState.FETCHING)


@dataclass(frozen=True, slots=True)
class CueSettled(Event):
    """A cue of a schedule was settled.

    Attributes
    ----------
    schedule_id, cue_id : str
        Which.
    sample_id : str
        The sample that it announced.
    strategy : str
        The strategy that its prefetch got; empty if that never began.
    state : CueState
        What became of it.
    due_ns : int
        When it is to be played, on the cache's clock.
    sureness : float
        How sure that is, 0 to 1.
    pages_needed, pages_brought_in : int
        Pages that were not in RAM when its prefetch began, and those of them that are now.
    margin_ns : int or None
        How long before its time all pages were in; None unless it is ready.
    why : str
        Why it gave way, was cancelled, failed, or came short, with the remedy.
    """

    schedule_id: str
    cue_id: str
    sample_id: str
    strategy: str
    state: CueState
    due_ns: int
    sureness: float
    pages_needed: int
    pages_brought_in: int
    margin_ns: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Overloaded(Event):
    """The swap device is slower than all sessions need: one of them was shed, or is taken back.

    Attributes
    ----------
    session_id : str
        The session.
    sample_id : str
        The sample it plays.
    strategy : str
        The strategy bound to it.
    shed : bool
        Whether it yields to the others from now on; False if it has its place again.
    needed_bytes_per_s : int
        What all sessions that need the device play, in bytes per second.
    device_bytes_per_s : int
        What the device carries.
    """

    session_id: str
    sample_id: str
    strategy: str
    shed: bool
    needed_bytes_per_s: int
    device_bytes_per_s: int
