"""What to tell of system calls that failed."""

from __future__ import annotations

import errno

from samplecache.errors import UnavailableError
from samplecache.kernel import procfs

MAPPINGS_PER_CALL = 3
"""The most parts that one call adds to the process's mappings: a region between two guard pages."""


def unavailable(call: str, error: OSError) -> UnavailableError:
    """Return what to raise where `call` failed for want of something that may be there later."""
    why, remedy = shortage(error, "Free memory, and try again")
    return UnavailableError(f"{call} failed: {why}", remedy=remedy, errno=errno_name(error))


def shortage(error: OSError, remedy: str) -> tuple[str, str]:
    """Return what a call failed for and what to do: `remedy`, unless the process has as many mappings as it may."""
    if error.errno == errno.ENOMEM:
        mappings, limit = procfs.mapping_count(), procfs.mapping_limit()
        # A call may want a few at once, and give them back when it fails.
        if mappings + MAPPINGS_PER_CALL >= limit:
            return (
                f"the process has {mappings} mappings of the {limit} that vm.max_map_count allows",
                f"Raise it (sysctl -w vm.max_map_count={4 * limit}), or lock fewer spans, each of which may take two",
            )
    return str(error.strerror), remedy


def errno_name(error: OSError) -> str:
    """Return the name of an error's number."""
    return errno.errorcode.get(error.errno or 0, "?")
