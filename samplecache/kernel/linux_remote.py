"""Reading the memory of another process that serves the same samples, without mapping it.

``process_vm_readv(2)`` copies from the private memory of a process: its pages stay mapped there only, once, and so are
advised, paged out and counted as those of a single process are. A page that is not in RAM is faulted in for the process
that it belongs to, and counted for the thread that asked. See ``docs/shared-memory.md`` for why not a shared mapping.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import threading
from typing import Final

from samplecache.errors import NotPermittedError, UnavailableError
from samplecache.kernel.linux_copies import CopyRoom
from samplecache.kernel.linux_region import call, declare
from samplecache.kernel.port import NO_FAULTS, FaultCounts, Region, Span

PR_SET_PTRACER: Final = 0x59616D61
"""From ``linux/prctl.h``."""

_prctl = declare("prctl", ctypes.c_int, ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_process_vm_readv = declare(
    "process_vm_readv",
    ctypes.c_ssize_t,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_ulong,
)
_MAPPED_BIT: Final = 0x80
"""``PM_PRESENT`` in the last byte of a pagemap entry, little-endian."""
_ENTRY_BYTES: Final = 8


def let_children_read() -> None:
    """Let processes that this one starts read its memory, where Yama lets no process read its parent's."""
    _prctl(PR_SET_PTRACER, os.getpid(), 0, 0, 0)  # EINVAL where there is no Yama, which is as good


class RemoteRegion(Region):
    """A region of the other process.

    Parameters
    ----------
    address : int
        Where it begins there.
    pages : int
        Its length in pages.
    """

    __slots__ = ("address",)

    def __init__(self, address: int, pages: int) -> None:
        super().__init__(pages)
        self.address = address


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Copy(threading.local):
    """Where the calling thread copies to."""

    def __init__(self) -> None:
        self.here, self.there = _Vector(), _Vector()
        self.addresses = ctypes.addressof(self.here), ctypes.addressof(self.there)
        self.room = CopyRoom(1)


class RemoteMemory:
    """Regions of another process, to be read. Any thread.

    What it offers is what :class:`~samplecache.kernel.port.Kernel` promises of the same methods, but for this: a page
    in the swap cache cannot be told from one on the device, and counts as not in RAM.

    Parameters
    ----------
    pid : int
        The process.

    Raises
    ------
    NotPermittedError
        It is not ours to look at.
    """

    page_bytes = mmap.PAGESIZE

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._copy = _Copy()
        try:
            self._pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _refused(error) from error

    def in_core(self, region: Region, span: Span) -> bool:
        """Return whether every page of `span` is mapped. Does not fault."""
        first = _own(region).address // self.page_bytes + span.start
        entries = os.pread(self._pagemap, _ENTRY_BYTES * len(span), _ENTRY_BYTES * first)
        return not span or min(entries[_ENTRY_BYTES - 1 :: _ENTRY_BYTES]) >= _MAPPED_BIT

    def read(self, region: Region, offset_bytes: int, length_bytes: int) -> bytearray:
        """Return a copy of ``[offset_bytes, offset_bytes + length_bytes)``. May fault, with the GIL released."""
        return bytearray(self._fetch(region, offset_bytes, length_bytes))

    def read_resident(
        self, region: Region, offset_bytes: int, length_bytes: int
    ) -> tuple[memoryview, FaultCounts] | None:
        """See :meth:`samplecache.kernel.port.Kernel.read_resident`."""
        if not self.in_core(region, Span.of_bytes(offset_bytes, offset_bytes + length_bytes, self.page_bytes)):
            return None
        before = self.thread_faults()
        copied = self._fetch(region, offset_bytes, length_bytes)
        faults = self.thread_faults() - before
        return copied, faults if faults != NO_FAULTS else NO_FAULTS

    def thread_faults(self) -> FaultCounts:
        """Return the calling thread's own fault counts. Does not fault."""
        usage = resource.getrusage(resource.RUSAGE_THREAD)
        return FaultCounts(usage.ru_minflt, usage.ru_majflt)

    def _fetch(self, region: Region, offset_bytes: int, length_bytes: int) -> memoryview:
        """Copy into the calling thread's room, all or nothing, and return the copy."""
        own, copy = _own(region), self._copy
        own.check(Span.of_bytes(offset_bytes, offset_bytes + length_bytes, self.page_bytes))
        if length_bytes > copy.room.length_bytes:
            copy.room = CopyRoom(length_bytes)
        copy.here.length = copy.there.length = length_bytes
        copy.there.base = own.address + offset_bytes
        copy.here.base, copied = copy.room.for_copy(own.address + offset_bytes, length_bytes)
        here, there = copy.addresses
        try:
            got_bytes = call(_process_vm_readv, self._pid, here, 1, there, 1, 0) if length_bytes else 0
        except OSError as error:
            if error.errno == errno.EPERM:
                raise _refused(error) from error
            raise UnavailableError(
                f"the memory of process {self._pid} cannot be read: {error.strerror}", remedy="Start it again"
            ) from error
        if got_bytes != length_bytes:
            raise UnavailableError(
                f"only {got_bytes} of {length_bytes} bytes of process {self._pid} could be read",
                remedy="Start it again",
            )
        return copied

    def close(self) -> None:
        """Let go of the other process."""
        os.close(self._pagemap)


def _own(region: Region) -> RemoteRegion:
    if not isinstance(region, RemoteRegion):
        raise TypeError(f"{region!r} is no region of another process")
    return region


def _refused(error: OSError) -> NotPermittedError:
    return NotPermittedError(
        f"the memory of the process that owns the samples cannot be read: {error.strerror}",
        remedy="Serve with one worker, or permit process_vm_readv and /proc/PID/pagemap between processes of one user "
        "(kernel.yama.ptrace_scope 0 or 1, and a seccomp profile that allows it)",
    )
