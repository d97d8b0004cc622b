"""The server: listens, serves, and stops so that streams can play out."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from samplecache import __version__
from samplecache.cache import SampleCache
from samplecache.clock import MonotonicClock
from samplecache.errors import ConfigurationError
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Kernel
from samplecache.service.auth import TokenInterceptor, read_token
from samplecache.service.config import KernelName, ServerConfig
from samplecache.service.metrics import Metrics
from samplecache.service.observing import ObservingHandlers
from samplecache.service.playback import PlaybackHandlers
from samplecache.service.samples import SampleHandlers
from samplecache.service.status import StatusInterceptor
from samplecache.service.uploads import UploadHandlers
from samplecache.v1 import samplecache_pb2, samplecache_pb2_grpc
from samplecache.witness import Witness

_log = structlog.get_logger(__name__)

SERVICE: Final = samplecache_pb2.DESCRIPTOR.services_by_name["SampleCacheService"].full_name

OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second server on the port shall fail, not share it
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
)
"""Conventions of the field; PCM does not compress, so compression stays off."""


class Servicer(  # type: ignore[misc]  # Play is a coroutine that writes, of which the generated types know nothing
    UploadHandlers,
    SampleHandlers,
    PlaybackHandlers,
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
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self._health = health.aio.HealthServicer()
        self.addresses: list[str] = []
        self.metrics_address = ""

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
        config = self._config
        self.witness = self._stack.enter_context(Witness())
        self.cache = self._stack.enter_context(
            SampleCache(make_kernel(config), config.cache_settings(), witness=self.witness)
        )
        self._servicer = servicer = Servicer(self.cache, config.readers)
        self._stack.callback(servicer.close)
        self.metrics = Metrics(servicer.stats)
        self._stack.callback(self.metrics.close)
        interceptors: list[grpc.aio.ServerInterceptor] = [StatusInterceptor(self.metrics.observe_call)]
        if config.token_file is not None:
            interceptors.append(TokenInterceptor(read_token(config.token_file)))
        self._server = grpc.aio.server(interceptors=interceptors, options=OPTIONS)
        samplecache_pb2_grpc.add_SampleCacheServiceServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        for address in config.listen:
            self.addresses.append(self._listen(address))
        await self._server.start()
        self._stack.push_async_callback(self._server.stop, None)
        if config.metrics_port is not None:
            self.metrics_address = f"http://127.0.0.1:{self.metrics.listen(config.metrics_port)}/metrics"
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Refuse new calls, let streams play on for ``grace_s``, then end everything."""
        _log.info("stopping", sessions=self.cache.session_count, grace_s=self._config.grace_s)
        await self._health.enter_graceful_shutdown()
        self._servicer.end_watches()
        self.cache.stop_evictions()
        await self._server.stop(self._config.grace_s)
        await self._stack.aclose()

    def _listen(self, address: str) -> str:
        if address.startswith("unix:"):
            _refuse_living_socket(Path(address.removeprefix("unix:")))
        try:
            port = self._add_port(address)
        except RuntimeError as error:
            raise ConfigurationError(
                f"{address} cannot be listened on",
                remedy="Choose a free port (0 picks one), or a Unix socket in a directory that you may write to",
                address=address,
            ) from error
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    def _add_port(self, address: str) -> int:
        cert, key = self._config.tls_cert, self._config.tls_key
        if cert is None and key is None:
            return int(self._server.add_insecure_port(address))
        if cert is None or key is None:
            raise ConfigurationError("tls_cert and tls_key go together", remedy="Give both, or neither")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)  # grpc would not say what is wrong
            pair = (key.read_bytes(), cert.read_bytes())
        except OSError as error:
            raise ConfigurationError(
                f"{cert} and {key} are no certificate and its key: {error.strerror or error}",
                remedy="Give readable PEM files that belong together",
            ) from error
        return int(self._server.add_secure_port(address, grpc.ssl_server_credentials([pair])))


def _refuse_living_socket(path: Path) -> None:
    """Raise if a server listens on the socket `path`: grpc binds over any socket, be it stale or alive."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return  # nobody answers; whatever else is wrong with the path, binding will tell
    raise ConfigurationError(
        f"unix:{path} cannot be listened on: another server does",
        remedy="Stop that server, or choose another path",
        path=path,
    )


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

    _configure_log()
    uvloop.run(_serve(config, ready or announce))


def _configure_log() -> None:
    """Log to stderr, with plain tracebacks: prettier ones print every frame's variables, sample bytes among them."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def announce(server: Server) -> None:
    """Print where the server listens and on which kernel, one line each."""
    capabilities = server.cache.capabilities
    print(f"samplecache {__version__} on the {capabilities.kernel} kernel ({capabilities.release})")
    for address in server.addresses:
        print(f"listening on {address}")
    if server.metrics_address:
        print(f"metrics on {server.metrics_address}")
    sys.stdout.flush()
