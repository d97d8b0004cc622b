"""What paging does to memory that several processes can read, beside private memory of one: an experiment.

Three ways for a second process to get at pages: a shared mapping of a memfd, private memory inherited by fork, and
``process_vm_readv(2)`` from private memory of the first. The second process is forked for it, and reads when told.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np

from samplecache.kernel import procfs
from samplecache.kernel.inspection import ENTRY_SWAPPED
from samplecache.kernel.linux import MADV_PAGEOUT, MADV_POPULATE_READ, drain_lru_batches
from samplecache.kernel.linux_region import call, declare, madvise

PAGES = 512
PAGE = mmap.PAGESIZE
LENGTH = PAGES * PAGE
TIMEOUT_S = 10.0
FUTILE_TRIES = 16
KINDS = ("private", "fork", "memfd")

_pointer, _size, _int, _long = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_long
_mmap = declare("mmap", _pointer, _pointer, _size, _int, _int, _int, _long)
_munmap = declare("munmap", _int, _pointer, _size)
_mincore = declare("mincore", _int, _pointer, _size, _pointer)
_memmove = declare("memmove", _pointer, _pointer, _pointer, _size)
_process_vm_readv = declare(
    "process_vm_readv", ctypes.c_ssize_t, _int, _pointer, ctypes.c_ulong, _pointer, ctypes.c_ulong, ctypes.c_ulong
)


class _Vector(ctypes.Structure):
    _fields_ = (("base", _pointer), ("length", _size))


@dataclass(frozen=True)
class Reading:
    """What it took to have each page read once, by the process that read it; pages, machine-wide where swap."""

    major: int
    minor: int
    pswpin: int


@dataclass(frozen=True)
class Findings:
    """What was found of one kind of memory. Pages out of :data:`PAGES`.

    Attributes
    ----------
    left : int
        In RAM after MADV_PAGEOUT, over and over, while nobody else has it mapped.
    reclaimed : int
        Not in RAM after that, and reclaim if need be: where each of the following begins.
    told_swapped : int
        That pagemap then says are swapped.
    willneed_in_core : int
        In RAM some time after MADV_WILLNEED.
    after_willneed, populated, touched : Reading
        What it took to read them: after WILLNEED; with POPULATE_READ; cold, in order.
    written_again : int
        Written to swap when it was made cold again after it had only been read; other pages of the process included.
    left_shared : int
        In RAM after MADV_PAGEOUT, over and over, when the second process had read it too.
    other : Reading
        What it took the second process to read it, cold.
    other_warm : Reading
        What it took the second process to read it once the first had.
    other_after_willneed : Reading
        What it took the second process to read it, cold, after WILLNEED by the first.
    """

    left: int
    reclaimed: int
    told_swapped: int
    willneed_in_core: int
    after_willneed: Reading
    populated: Reading
    touched: Reading
    written_again: int
    left_shared: int
    other: Reading
    other_warm: Reading
    other_after_willneed: Reading


class Memory:
    """Pages at an address of this process, full of noise.

    Parameters
    ----------
    kind : str
        ``"private"``, ``"fork"`` (private too, but inherited by children) or ``"memfd"`` (shared).
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._fd = os.memfd_create("samples") if kind == "memfd" else -1
        if self._fd >= 0:
            os.ftruncate(self._fd, LENGTH)
        flags = mmap.MAP_SHARED if kind == "memfd" else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.address = call(_mmap, 0, LENGTH, mmap.PROT_READ | mmap.PROT_WRITE, flags, self._fd, 0)
        madvise(self.address, LENGTH, mmap.MADV_NOHUGEPAGE)
        if kind == "private":
            call(madvise, self.address, LENGTH, mmap.MADV_DONTFORK)
        noise = random.Random(2008).randbytes(LENGTH)
        _memmove(self.address, ctypes.addressof(ctypes.create_string_buffer(noise, LENGTH)), LENGTH)

    def close(self) -> None:
        _munmap(self.address, LENGTH)
        if self._fd >= 0:
            os.close(self._fd)

    def in_core(self) -> int:
        vector = ctypes.create_string_buffer(PAGES)
        call(_mincore, self.address, LENGTH, ctypes.addressof(vector))
        return sum(byte & 1 for byte in vector.raw)

    def told_swapped(self) -> int:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            pagemap.seek(self.address // PAGE * 8)
            entries = np.frombuffer(pagemap.read(8 * PAGES), np.uint64)
        return int(((entries & np.uint64(ENTRY_SWAPPED)) != 0).sum())

    def advise(self, advice: int) -> None:
        call(madvise, self.address, LENGTH, advice)

    def evict(self) -> int:
        """Push it out: page out, and map again what stayed in the swap cache, until nothing is left or it is futile."""
        deadline_s = time.monotonic() + TIMEOUT_S
        futile = 0
        left = PAGES
        while futile < FUTILE_TRIES and time.monotonic() < deadline_s:
            self.advise(MADV_PAGEOUT)
            drain_lru_batches(self.address)
            time.sleep(0.01)
            now = self.in_core()
            if now == 0:
                return 0
            futile = futile + 1 if now >= left else 0
            left = min(left, now)
            self._touch_in_core()  # pages in the swap cache are found only once they are mapped again
        return self.in_core()

    def _touch_in_core(self) -> None:
        vector = ctypes.create_string_buffer(PAGES)
        call(_mincore, self.address, LENGTH, ctypes.addressof(vector))
        byte = ctypes.create_string_buffer(1)
        for page, state in enumerate(vector.raw):
            if state & 1:
                _memmove(ctypes.addressof(byte), self.address + page * PAGE, 1)

    def touch(self) -> None:
        """Read a byte of each page, ascending."""
        byte = ctypes.create_string_buffer(1)
        for page in range(PAGES):
            _memmove(ctypes.addressof(byte), self.address + page * PAGE, 1)

    def touch_from_outside(self, pid: int) -> None:
        """Read a byte of each page of process `pid`, ascending, without mapping it."""
        byte = ctypes.create_string_buffer(1)
        here = _Vector(ctypes.addressof(byte), 1)
        for page in range(PAGES):
            there = _Vector(self.address + page * PAGE, 1)
            got = call(_process_vm_readv, pid, ctypes.addressof(here), 1, ctypes.addressof(there), 1, 0)
            assert got == 1

    def wait_in_core(self) -> int:
        deadline_s = time.monotonic() + TIMEOUT_S
        while self.in_core() < PAGES and time.monotonic() < deadline_s:
            time.sleep(0.002)
        return self.in_core()


def _reading(act: Callable[[], object]) -> Reading:
    import resource

    before, swap = resource.getrusage(resource.RUSAGE_THREAD), procfs.swap_counts()
    act()
    after, traffic = resource.getrusage(resource.RUSAGE_THREAD), procfs.swap_counts() - swap
    return Reading(after.ru_majflt - before.ru_majflt, after.ru_minflt - before.ru_minflt, traffic.pswpin)


@contextmanager
def second_process(memory: Memory) -> Iterator[Callable[[], Reading]]:
    """Fork a process that reads all of `memory` when told, and says what that took."""
    ours, theirs = socket.socketpair()
    owner = os.getpid()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ours.close()
            outside = memory.kind == "private"
            while theirs.recv(1):
                found = _reading((lambda: memory.touch_from_outside(owner)) if outside else memory.touch)
                theirs.send(json.dumps(asdict(found)).encode())
            status = 0
        finally:
            os._exit(status)
    theirs.close()

    def read() -> Reading:
        ours.send(b"r")
        return Reading(**json.loads(ours.recv(1000)))

    try:
        yield read
    finally:
        ours.close()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def look(kind: str, reclaim: Callable[[], None]) -> Findings:
    """Try everything with memory of one kind. Needs swap.

    It is made cold by advice where that works, and where not by `reclaim`, which takes other pages of the process too.
    """
    memory = Memory(kind)

    def cold() -> None:
        if memory.evict():
            reclaim()

    try:
        left = memory.evict()
        if left:
            reclaim()
        reclaimed, told = PAGES - memory.in_core(), memory.told_swapped()
        memory.advise(mmap.MADV_WILLNEED)
        in_core = memory.wait_in_core()
        after_willneed = _reading(memory.touch)
        before = procfs.swap_counts()
        cold()
        written = (procfs.swap_counts() - before).pswpout
        populated = _reading(lambda: memory.advise(MADV_POPULATE_READ))
        cold()
        touched = _reading(memory.touch)
        with second_process(memory) as read:
            cold()
            other = read()
            memory.touch()
            other_warm = read()
            left_shared = memory.evict()
            cold()
            memory.advise(mmap.MADV_WILLNEED)
            memory.wait_in_core()
            other_after_willneed = read()
        return Findings(
            left,
            reclaimed,
            told,
            in_core,
            after_willneed,
            populated,
            touched,
            written,
            left_shared,
            other,
            other_warm,
            other_after_willneed,
        )
    finally:
        memory.close()


def main() -> None:
    """Print what is found, on rigs of both kinds of readahead."""
    from samplecache.lab.rig import Rig, RigOptions

    for rotational in (False, True):
        with Rig(RigOptions(swap_bytes=256 << 20, rotational=rotational)) as rig, rig.joined():
            for kind in KINDS:
                print(f"rotational={rotational} {kind}: {look(kind, rig.reclaim)}")


if __name__ == "__main__":
    main()
