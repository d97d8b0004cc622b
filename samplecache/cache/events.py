"""Tells plugins and watchers what happened."""

from __future__ import annotations

import threading
from collections.abc import Callable

from samplecache.strategy.events import Event
from samplecache.strategy.failures import log_failure
from samplecache.strategy.registry import StrategyRegistry


class EventBus:
    """Passes every event to the plugins' ``samplecache_observe`` and to whoever listens. Any thread.

    Parameters
    ----------
    registry : StrategyRegistry
        Whose plugins are told.
    """

    def __init__(self, registry: StrategyRegistry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._listeners: tuple[Callable[[Event], None], ...] = ()

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Have `listener` called with every event, on the thread on which it happens; return what ends that.

        A listener must not block.
        """
        with self._lock:
            self._listeners += (listener,)

        def stop() -> None:
            with self._lock:
                self._listeners = tuple(other for other in self._listeners if other is not listener)

        return stop

    def publish(self, event: Event) -> None:
        """Tell everyone. What they raise is logged and goes no further."""
        self._registry.observe(event)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:
                log_failure("event_listener_failed", error)
