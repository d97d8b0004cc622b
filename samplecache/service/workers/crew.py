"""The owner's workers: started, watched, started again where one dies, and told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Final

import structlog

from samplecache.cache import SampleCache
from samplecache.errors import SamplecacheError, UnavailableError
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.linux_remote import let_children_read
from samplecache.service.config import ServerConfig
from samplecache.service.listening import reserve
from samplecache.service.workers.books import Books
from samplecache.service.workers.link import Link, unpack_error

_log = structlog.get_logger(__name__)

START_TIMEOUT_S: Final = 30.0
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
"""Before a worker that died is started again; doubled each time, until one has lived for as long as this."""
STOP_TIMEOUT_S: Final = 5.0
"""How much longer than the streams' grace a worker may take to end."""


class Crew:
    """The workers of one server. For its event loop.

    Parameters
    ----------
    config : ServerConfig
        How the server is to run.
    cache : SampleCache
        What they stream from; over the running kernel.
    observe_call : Callable
        Told of each RPC that a worker answers by itself.

    Attributes
    ----------
    owner_address : str
        Where the owner has to listen for what workers pass on.
    """

    def __init__(
        self, config: ServerConfig, cache: SampleCache, observe_call: Callable[[str, str, float], None]
    ) -> None:
        self._config = config
        self._cache = cache
        self._observe_call = observe_call
        self._stack = contextlib.ExitStack()
        # Only its owner may enter it, and so reach the socket in it.
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="samplecache-"))
        self.owner_address = f"unix:{directory}/owner.sock"
        assert isinstance(cache.kernel, LinuxKernel)  # noqa: S101 -- the configuration allows no other
        self._kernel = cache.kernel
        self._page = self._kernel.map(1)
        self._stack.callback(self._kernel.unmap, self._page)
        self._kernel.write(self._page, 0, b"\1")
        self._addresses: list[str] = []
        self._members: list[_Member] = []

    @property
    def pids(self) -> list[int]:
        """The processes that are there now."""
        return [member.pid for member in self._members if member.pid]

    def reserve(self, address: str) -> str:
        """Have the workers listen on ``host:port``; return it with its port.

        Raises
        ------
        ConfigurationError
            It cannot be listened on.
        """
        picked, held = reserve(address)
        self._stack.enter_context(held)
        self._addresses.append(picked)
        return picked

    async def start(self) -> None:
        """Start all of them; return when all listen.

        Raises
        ------
        SamplecacheError
            One cannot: as it says.
        """
        let_children_read()
        order = {
            "config": self._config.model_dump(mode="json"),
            "pid": os.getpid(),
            "address": self._kernel.address(self._page),
            "owner": self.owner_address,
            "addresses": self._addresses,
        }
        self._members = [_Member(order, self._books) for _ in range(self._config.workers)]
        await asyncio.gather(*(member.start() for member in self._members))

    def _books(self, link: Link) -> Books:
        return Books(self._cache, link, self._observe_call)

    async def stop(self, grace_s: float) -> None:
        """Have them refuse new calls, let streams play on for `grace_s`, and end."""
        await asyncio.gather(*(member.stop(grace_s) for member in self._members))

    def close(self) -> None:
        """Let go of the ports. After :meth:`stop`."""
        for member in self._members:
            member.kill()
        self._stack.close()


class _Member:
    """One worker, and those that take its place."""

    def __init__(self, order: dict[str, object], make_books: Callable[[Link], Books]) -> None:
        self._order = order
        self._make_books = make_books
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeping: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int:
        """Its process; 0 if there is none just now."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        self._keeping = asyncio.create_task(self._keep())
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._ready
        except TimeoutError:
            raise UnavailableError(
                f"a worker did not listen within {START_TIMEOUT_S:g} s",
                remedy="Look at the server's standard error, or serve with one worker",
            ) from None

    async def stop(self, grace_s: float) -> None:
        self._stopping = True
        if self._link is not None:
            self._link.send(say="stop", grace_s=grace_s)
        if self._keeping is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s + STOP_TIMEOUT_S):
                    await self._keeping
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._stopping = True
        if self._keeping is not None:
            self._keeping.cancel()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def _keep(self) -> None:
        """Have a worker, for as long as one is wanted."""
        pause_s = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            status = await self._run()
            if self._stopping:
                return
            if not self._ready.done():
                self._ready.set_exception(
                    UnavailableError("a worker ended before it listened", remedy="Look at the server's standard error")
                )
            if self._ready.exception() is not None:
                return
            _log.warning("worker_died", status=status, restart_in_s=pause_s)
            if loop.time() - began_s > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _run(self) -> int:
        """Start a process and listen to it until it ends; return how it did."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = process = subprocess.Popen(  # noqa: ASYNC220 -- forks and execs in a few milliseconds
                [sys.executable, "-P", "-m", "samplecache.service.workers.process", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            )
        self._link = link = await Link.over(ours)
        books = self._make_books(link)
        try:
            link.send(**self._order)
            async for message in link.messages():
                if message["say"] == "ready":
                    if not self._ready.done():
                        self._ready.set_result(None)
                elif message["say"] == "failed":
                    self._failed(unpack_error(message["error"]))
                else:
                    try:
                        books.hear(message)
                    except Exception:  # the other sessions go on
                        _log.exception("worker_message_failed", said=message["say"])
        finally:
            self._link = None
            books.close()
            link.close()
        return await asyncio.to_thread(process.wait)

    def _failed(self, error: SamplecacheError) -> None:
        if self._ready.done():
            _log.error("worker_failed", error=str(error))
        else:
            self._ready.set_exception(error)
