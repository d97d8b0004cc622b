"""Holes in a region of the running kernel: what was unmapped is not the region's any more."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable

import numpy as np
import pytest

from samplecache.errors import UnavailableError
from samplecache.kernel.inspection import ENTRY_PRESENT, errno_name
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Advice, Span

PAGES = 16
HOLE = Span(4, 8)
MAP_FIXED_NOREPLACE = 0x100000


def test_observers_leave_holes_out(kernel: LinuxKernel) -> None:
    region = kernel.map(PAGES * kernel.page_bytes)
    kernel.write(region, 0, bytes([1]) * PAGES * kernel.page_bytes)
    kernel.punch(region, HOLE)
    kernel.punch(region, Span(6, 9))
    expected = [page not in range(4, 9) for page in range(PAGES)]
    assert list(kernel.mincore(region, region.span)) == expected
    assert ((kernel.page_entries(region, region.span) & np.uint64(ENTRY_PRESENT)) != 0).tolist() == expected
    kernel.unmap(region)


def test_calls_across_a_hole_end_with_the_kernels_error(kernel: LinuxKernel) -> None:
    region = kernel.map(PAGES * kernel.page_bytes)
    kernel.write(region, 0, bytes([1]) * PAGES * kernel.page_bytes)
    kernel.punch(region, HOLE)
    calls: list[Callable[[], None]] = [
        lambda: kernel.advise(region, region.span, Advice.WILLNEED),
        lambda: kernel.populate(region, region.span),
        lambda: kernel.lock(region, region.span),
        lambda: kernel.unlock(region, region.span),
    ]
    for refused in calls:
        with pytest.raises(UnavailableError) as caught:
            refused()
        assert errno_name(caught.value) == "ENOMEM"
    kernel.unmap(region)


def test_unmapping_a_region_spares_what_lies_in_its_holes(kernel: LinuxKernel) -> None:
    region = kernel.map(PAGES * kernel.page_bytes)
    hole_bytes = len(HOLE) * kernel.page_bytes
    kernel.punch(region, HOLE)
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    hole = region.reserved[0] + (1 + HOLE.start) * kernel.page_bytes
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    others = libc.mmap(hole, hole_bytes, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    assert others == hole
    ctypes.memset(others, 7, hole_bytes)
    kernel.unmap(region)
    assert ctypes.string_at(others, hole_bytes) == bytes([7]) * hole_bytes
    libc.munmap(ctypes.c_void_p(others), ctypes.c_size_t(hole_bytes))
