"""Fixtures shared by all tests: both kernels behind the port, and a machine that can swap."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import threading
from collections.abc import Callable, Generator, Iterator

import pytest

from samplecache.clock import NS_PER_MS, NS_PER_S, Clock, MonotonicClock, VirtualClock
from samplecache.errors import SamplecacheError
from samplecache.kernel import procfs
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Kernel
from samplecache.kernel.procfs import CAP_IPC_LOCK
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.lab.rig import Limits, Rig, RigOptions
from samplecache.simulation.options import SimulationOptions

NO_SKIP = "SAMPLECACHE_TESTS_NO_SKIP"

CAPABILITY_VERSION_3 = 0x20080522

WAIT_NS = 20 * NS_PER_S
POLL_NS = NS_PER_MS

WaitFor = Callable[[Callable[[], object]], None]


def pytest_configure() -> None:
    """Have SIGINT interrupt again, also in the programs that tests start.

    What a shell without job control runs in the background begins with SIGINT ignored, and hands that on.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what swaps on the running kernel and what sounds, so that it can be chosen or left out.

    A machine has one rig at a time, and sound is a matter of time: ``make test`` runs each kind in one process.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        simulated = parameters.get("kernel_name") == "simulated"
        if fixtures & {"session_rig", "no_rig", "swapping"} and not simulated:
            item.add_marker(pytest.mark.real_kernel)
        if fixtures & {"sound_server", "make_sound_server"}:
            item.add_marker(pytest.mark.sound)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a skip as a failure where everything must run: continuous integration sets up all that tests can want."""
    report = yield
    if report.skipped and os.environ.get(NO_SKIP):
        why = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"{NO_SKIP} is set, and {item.nodeid} was skipped: {why}"
    return report


@pytest.fixture(scope="session")
def session_rig() -> Iterator[Rig]:
    """One rig for all tests: a swap file on what the kernel takes for a disk that does not turn."""
    with contextlib.ExitStack() as stack:
        try:
            rig = stack.enter_context(Rig(RigOptions(swap_bytes=256 << 20, rotational=False)))
        except SamplecacheError as error:
            pytest.skip(f"needs a machine that can be made to swap: {error}")
        yield rig


@pytest.fixture
def rig(session_rig: Rig) -> Iterator[Rig]:
    """The rig, without limits before and after the test."""
    session_rig.limit(Limits())
    yield session_rig
    session_rig.limit(Limits())


@pytest.fixture(scope="module")
def no_rig(session_rig: Rig) -> Iterator[None]:
    """The machine without the session's rig, for a module's tests that make rigs of other kinds."""
    session_rig.close()
    yield
    session_rig.__enter__()


@pytest.fixture(params=["simulated", "linux"])
def kernel_name(request: pytest.FixtureRequest) -> str:
    """Which kernel the test runs over."""
    name: str = request.param
    return name


@pytest.fixture
def clock(kernel_name: str) -> Clock:
    """The clock that `kernel` lives by."""
    return VirtualClock() if kernel_name == "simulated" else MonotonicClock()


@pytest.fixture
def kernel(kernel_name: str, clock: Clock) -> Iterator[Kernel]:
    """Each kernel in turn. Whether the running one can swap is another matter: see `swapping`."""
    options = SimulationOptions.for_device("ssd-sata", memory_bytes=64 << 20, swap_bytes=128 << 20)
    made = SimulatedKernel(options, clock) if kernel_name == "simulated" else LinuxKernel(clock)
    yield made
    made.close()


@pytest.fixture
def swapping(kernel_name: str, request: pytest.FixtureRequest) -> None:
    """Swap under `kernel`: a rig's, or the machine's own where no rig can be made."""
    if kernel_name == "linux" and (os.geteuid() == 0 or not procfs.swap_areas()):
        request.getfixturevalue("session_rig")


@pytest.fixture
def wait_for(clock: Clock) -> WaitFor:
    """Wait on the kernel's clock until a condition holds, at most 20 s."""

    def wait(condition: Callable[[], object]) -> None:
        deadline_ns = clock.now_ns() + WAIT_NS
        while not condition():
            assert clock.now_ns() < deadline_ns, "waited 20 s in vain"
            clock.sleep_until(clock.now_ns() + POLL_NS)

    return wait


@pytest.fixture
def noise() -> Callable[[int], bytes]:
    """Bytes that do not compress and hold no page of zeros, the same each time."""
    return lambda length_bytes: random.Random(2008).randbytes(length_bytes)


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
