"""What is to be prefetched, for whom, and which method of the strategy decides."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from samplecache.cache.accounting.accounts import Account
from samplecache.cache.device.shedding import Place
from samplecache.cache.samples.sample import Sample
from samplecache.kernel.port import Span
from samplecache.strategy.actions import Recheck
from samplecache.strategy.base import PrefetchStrategy
from samplecache.strategy.registry import Binding
from samplecache.strategy.view import Stretch


class Moment(enum.Enum):
    """Which method of a strategy is to decide."""

    PREPARE = enum.auto()
    ADVANCE = enum.auto()
    FINISH = enum.auto()

    def overridden_by(self, strategy: PrefetchStrategy) -> bool:
        """Return whether the strategy has anything to say at this moment."""
        name = self.name.lower()
        return getattr(type(strategy), name) is not getattr(PrefetchStrategy, name)


@dataclass(frozen=True, slots=True)
class Playhead:
    """Where a session stands, as its strategy is shown it: see :class:`~samplecache.strategy.view.View`."""

    path: tuple[Stretch, ...]
    played: Span
    lead_ns: int
    near_misses: int = 0
    underruns: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be prefetched, and how.

    Attributes
    ----------
    sample : Sample
        The sample. Its content must stay leased until the prefetch has ended.
    wanted : Span
        Pages to be brought in.
    binding : Binding
        The strategy that decides.
    deadline_ns : int or None
        When the first of them will be read; None if at once.
    holder : str
        In whose name pages are locked.
    account : Account
        Where it is kept what became of pages that were brought in.
    moment : Moment
        Which method decides.
    playhead : Playhead or None
        Where the session stands that this is for; None for a prefetch ahead of one.
    look : Span or None
        The pages that are looked at before it decides; None for all wanted ones, as far as the strategy's horizon.
    on_recheck : Callable or None
        Told when the strategy wants to be asked again, which is not done otherwise.
    place : Place
        Whether it has to yield to others.
    urgency : int
        What is more urgent goes first, whatever the deadlines.
    """

    sample: Sample
    wanted: Span
    binding: Binding
    deadline_ns: int | None
    holder: str
    account: Account
    moment: Moment = Moment.PREPARE
    playhead: Playhead | None = None
    look: Span | None = None
    on_recheck: Callable[[Recheck], object] | None = None
    urgency: int = 0
    place: Place = field(default_factory=Place)

    def pages_to_look_at(self, page_bytes: int) -> Span:
        """Return the pages of which the strategy is to be shown where they are."""
        if self.look is not None:
            return self.look
        horizon_ns = self.binding.strategy.horizon_ns
        if horizon_ns is None:
            return self.wanted
        pages = -(-horizon_ns // self.sample.view(page_bytes).page_ns)
        return Span(self.wanted.start, min(self.wanted.stop, self.wanted.start + pages))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a prefetch has come.

    Attributes
    ----------
    pages_needed : int
        Pages of the span that were not in RAM when it began.
    pages_in : int
        Of those, how many were in RAM at the last look.
    elapsed_ns : int
        Time since it began, or that it took.
    done : bool
        Whether it has ended.
    """

    pages_needed: int
    pages_in: int
    elapsed_ns: int
    done: bool
