"""What a strategy may ask the core to do. The core acts, on its own threads: :mod:`samplecache.cache.prefetching`.

Spans are in pages of the sample that the view shows. ``deadline_ns`` is when the first page of the span is to be read,
on the clock of ``View.now_ns``; None means as soon as possible. Actions with an earlier deadline are carried out first,
across all sessions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from samplecache.kernel.port import Advice, Span


@dataclass(frozen=True, slots=True)
class Action:
    """Something to be done to a span of pages by a deadline."""

    span: Span
    deadline_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Advise(Action):
    """``madvise``: tell the kernel and go on; the pages arrive later, if at all.

    Pages that another session is playing are not advised COLD or PAGEOUT: the kernel knows no owners.
    """

    advice: Advice = Advice.WILLNEED


@dataclass(frozen=True, slots=True)
class Populate(Action):
    """Fault all pages in with one system call a chunk (MADV_POPULATE_READ) and wait for them."""


@dataclass(frozen=True, slots=True)
class Touch(Action):
    """Read one byte of every page on a worker thread: the 2008 thread's ``pthread_create()``."""


@dataclass(frozen=True, slots=True)
class Lock(Action):
    """``mlock`` the pages, as many from the head of the span as the lock budget allows.

    What the budget refuses, because others took it meanwhile, is advised instead. The core keeps the lock until the
    strategy returns :class:`Unlock` for it or the session that asked for it ends, whichever is first; a plugin cannot
    leak one.
    """


@dataclass(frozen=True, slots=True)
class Unlock(Action):
    """Give up this session's locks on the span; pages that another session holds too stay locked."""


@dataclass(frozen=True, slots=True)
class Evict(Action):
    """Page the span out, unless another session is playing the sample; pages that anyone has locked stay."""


@dataclass(frozen=True, slots=True)
class Recheck(Action):
    """At ``deadline_ns`` look where the pages of the span are, and ask :meth:`PrefetchStrategy.advance` again.

    The only way to be asked again while playing goes on. The view will cover exactly the span, so the strategy itself
    bounds what looking costs. A session has one pending at the most: the last one asked for, by whichever method, takes
    the place of any other, and the end of the session, or of a prefetch without one, drops it. Not sooner than
    ``RECHECK_LEAST_NS`` (:mod:`samplecache.cache.prefetching.prefetcher`) after the answer; None is as soon as
    possible. What is wanted after a time may come later by a sixteenth of it, together with other sessions'
    (:mod:`samplecache.cache.tasks.rounds`).
    """


ACTION_TYPES: Final = (Advise, Populate, Touch, Lock, Unlock, Evict, Recheck)
"""All that the core can carry out. It looks for these very types, so a subclass of one is no action."""


def brings_in(action: Action) -> bool:
    """Return whether the action brings pages in that are on the swap device."""
    return waits_for_pages(action) or (isinstance(action, Advise) and action.advice is Advice.WILLNEED)


def waits_for_pages(action: Action) -> bool:
    """Return whether its pages are in RAM once it is done."""
    return isinstance(action, Populate | Touch | Lock)


def gives_back(action: Action) -> bool:
    """Return whether the action lets the kernel take pages."""
    return isinstance(action, Evict) or (isinstance(action, Advise) and action.advice is not Advice.WILLNEED)


def only_marks(action: Action) -> bool:
    """Return whether the action only says which pages are cold: it waits for no device, and nothing is written."""
    return isinstance(action, Advise) and action.advice is Advice.COLD


def is_action(answer: object, pages: int) -> bool:
    """Return whether `answer`, which a plugin gave, is an action inside a sample of `pages` pages."""
    return (
        isinstance(answer, Action)
        and type(answer) in ACTION_TYPES
        and isinstance(answer.span, Span)
        and answer.span.stop <= pages
        and isinstance(answer.deadline_ns, int | None)
        and (not isinstance(answer, Advise) or isinstance(answer.advice, Advice))
    )
