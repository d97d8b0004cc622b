"""MADV_POPULATE_READ: what the kernel's own madv_populate selftest asserts, on both kernels."""

from __future__ import annotations

import pytest
from contract_parts import EVICT_NS, Noise, cold_region, faults_of, tiers

from samplecache.errors import InvalidSpanError
from samplecache.kernel.port import FaultCounts, Kernel, Span, Tier

PAGES = 512
"""2 MiB, as in the original."""
LATE_PAGES = 31
"""What one CPU's LRU batch may hold back while pages are evicted."""


def test_populate_read_makes_the_range_populated(kernel: Kernel) -> None:
    """Populated is what a touch of it does not fault."""
    region = kernel.map(PAGES * kernel.page_bytes)
    assert tiers(kernel, region) == {Tier.ABSENT: PAGES}
    assert faults_of(kernel, lambda: kernel.populate(region, region.span)) == FaultCounts(minor=PAGES)
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


def test_holes_at_the_end_are_told(kernel: Kernel) -> None:
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
