"""Locks of prefetches that have ended, kept for whoever plays the sample next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from samplecache.cache.prefetching.orders import Order
from samplecache.cache.samples.sample import Content
from samplecache.cache.samples.store import Lease
from samplecache.kernel.ledger import LockLedger


@dataclass(frozen=True, slots=True, eq=False)
class _Hold:
    """What a prefetch locked, and the lease that keeps it mapped."""

    order: Order
    lease: Lease


class Holds:
    """Keeps a prefetch's locks for a while, or hands them to a session that plays the content. Any thread.

    Parameters
    ----------
    ledger : LockLedger
        Who holds which pages locked.
    call_later : Callable
        Has a function called on a worker after so many nanoseconds.
    """

    def __init__(self, ledger: LockLedger, call_later: Callable[[Callable[[], None], int], None]) -> None:
        self._ledger = ledger
        self._call_later = call_later
        self._lock = threading.Lock()
        self._waiting: dict[Content, list[_Hold]] = {}

    def __len__(self) -> int:
        """How many are kept for somebody."""
        return sum(map(len, self._waiting.values()))

    def keep(self, order: Order, lease: Lease, keep_ns: int) -> None:
        """Keep an order's locks for `keep_ns`, or hand them over if somebody plays the content; 0 gives them up.

        Never blocks.
        """
        hold = _Hold(order, lease)
        with self._lock:
            player = next(iter(lease.content.players), None) if keep_ns else None
            if player is None:
                self._waiting.setdefault(lease.content, []).append(hold)
            else:
                # Playing began before the prefetch had ended.
                self._hand_over(hold, player)
        if player is None:
            self._call_later(lambda: self._expire(hold), keep_ns)

    def begin_playing(self, content: Content, session_id: str) -> None:
        """Note that a session plays `content`, and hand it what waits for one. Never blocks."""
        with self._lock:
            content.players |= {session_id}
            for hold in self._waiting.pop(content, []):
                self._hand_over(hold, session_id)

    def end_playing(self, content: Content, session_id: str) -> None:
        """Note that the session has ended. Blocks while a page of the content is being locked."""
        with self._lock:
            content.players -= {session_id}
        # The session has given its locks up; this is for what was handed to it since.
        self._ledger.release(session_id, content.region)

    def _hand_over(self, hold: _Hold, session_id: str) -> None:
        self._ledger.transfer(hold.order.holder, session_id, hold.lease.content.region)
        hold.lease.release()

    def _expire(self, hold: _Hold) -> None:
        with self._lock:
            holds = self._waiting.get(hold.lease.content, [])
            if hold not in holds:
                return
            holds.remove(hold)
            if not holds:
                del self._waiting[hold.lease.content]
        try:
            self._ledger.release(hold.order.holder, hold.lease.content.region)
        finally:
            hold.lease.release()
