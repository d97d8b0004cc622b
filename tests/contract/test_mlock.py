"""mlock and munlock, as LTP's mlock01, mlock02, mlock05, mlock2xx, munlock01 and munlock02 have it, on both kernels."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from contract_parts import EVICT_NS, Noise, cold_region, tiers

from samplecache.clock import Clock
from samplecache.errors import InvalidSpanError, LockLimitError, NotPermittedError, SamplecacheError, UnmappedError
from samplecache.kernel import procfs
from samplecache.kernel.inspection import InspectedKernel, errno_name
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Kernel, Span, Tier
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.options import SimulationOptions

MIB = 1 << 20
PAGES = 8
LENGTHS = [1, 1024, MIB, 10 * MIB]

Limited = Callable[[int, Callable[[Kernel], None]], None]


@pytest.fixture
def options() -> SimulationOptions:
    """A machine whose process may lock what it likes, as root may on the running kernel."""
    options = SimulationOptions.for_device("ssd-sata", memory_bytes=64 * MIB, swap_bytes=128 * MIB)
    return replace(options, cap_ipc_lock=True)


@pytest.fixture
def kernel(kernel_name: str, clock: Clock, options: SimulationOptions) -> Iterator[InspectedKernel]:
    if kernel_name == "linux" and procfs.lock_limit_bytes() is not None:
        pytest.skip("needs CAP_IPC_LOCK")
    made: InspectedKernel = SimulatedKernel(options, clock) if kernel_name == "simulated" else LinuxKernel(clock)
    yield made
    made.close()


@pytest.fixture
def limited(
    kernel_name: str,
    clock: Clock,
    options: SimulationOptions,
    without_ipc_lock: Callable[[Callable[[], None]], None],
) -> Limited:
    """Run a function over a kernel that lets it lock that many bytes, without CAP_IPC_LOCK."""

    def simulated(limit_bytes: int, body: Callable[[Kernel], None]) -> None:
        body(SimulatedKernel(replace(options, cap_ipc_lock=False, lock_limit_bytes=limit_bytes), clock))

    def linux(limit_bytes: int, body: Callable[[Kernel], None]) -> None:
        assert procfs.locked_bytes() == 0
        soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit_bytes, hard))
        try:
            without_ipc_lock(lambda: body(LinuxKernel(clock)))
        finally:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))

    return simulated if kernel_name == "simulated" else linux


class TestValidLengths:
    @pytest.mark.parametrize("length_bytes", LENGTHS)
    def test_mlock01_any_length_can_be_locked(self, kernel: Kernel, length_bytes: int) -> None:
        region = kernel.map(length_bytes)
        kernel.lock(region, Span.of_bytes(0, length_bytes, kernel.page_bytes))
        assert tiers(kernel, region) == {Tier.LOCKED: region.pages}
        kernel.unmap(region)

    @pytest.mark.parametrize("length_bytes", LENGTHS)
    def test_munlock01_any_length_can_be_unlocked(self, kernel: Kernel, length_bytes: int) -> None:
        region = kernel.map(length_bytes)
        kernel.lock(region, region.span)
        kernel.unlock(region, Span.of_bytes(0, length_bytes, kernel.page_bytes))
        assert tiers(kernel, region) == {Tier.MAPPED: region.pages}
        kernel.unmap(region)


class TestErrors:
    def test_mlock02_memory_that_is_not_mapped_is_not_locked(self, kernel: Kernel) -> None:
        region = kernel.map(kernel.page_bytes)
        with pytest.raises(InvalidSpanError):
            kernel.lock(region, Span(0, 2))
        assert tiers(kernel, region) == {Tier.ABSENT: 1}
        kernel.unmap(region)
        with pytest.raises(UnmappedError):
            kernel.lock(region, Span(0, 1))

    @pytest.mark.parametrize("hole", [Span(0, 1), Span(3, 5), Span(PAGES - 1, PAGES)])
    def test_mlock02_a_hole_keeps_everything_from_being_locked(self, kernel: InspectedKernel, hole: Span) -> None:
        region = kernel.map(PAGES * kernel.page_bytes)
        kernel.punch(region, hole)
        with pytest.raises(SamplecacheError) as caught:
            kernel.lock(region, region.span)
        assert errno_name(caught.value) == "ENOMEM"
        assert kernel.locked_bytes() == 0
        assert kernel.mincore(region, region.span) == bytes(PAGES)
        kernel.unmap(region)

    @pytest.mark.parametrize(("hole", "still_locked"), [(Span(0, 1), PAGES - 1), (Span(2, 6), 2), (Span(7, 8), 0)])
    def test_munlock02_a_hole_is_told(
        self, kernel: InspectedKernel, noise: Noise, hole: Span, still_locked: int
    ) -> None:
        region = kernel.map(PAGES * kernel.page_bytes)
        kernel.write(region, 0, noise(PAGES * kernel.page_bytes))
        kernel.lock(region, region.span)
        kernel.punch(region, hole)
        with pytest.raises(SamplecacheError) as caught:
            kernel.unlock(region, region.span)
        assert errno_name(caught.value) == "ENOMEM"
        assert kernel.locked_bytes() == still_locked * kernel.page_bytes
        assert kernel.residency(region, Span(0, hole.start)).count(Tier.LOCKED) == 0
        assert kernel.mincore(region, region.span) == bytes(page not in hole for page in range(PAGES))
        kernel.unmap(region)
        assert kernel.locked_bytes() == 0

    def test_mlock02_more_than_the_limit_is_not_locked(self, limited: Limited) -> None:
        """The limit is in bytes and rounded down to pages: a byte less than a page lets nothing be locked."""

        def body(kernel: Kernel) -> None:
            region = kernel.map(kernel.page_bytes)
            with pytest.raises(LockLimitError):
                kernel.lock(region, region.span)
            assert tiers(kernel, region) == {Tier.ABSENT: 1}
            kernel.unmap(region)

        limited(4095, body)

    def test_mlock02_a_limit_of_nothing_is_a_missing_permission(self, limited: Limited) -> None:
        def body(kernel: Kernel) -> None:
            region = kernel.map(kernel.page_bytes)
            with pytest.raises(NotPermittedError, match="CAP_IPC_LOCK"):
                kernel.lock(region, region.span)
            assert tiers(kernel, region) == {Tier.ABSENT: 1}
            kernel.unmap(region)

        limited(0, body)

    def test_mlock02_the_capability_lifts_the_limit(self, kernel: Kernel) -> None:
        assert kernel.probe().lock_limit_bytes is None
        region = kernel.map(10 * MIB)
        kernel.lock(region, region.span)
        assert tiers(kernel, region) == {Tier.LOCKED: region.pages}
        kernel.unmap(region)


class TestEffect:
    def test_mlock05_every_page_is_there_and_locked(self, kernel: Kernel) -> None:
        region = kernel.map(MIB)
        kernel.lock(region, region.span)
        residency = kernel.residency(region, region.span)
        assert residency.in_core == residency.count(Tier.LOCKED) == MIB // kernel.page_bytes
        kernel.unlock(region, region.span)
        kernel.unmap(region)

    def test_mlock05_locked_memory_is_not_swapped_out(self, kernel: Kernel, swapping: None, noise: Noise) -> None:
        region = kernel.map(MIB)
        kernel.write(region, 0, noise(MIB))
        kernel.lock(region, region.span)
        before = kernel.swap_counts()
        assert kernel.evict(region, region.span, EVICT_NS) == 0
        assert tiers(kernel, region) == {Tier.LOCKED: region.pages}
        assert (kernel.swap_counts() - before).pswpout == 0
        kernel.unmap(region)

    def test_mlock05_swapped_memory_comes_back(self, kernel: Kernel, swapping: None, noise: Noise) -> None:
        region = cold_region(kernel, PAGES, noise)
        kernel.lock(region, region.span)
        assert tiers(kernel, region) == {Tier.LOCKED: PAGES}
        assert kernel.read(region, 0, PAGES * kernel.page_bytes) == noise(PAGES * kernel.page_bytes)
        kernel.unmap(region)

    @pytest.mark.parametrize(
        ("length_bytes", "locked_pages"),
        [(4096, 1), (PAGES * 4096, PAGES), (2 * 4096 + 1, 3), (2 * 4096 - 1, 2)],
    )
    @pytest.mark.parametrize("written_pages", [0, 1, PAGES])
    def test_mlock201_lengths_are_rounded_up_to_pages(
        self, kernel: Kernel, noise: Noise, written_pages: int, length_bytes: int, locked_pages: int
    ) -> None:
        region = kernel.map(PAGES * kernel.page_bytes)
        kernel.write(region, 0, noise(written_pages * kernel.page_bytes))
        kernel.lock(region, Span.of_bytes(0, length_bytes, kernel.page_bytes))
        residency = kernel.residency(region, region.span)
        assert list(residency.spans_in(Tier.LOCKED)) == [Span(0, locked_pages)]
        assert residency.in_core == max(locked_pages, written_pages)
        kernel.unmap(region)

    @pytest.mark.parametrize("limit_pages", [0, PAGES - 1])
    def test_mlock202_errors_come_before_any_page_is_locked(self, limited: Limited, limit_pages: int) -> None:
        def body(kernel: Kernel) -> None:
            region = kernel.map(PAGES * kernel.page_bytes)
            with pytest.raises(LockLimitError if limit_pages else NotPermittedError):
                kernel.lock(region, region.span)
            assert tiers(kernel, region) == {Tier.ABSENT: PAGES}
            kernel.unmap(region)

        limited(limit_pages * 4096, body)

    def test_mlock203_locking_again_counts_once(self, limited: Limited) -> None:
        """Told by the limit: it leaves room for one region, and none for a page more."""

        def body(kernel: Kernel) -> None:
            region, other = kernel.map(PAGES * kernel.page_bytes), kernel.map(kernel.page_bytes)
            kernel.lock(region, region.span)
            kernel.lock(region, region.span)
            with pytest.raises(LockLimitError):
                kernel.lock(other, other.span)
            kernel.unlock(region, Span(0, 1))
            kernel.lock(other, other.span)
            assert (tiers(kernel, region), tiers(kernel, other)) == (
                {Tier.MAPPED: 1, Tier.LOCKED: PAGES - 1},
                {Tier.LOCKED: 1},
            )
            kernel.unmap(region)
            kernel.unmap(other)

        limited(PAGES * 4096, body)
