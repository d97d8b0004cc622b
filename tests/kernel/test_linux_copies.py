"""Room for copies of sample memory: as far from where `rep movsb` is slow as a page allows."""

from __future__ import annotations

import ctypes
import mmap
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.linux_copies import CopyRoom

PAGE_BYTES = mmap.PAGESIZE


def address_of(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


@given(source_address=st.integers(0, 1 << 47), length_bytes=st.integers(1, 3 * PAGE_BYTES))
def test_a_copy_begins_half_a_page_further_into_its_page_than_its_source(
    source_address: int, length_bytes: int
) -> None:
    address, copy = CopyRoom(3 * PAGE_BYTES).for_copy(source_address, length_bytes)
    assert (address - source_address) % PAGE_BYTES == PAGE_BYTES // 2
    assert address_of(copy) == address
    assert len(copy) == length_bytes


def test_nothing_faults_when_it_is_copied_into() -> None:
    room = CopyRoom(64 * PAGE_BYTES)
    _, copy = room.for_copy(PAGE_BYTES - 1, 64 * PAGE_BYTES)
    zeros = bytes(len(copy))
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    copy[:] = zeros
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before <= 1  # of the interpreter's own, if any


@pytest.mark.parametrize("offset_bytes", [0, 1, 2047, 2048, 4095, 5000])
def test_what_is_resident_is_read_there(offset_bytes: int) -> None:
    kernel = LinuxKernel()
    region = kernel.map(4 * PAGE_BYTES)
    kernel.write(region, 0, bytes(range(256)) * (4 * PAGE_BYTES // 256))
    found = kernel.read_resident(region, offset_bytes, 2 * PAGE_BYTES)
    assert found is not None
    copy, _ = found
    assert (address_of(copy) - kernel.address(region) - offset_bytes) % PAGE_BYTES == PAGE_BYTES // 2
    assert copy == kernel.read(region, offset_bytes, 2 * PAGE_BYTES)
    kernel.unmap(region)
