"""Fixtures for tests of the running kernel."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator

import pytest

from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.procfs import CAP_IPC_LOCK

CAPABILITY_VERSION_3 = 0x20080522


@pytest.fixture
def kernel() -> Iterator[LinuxKernel]:
    """The running kernel."""
    made = LinuxKernel()
    yield made
    made.close()


@pytest.fixture
def without_ipc_lock() -> Callable[[Callable[[], None]], None]:
    """Run a function on a thread that lacks CAP_IPC_LOCK, which is a thread's own; raise what it raises."""

    def run(function: Callable[[], None]) -> None:
        raised: list[BaseException] = []

        def body() -> None:
            try:
                _drop_ipc_lock()
                function()
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if raised:
            raise raised[0]

    return run


def _drop_ipc_lock() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable of capabilities 0-31, then of the rest
    assert libc.capget(header, sets) == 0
    sets[0] &= ~(1 << CAP_IPC_LOCK)
    assert libc.capset(header, sets) == 0
