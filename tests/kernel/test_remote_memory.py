"""Reading another process's memory, as workers do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from samplecache.errors import InvalidSpanError, NotPermittedError, UnavailableError
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.linux_remote import RemoteMemory, RemoteRegion
from samplecache.kernel.port import Region, Span

PAGES = 8


@pytest.fixture
def region(kernel: LinuxKernel, noise: Callable[[int], bytes]) -> Iterator[Region]:
    region = kernel.map(PAGES * kernel.page_bytes)
    kernel.write(region, 0, noise(PAGES * kernel.page_bytes))
    yield region
    kernel.unmap(region)


@pytest.fixture
def there(kernel: LinuxKernel, region: Region) -> RemoteRegion:
    return RemoteRegion(kernel.address(region), PAGES)


@pytest.fixture
def memory() -> Iterator[RemoteMemory]:
    """This process's own memory, by the way that leads to another's."""
    memory = RemoteMemory(os.getpid())
    yield memory
    memory.close()


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (4095, 2), (5000, 20_000), (0, PAGES * 4096), (7, 0)])
def test_what_is_there_is_read(
    kernel: LinuxKernel, region: Region, memory: RemoteMemory, there: RemoteRegion, offset: int, length: int
) -> None:
    wanted = kernel.read(region, offset, length)
    assert memory.read(there, offset, length) == wanted
    found = memory.read_resident(there, offset, length)
    assert found is not None
    assert bytes(found[0]) == wanted


def test_pages_that_nobody_has_written_are_not_in_core(kernel: LinuxKernel, memory: RemoteMemory) -> None:
    region = kernel.map(2 * kernel.page_bytes)
    there = RemoteRegion(kernel.address(region), 2)
    kernel.write(region, 0, b"\1")
    assert memory.in_core(there, Span(0, 1))
    assert not memory.in_core(there, Span(0, 2))
    assert memory.read_resident(there, 0, 2 * kernel.page_bytes) is None
    assert memory.read(there, 0, 2) == b"\1\0"
    kernel.unmap(region)


def test_a_copy_that_was_asked_for_stays(memory: RemoteMemory, there: RemoteRegion) -> None:
    first = memory.read(there, 0, 100)
    assert memory.read(there, 4096, 100) != first
    assert first == memory.read(there, 0, 100)


def test_a_span_outside_the_region_is_refused(memory: RemoteMemory, there: RemoteRegion) -> None:
    with pytest.raises(InvalidSpanError):
        memory.read(there, PAGES * 4096, 1)


def test_what_is_unmapped_there_is_told(memory: RemoteMemory) -> None:
    with pytest.raises(UnavailableError, match="cannot be read"):
        memory.read(RemoteRegion(4096, 1), 0, 1)


def test_a_process_that_has_gone_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        memory = RemoteMemory(process.pid)
    with pytest.raises(UnavailableError, match="No such process"):
        memory.read(RemoteRegion(4096, 1), 0, 1)
    memory.close()
    with pytest.raises(NotPermittedError, match="Serve with one worker"):
        RemoteMemory(process.pid)
