"""Whose the pages of prefetches without a session are, until somebody has played them or their time is over."""

from __future__ import annotations

import threading
from collections.abc import Callable

from samplecache.cache.accounting.accounts import Account
from samplecache.cache.samples.sample import Content


class Announced:
    """Accounts of prefetches that nobody plays yet, for whoever plays the content next. Any thread.

    What was announced before a session began was for it, and is closed with it. What is announced while one plays may
    be for the next as well: it is that session's as long as it plays, and waits again after that until its time is
    over.

    Parameters
    ----------
    call_later : Callable
        Has a function called on a worker after so many nanoseconds.
    """

    def __init__(self, call_later: Callable[[Callable[[], None], int], None]) -> None:
        self._call_later = call_later
        self._lock = threading.Lock()
        self._waiting: dict[Content, list[Account]] = {}
        self._playing: dict[Content, dict[Account, list[Account]]] = {}

    def begin(self, content: Content, account: Account) -> None:
        """Keep the account of a prefetch, which is going to begin, for whoever plays `content`; or lend it now."""
        with self._lock:
            self._lend_or_keep(content, account)

    def end(self, content: Content, account: Account, keep_ns: int, asks_ns: int = 0) -> None:
        """Keep it for `keep_ns` yet, now that the prefetch has ended, if anything can become of its pages still.

        Its strategy may ask for more for another `asks_ns`.
        """
        if asks_ns:
            self._call_later(account.finish, asks_ns)
        else:
            account.finish()
        if keep_ns and (account.outstanding or not account.finished):
            self._call_later(lambda: self._expire(content, account), keep_ns)
        else:
            self._expire(content, account)

    def begin_playing(self, content: Content, account: Account) -> None:
        """Hand over to a session's account what was announced of `content`."""
        with self._lock:
            self._playing.setdefault(content, {})[account] = []
            for other in self._waiting.pop(content, []):
                account.take_over(other)

    def end_playing(self, content: Content, account: Account) -> None:
        """Close a session's account, and keep what was announced while it played."""
        with self._lock:
            lent = self._playing[content].pop(account)
            if not self._playing[content]:
                del self._playing[content]
            for other in lent:
                account.hand_back(other)
                self._lend_or_keep(content, other)
        account.close()

    def _lend_or_keep(self, content: Content, account: Account) -> None:
        if players := self._playing.get(content):
            player, lent = next(iter(players.items()))
            lent.append(account)
            player.take_over(account)
        else:
            self._waiting.setdefault(content, []).append(account)

    def _expire(self, content: Content, account: Account) -> None:
        """Close an account whose time is over, unless a session plays the content that may read its pages yet."""
        with self._lock:
            player = account.owner
            kept = self._waiting.get(content, []) if player is None else self._playing.get(content, {}).get(player, [])
            if account not in kept:
                return
            kept.remove(account)
            if player is not None:
                if account.outstanding:
                    return  # closed with the session
                player.hand_back(account)
            elif not kept:
                del self._waiting[content]
        account.close()
