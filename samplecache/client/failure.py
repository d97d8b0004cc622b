"""From gRPC status with details to an error that says what to do."""

from __future__ import annotations

from typing import Final, cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from samplecache.errors import SamplecacheError

_WITHOUT_DETAILS: Final[dict[grpc.StatusCode, tuple[str, str]]] = {
    grpc.StatusCode.UNAVAILABLE: (
        "no server answers at {target}",
        "Start one with 'samplecache serve', or name another with --server or SAMPLECACHE_SERVER",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        "the server at {target} did not answer in time",
        "Try again, or give the call more time",
    ),
    grpc.StatusCode.CANCELLED: ("the call was cancelled", "Call again if that was not meant"),
    grpc.StatusCode.UNAUTHENTICATED: (
        "the server at {target} demands another token",
        "Give its token with --token or SAMPLECACHE_TOKEN",
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        "the server at {target} does not know this call",
        "Use client and server of the same version",
    ),
}
"""What gRPC itself reports, for want of an answer from samplecache: message and remedy."""


class ClientError(SamplecacheError):
    """A call failed, on the server or on the way.

    Parameters
    ----------
    code : grpc.StatusCode
        The status.
    message, remedy, reason : str
        As in :class:`samplecache.errors.SamplecacheError`; the server's own, where it answered.
    details : dict of str to str, optional
        What the server added.
    """

    def __init__(
        self, code: grpc.StatusCode, message: str, *, remedy: str, reason: str, details: dict[str, str] | None = None
    ) -> None:
        super().__init__(message, remedy=remedy, reason=reason)
        self.code = code
        self.details = details or {}


def client_error(error: grpc.RpcError, target: str) -> ClientError:
    """Return what `error`, which a call to `target` raised, means."""
    code, text = error.code(), error.details() or ""
    info = _error_info(error)
    if info is not None:
        details = dict(info.metadata)
        remedy = details.pop("remedy", "")
        message = text.removesuffix(f" {remedy}.")
        return ClientError(code, message, remedy=remedy, reason=info.reason, details=details)
    message, remedy = _WITHOUT_DETAILS.get(
        code, (f"the server at {{target}} answered {code.name}: {text}", "See the server's log")
    )
    return ClientError(
        code, message.replace("{target}", target), remedy=remedy, reason=code.name, details={"grpc": text}
    )


def _error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo | None:
    try:
        status = rpc_status.from_call(cast("grpc.Call", error))
    except ValueError:  # details of another status than the call ended with: cancelled here, for one
        return None
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    return None
