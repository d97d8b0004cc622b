"""The channel to a server, and calls over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import grpc
from grpc_health.v1 import health_pb2_grpc

from samplecache.client.failure import ClientError, client_error
from samplecache.clock import NS_PER_S
from samplecache.v1.samplecache_pb2_grpc import SampleCacheServiceStub

_Response = TypeVar("_Response")

_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.default_compression_algorithm", grpc.Compression.NoCompression.value),
    # Broken uploads resume as soon as the server is back; gRPC would wait 1 s, then up to 120 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

_LOW_LATENCY_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # Without these the server runs some 4 MiB ahead of a client that stops reading; with them, 128 KiB.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
)


class Connection:
    """A channel with its token and its deadlines. May be used from any thread.

    Parameters
    ----------
    target : str
        ``host:port`` or ``unix:PATH``.
    token : str or None
        Sent as a bearer token.
    root_certificates : bytes or None
        PEM certificates to verify the server by, over TLS; None for no TLS.
    low_latency : bool
        Whether the server may run only 128 KiB ahead of what is read here.
    timeout_ns : int
        How long a call with a single answer may take.
    """

    def __init__(
        self, target: str, token: str | None, root_certificates: bytes | None, low_latency: bool, timeout_ns: int
    ) -> None:
        self.target = target
        options = _OPTIONS + (_LOW_LATENCY_OPTIONS if low_latency else ())
        if root_certificates is None:
            self._channel = grpc.insecure_channel(target, options=options)
        else:
            credentials = grpc.ssl_channel_credentials(root_certificates)
            self._channel = grpc.secure_channel(target, credentials, options=options)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._timeout_ns = timeout_ns
        self.stub = SampleCacheServiceStub(self._channel)
        self.health: Any = health_pb2_grpc.HealthStub(self._channel)

    def call(
        self,
        method: Callable[..., _Response],
        request: object,
        *,
        timeout_ns: int | None = None,
        wait_for_ready: bool = False,
    ) -> _Response:
        """Make a call with a single answer and return that. Blocks.

        Parameters
        ----------
        method : Callable
            Of a stub.
        request : Message
            What to send.
        timeout_ns : int, optional
            How long it may take; the connection's own if not given.
        wait_for_ready : bool
            Whether to go on connecting until then, instead of failing when nobody listens.

        Raises
        ------
        ClientError
        """
        timeout_s = (self._timeout_ns if timeout_ns is None else timeout_ns) / NS_PER_S
        try:
            return method(request, timeout=timeout_s, metadata=self._metadata, wait_for_ready=wait_for_ready)
        except grpc.RpcError as error:
            raise self.failure(error) from None

    def send(self, method: Callable[..., _Response], requests: object) -> _Response:
        """Make a call with many requests and a single answer and return that. Blocks, for as long as it takes.

        Raises
        ------
        ClientError
        """
        try:
            return method(requests, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self.failure(error) from None

    def open(self, method: Callable[..., Any], request: object) -> Any:
        """Begin a call with many answers and return it: an iterator of answers. Does not block."""
        return method(request, metadata=self._metadata)

    def failure(self, error: grpc.RpcError) -> ClientError:
        """Return what `error` means."""
        return client_error(error, self.target)

    def close(self) -> None:
        """Cancel what is under way and disconnect."""
        self._channel.close()
