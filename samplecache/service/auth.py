"""A token that every call must carry. Over a Unix socket grpc tells nothing of the peer, so this is for both kinds."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from samplecache.errors import ConfigurationError, UnauthenticatedError
from samplecache.service.base import Handler


def read_token(path: Path) -> str:
    """Return the token in a file: its first line.

    Raises
    ------
    ConfigurationError
        The file cannot be read or is empty.
    """
    try:
        token = path.read_text(encoding="ascii").strip().partition("\n")[0].strip()
    except OSError as error:
        raise ConfigurationError(
            f"the token file cannot be read: {error.strerror}", remedy="Make it readable for the server", file=path
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            "the token has characters that cannot travel in a header", remedy="Use ASCII only", file=path
        ) from error
    if not token:
        raise ConfigurationError("the token file is empty", remedy="Write a long random token into it", file=path)
    return token


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without ``authorization: Bearer TOKEN``. Health checks need none.

    To stand behind :class:`samplecache.service.status.StatusInterceptor`, which makes a status of the refusal.

    Parameters
    ----------
    token : str
        The token.
    """

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Let the call through, or replace its handler by a refusal."""
        given = dict(handler_call_details.invocation_metadata or ()).get("authorization", "")
        given_bytes = given.encode() if isinstance(given, str) else given
        is_health = handler_call_details.method.startswith("/grpc.health.v1.Health/")
        handler = await continuation(handler_call_details)
        if is_health or hmac.compare_digest(given_bytes, self._expected):
            return handler
        return _refusal(handler)


def _refusal(handler: Handler) -> Handler:
    error = UnauthenticatedError(
        "the call carries no valid token",
        remedy="Send 'authorization: Bearer TOKEN' with the server's token: --token or SAMPLECACHE_TOKEN",
    )

    async def unary(request: Any, context: Any) -> Any:
        raise error

    async def stream(request: Any, context: Any) -> Any:
        raise error
        yield None  # makes this a generator, as the handler that it replaces is one

    if handler is None:
        return None
    if handler.request_streaming:
        return (
            grpc.stream_stream_rpc_method_handler(stream)
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler(unary)
        )
    return (
        grpc.unary_stream_rpc_method_handler(stream)
        if handler.response_streaming
        else grpc.unary_unary_rpc_method_handler(unary)
    )
