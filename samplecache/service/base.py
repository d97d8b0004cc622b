"""What all handlers share: the cache, and threads for what may block or fault, so that the event loop never does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeAlias, TypeVar

import grpc
import grpc.aio

from samplecache.cache import SampleCache
from samplecache.service.threads import yield_to_others

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Readers:
    """Threads for reads that may fault.

    Parameters
    ----------
    readers : int
        How many.
    """

    def __init__(self, readers: int) -> None:
        self._readers = ThreadPoolExecutor(readers, "samplecache-reader", yield_to_others)

    async def reading(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run a read that may fault on a reader thread: those are kept apart, so that no upload delays a stream."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """End the threads when what they do is done. Blocks."""
        self._readers.shutdown()


class Handlers(Readers):
    """Base of the handlers.

    Parameters
    ----------
    cache : SampleCache
        What they serve.
    readers : int
        Threads for reads that may fault.
    blockers : int
        Threads for what blocks for a moment: disk, ``/proc``, locks.
    laggards : int
        Threads for what may take seconds or minutes: decoding, eviction.
    """

    def __init__(self, cache: SampleCache, readers: int, blockers: int = 8, laggards: int = 8) -> None:
        super().__init__(readers)
        self.cache = cache
        self._laggards = ThreadPoolExecutor(laggards, "samplecache-laggard", yield_to_others)
        self._blockers = ThreadPoolExecutor(blockers, "samplecache-blocker", yield_to_others)

    async def blocking(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run what blocks for a moment on a thread of its own and wait for it without blocking the loop.

        A cancelled call waits too: a thread cannot be stopped, and what it works on must not be given up under it.
        """
        return await _to_the_end(self._blockers, lambda: function(*args, **kwargs))

    async def lagging(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run what may take long, on threads that nothing short waits for; else as :meth:`blocking`."""
        return await _to_the_end(self._laggards, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """End the threads when what they do is done. Blocks."""
        super().close()
        self._blockers.shutdown()
        self._laggards.shutdown()


async def _to_the_end(pool: ThreadPoolExecutor, work: Callable[[], _R]) -> _R:
    """Run `work` on a thread of `pool`; wait for its end even when cancelled."""
    running = asyncio.get_running_loop().run_in_executor(pool, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
