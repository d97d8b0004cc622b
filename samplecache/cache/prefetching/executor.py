"""Does to memory what strategies ask for: the one place where an action becomes a call of the kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from samplecache.cache.samples.sample import Content
from samplecache.clock import NS_PER_S
from samplecache.kernel.ledger import LockLedger
from samplecache.kernel.port import Kernel, Region
from samplecache.strategy.actions import Action, Advise, Evict, Lock, Populate, Touch, Unlock, gives_back

EVICT_TIMEOUT_NS: Final = NS_PER_S
"""An eviction is a courtesy to others; a worker does not spend longer on one chunk of it."""


class ActionExecutor:
    """Carries out one action at a time on the calling thread, which may block and fault: call it on workers only.

    Parameters
    ----------
    kernel : Kernel
        What acts on memory.
    ledger : LockLedger
        Through which pages are locked and unlocked.
    """

    def __init__(self, kernel: Kernel, ledger: LockLedger) -> None:
        self._kernel = kernel
        self._ledger = ledger
        self._by_type: dict[type[Action], Callable[[str, Content, Action], str]] = {
            Advise: self._advise,
            Populate: self._populate,
            Touch: self._touch,
            Lock: self._lock,
            Unlock: self._unlock,
            Evict: self._evict,
        }

    def execute(self, holder: str, content: Content, action: Action) -> str:
        """Do `action` to `content` in the name of `holder`; return what came short of it and the remedy, or nothing.

        Raises
        ------
        SamplecacheError
            The kernel refuses.
        """
        return self._by_type[type(action)](holder, content, action)

    def _advise(self, holder: str, content: Content, action: Action) -> str:
        assert isinstance(action, Advise)  # noqa: S101 -- the table above dispatches by type
        if gives_back(action) and content.players - {holder}:
            return ""  # others are going to read it
        self._kernel.advise(content.region, action.span, action.advice)
        return ""

    def _populate(self, holder: str, content: Content, action: Action) -> str:
        self._kernel.populate(content.region, action.span)
        return ""

    def _touch(self, holder: str, content: Content, action: Action) -> str:
        self._kernel.touch(content.region, action.span)
        return ""

    def _lock(self, holder: str, content: Content, action: Action) -> str:
        return self._ledger.acquire(holder, content.region, action.span).why

    def _unlock(self, holder: str, content: Content, action: Action) -> str:
        self._ledger.release(holder, content.region, action.span)
        return ""

    def _evict(self, holder: str, content: Content, action: Action) -> str:
        if content.players - {holder}:
            return "Another session is playing the sample, so it was not evicted. Evict it when that has ended."
        region: Region = content.region
        self._kernel.evict(region, action.span, EVICT_TIMEOUT_NS)
        return ""
