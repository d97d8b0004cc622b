"""mlock on the running kernel: limits, what is left when it fails, and the ledger above it."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator

import pytest

from samplecache.errors import LockLimitError, NotPermittedError, UnavailableError
from samplecache.kernel import procfs
from samplecache.kernel.ledger import LockGrant, LockLedger, default_lock_budget
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Region, Span, Tier

LIMIT_PAGES = 16

Unprivileged = Callable[[Callable[[], None]], None]


@pytest.fixture
def region(kernel: LinuxKernel) -> Iterator[Region]:
    region = kernel.map(2 * LIMIT_PAGES * kernel.page_bytes)
    yield region
    kernel.unmap(region)


@pytest.fixture
def set_limit(kernel: LinuxKernel) -> Iterator[Callable[[int], None]]:
    """Set RLIMIT_MEMLOCK, in pages, while the process has locked nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)

    def set_pages(pages: int) -> None:
        assert procfs.locked_bytes() == 0
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (pages * kernel.page_bytes, hard))

    yield set_pages
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))


def locked(kernel: LinuxKernel, region: Region) -> list[Span]:
    return list(kernel.residency(region, region.span).spans_in(Tier.LOCKED))


def test_locking_past_the_limit_locks_nothing(
    kernel: LinuxKernel, region: Region, set_limit: Callable[[int], None], without_ipc_lock: Unprivileged
) -> None:
    def body() -> None:
        set_limit(LIMIT_PAGES)
        kernel.lock(region, Span(0, 4))
        with pytest.raises(LockLimitError, match="RLIMIT_MEMLOCK") as caught:
            kernel.lock(region, Span(2, LIMIT_PAGES + 1))
        facts = {"asked_bytes": "53248", "held_bytes": "16384", "limit_bytes": "65536", "errno": "ENOMEM"}
        assert caught.value.details == facts
        assert locked(kernel, region) == [Span(0, 4)]
        assert procfs.locked_bytes() == 4 * kernel.page_bytes
        kernel.lock(region, Span(0, LIMIT_PAGES))
        assert procfs.locked_bytes() == LIMIT_PAGES * kernel.page_bytes
        kernel.unlock(region, region.span)
        assert procfs.locked_bytes() == 0

    without_ipc_lock(body)


def test_a_limit_of_nothing_is_a_missing_permission(
    kernel: LinuxKernel, region: Region, set_limit: Callable[[int], None], without_ipc_lock: Unprivileged
) -> None:
    def body() -> None:
        set_limit(0)
        with pytest.raises(NotPermittedError, match="CAP_IPC_LOCK"):
            kernel.lock(region, Span(0, 1))
        capability = kernel.probe().operations
        assert [operation.value for operation in capability if not capability[operation].permitted] == ["lock"]

    without_ipc_lock(body)


def test_the_ledger_shrinks_to_what_the_kernel_allows(
    kernel: LinuxKernel, region: Region, set_limit: Callable[[int], None], without_ipc_lock: Unprivileged
) -> None:
    def body() -> None:
        set_limit(LIMIT_PAGES)
        ledger = LockLedger(kernel, region.pages * kernel.page_bytes)
        grant = ledger.acquire("session", region, Span(1, 2 * LIMIT_PAGES))
        assert (grant.locked, grant.refused) == (Span(1, 17), Span(17, 32))
        assert "RLIMIT_MEMLOCK" in grant.why
        assert procfs.locked_bytes() == LIMIT_PAGES * kernel.page_bytes == ledger.locked_bytes
        assert ledger.acquire("other", region, Span(20, 24)) == LockGrant(Span(20, 20), Span(20, 24), grant.why)
        ledger.release("session", region)
        assert procfs.locked_bytes() == 0 == ledger.locked_bytes

    without_ipc_lock(body)


def test_the_default_budget_leaves_a_quarter_to_others(
    kernel: LinuxKernel, set_limit: Callable[[int], None], without_ipc_lock: Unprivileged
) -> None:
    def body() -> None:
        set_limit(LIMIT_PAGES)
        capabilities = kernel.probe()
        assert capabilities.lock_limit_bytes == LIMIT_PAGES * kernel.page_bytes
        assert default_lock_budget(capabilities) == 12 * kernel.page_bytes

    without_ipc_lock(body)


def test_as_many_locks_as_there_may_be_mappings_say_so(kernel: LinuxKernel) -> None:
    held_bytes = procfs.locked_bytes()
    # Each locked page between two that are not takes two mappings more.
    regions = [kernel.map(2 * kernel.page_bytes, packed=True) for _ in range(procfs.mapping_limit() // 2)]

    def lock_all() -> None:
        for region in regions:
            kernel.lock(region, Span(0, 1))

    try:
        with pytest.raises(UnavailableError, match=r"mappings of the \d+ that vm\.max_map_count allows") as caught:
            lock_all()
        assert "sysctl -w vm.max_map_count=" in str(caught.value)
        assert kernel.read(regions[0], 0, 1) == b"\0"  # what there is goes on
    finally:
        for region in regions:
            kernel.unmap(region)
    assert procfs.locked_bytes() == held_bytes
