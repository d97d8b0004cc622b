"""What a strategy is shown: immutable, complete, and the same on both kernels."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from samplecache.clock import NS_PER_S
from samplecache.kernel.port import Capabilities, Residency, Span
from samplecache.kernel.signals import MemoryState


@dataclass(frozen=True, slots=True)
class SampleView:
    """The sample that a decision is about.

    Attributes
    ----------
    sample_id : str
        Its id.
    pages : int
        Its length in pages.
    page_bytes : int
        Size of a page, in bytes.
    bytes_per_s : int
        How many of its bytes one second of playing reads.
    tags : tuple of str
        What its owner tagged it with.
    """

    sample_id: str
    pages: int
    page_bytes: int
    bytes_per_s: int
    tags: tuple[str, ...] = ()

    @property
    def sample_bytes(self) -> int:
        """Its length in whole pages, in bytes."""
        return self.pages * self.page_bytes

    @property
    def page_ns(self) -> int:
        """How long one page sounds, in nanoseconds: ``page_bytes / bytes_per_s``."""
        return self.page_bytes * NS_PER_S // self.bytes_per_s


@dataclass(frozen=True, slots=True)
class PageInFigures:
    """What bringing pages back has cost so far, as the core measured it on this kernel; None before the first time.

    Attributes
    ----------
    latency_ns : int or None
        Median time for a single page, in nanoseconds.
    bytes_per_s : int or None
        Median rate over whole prefetches, in bytes per second.
    latency_high_ns : int or None
        95th percentile of the time for a single page, in nanoseconds.
    bytes_per_s_low : int or None
        5th percentile of sustained rates, in bytes per second.
    """

    latency_ns: int | None = None
    bytes_per_s: int | None = None
    latency_high_ns: int | None = None
    bytes_per_s_low: int | None = None


class Pressure(enum.Enum):
    """How short memory is, as far as this kernel tells. Under pressure what is brought in drives something else out."""

    NONE = "none"
    """Nobody waits for memory."""
    SOME = "some"
    """Some wait for memory some of the time: bring in less, and nothing that is speculative."""
    FULL = "full"
    """Everyone does at times: bring in what is about to be read, and give back what was."""


class Stretch(NamedTuple):
    """Pages that will be read in order, in one go.

    Attributes
    ----------
    span : Span
        The pages.
    deadline_ns : int or None
        When the first of them is due; None if at once, or as fast as the client takes them.
    """

    span: Span
    deadline_ns: int | None


@dataclass(frozen=True, slots=True)
class View:
    """One moment of one session, or of one prefetch without a session.

    Attributes
    ----------
    now_ns : int
        The time now, in nanoseconds.
    sample : SampleView
        The sample.
    wanted : Span
        The pages that are to be read, from the cursor on: the first stretch of the path.
    deadline_ns : int or None
        When the first wanted page is due; None if at once, or as fast as the client takes them.
    residency : Residency
        Where pages are: those that a :class:`~samplecache.strategy.actions.Recheck` asked about; otherwise all wanted
        ones, as far as the strategy's ``horizon_ns``.
    held : tuple of Span
        Pages that this session has locked.
    lock_budget_bytes : int
        How many more bytes may be locked by anyone, in bytes.
    page_in : PageInFigures
        Measured cost of bringing pages back.
    capabilities : Capabilities
        What this kernel permits and what is useful on it.
    path : tuple of Stretch
        What will be read, in order, as far as it is known: the rest of this round and, of a loop, the next round. The
        rounds after that are as long as the next.
    played : Span
        Pages of this round behind the cursor. They are read again only if the path says so, or after a seek.
    playing : bool
        Whether a session plays; False for a prefetch ahead of one, which may never be played.
    lead_ns : int
        A page may be read so long before it is due, in nanoseconds: blocks leave as soon as they may. Who wants the
        reading thread to find its pages must have them there by then; 0 where nobody plays yet.
    budget_bytes : int or None
        The most that may be outstanding now, in bytes: brought in ahead and not read yet. It is this session's share of
        one budget, for strategies that are ``budgeted``; None if there is no bound.
    pressure : Pressure
        How short memory is.
    near_misses, underruns : int
        Blocks since this strategy was asked last that were in time although their reading waited for a page, and blocks
        that were late because it did.
    """

    now_ns: int
    sample: SampleView
    wanted: Span
    deadline_ns: int | None
    residency: Residency
    held: tuple[Span, ...]
    lock_budget_bytes: int
    page_in: PageInFigures
    capabilities: Capabilities
    path: tuple[Stretch, ...] = ()
    played: Span = field(default_factory=lambda: Span(0, 0))
    playing: bool = False
    lead_ns: int = 0
    budget_bytes: int | None = None
    pressure: Pressure = Pressure.NONE
    near_misses: int = 0
    underruns: int = 0

    def deadline_of(self, page: int) -> int:
        """Return when `page` will be read if playing goes on at its own rate, in nanoseconds."""
        first_ns = self.now_ns if self.deadline_ns is None else self.deadline_ns
        return first_ns + (page - self.wanted.start) * self.sample.page_ns


@dataclass(frozen=True, slots=True)
class ChoiceView:
    """What ``samplecache_choose_strategy`` is shown when a session asks for ``auto``.

    Attributes
    ----------
    sample : SampleView
        The sample to be played or prefetched.
    capabilities : Capabilities
        What this kernel permits and what is useful on it.
    lock_budget_bytes : int
        How many more bytes may be locked, in bytes.
    page_in : PageInFigures
        Measured cost of bringing pages back.
    names : tuple of str
        The strategies there are.
    memory : MemoryState
        How much memory there is for this process.
    lead_ns : int or None
        Time until the first page is due, in nanoseconds; None if nothing is known to be due.
    """

    sample: SampleView
    capabilities: Capabilities
    lock_budget_bytes: int
    page_in: PageInFigures = field(default_factory=PageInFigures)
    names: tuple[str, ...] = ()
    memory: MemoryState = field(default_factory=MemoryState)
    lead_ns: int | None = None


class Choice(NamedTuple):
    """What ``samplecache_choose_strategy`` may answer instead of a bare name.

    Attributes
    ----------
    name : str
        The strategy.
    why : str
        The reason, in one sentence, for people.
    """

    name: str
    why: str = ""
