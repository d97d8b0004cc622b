"""Looks that workers take again and again, as long as there is something to look at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from samplecache.clock import NS_PER_S, Clock
from samplecache.strategy.failures import log_failure

RETRY_NS: Final = NS_PER_S
"""When is looked again after a look that failed: what it was for is still to be done."""


class Looks:
    """Has something looked at until it says that there is no reason to, and anew when there is. Any thread.

    There is one look at a time, on a worker. A look that fails is logged and taken again: whoever is kept waiting by
    what it would have found would else wait for ever.

    Parameters
    ----------
    clock : Clock
        The time.
    call_at : Callable
        Has something done by a worker at a time, in nanoseconds.
    look : Callable
        Looks, and returns when to look again, in nanoseconds of `clock`; None for not before the next :meth:`begin`.
    """

    def __init__(
        self,
        clock: Clock,
        call_at: Callable[[Callable[[], None], int], None],
        look: Callable[[], int | None],
    ) -> None:
        self._clock = clock
        self._call_at = call_at
        self._look = look
        self._lock = threading.Lock()
        self._going_on = False
        self._begun_ns: int | None = None

    def begin(self, at_ns: int) -> None:
        """Look at `at_ns` for the first time, unless looks are going on. Never blocks."""
        with self._lock:
            if self._going_on:
                # The look under way may have missed what this is about.
                self._begun_ns = at_ns
                return
            self._going_on = True
        self._call_at(self._take, at_ns)

    def _take(self) -> None:
        with self._lock:
            self._begun_ns = None
        try:
            next_ns = self._look()
        except Exception as error:
            log_failure("look_failed", error)
            next_ns = self._clock.now_ns() + RETRY_NS
        with self._lock:
            if next_ns is None:
                next_ns = self._begun_ns
            self._going_on = next_ns is not None
        if next_ns is not None:
            self._call_at(self._take, next_ns)
