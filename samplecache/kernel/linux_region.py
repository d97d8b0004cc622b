"""A mapping of this process, and who is using it; and how system calls are made through ``ctypes``."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from samplecache.errors import UnmappedError
from samplecache.kernel.port import Region, Span
from samplecache.kernel.runs import runs

PROT_NONE = 0
PMD_BYTES = 2 << 20
"""What one page-table page maps with 4 KiB pages. The kernel's readahead stops there, so regions begin there."""
AGAIN_TRIES = 3

_libc = ctypes.CDLL(None, use_errno=True)
_MAP_FAILED = ctypes.c_void_p(-1).value


def declare(name: str, result: type, *arguments: type) -> Callable[..., int]:
    """Return the C library's function `name`, which lets go of the GIL while it runs."""
    function = getattr(_libc, name)
    function.restype, function.argtypes = result, arguments
    return function  # type: ignore[no-any-return]


_pointer, _size, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_mmap = declare("mmap", _pointer, _pointer, _size, _int, _int, _int, ctypes.c_long)
_munmap = declare("munmap", _int, _pointer, _size)
_mprotect = declare("mprotect", _int, _pointer, _size, _int)
madvise = declare("madvise", _int, _pointer, _size, _int)
munlock = declare("munlock", _int, _pointer, _size)


def call(function: Callable[..., int], *arguments: int) -> int:
    """Make a system call, again while a signal or a passing shortage interrupts it; raise OSError if it fails."""
    tries = 0
    while (result := function(*arguments)) in (-1, _MAP_FAILED):
        code = ctypes.get_errno()
        tries += code == errno.EAGAIN
        if code != errno.EINTR and not (code == errno.EAGAIN and tries < AGAIN_TRIES):
            raise OSError(code, os.strerror(code))
    return result


_IDLE: Final = tuple(threading.Condition(threading.Lock()) for _ in range(64))
"""Who waits until a region is not in use, by the region's address: a condition each would take a kilobyte."""


class LinuxRegion(Region):
    """A mapping of this process. Counts the calls that are using it, so that it is never unmapped under one of them."""

    __slots__ = ("_base", "_holes", "_idle", "_page_bytes", "_start", "_users", "locked", "locking")

    def __init__(self, start: int, pages: int, page_bytes: int) -> None:
        super().__init__(pages)
        self.locked: npt.NDArray[np.bool_] = np.zeros(pages, np.bool_)
        """Which pages mlock keeps; changed only under `locking`."""
        self.locking = threading.Lock()
        self._start = start
        self._base = start  # 0 once it is unmapped
        self._page_bytes = page_bytes
        self._holes: npt.NDArray[np.bool_] | None = None  # guard pages included
        self._users = 0
        self._idle = _IDLE[start // page_bytes % len(_IDLE)]

    @property
    def reserved(self) -> tuple[int, int]:
        """Address and length of the mapping with its guard pages."""
        return self._start - self._page_bytes, (self.pages + 2) * self._page_bytes

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

    @classmethod
    def map(cls, pages: int, page_bytes: int) -> Self:
        """Map `pages` pages of `page_bytes` bytes between guard pages, from a PMD boundary on.

        Raises
        ------
        OSError
            As the system calls fail; nothing is mapped then.
        """
        body_bytes = pages * page_bytes
        length = body_bytes + 2 * page_bytes
        spare = call(_mmap, 0, length + PMD_BYTES, PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        base = -(-(spare + page_bytes) // PMD_BYTES) * PMD_BYTES
        start, stop = base - page_bytes, base + body_bytes + page_bytes
        try:
            if start > spare:
                call(_munmap, spare, start - spare)
            call(_munmap, stop, spare + length + PMD_BYTES - stop)
            spare, length = start, stop - start
            call(_mprotect, base, body_bytes, mmap.PROT_READ | mmap.PROT_WRITE)
            call(madvise, base, body_bytes, mmap.MADV_DONTFORK)
            call(madvise, base, body_bytes, mmap.MADV_DONTDUMP)
        except OSError:
            _munmap(spare, length)
            raise
        # EINVAL where the kernel was built without huge pages, which is as good.
        madvise(base, body_bytes, mmap.MADV_NOHUGEPAGE)
        return cls(base, pages, page_bytes)

    def unmap(self) -> None:
        """Refuse further use, wait until whoever uses it now is done, and unmap it but for its holes.

        Memory of others may have come to lie in those.

        Raises
        ------
        UnmappedError
            It has been unmapped already.
        """
        self.retire()
        self._give_up()

    def retire(self) -> None:
        """Refuse further use, and wait until whoever uses it now is done.

        Raises
        ------
        UnmappedError
            It has been unmapped already.
        """
        with self._idle:
            if not self._base:
                raise UnmappedError("The region has been unmapped already", remedy="Unmap a region once")
            self._base = 0
            self._idle.wait_for(lambda: self._users == 0)

    def _give_up(self) -> None:
        if self._holes is None:
            call(_munmap, *self.reserved)
            return
        for run in runs(~self._holes):
            self._unmap(run)

    def punch(self, span: Span) -> None:
        """Unmap the pages of `span`, but for those in holes already; the caller has the region in use."""
        for piece in self.pieces(span):
            self._unmap(Span(piece.start + 1, piece.stop + 1))
        if self._holes is None:
            self._holes = np.zeros(self.pages + 2, np.bool_)
        self._holes[span.start + 1 : span.stop + 1] = True
        self.locked[span.start : span.stop] = False

    def _unmap(self, run: Span) -> None:
        """Unmap pages that are numbered from the first guard page on."""
        call(_munmap, self.reserved[0] + run.start * self._page_bytes, len(run) * self._page_bytes)

    def pieces(self, span: Span) -> list[Span]:
        """Return the parts of `span` without holes, ascending."""
        if self._holes is None:
            return [span] if len(span) else []
        return list(runs(~self._holes[span.start + 1 : span.stop + 1], span.start))
