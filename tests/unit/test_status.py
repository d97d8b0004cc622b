"""From errors to gRPC status."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status

from samplecache import errors
from samplecache.service.status import DOMAIN, status_of

CODES = {
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
}


def tree(root: type[errors.SamplecacheError]) -> list[type[errors.SamplecacheError]]:
    """All classes of errors.py below `root`."""
    below = [kind for kind in root.__subclasses__() if kind.__module__ == errors.__name__]
    return below + list(itertools.chain.from_iterable(map(tree, below)))


def unpacked(status: Any, kind: type[Any]) -> list[Any]:
    """The details of that kind."""
    found = []
    for detail in status.details:
        message = kind()
        if detail.Unpack(message):
            found.append(message)
    return found


@pytest.mark.parametrize("kind", tree(errors.SamplecacheError))
def test_every_error_has_its_categorys_status_and_tells_its_remedy(kind: type[errors.SamplecacheError]) -> None:
    error = kind("it went wrong", remedy="Do it better", what=42)
    status = status_of(error)
    assert status.code == next(code for category, code in CODES.items() if issubclass(kind, category))
    assert status.message == "it went wrong. Do it better." == str(error)
    (info,) = unpacked(status, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason) == (DOMAIN, kind.reason)
    assert dict(info.metadata) == {"what": "42", "remedy": "Do it better"}
    assert len(unpacked(status, error_details_pb2.BadRequest)) == (status.code == code_pb2.INVALID_ARGUMENT)
    assert len(unpacked(status, error_details_pb2.QuotaFailure)) == (status.code == code_pb2.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize("kind", [errors.LimitError, errors.UnavailableError])
def test_what_passes_may_be_tried_again(kind: type[errors.SamplecacheError]) -> None:
    (retry,) = unpacked(status_of(kind("busy", remedy="Wait")), error_details_pb2.RetryInfo)
    assert retry.retry_delay.seconds == 1


def test_what_stays_as_it_is_is_not_to_be_tried_again() -> None:
    for kind in (errors.StoreFullError, errors.InvalidError, errors.DecodedTooLargeError):
        assert unpacked(status_of(kind("no", remedy="Change it")), error_details_pb2.RetryInfo) == []


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), OSError(5, "secret"), KeyError("secret")])
def test_what_is_not_ours_says_nothing(error: Exception) -> None:
    status = status_of(error)
    assert status.code == code_pb2.INTERNAL
    assert "secret" not in str(status)
    assert unpacked(status, error_details_pb2.ErrorInfo)[0].reason == "INTERNAL"


@pytest.mark.parametrize("letter", ["x", "\N{GRINNING FACE}"])
def test_a_status_fits_into_metadata_however_long_the_error(letter: str) -> None:
    long = letter * 1_000_000
    status = status_of(errors.InvalidError(long, remedy=long, one=long))
    # The message travels twice, percent-encoded and in the details, which travel as base64; clients accept 8 KiB softly
    # and 16 KiB at all.
    message_bytes = len(status.message.encode()) * (1 if letter.isascii() else 3)
    details_bytes = len(rpc_status.to_status(status).trailing_metadata[0][1]) * 4 // 3
    assert message_bytes + details_bytes < (8 << 10 if letter.isascii() else 16 << 10)
    assert status.message.count("\N{HORIZONTAL ELLIPSIS}") == 2
