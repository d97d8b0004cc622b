"""What all handlers share: the cache, and threads for what may block or fault, so that the event loop never does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeAlias, TypeVar

import grpc
import grpc.aio

from samplecache.cache import SampleCache

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Handlers:
    """Base of the handlers.

    Parameters
    ----------
    cache : SampleCache
        What they serve.
    readers : int
        Threads for reads that may fault.
    blockers : int
        Threads for all else that blocks: decoding, eviction, disk.
    """

    def __init__(self, cache: SampleCache, readers: int, blockers: int = 8) -> None:
        self.cache = cache
        self._readers = ThreadPoolExecutor(readers, "samplecache-reader")
        self._blockers = ThreadPoolExecutor(blockers, "samplecache-blocker")

    async def blocking(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run what blocks on a thread of its own and wait for it without blocking the loop.

        A cancelled call waits too: a thread cannot be stopped, and what it works on must not be given up under it.
        """
        work = asyncio.get_running_loop().run_in_executor(self._blockers, lambda: function(*args, **kwargs))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    async def reading(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run a read that may fault on a reader thread: those are kept apart, so that no upload delays a stream."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """End the threads when what they do is done. Blocks."""
        self._readers.shutdown()
        self._blockers.shutdown()
