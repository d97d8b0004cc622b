"""Locks of prefetches that have ended, kept for whoever plays the sample next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from samplecache.cache.prefetcher import Order
from samplecache.cache.sample import Content
from samplecache.cache.store import Lease


@dataclass(frozen=True, slots=True, eq=False)
class _Hold:
    """What a prefetch locked, and the lease that keeps it mapped."""

    order: Order
    lease: Lease


class Holds:
    """Who keeps which prefetch's locks: nobody yet, for a while; or a session that plays the content. Any thread.

    Parameters
    ----------
    release_locks : Callable
        Gives up the locks of an order. May block.
    call_later : Callable
        Has a function called on a worker after so many nanoseconds.
    """

    def __init__(
        self, release_locks: Callable[[Order], None], call_later: Callable[[Callable[[], None], int], None]
    ) -> None:
        self._release_locks = release_locks
        self._call_later = call_later
        self._lock = threading.Lock()
        self._waiting: dict[Content, list[_Hold]] = {}
        self._taken_over: dict[str, list[_Hold]] = {}

    def __len__(self) -> int:
        """How many nobody has taken over yet."""
        return sum(map(len, self._waiting.values()))

    def keep(self, order: Order, lease: Lease, keep_ns: int) -> None:
        """Keep an order's locks for `keep_ns`, or while somebody plays the content; 0 gives them up. Never blocks."""
        hold = _Hold(order, lease)
        with self._lock:
            player = next(iter(lease.content.players), None) if keep_ns else None
            if player is not None:
                # Playing began before the prefetch had ended: the session takes the locks over all the same.
                self._taken_over[player].append(hold)
                return
            self._waiting.setdefault(lease.content, []).append(hold)
        self._call_later(lambda: self._expire(hold), keep_ns)

    def begin_playing(self, content: Content, session_id: str) -> None:
        """Note that a session plays `content`, and have it take over what waits for one. Never blocks."""
        with self._lock:
            content.players.add(session_id)
            self._taken_over[session_id] = self._waiting.pop(content, [])

    def end_playing(self, content: Content, session_id: str) -> None:
        """Note that the session has ended, and give up what it had taken over. Blocks while a lock is being taken."""
        with self._lock:
            content.players.discard(session_id)
            holds = self._taken_over.pop(session_id, [])
        with ExitStack() as every_one:  # one that fails does not keep the others
            for hold in holds:
                every_one.callback(self._give_up, hold)

    def _expire(self, hold: _Hold) -> None:
        with self._lock:
            holds = self._waiting.get(hold.lease.content, [])
            if hold not in holds:
                return
            holds.remove(hold)
            if not holds:
                del self._waiting[hold.lease.content]
        self._give_up(hold)

    def _give_up(self, hold: _Hold) -> None:
        try:
            self._release_locks(hold.order)
        finally:
            hold.lease.release()
