"""What is said to clients that ask for more than there is."""

from __future__ import annotations

from samplecache.clock import NS_PER_MS
from samplecache.errors import InvalidError, LimitError


def check_between(what: str, value_ns: int, least_ns: int, most_ns: int) -> None:
    """Raise :class:`InvalidError` unless a time that a client gave is within its bounds."""
    if not least_ns <= value_ns <= most_ns:
        raise InvalidError(
            f"a {what} of {value_ns / NS_PER_MS:g} ms is out of range",
            remedy=f"Give {least_ns / NS_PER_MS:g} to {most_ns / NS_PER_MS:g} ms",
            reason=f"INVALID_{what.upper()}",
        )


def limit_error(what: str, limit: int) -> LimitError:
    """Return the error of one who wants more of something than there may be at a time."""
    return LimitError(
        f"there are {limit} {what} already, which is the limit",
        remedy=f"Wait for one to end, or raise max_{what}",
        reason=f"TOO_MANY_{what.upper()}",
        limit=limit,
    )
