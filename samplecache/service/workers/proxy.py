"""Passes on to the owner what a worker does not answer by itself: message by message, as bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, cast

import grpc
import grpc.aio

from samplecache.errors import UnavailableError
from samplecache.service.base import Context, Handler

_OWN: Final = ("grpc-", "user-agent", ":", "te", "content-type")
"""Metadata that the transport writes itself."""


class Proxy(grpc.GenericRpcHandler):
    """Answers every method by asking another server.

    Parameters
    ----------
    channel : grpc.aio.Channel
        To that server.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def service(self, details: grpc.HandlerCallDetails) -> Handler:
        """Return a handler for any method: a stream in both directions is what every kind is on the wire."""

        async def forward(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            call: Any = cast("Any", self._channel).stream_stream(details.method)(
                requests,
                metadata=tuple((key, value) for key, value in details.invocation_metadata if not key.startswith(_OWN)),
                timeout=context.time_remaining(),
            )
            try:
                async for response in call:
                    yield response
                context.set_trailing_metadata(tuple(await call.trailing_metadata()))
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE and not error.trailing_metadata():
                    raise UnavailableError(
                        "the process that owns the samples does not answer",
                        remedy="Try again; if it does not come back, look at the server's standard error",
                    ) from error
                await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
            finally:
                call.cancel()

        return grpc.stream_stream_rpc_method_handler(forward)
