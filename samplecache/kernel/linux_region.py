"""A mapping of this process, and who is using it."""

from __future__ import annotations

import threading
from types import TracebackType

import numpy as np
import numpy.typing as npt

from samplecache.errors import UnmappedError
from samplecache.kernel.port import Region, Span
from samplecache.kernel.runs import runs


class LinuxRegion(Region):
    """A mapping of this process. Counts the calls that are using it, so that it is never unmapped under one of them."""

    __slots__ = ("_base", "_holes", "_idle", "_page_bytes", "_users", "locked", "locking", "reserved")

    def __init__(self, base: int, pages: int, reserved: tuple[int, int]) -> None:
        super().__init__(pages)
        self.reserved = reserved
        """Address and length of the mapping with its guard pages."""
        self.locked: npt.NDArray[np.bool_] = np.zeros(pages, np.bool_)
        """Which pages mlock keeps; changed only under `locking`."""
        self.locking = threading.Lock()
        self._base = base
        self._page_bytes = base - reserved[0]  # one guard page
        self._holes: npt.NDArray[np.bool_] = np.zeros(pages + 2, np.bool_)  # guard pages included
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

    def punch(self, span: Span) -> None:
        """Take note that the pages of `span` are not mapped any more."""
        self._holes[span.start + 1 : span.stop + 1] = True
        self.locked[span.start : span.stop] = False

    def pieces(self, span: Span) -> list[Span]:
        """Return the parts of `span` without holes, ascending."""
        return list(runs(~self._holes[span.start + 1 : span.stop + 1], span.start))

    @property
    def mappings(self) -> list[tuple[int, int]]:
        """Address and length, in bytes, of what is mapped, guard pages too. What lies in holes is not ours."""
        start, page_bytes = self.reserved[0], self._page_bytes
        return [(start + run.start * page_bytes, len(run) * page_bytes) for run in runs(~self._holes)]

    def retire(self) -> None:
        """Refuse further use, and wait until whoever uses it now is done."""
        with self._idle:
            if not self._base:
                raise UnmappedError("The region has been unmapped already", remedy="Unmap a region once")
            self._base = 0
            self._idle.wait_for(lambda: self._users == 0)
