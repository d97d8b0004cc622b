"""Which heads of trigger samples stay in RAM, and how much of each. Planning only: no I/O, no clock, no kernel.

A *trigger* is a sample that sounds without announcement: a drum hit, an event sound. Its *head* is what sounds while
the rest is being brought in. Heads share a number of pages that may be locked, and another of pages that are merely
populated again whenever they went cold. Each gets its first block; beyond that they share in proportion to their use.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.strategy.view import PageInFigures

TRIGGER_TAG: Final = "trigger"
"""The tag that makes a sample one."""

HALF_LIFE_NS: Final = 600 * NS_PER_S
"""After so long a use counts half: long enough for a set of songs, short enough to follow the next one."""

FIRST_BLOCK_NS: Final = 20 * NS_PER_MS
"""The default length of a block: less of a head would be worth nothing."""

BATCH_BYTES: Final = 256 << 10
"""What a prefetch brings in at a time: the rest of a sample begins to arrive with its first batch."""

UNMEASURED_NS: Final = 200 * NS_PER_MS
"""What a head covers before anything was measured: a batch from a disk of 2 MB/s takes 131 ms, and comes second."""

MOST_NS: Final = 2 * NS_PER_S
"""The most that a head covers. A device that needs longer for a batch is slower than any audio."""

_HALVINGS: Final = 64
"""Steps of bisection: more than a double has bits."""

_Pages: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Use:
    """How often something has been used, of late.

    Attributes
    ----------
    count : float
        Uses, each halved for every :data:`HALF_LIFE_NS` since.
    at_ns : int
        When that was so.
    """

    count: float = 0.0
    at_ns: int = 0

    def count_at(self, now_ns: int) -> float:
        """Return what the count has decayed to: ``count * 2 ** -(elapsed / half-life)``."""
        return float(self.count * 0.5 ** (max(0, now_ns - self.at_ns) / HALF_LIFE_NS))

    def again(self, now_ns: int) -> Use:
        """Return it with one more use, now."""
        return Use(self.count_at(now_ns) + 1, now_ns)


@dataclass(frozen=True, slots=True)
class Trigger:
    """What planning has to know of a content that is to start at once.

    Attributes
    ----------
    key : Hashable
        What the plan calls it.
    pages : int
        Its length in pages.
    bytes_per_s : int
        How many of its bytes one second of playing reads.
    uses : float
        Its use of late.
    """

    key: Hashable
    pages: int
    bytes_per_s: int
    uses: float


@dataclass(frozen=True, slots=True)
class Head:
    """How much of a content is to stay in RAM, in pages from its beginning.

    Attributes
    ----------
    locked_pages : int
        Pages to be locked.
    pages : int
        Pages to be in RAM, the locked ones among them.
    """

    locked_pages: int
    pages: int


def cover_ns(figures: PageInFigures) -> int:
    """Return how long a head has to sound: until the first batch of the rest is there, at a bad time for the device.

    A page-in's high latency, for the thread that has to wait its turn, and a batch at the device's low rate; their
    medians where there is no spread yet, :data:`UNMEASURED_NS` before anything was measured.
    """
    bytes_per_s = figures.bytes_per_s_low or figures.bytes_per_s
    if not bytes_per_s:
        return UNMEASURED_NS
    batch_ns = BATCH_BYTES * NS_PER_S // bytes_per_s
    return min(MOST_NS, (figures.latency_high_ns or figures.latency_ns or 0) + batch_ns)


def plan(
    triggers: Sequence[Trigger], figures: PageInFigures, page_bytes: int, lock_pages: int, warm_pages: int
) -> dict[Hashable, Head]:
    """Return the head of every trigger that gets one, the most used first.

    Parameters
    ----------
    triggers : sequence of Trigger
        All there are. Of equal use the first come first.
    figures : PageInFigures
        What bringing pages back costs.
    page_bytes : int
        Size of a page, in bytes.
    lock_pages : int
        The most pages to be locked, over all heads.
    warm_pages : int
        The most pages to be kept in RAM without a lock, over all heads.
    """
    ranked = sorted(triggers, key=lambda trigger: -trigger.uses)
    sounding_ns = cover_ns(figures)
    most = _lengths(ranked, max(sounding_ns, FIRST_BLOCK_NS), page_bytes)
    least = np.minimum(_lengths(ranked, FIRST_BLOCK_NS, page_bytes), most)
    # A sample that was never played may be the next: it counts as played once.
    weights = np.array([1 + trigger.uses for trigger in ranked], np.float64)
    locked = _share(lock_pages, least, most, weights)
    warm = _share(warm_pages, np.maximum(least - locked, 0), most - locked, weights)
    return {
        trigger.key: Head(int(held), int(held + kept))
        for trigger, held, kept in zip(ranked, locked, warm, strict=True)
        if held + kept
    }


def _lengths(triggers: Sequence[Trigger], duration_ns: int, page_bytes: int) -> _Pages:
    """Return how many pages of each sound for so long, or as many as it has."""
    return np.array(
        [min(trigger.pages, -(-trigger.bytes_per_s * duration_ns // (NS_PER_S * page_bytes))) for trigger in triggers],
        np.int64,
    )


def _share(budget_pages: int, least: _Pages, most: _Pages, weights: npt.NDArray[np.float64]) -> _Pages:
    """Return how many pages each gets: in proportion to its weight, between `least` and `most`, the first come first.

    Where the budget does not even cover everyone's `least`, the first get that and the rest nothing.
    """
    fits = np.cumsum(least) <= budget_pages
    if not fits.all():
        return np.where(fits, least, 0)
    if most.sum() <= budget_pages:
        return most

    def at(level: float) -> _Pages:
        return np.clip((level * weights).astype(np.int64), least, most)

    low, high = 0.0, float((most / weights).max()) + 1
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() <= budget_pages else (low, middle)
    shares = at(low)
    # Whole pages leave a few over: they go to the most used of those who can take one.
    growing = np.flatnonzero(shares < most)[: budget_pages - int(shares.sum())]
    shares[growing] += 1
    return shares
