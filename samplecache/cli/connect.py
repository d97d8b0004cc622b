"""From the global options to a client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from samplecache.errors import ConfigurationError

if TYPE_CHECKING:
    from samplecache.client import Client

DEFAULT_SERVER: Final = "127.0.0.1:50380"
"""Stands here too, so that ``--help`` need not import gRPC."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server that commands talk to."""

    server: str
    token: str | None
    tls_ca: Path | None


def connect(context: typer.Context) -> Client:
    """Return a client for the server that the global options name. Does not connect yet.

    Raises
    ------
    ConfigurationError
        The certificates cannot be read.
    """
    from samplecache.client import Client

    target: Target = context.obj
    try:
        certificates = target.tls_ca.read_bytes() if target.tls_ca else None
    except OSError as error:
        raise ConfigurationError(
            f"{target.tls_ca} cannot be read: {error.strerror}", remedy="Give a readable PEM file to --tls-ca"
        ) from error
    return Client(target.server, token=target.token, root_certificates=certificates)
