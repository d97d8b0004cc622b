"""A mapping of this process, and who is using it."""

from __future__ import annotations

import threading
from types import TracebackType

import numpy as np
import numpy.typing as npt

from samplecache.errors import UnmappedError
from samplecache.kernel.port import Region


class LinuxRegion(Region):
    """A mapping of this process. Counts the calls that are using it, so that it is never unmapped under one of them."""

    __slots__ = ("_base", "_idle", "_users", "locked", "locking", "reserved")

    def __init__(self, base: int, pages: int, reserved: tuple[int, int]) -> None:
        super().__init__(pages)
        self.reserved = reserved
        """Address and length of the mapping with its guard pages."""
        self.locked: npt.NDArray[np.bool_] = np.zeros(pages, np.bool_)
        """Which pages mlock keeps; changed only under `locking`."""
        self.locking = threading.Lock()
        self._base = base
        self._users = 0
        self._idle = threading.Condition()

    def __enter__(self) -> int:
        """Keep the region mapped until the end of the block, and give its address. Any number of threads at a time.

        Raises
        ------
        UnmappedError
            It has been unmapped.
        """
        with self._idle:
            if not self._base:
                raise UnmappedError("The region has been unmapped", remedy="Map a new one")
            self._users += 1
            return self._base

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the region."""
        with self._idle:
            self._users -= 1
            if not self._base:  # someone waits to unmap it
                self._idle.notify_all()

    def retire(self) -> None:
        """Refuse further use, and wait until whoever uses it now is done."""
        with self._idle:
            if not self._base:
                raise UnmappedError("The region has been unmapped already", remedy="Unmap a region once")
            self._base = 0
            self._idle.wait_for(lambda: self._users == 0)
