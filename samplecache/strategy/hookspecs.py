"""The hooks, in the order in which they are called.

A plugin is a module or object with functions of these names marked ``@hookimpl``, found through the entry-point group
``samplecache.strategies``. Everything that addresses *one* strategy is a method of its class
(:class:`samplecache.strategy.base.PrefetchStrategy`), not a hook.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pluggy

from samplecache.strategy.base import PrefetchStrategy
from samplecache.strategy.events import Event
from samplecache.strategy.view import Choice, ChoiceView

PROJECT: Final = "samplecache"
ENTRY_POINT_GROUP: Final = "samplecache.strategies"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def samplecache_register_strategies() -> Iterable[type[PrefetchStrategy]]:
    """Return the strategy classes that the plugin brings.

    Called once, when the cache starts, before anything is stored. All plugins are asked. A name that is taken already
    is refused, and the refusal is shown by ``samplecache strategies``.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def samplecache_choose_strategy(view: ChoiceView) -> Choice | str | None:
    """Return the strategy for this session, by name or with the reason, or None to leave the choice to the next plugin.

    Called when a session opens or a prefetch begins and the request, the sample or the server's default says ``auto``,
    once at most and never otherwise. The first plugin with an answer decides; a name that nobody registered, or an
    exception, counts as no answer. Called on the thread that opens the session, which may be the event loop, so it must
    not block.
    """
    raise NotImplementedError


@hookspec
def samplecache_observe(event: Event) -> None:
    """Hear of an underrun, a finished prefetch, a degradation or an eviction.

    Called after it happened, for every event, on the thread on which it happened, so it must not block. All plugins are
    told; an exception is logged and harms nothing.
    """
    raise NotImplementedError
