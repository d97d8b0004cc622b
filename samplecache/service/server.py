"""The server: listens, serves, and stops so that streams can play out."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from samplecache import __version__
from samplecache.cache import SampleCache
from samplecache.clock import MonotonicClock
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.linux_process import lock_present
from samplecache.kernel.port import Kernel
from samplecache.service.auth import TokenInterceptor, read_token
from samplecache.service.collecting import keep_for_good
from samplecache.service.config import KernelName, ServerConfig
from samplecache.service.listening import ALONE, OPTIONS, is_local, listen
from samplecache.service.logging import configure_log
from samplecache.service.metrics import Metrics
from samplecache.service.observing import ObservingHandlers
from samplecache.service.playback import PlaybackHandlers
from samplecache.service.samples import SampleHandlers
from samplecache.service.schedules import ScheduleHandlers
from samplecache.service.status import StatusInterceptor
from samplecache.service.threads import yielding_threads
from samplecache.service.uploads import UploadHandlers
from samplecache.service.workers.crew import Crew
from samplecache.v1 import samplecache_pb2, samplecache_pb2_grpc
from samplecache.witness import Witness

_log = structlog.get_logger(__name__)

SERVICE: Final = samplecache_pb2.DESCRIPTOR.services_by_name["SampleCacheService"].full_name


class Servicer(  # type: ignore[misc]  # Play is a coroutine that writes, of which the generated types know nothing
    UploadHandlers,
    SampleHandlers,
    PlaybackHandlers,
    ScheduleHandlers,
    ObservingHandlers,
    samplecache_pb2_grpc.SampleCacheServiceServicer,
):
    """The whole service."""


def make_kernel(config: ServerConfig) -> Kernel:
    """Return the kernel that `config` asks for."""
    if config.kernel is KernelName.LINUX:
        return LinuxKernel()
    # Only here: who serves the real kernel need not load a model of it.
    from samplecache.kernel.machine_files import simulation_options
    from samplecache.kernel.simulated import SimulatedKernel

    options = simulation_options(config.device, memory_bytes=config.memory, swap_bytes=config.swap, seed=config.seed)
    return SimulatedKernel(options, MonotonicClock())


class Server:
    """One server over one cache.

    Parameters
    ----------
    config : ServerConfig
        How it is to run.

    Attributes
    ----------
    addresses : list of str
        Where it listens, with the ports that were picked.
    metrics_address : str
        Where Prometheus finds metrics; empty if it does not.
    crew : Crew or None
        Its workers, if it has more than one; they share the work of streaming.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self._health = health.aio.HealthServicer()
        self.addresses: list[str] = []
        self.metrics_address = ""
        self.crew: Crew | None = None

    async def start(self) -> None:
        """Open the cache and listen. On any error, nothing stays open.

        Raises
        ------
        ConfigurationError
            An address cannot be listened on, or a file is missing.
        UnknownStrategyError
            Nobody registered the default strategy.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        self.witness = self._stack.enter_context(Witness())
        with yielding_threads():
            await self._start_serving()
        if self.crew is not None:
            await self.crew.start()
        config = self._config
        if config.metrics_port is not None:
            self.metrics_address = f"http://127.0.0.1:{self.metrics.listen(config.metrics_port)}/metrics"
        if config.lock_server:
            lock_present()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def _start_serving(self) -> None:
        config = self._config
        self.cache = self._stack.enter_context(
            SampleCache(make_kernel(config), config.cache_settings(), witness=self.witness)
        )
        self._servicer = servicer = Servicer(self.cache, config.readers)
        self._stack.callback(servicer.close)
        self.metrics = Metrics(servicer.stats)
        self._stack.callback(self.metrics.close)
        if config.workers > 1:
            self.crew = Crew(config, self.cache, self.metrics.observe_call)
            self._stack.callback(self.crew.close)
        interceptors: list[grpc.aio.ServerInterceptor] = [StatusInterceptor(self.metrics.observe_call)]
        if config.token_file is not None:
            interceptors.append(TokenInterceptor(read_token(config.token_file)))
        self._server = grpc.aio.server(interceptors=interceptors, options=(*OPTIONS, ALONE))
        samplecache_pb2_grpc.add_SampleCacheServiceServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self._listen()
        await self._server.start()
        self._stack.push_async_callback(self._server.stop, None)

    async def stop(self) -> None:
        """Refuse new calls, let streams play on for ``grace_s``, then end everything."""
        _log.info("stopping", sessions=self.cache.session_count, grace_s=self._config.grace_s)
        await self._health.enter_graceful_shutdown()
        self._servicer.end_watches()
        self.cache.stop_evictions()
        if self.crew is not None:  # first, for what they pass on is answered here
            await self.crew.stop(self._config.grace_s)
        await self._server.stop(self._config.grace_s if self.crew is None else 0)
        await self._stack.aclose()

    def _listen(self) -> None:
        """Listen on every address, or have the workers do; Unix sockets cannot be shared, so they stay here."""
        config = self._config
        for address in config.listen:
            if self.crew is not None and not is_local(address):
                self.addresses.append(self.crew.reserve(address))
            else:
                self.addresses.append(listen(self._server, address, config.tls_cert, config.tls_key))
        if self.crew is not None:
            listen(self._server, self.crew.owner_address, None, None)


async def _serve(config: ServerConfig, ready: Callable[[Server], Any]) -> None:
    asked = asyncio.Event()

    def stop() -> None:
        if asked.is_set():
            # Asked twice: who does not want to wait for streams and threads need not. Nothing outlives the process.
            os._exit(1)
        asked.set()

    # Before anybody hears that there is a server to be stopped.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    server = Server(config)
    await server.start()
    keep_for_good()
    ready(server)
    await asked.wait()
    await server.stop()


def serve(config: ServerConfig, ready: Callable[[Server], Any] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends the process at once. Blocks.

    Parameters
    ----------
    config : ServerConfig
        How to run.
    ready : Callable, optional
        Called with the server once it listens; by default prints where.
    """
    import uvloop

    configure_log()
    uvloop.run(_serve(config, ready or announce))


def announce(server: Server) -> None:
    """Print where the server listens and on which kernel, one line each."""
    capabilities = server.cache.capabilities
    print(f"samplecache {__version__} on the {capabilities.kernel} kernel ({capabilities.release})")
    if server.crew is not None:
        print(f"{len(server.crew.pids)} workers")
    for address in server.addresses:
        print(f"listening on {address}")
    if server.metrics_address:
        print(f"metrics on {server.metrics_address}")
    sys.stdout.flush()
