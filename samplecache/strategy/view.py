"""What a strategy is shown: immutable, complete, and the same on both kernels."""

from __future__ import annotations

from dataclasses import dataclass, field

from samplecache.clock import NS_PER_S
from samplecache.kernel.port import Capabilities, Residency, Span


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
    """

    latency_ns: int | None = None
    bytes_per_s: int | None = None


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
        The pages that are to be read, from the cursor on.
    deadline_ns : int or None
        When the first wanted page will be read; None if at once.
    residency : Residency
        Where every wanted page is.
    held : tuple of Span
        Pages that this session has locked.
    lock_budget_bytes : int
        How many more bytes may be locked by anyone, in bytes.
    page_in : PageInFigures
        Measured cost of bringing pages back.
    capabilities : Capabilities
        What this kernel permits and what is useful on it.
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
    """

    sample: SampleView
    capabilities: Capabilities
    lock_budget_bytes: int
    page_in: PageInFigures = field(default_factory=PageInFigures)
    names: tuple[str, ...] = ()
