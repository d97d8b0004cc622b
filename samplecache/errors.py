"""The error tree. Every message ends with the remedy.

An error has a *category*, which the service turns into a gRPC status, a *reason* in ``UPPER_SNAKE`` case, which clients
may branch on, and *details*, which say what was asked and what the limit was. Lower floors raise leaves of this tree;
no floor returns ``False`` or ``None`` to say that something failed.
"""

from __future__ import annotations

from typing import ClassVar


class SamplecacheError(Exception):
    """Something that samplecache could not do, and what to do about it.

    Parameters
    ----------
    message : str
        What went wrong, in one sentence without a full stop.
    remedy : str
        What the reader can do about it, in one sentence.
    reason : str, optional
        Replaces the class's ``reason`` where one class has several.
    **details
        Facts worth having as data: the sample, the limit, the figure that was asked for. Values are turned into text.
    """

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, remedy: str, reason: str | None = None, **details: object) -> None:
        self.message = message.rstrip(".")
        self.remedy = remedy.rstrip(".")
        self.reason_code = reason or type(self).reason
        self.details = {key: str(value) for key, value in details.items()}
        super().__init__(f"{self.message}. {self.remedy}.")


# --- categories: each is one gRPC status, see samplecache/service/status.py ---


class InvalidError(SamplecacheError):
    """The request can never succeed as it stands."""

    reason = "INVALID"


class OutOfRangeError(SamplecacheError):
    """The request lies past the end of what is stored."""

    reason = "OUT_OF_RANGE"


class NotFoundError(SamplecacheError):
    """What the request names is not here."""

    reason = "NOT_FOUND"


class ConflictError(SamplecacheError):
    """What the request would make exists already."""

    reason = "ALREADY_EXISTS"


class StateError(SamplecacheError):
    """The request is sound, but not in the present state."""

    reason = "FAILED_PRECONDITION"


class ExhaustedError(SamplecacheError):
    """A limit was reached; nothing already stored was lost."""

    reason = "RESOURCE_EXHAUSTED"


class NotPermittedError(SamplecacheError):
    """The machine or its configuration does not allow it."""

    reason = "NOT_PERMITTED"


class UnauthenticatedError(SamplecacheError):
    """The caller has not shown that it may call."""

    reason = "UNAUTHENTICATED"


class UnavailableError(SamplecacheError):
    """It cannot be done now and may be tried again."""

    reason = "UNAVAILABLE"


class CorruptError(SamplecacheError):
    """Data arrived damaged or incomplete."""

    reason = "DATA_LOSS"


# --- leaves ---


class InvalidSampleIdError(InvalidError):
    """A sample id has other characters than the pattern allows."""

    reason = "INVALID_SAMPLE_ID"


class InvalidSpanError(InvalidError):
    """A span is negative, reversed or longer than what it lies in."""

    reason = "INVALID_SPAN"


class InvalidFormatError(InvalidError):
    """An audio format has an impossible rate, channel count or encoding."""

    reason = "INVALID_FORMAT"


class UnknownStrategyError(InvalidError):
    """No installed plugin registers a strategy of that name."""

    reason = "UNKNOWN_STRATEGY"


class AudioError(InvalidError):
    """Uploaded bytes are not audio that can be decoded."""

    reason = "UNDECODABLE_AUDIO"


class DecodedTooLargeError(ExhaustedError):
    """The audio would decode to more than the limit."""

    reason = "DECODED_TOO_LARGE"


class SampleNotFoundError(NotFoundError):
    """No sample has that id."""

    reason = "SAMPLE_NOT_FOUND"


class UploadNotFoundError(NotFoundError):
    """No upload has that id, or it has expired."""

    reason = "UPLOAD_NOT_FOUND"


class ScheduleNotFoundError(NotFoundError):
    """No schedule or cue has that name, or its time is over."""

    reason = "SCHEDULE_NOT_FOUND"


class UploadOffsetError(OutOfRangeError):
    """A message's offset is not where the upload stands."""

    reason = "UPLOAD_OFFSET_MISMATCH"


class UploadIncompleteError(CorruptError):
    """An upload ended without its declared size or its finish message."""

    reason = "UPLOAD_INCOMPLETE"


class ChecksumError(CorruptError):
    """Uploaded bytes do not have the declared SHA-256."""

    reason = "CHECKSUM_MISMATCH"


class StoreFullError(ExhaustedError):
    """The byte budget is used up by samples that may not be evicted."""

    reason = "STORE_FULL"


class LimitError(ExhaustedError):
    """A configured count (sessions, samples, uploads, readers) is used up."""

    reason = "LIMIT_REACHED"


class LockLimitError(ExhaustedError):
    """Locking would pass RLIMIT_MEMLOCK or the lock budget."""

    reason = "LOCK_LIMIT_REACHED"


class MappingError(ExhaustedError):
    """The kernel would not map the memory."""

    reason = "MAPPING_FAILED"


class UnmappedError(StateError):
    """A span reaches over memory that is not mapped."""

    reason = "NOT_MAPPED"


class StrategyError(StateError):
    """A strategy plugin raised, or returned what is not an action."""

    reason = "STRATEGY_FAILED"


class ConfigurationError(InvalidError):
    """A configuration file, variable or flag is wrong."""

    reason = "INVALID_CONFIGURATION"
