"""madvise: what LTP's madvise02, madvise05 and madvise06 assert, on both kernels."""

from __future__ import annotations

import pytest
from contract_parts import EVICT_NS, Noise, WaitFor, cold_region, faults_of, prefetched, tiers

from samplecache.clock import VirtualClock
from samplecache.errors import InvalidSpanError, NotPermittedError, SamplecacheError, UnmappedError
from samplecache.kernel.inspection import InspectedKernel, errno_name
from samplecache.kernel.port import Advice, Kernel, Operation, Span, SwapCounts, Tier
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.options import SimulationOptions

PAGES = 64
MIB = 1 << 20


class TestErrors:
    @pytest.mark.parametrize("advice", Advice)
    def test_madvise02_memory_that_is_not_mapped_cannot_be_advised(self, kernel: Kernel, advice: Advice) -> None:
        region = kernel.map(PAGES * kernel.page_bytes)
        with pytest.raises(InvalidSpanError):
            kernel.advise(region, Span(PAGES - 1, PAGES + 1), advice)
        kernel.unmap(region)
        with pytest.raises(UnmappedError):
            kernel.advise(region, Span(0, 1), advice)

    def test_madvise02_willneed_across_a_hole_is_told(
        self, kernel: InspectedKernel, swapping: None, noise: Noise, wait_for: WaitFor
    ) -> None:
        region = cold_region(kernel, PAGES, noise)
        kernel.punch(region, Span(10, 20))
        with pytest.raises(SamplecacheError) as caught:
            kernel.advise(region, region.span, Advice.WILLNEED)
        assert errno_name(caught.value) == "ENOMEM"
        wait_for(lambda: sum(kernel.mincore(region, region.span)) == PAGES - 10)
        assert kernel.mincore(region, Span(10, 20)) == bytes(10)
        kernel.unmap(region)

    @pytest.mark.parametrize("advice", [Advice.PAGEOUT, Advice.COLD])
    def test_madvise02_locked_pages_cannot_be_released(self, kernel: Kernel, noise: Noise, advice: Advice) -> None:
        """The original asks with MADV_DONTNEED; these two are refused for the same reason (EINVAL)."""
        region = kernel.map(PAGES * kernel.page_bytes)
        kernel.write(region, 0, noise(PAGES * kernel.page_bytes))
        kernel.lock(region, region.span)
        with pytest.raises(NotPermittedError):
            kernel.advise(region, region.span, advice)
        assert tiers(kernel, region) == {Tier.LOCKED: PAGES}
        kernel.unmap(region)

    def test_madvise02_willneed_of_anonymous_memory_is_known(self, kernel: Kernel) -> None:
        region = kernel.map(PAGES * kernel.page_bytes)
        kernel.advise(region, region.span, Advice.WILLNEED)
        assert kernel.probe().permitted(Operation.WILLNEED)
        kernel.unmap(region)

    def test_madvise02_before_3_9_willneed_wants_a_file(self, noise: Noise) -> None:
        """EBADF; only the simulated kernel can be that old."""
        options = SimulationOptions.linux_2_6_24("ssd-sata", memory_bytes=16 * MIB, swap_bytes=16 * MIB, patched=False)
        kernel = SimulatedKernel(options, VirtualClock())
        region = cold_region(kernel, PAGES, noise)
        with pytest.raises(NotPermittedError, match="EBADF"):
            kernel.advise(region, region.span, Advice.WILLNEED)
        assert tiers(kernel, region) == {Tier.SWAPPED: PAGES}
        assert not kernel.probe().permitted(Operation.WILLNEED)


class TestWillneed:
    @pytest.mark.parametrize("mapped", [False, True])
    def test_madvise05_page_tables_without_a_swap_entry_are_walked(
        self, kernel: Kernel, swapping: None, mapped: bool
    ) -> None:
        """32 MiB that nothing was written to: with no page table at all, or with one full of the zero page.

        What is swapped is counted for the whole machine: with those that swap, which run one at a time.
        """
        region = kernel.map(32 * MIB)
        if mapped:
            kernel.populate(region, region.span)
        before, residency = kernel.swap_counts(), kernel.residency(region, region.span)
        assert faults_of(kernel, lambda: kernel.advise(region, region.span, Advice.WILLNEED)).major == 0
        assert kernel.residency(region, region.span) == residency
        assert kernel.swap_counts() - before == SwapCounts()
        kernel.unmap(region)

    def test_madvise05_zero_pages_are_still_absent(self, kernel: Kernel) -> None:
        """A page that was only read is mapped to the zero page, which holds nothing that could be swapped out."""
        region = kernel.map(PAGES * kernel.page_bytes)
        kernel.populate(region, region.span)
        assert tiers(kernel, region) == {Tier.ABSENT: PAGES}
        kernel.unmap(region)

    def test_madvise06_willneed_fills_the_swap_cache(
        self, kernel: Kernel, swapping: None, noise: Noise, wait_for: WaitFor
    ) -> None:
        """Half of the pages are in RAM and half in swap; the advice brings that half, and leaves the other alone."""
        region = cold_region(kernel, PAGES, noise)
        for page in range(0, PAGES, 2):
            kernel.write(region, page * kernel.page_bytes, noise(kernel.page_bytes))
        assert kernel.evict(region, Span(PAGES // 2, PAGES), EVICT_NS) == 0
        mapped = kernel.residency(region, region.span).count(Tier.MAPPED)
        assert mapped < PAGES
        wait_for(lambda: prefetched(kernel, region, region.span))
        assert tiers(kernel, region) == {Tier.MAPPED: mapped, Tier.SWAP_CACHE: PAGES - mapped}
        kernel.unmap(region)

    @pytest.mark.parametrize("write", [False, True])
    def test_madvise06_advised_pages_are_used_without_a_major_fault(
        self, kernel: Kernel, swapping: None, noise: Noise, wait_for: WaitFor, write: bool
    ) -> None:
        """The original, over shared memory, sees no fault at all; anonymous memory is mapped with one for each page."""
        region = cold_region(kernel, PAGES, noise)
        wait_for(lambda: prefetched(kernel, region, Span(0, 3)))
        counts = kernel.swap_counts()
        if write:
            faults = faults_of(kernel, lambda: kernel.write(region, 0, noise(3 * kernel.page_bytes)))
        else:
            faults = faults_of(kernel, lambda: kernel.touch(region, Span(0, 3)))
        assert faults.major == 0
        assert faults.minor >= 3
        assert (kernel.swap_counts() - counts).pgmajfault == 0
        assert list(kernel.residency(region, region.span).spans_in(Tier.MAPPED)) == [Span(0, 3)]
        kernel.unmap(region)
