"""Addresses that a server listens on."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from samplecache.errors import ConfigurationError

OPTIONS: Final = (
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
)
"""Conventions of the field; PCM does not compress, so compression stays off."""

ALONE: Final = ("grpc.so_reuseport", 0)
"""A second server on the port shall fail, not share it."""
TOGETHER: Final = ("grpc.so_reuseport", 1)
"""The kernel shares connections out among those that listen on the port."""


def is_local(address: str) -> bool:
    """Return whether `address` is a Unix socket's."""
    return address.startswith("unix:")


def listen(server: grpc.aio.Server, address: str, cert: Path | None, key: Path | None) -> str:
    """Have `server` listen on `address`, with TLS if there are a certificate and its key; return it with its port.

    Raises
    ------
    ConfigurationError
        It cannot, or the files are no certificate and its key.
    """
    if is_local(address):
        _refuse_living_socket(Path(address.removeprefix("unix:")))
    try:
        port = _add_port(server, address, cert, key)
    except RuntimeError as error:
        raise _refused(address) from error
    return address if is_local(address) else f"{address.rpartition(':')[0]}:{port}"


def reserve(address: str) -> tuple[str, socket.socket]:
    """Keep the port of ``host:port`` for those who will listen on it together; return it with the port that was picked.

    The socket that holds it does not listen, so no connection comes to it.

    Raises
    ------
    ConfigurationError
        There is no such host, or somebody else has the port.
    """
    host, _, port = address.rpartition(":")
    held: socket.socket | None = None
    try:
        family, kind, _, _, where = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As those do who listen alone: with SO_REUSEPORT it would get a port that another server has.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            where = probe.getsockname()
        held = socket.socket(family, kind)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(where)
    except (OSError, ValueError) as error:
        if held is not None:
            held.close()
        raise _refused(address) from error
    return f"{host}:{where[1]}", held


def _refused(address: str) -> ConfigurationError:
    return ConfigurationError(
        f"{address} cannot be listened on",
        remedy="Choose a free port (0 picks one), or a Unix socket in a directory that you may write to",
        address=address,
    )


def _add_port(server: grpc.aio.Server, address: str, cert: Path | None, key: Path | None) -> int:
    if cert is None and key is None:
        return int(server.add_insecure_port(address))
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
    return int(server.add_secure_port(address, grpc.ssl_server_credentials([pair])))


def _refuse_living_socket(path: Path) -> None:
    """Raise if a server listens on the socket `path`: grpc binds over any socket, be it stale or alive."""
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))  # nobody answers: whatever else is wrong with the path, binding will tell
        raise ConfigurationError(
            f"unix:{path} cannot be listened on: another server does",
            remedy="Stop that server, or choose another path",
            path=path,
        )
