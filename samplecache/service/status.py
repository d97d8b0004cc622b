"""From the error tree to gRPC status with details, and nothing else: no traceback reaches a client."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, cast

import grpc
import grpc.aio
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from samplecache import errors
from samplecache.service.base import Handler
from samplecache.service.wire import passing_bytes

DOMAIN: Final = "samplecache.v1"
_MAX_DETAIL_CHARACTERS: Final = 256
"""Details, message and remedy travel in metadata, of which clients accept 8 KiB, and may quote the client."""
_STATUS_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_log = structlog.get_logger(__name__)

_MOST_WRAPPED: Final = 64
"""More methods than there are; a worker passes on whatever a client calls."""

Observe: TypeAlias = Callable[[str, str, float], None]

# Looked up along the class's bases, so a leaf needs an entry only where it differs from its category.
_CODES: Final[dict[type[errors.SamplecacheError], int]] = {
    errors.InvalidError: code_pb2.INVALID_ARGUMENT,
    errors.OutOfRangeError: code_pb2.OUT_OF_RANGE,
    errors.NotFoundError: code_pb2.NOT_FOUND,
    errors.ConflictError: code_pb2.ALREADY_EXISTS,
    errors.StateError: code_pb2.FAILED_PRECONDITION,
    errors.ExhaustedError: code_pb2.RESOURCE_EXHAUSTED,
    errors.NotPermittedError: code_pb2.FAILED_PRECONDITION,
    errors.UnauthenticatedError: code_pb2.UNAUTHENTICATED,
    errors.UnavailableError: code_pb2.UNAVAILABLE,
    errors.CorruptError: code_pb2.DATA_LOSS,
    errors.SamplecacheError: code_pb2.INTERNAL,
}

_RETRY_AFTER_S: Final = 1
"""For limits that free themselves when some session, prefetch or upload ends."""


def status_of(error: BaseException) -> status_pb2.Status:
    """Return the status of `error`; what is no :class:`SamplecacheError` becomes INTERNAL and says nothing more."""
    if not isinstance(error, errors.SamplecacheError):
        error = errors.SamplecacheError(
            "the server failed at this request", remedy="Report it with the server's log of this moment"
        )
    code = next(_CODES[base] for base in type(error).__mro__ if base in _CODES)
    message, remedy = _clip(error.message), _clip(error.remedy)
    details = {key: _clip(value) for key, value in error.details.items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason_code, domain=DOMAIN, metadata={**details, "remedy": remedy})
    return status_pb2.Status(
        code=code, message=f"{message}. {remedy}.", details=[_pack(info), *_extra(code, error, message)]
    )


def _clip(text: str) -> str:
    return (
        text if len(text) <= _MAX_DETAIL_CHARACTERS else f"{text[: _MAX_DETAIL_CHARACTERS - 1]}\N{HORIZONTAL ELLIPSIS}"
    )


def _extra(code: int, error: errors.SamplecacheError, message: str) -> list[any_pb2.Any]:
    if code == code_pb2.INVALID_ARGUMENT:
        violation = error_details_pb2.BadRequest.FieldViolation(description=message, reason=error.reason_code)
        return [_pack(error_details_pb2.BadRequest(field_violations=[violation]))]
    if code == code_pb2.RESOURCE_EXHAUSTED:
        quota = error_details_pb2.QuotaFailure.Violation(subject=error.reason_code, description=message)
        extra = [_pack(error_details_pb2.QuotaFailure(violations=[quota]))]
        if isinstance(error, errors.LimitError):
            extra.append(_retry())
        return extra
    return [_retry()] if code == code_pb2.UNAVAILABLE else []


def _retry() -> any_pb2.Any:
    return _pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=_RETRY_AFTER_S)))


def _pack(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Turns whatever a handler raises into a status, and reports each call's end. Handlers behind it may just raise.

    It parses requests too: for bytes that are no message grpc would answer UNKNOWN and blame the server.

    Parameters
    ----------
    observe : Callable
        Called with the method, the status code's name and the seconds that the call took.
    """

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler of one call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        before, wrapped = self._wrapped.get(method, (None, None))
        if before is not handler:
            wrapped = self._wrap(handler, method)
            if len(self._wrapped) < _MOST_WRAPPED:
                self._wrapped[method] = handler, wrapped
        return wrapped

    def _wrap(self, handler: grpc.RpcMethodHandler[Any, Any], method: str) -> Handler:
        factories: dict[tuple[bool, bool], tuple[str, Callable[..., Any]]] = {
            (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
            (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
            (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
            (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
        }
        name, factory = factories[bool(handler.request_streaming), bool(handler.response_streaming)]
        behaviour = getattr(handler, name)
        wrapped = factory(
            _wrap(handler, behaviour, method, self._observe),
            response_serializer=passing_bytes(handler.response_serializer),
        )
        return cast("Handler", wrapped)


class _Ending:
    """Turns an exception of a call into its status, and reports its end. An async context manager."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any], method: str, observe: Observe) -> None:
        self._context = context
        self._method = method
        self._observe = observe
        self._began_s = time.monotonic()

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, grpc.aio.AbortError):  # a handler that is not ours, such as health's, ended it itself
            self._report(_STATUS_CODES[int(cast("int", self._context.code()))])
        elif isinstance(error, Exception):
            if not isinstance(error, errors.SamplecacheError):
                _log.exception("request_failed", method=self._method)
            status = rpc_status.to_status(status_of(error))
            self._report(status.code)
            await self._context.abort(status.code, status.details, status.trailing_metadata)
        else:
            self._report(grpc.StatusCode.OK if error is None else grpc.StatusCode.CANCELLED)

    def _report(self, code: grpc.StatusCode) -> None:
        self._observe(self._method, code.name, time.monotonic() - self._began_s)


class _Messages:
    """The messages of a request stream, parsed one by one. An async iterator."""

    def __init__(self, raw: AsyncIterable[bytes], parse: Callable[[bytes], Any]) -> None:
        self._raw: Any = aiter(raw)
        self._parse = parse

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return self._parse(await anext(self._raw))

    async def aclose(self) -> None:
        """Close grpc's own generator, which nobody else would do before the garbage collector."""
        await self._raw.aclose()


def _parser(handler: grpc.RpcMethodHandler[Any, Any]) -> Callable[[bytes], Any]:
    def parse(raw: bytes) -> Any:
        try:
            return handler.request_deserializer(raw) if handler.request_deserializer else raw
        except DecodeError:
            raise errors.InvalidError(
                "the request is no message of the type that this method takes",
                remedy="Use code generated from protos/samplecache/v1",
                reason="MALFORMED_MESSAGE",
            ) from None

    return parse


def _wrap(
    handler: grpc.RpcMethodHandler[Any, Any], behaviour: Callable[..., Any], method: str, observe: Observe
) -> Callable[..., Awaitable[Any]]:
    """Return a coroutine function for any kind of handler, whose requests grpc has not parsed."""
    parse = _parser(handler)

    async def call(raw: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        async with _Ending(context, method, observe):
            if not handler.request_streaming:
                return await _answered(behaviour(parse(raw), context), context)
            async with aclosing(_Messages(raw, parse)) as requests:
                return await _answered(behaviour(requests, context), context)

    return call


def _answered(answer: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Awaitable[Any]:
    """Return what is to be awaited for what a handler answers: itself, or that a generator's answers are written."""
    return _written(answer, context) if inspect.isasyncgen(answer) else answer


async def _written(answers: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    async with aclosing(answers) as responses:
        async for response in responses:
            await context.write(response)
