"""When the prefetch of each announced cue is to begin, and which give way. Planning only: no I/O, no clock, no kernel.

A prefetch begins as late as is safe: what is brought in early keeps others out of memory, and may be taken back. The
device is taken to serve one cue after the other in the order of their times, so latest beginnings are found from the
last cue backwards; that is earliest-deadline-first, turned round.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.strategy.view import PageInFigures, Pressure

UNMEASURED_BYTES_PER_S: Final = 2 << 20
"""A slow disk, until something was measured: what begins too early costs less than what begins too late."""

UNMEASURED_LATENCY_NS: Final = 50 * NS_PER_MS
"""A few seeks of a disk that turns."""

SAFETY: Final = 1.5
"""Bringing a cue in is expected to take so many times what it measured: others use the device too."""

MARGIN_NS: Final = 50 * NS_PER_MS
"""All should be there so long before it is played: a worker has to notice, and a session to open."""

RETRY_NS: Final = 100 * NS_PER_MS
"""When it is decided again about what ought to have begun and has no room: pressure may have gone by then."""

LEAST_SURENESS: Final = {Pressure.NONE: 0.0, Pressure.SOME: 0.5, Pressure.FULL: 1.0}
"""What is less sure than that does not begin under such a pressure: it would drive out what others are using."""


@dataclass(frozen=True, slots=True)
class Hint:
    """An announced cue whose time has not come.

    Attributes
    ----------
    key : Hashable
        What the decision calls it.
    due_ns : int
        When its first frame will be played.
    needed_bytes : int
        What has to be in RAM for it.
    sureness : float
        How likely that is, 0 to 1.
    begun : bool
        Whether its prefetch has begun.
    ended : bool
        Whether that has ended: it takes memory then, but nothing of the device.
    """

    key: Hashable
    due_ns: int
    needed_bytes: int
    sureness: float = 1.0
    begun: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done now.

    Attributes
    ----------
    begin : tuple
        Keys of the hints whose prefetch is to begin, the nearest first.
    give_way : tuple
        Keys of hints whose prefetch is to stop, to make room for surer ones.
    next_ns : int or None
        When to decide again, if nothing happens before; None if there is nothing to wait for.
    """

    begin: tuple[Hashable, ...]
    give_way: tuple[Hashable, ...]
    next_ns: int | None


def fetching_ns(needed_bytes: int, figures: PageInFigures) -> int:
    """Return how long bringing in so many bytes is to be expected to take, at a bad time for the device."""
    bytes_per_s = figures.bytes_per_s_low or figures.bytes_per_s or UNMEASURED_BYTES_PER_S
    latency_ns = figures.latency_high_ns or figures.latency_ns or UNMEASURED_LATENCY_NS
    return int(SAFETY * (latency_ns + needed_bytes * NS_PER_S // bytes_per_s))


def latest_beginnings(hints: Iterable[Hint], figures: PageInFigures) -> dict[Hashable, int]:
    """Return when the prefetch of each has to begin at the latest, so that all are in before their times."""
    beginnings: dict[Hashable, int] = {}
    free_ns: int | None = None
    in_order = sorted(hints, key=lambda hint: hint.due_ns)  # of equal times, the first to come goes first
    for hint in reversed(in_order):
        end_ns = hint.due_ns - MARGIN_NS
        free_ns = end_ns if free_ns is None else min(free_ns, end_ns)
        if not hint.ended:
            free_ns -= fetching_ns(hint.needed_bytes, figures)
        beginnings[hint.key] = free_ns
    return beginnings


def decide(
    hints: Sequence[Hint], now_ns: int, figures: PageInFigures, pressure: Pressure, budget_bytes: int
) -> Decision:
    """Return what is to begin, what gives way, and when to decide again.

    Parameters
    ----------
    hints : sequence of Hint
        All there are.
    now_ns : int
        The time now.
    figures : PageInFigures
        What bringing pages back costs.
    pressure : Pressure
        How short memory is.
    budget_bytes : int
        The most that hints may have brought in before their time. A hint alone may have more.
    """
    eligible = _worth_it(hints, now_ns, figures, pressure)
    beginnings = {hint.key: hint.due_ns - MARGIN_NS - fetching_ns(hint.needed_bytes, figures) for hint in hints}
    beginnings.update(latest_beginnings(eligible, figures))
    due = [hint for hint in eligible if not hint.begun and beginnings[hint.key] <= now_ns]
    begin, give_way = _fit([hint for hint in hints if hint.begun], due, budget_bytes)
    begun = {hint.key for hint in begin}
    waiting = [beginnings[hint.key] for hint in hints if not hint.begun and hint.key not in begun]
    return Decision(
        tuple(hint.key for hint in sorted(begin, key=lambda hint: hint.due_ns)),
        tuple(hint.key for hint in give_way),
        min((time_ns if time_ns > now_ns else now_ns + RETRY_NS for time_ns in waiting), default=None),
    )


def _worth_it(hints: Sequence[Hint], now_ns: int, figures: PageInFigures, pressure: Pressure) -> list[Hint]:
    """Return the hints but for those that are not sure enough, or would make surer ones late or be late themselves.

    In the order of their times, a hint's slack is what is left of the time until it is due after all before it and
    itself are served. One more takes its own length from the slack of all that come after it.
    """
    ranked = sorted(
        (hint for hint in hints if hint.begun or hint.sureness >= LEAST_SURENESS[pressure]),
        key=lambda hint: hint.due_ns,
    )
    lengths_ns = [0 if hint.ended else fetching_ns(hint.needed_bytes, figures) for hint in ranked]
    chosen = np.array([hint.begun or hint.sureness >= 1 for hint in ranked], np.bool_)
    waits = np.array([not hint.begun for hint in ranked], np.bool_)
    slack_ns = np.array([hint.due_ns - MARGIN_NS - now_ns for hint in ranked], np.int64)
    slack_ns -= np.cumsum(np.where(chosen, lengths_ns, 0)).astype(np.int64)
    unsure = [place for place in range(len(ranked)) if not chosen[place]]
    for place in sorted(unsure, key=lambda place: -ranked[place].sureness):
        length_ns = lengths_ns[place]
        after = (chosen & waits)[place + 1 :]
        if slack_ns[place] >= length_ns and (slack_ns[place + 1 :][after] >= length_ns).all():
            chosen[place] = True
            slack_ns[place:] -= length_ns
    return [hint for hint, taken in zip(ranked, chosen, strict=True) if taken]


def _fit(begun: Sequence[Hint], due: Sequence[Hint], budget_bytes: int) -> tuple[list[Hint], list[Hint]]:
    """Return which of those that are due to begin have room, and which of those begun give way to surer ones."""
    having = list(begun)
    begin: list[Hint] = []
    give_way: list[Hint] = []
    for hint in sorted(due, key=lambda hint: (-hint.sureness, hint.due_ns)):
        yielding = [other for other in having if other.begun and not other.ended and other.sureness < hint.sureness]
        staying = list(having)
        # The least sure and furthest go first, and only if that makes enough room.
        for other in [None, *sorted(yielding, key=lambda other: (other.sureness, -other.due_ns))]:
            if other is not None:
                staying.remove(other)
            if not staying or sum(each.needed_bytes for each in staying) + hint.needed_bytes <= budget_bytes:
                give_way += [each for each in having if each not in staying]
                having = [*staying, hint]
                begin.append(hint)
                break
    return begin, give_way
