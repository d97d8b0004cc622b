"""mincore: what LTP's mincore01 and mincore03 and the kernel's own mincore selftest assert, on both kernels."""

from __future__ import annotations

import pytest
from contract_parts import EVICT_NS, Noise, WaitFor, cold_region, prefetched, tiers

from samplecache.errors import InvalidSpanError, UnmappedError
from samplecache.kernel.inspection import InspectedKernel
from samplecache.kernel.port import Kernel, Span, Tier

PAGES = 3


def test_mincore01_memory_that_is_not_mapped_has_no_residency(kernel: Kernel) -> None:
    region = kernel.map(PAGES * kernel.page_bytes)
    for beyond in (Span(0, PAGES + 1), Span(PAGES, PAGES + 1), Span(0, 1 << 52)):
        with pytest.raises(InvalidSpanError):
            kernel.residency(region, beyond)
        with pytest.raises(InvalidSpanError):
            kernel.in_core(region, beyond)
    kernel.unmap(region)
    with pytest.raises(UnmappedError):
        kernel.residency(region, Span(0, PAGES))
    with pytest.raises(UnmappedError):
        kernel.in_core(region, Span(0, PAGES))


def test_mincore01_holes_are_not_resident(kernel: InspectedKernel, noise: Noise) -> None:
    """ENOMEM in the original; asked piece by piece, what is mapped can still be told."""
    region = kernel.map(PAGES * kernel.page_bytes)
    kernel.write(region, 0, noise(PAGES * kernel.page_bytes))
    kernel.punch(region, Span(1, 2))
    assert kernel.mincore(region, region.span) == bytes([1, 0, 1])
    kernel.unmap(region)


def test_mincore03_untouched_pages_are_not_resident(kernel: Kernel) -> None:
    region = kernel.map(PAGES * kernel.page_bytes)
    assert kernel.residency(region, region.span).in_core == 0
    kernel.unmap(region)


def test_mincore03_locked_pages_are_resident(kernel: Kernel) -> None:
    region = kernel.map(PAGES * kernel.page_bytes)
    kernel.lock(region, region.span)
    assert kernel.residency(region, region.span).in_core == PAGES
    kernel.unlock(region, region.span)
    kernel.unmap(region)


def test_selftest_basic_interface_an_empty_span_is_allowed(kernel: Kernel) -> None:
    region = kernel.map(PAGES * kernel.page_bytes)
    for at in (0, PAGES):
        assert kernel.residency(region, Span(at, at)).tiers == b""
        assert kernel.in_core(region, Span(at, at))
    kernel.unmap(region)


def test_selftest_anonymous_pages_are_resident_from_their_use_until_they_go(
    kernel: Kernel, swapping: None, noise: Noise
) -> None:
    """The original drops the page with MADV_DONTNEED, which loses it; what takes a sample's page away is eviction."""
    region = kernel.map(kernel.page_bytes)
    assert tiers(kernel, region) == {Tier.ABSENT: 1}
    kernel.write(region, 0, noise(kernel.page_bytes))
    kernel.lock(region, region.span)
    assert tiers(kernel, region) == {Tier.LOCKED: 1}
    kernel.unlock(region, region.span)
    assert kernel.evict(region, region.span, EVICT_NS) == 0
    assert tiers(kernel, region) == {Tier.SWAPPED: 1}
    assert not kernel.in_core(region, region.span)
    kernel.unmap(region)


def test_selftest_file_mapping_readahead_makes_neighbours_resident(
    kernel: Kernel, swapping: None, noise: Noise, wait_for: WaitFor
) -> None:
    """The original reads a file; here the neighbours come from swap: some of them, but not the whole region."""
    region = cold_region(kernel, 1024, noise)
    kernel.touch(region, Span(512, 513))
    wait_for(lambda: kernel.residency(region, region.span).in_core > 1)
    residency = kernel.residency(region, region.span)
    assert list(residency.spans_in(Tier.MAPPED)) == [Span(512, 513)]
    assert 1 <= residency.count(Tier.SWAP_CACHE) <= 31
    kernel.unmap(region)


def test_pages_in_the_swap_cache_are_resident(kernel: Kernel, swapping: None, noise: Noise, wait_for: WaitFor) -> None:
    region = cold_region(kernel, PAGES, noise)
    assert kernel.residency(region, region.span).in_core == 0
    wait_for(lambda: prefetched(kernel, region, Span(0, 2)))
    assert list(kernel.residency(region, region.span).spans_in(Tier.SWAP_CACHE)) == [Span(0, 2)]
    kernel.unmap(region)


def test_what_is_in_ram_is_read_and_what_is_not_is_let_be(kernel: Kernel, swapping: None, noise: Noise) -> None:
    page_bytes = kernel.page_bytes
    region, data = kernel.map(4 * page_bytes), noise(4 * page_bytes)
    kernel.write(region, 0, data)
    assert kernel.evict(region, region.span, EVICT_NS) == 0
    assert kernel.read_resident(region, 0, 4 * page_bytes) is None
    assert kernel.residency(region, region.span).in_core == 0
    kernel.touch(region, Span(0, 2))
    for offset_bytes, length_bytes in ((0, 2 * page_bytes), (1, 5), (page_bytes - 3, 6), (7, 0)):
        found = kernel.read_resident(region, offset_bytes, length_bytes)
        assert found is not None
        copy, faults = found
        assert copy == data[offset_bytes : offset_bytes + length_bytes]
        assert faults.major == 0
    with pytest.raises(InvalidSpanError):
        kernel.read_resident(region, 4 * page_bytes - 1, 2)
    kernel.unmap(region)
    with pytest.raises(UnmappedError):
        kernel.read_resident(region, 0, 1)
