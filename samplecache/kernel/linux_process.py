"""What the lab asks the running kernel to do to this whole process."""

from __future__ import annotations

import ctypes
from typing import Final

from samplecache.errors import LockLimitError
from samplecache.kernel.linux_region import call, declare

MCL_CURRENT: Final = 1
MCL_FUTURE: Final = 2
MCL_ONFAULT: Final = 4
"""From ``bits/mman-linux.h``; the same on all architectures but a few that nobody plays sound on."""

_mlockall = declare("mlockall", ctypes.c_int, ctypes.c_int)


def lock_process() -> None:
    """Lock all memory that the process has and will have (mlockall(2)). Blocks until it is in RAM.

    Raises
    ------
    LockLimitError
        RLIMIT_MEMLOCK does not allow it.
    """
    _lock(MCL_CURRENT | MCL_FUTURE)


def lock_present() -> None:
    """Lock what the process has in RAM now, and what of its mappings comes there later; not what it maps later.

    Never blocks for long: nothing is brought in. Counts against RLIMIT_MEMLOCK with all that is mapped.

    Raises
    ------
    LockLimitError
        RLIMIT_MEMLOCK does not allow it.
    """
    _lock(MCL_CURRENT | MCL_ONFAULT)


def _lock(flags: int) -> None:
    try:
        call(_mlockall, flags)
    except OSError as error:
        raise LockLimitError(
            f"mlockall failed: {error.strerror}", remedy="Raise the limit with 'ulimit -l unlimited', or run as root"
        ) from error
