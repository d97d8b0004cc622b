"""MADV_POPULATE_READ: what the kernel's own madv_populate selftest asserts, on both kernels."""

from __future__ import annotations

import numpy as np
import pytest
from contract_parts import EVICT_NS, Noise, cold_region, faults_of, tiers

from samplecache.errors import InvalidSpanError, SamplecacheError
from samplecache.kernel.inspection import ENTRY_PRESENT, InspectedKernel, errno_name
from samplecache.kernel.port import FaultCounts, Kernel, Span, Tier

PAGES = 512
"""2 MiB, as in the original."""
LATE_PAGES = 31
"""What one CPU's LRU batch may hold back while pages are evicted."""


def test_populate_read_makes_the_range_populated(kernel: InspectedKernel) -> None:
    """Populated is what the pagemap says, and what a touch does not fault on."""
    region = kernel.map(PAGES * kernel.page_bytes)
    assert not kernel.page_entries(region, region.span).any()
    assert faults_of(kernel, lambda: kernel.populate(region, region.span)) == FaultCounts(minor=PAGES)
    assert all(kernel.page_entries(region, region.span) & ENTRY_PRESENT)
    assert faults_of(kernel, lambda: kernel.touch(region, region.span)) == FaultCounts()
    kernel.unmap(region)


def test_populate_read_brings_back_what_was_swapped(kernel: Kernel, swapping: None, noise: Noise) -> None:
    region = cold_region(kernel, PAGES, noise)
    kernel.populate(region, region.span)
    assert tiers(kernel, region) == {Tier.MAPPED: PAGES}
    assert faults_of(kernel, lambda: kernel.touch(region, region.span)) == FaultCounts()
    kernel.unmap(region)


def test_populate_read_stays_inside_the_span(kernel: Kernel) -> None:
    region = kernel.map(PAGES * kernel.page_bytes)
    kernel.populate(region, Span(1, 3))
    assert faults_of(kernel, lambda: kernel.touch(region, Span(1, 3))) == FaultCounts()
    assert faults_of(kernel, lambda: kernel.touch(region, Span(0, 4))) == FaultCounts(minor=2)
    kernel.unmap(region)


@pytest.mark.parametrize(("hole", "span"), [(1, Span(0, PAGES)), (1, Span(0, 2)), (1, Span(1, 2))])
def test_holes_are_told_and_what_lies_before_them_is_populated(kernel: InspectedKernel, hole: int, span: Span) -> None:
    region = kernel.map(PAGES * kernel.page_bytes)
    kernel.punch(region, Span(hole, hole + 1))
    with pytest.raises(SamplecacheError) as caught:
        kernel.populate(region, span)
    assert errno_name(caught.value) == "ENOMEM"
    present = kernel.page_entries(region, region.span) & ENTRY_PRESENT
    populated = np.flatnonzero(present).tolist()
    assert populated == list(range(span.start, hole))
    kernel.unmap(region)


def test_holes_at_the_end_of_a_region_are_told(kernel: Kernel) -> None:
    region = kernel.map(2 * kernel.page_bytes)
    with pytest.raises(InvalidSpanError):
        kernel.populate(region, Span(0, 3))
    kernel.unmap(region)


def test_softdirty_populating_for_reading_leaves_pages_clean(kernel: Kernel, swapping: None, noise: Noise) -> None:
    """The original looks at soft-dirty bits; here a clean page is one that leaves again without being written."""
    region = cold_region(kernel, PAGES, noise)
    kernel.populate(region, region.span)
    before = kernel.swap_counts()
    assert kernel.evict(region, region.span, EVICT_NS) == 0
    assert (kernel.swap_counts() - before).pswpout <= LATE_PAGES
    kernel.lock(region, region.span)  # a write fault each: what MADV_POPULATE_WRITE would do
    kernel.unlock(region, region.span)
    before = kernel.swap_counts()
    assert kernel.evict(region, region.span, EVICT_NS) == 0
    assert (kernel.swap_counts() - before).pswpout >= PAGES
    kernel.unmap(region)
