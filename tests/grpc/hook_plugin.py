"""A plugin with every hook, and strategies that ask for more than there is."""

from __future__ import annotations

from collections.abc import Iterable

from samplecache.strategy import (
    Action,
    ChoiceView,
    Evict,
    Lock,
    Operation,
    PrefetchStrategy,
    View,
    hookimpl,
)
from samplecache.strategy.events import Event


class LockAll(PrefetchStrategy):
    """Lock all that will be played, whatever the budget."""

    name = "lock-all"

    def prepare(self, view: View) -> Iterable[Action]:
        return [Lock(view.wanted)]


class EvictAll(PrefetchStrategy):
    """Page out what will be played: the opposite of a prefetch."""

    name = "evict-all"
    requires = frozenset({Operation.EVICT})
    fallback = "touch"

    def prepare(self, view: View) -> Iterable[Action]:
        return [Evict(view.wanted)]


class Raising(PrefetchStrategy):
    """Fail at everything."""

    name = "raising"

    def prepare(self, view: View) -> Iterable[Action]:
        raise ZeroDivisionError

    advance = finish = prepare


class HookPlugin:
    """Registers them, chooses one for samples tagged with its name, and keeps what it observes."""

    def __init__(self) -> None:
        self.observed: list[Event] = []

    @hookimpl
    def samplecache_register_strategies(self) -> list[type[PrefetchStrategy]]:
        return [LockAll, EvictAll, Raising]

    @hookimpl
    def samplecache_choose_strategy(self, view: ChoiceView) -> str | None:
        return next((tag for tag in view.sample.tags if tag in view.names), None)

    @hookimpl
    def samplecache_observe(self, event: Event) -> None:
        self.observed.append(event)
