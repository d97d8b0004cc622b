"""Packed regions are as good as others to whoever holds one, on both kernels: neighbours do not hear of each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from contract_parts import EVICT_NS, Noise, tiers

from samplecache.errors import NotPermittedError, UnmappedError
from samplecache.kernel.inspection import InspectedKernel
from samplecache.kernel.packing import LARGEST_PACKED_BYTES
from samplecache.kernel.port import Kernel, Region, Span, Tier

PAGES = 16
NEIGHBOURS = 3


@pytest.fixture
def regions(kernel: Kernel) -> Iterator[list[Region]]:
    regions = [kernel.map(PAGES * kernel.page_bytes, packed=True) for _ in range(NEIGHBOURS)]
    yield regions
    for region in regions:
        with suppress(UnmappedError):
            kernel.unmap(region)


@pytest.fixture
def contents(kernel: Kernel, regions: list[Region], noise: Noise) -> list[bytes]:
    contents = [noise(PAGES * kernel.page_bytes) for _ in regions]
    for region, content in zip(regions, contents, strict=True):
        kernel.write(region, 0, content)
    return contents


def read(kernel: Kernel, region: Region) -> bytes:
    return bytes(kernel.read(region, 0, region.pages * kernel.page_bytes))


def test_unmapping_one_leaves_its_neighbours(kernel: Kernel, regions: list[Region], contents: list[bytes]) -> None:
    kernel.unmap(regions[1])
    assert [read(kernel, regions[index]) for index in (0, 2)] == [contents[0], contents[2]]
    with pytest.raises(UnmappedError):
        kernel.read(regions[1], 0, 1)


def test_unmapping_many_leaves_the_rest(kernel: Kernel, regions: list[Region], contents: list[bytes]) -> None:
    alone = kernel.map(LARGEST_PACKED_BYTES + 1, packed=True)
    kernel.unmap_all([regions[0], alone, regions[2]])
    assert read(kernel, regions[1]) == contents[1]
    for region in (regions[0], alone, regions[2]):
        with pytest.raises(UnmappedError):
            kernel.read(region, 0, 1)


def test_unmapping_all_is_the_end_of_each(kernel: Kernel, regions: list[Region], contents: list[bytes]) -> None:
    kernel.lock(regions[1], Span(2, 5))
    before = mappings()
    kernel.unmap_all(regions)
    assert mappings() <= before
    for region in regions:
        with pytest.raises(UnmappedError):
            kernel.read(region, 0, 1)
        with pytest.raises(UnmappedError):
            kernel.unmap(region)
    again = kernel.map(PAGES * kernel.page_bytes, packed=True)
    assert read(kernel, again) == bytes(len(contents[1]))
    kernel.unmap(again)


def test_pages_taken_again_are_fresh(kernel: Kernel, regions: list[Region], contents: list[bytes]) -> None:
    kernel.lock(regions[1], Span(2, 5))
    kernel.unmap(regions[1])
    again = kernel.map(PAGES * kernel.page_bytes, packed=True)
    assert tiers(kernel, again) == {Tier.ABSENT: PAGES}
    assert read(kernel, again) == bytes(len(contents[1]))


def test_a_neighbours_locks_stay(kernel: Kernel, regions: list[Region], contents: list[bytes]) -> None:
    for region in regions:
        kernel.lock(region, region.span)
    kernel.unmap(regions[1])
    kernel.unlock(regions[0], Span(0, 4))
    assert [tiers(kernel, regions[index]) for index in (0, 2)] == [
        {Tier.MAPPED: 4, Tier.LOCKED: PAGES - 4},
        {Tier.LOCKED: PAGES},
    ]


def test_unmapping_gives_memory_and_swap_back(
    kernel: Kernel, regions: list[Region], contents: list[bytes], swapping: None
) -> None:
    assert kernel.evict(regions[1], regions[1].span, EVICT_NS) == 0
    assert tiers(kernel, regions[0])[Tier.MAPPED] == PAGES  # nobody else went with it
    kernel.unmap(regions[1])
    again = kernel.map(PAGES * kernel.page_bytes, packed=True)
    assert tiers(kernel, again) == {Tier.ABSENT: PAGES}


def test_thousands_of_regions_take_few_mappings(kernel: Kernel) -> None:
    before = mappings()
    regions = [kernel.map(3 * kernel.page_bytes, packed=True) for _ in range(5000)]
    assert mappings() - before < 100  # guard page, pages, guard page; Python's own come and go
    for region in regions:
        kernel.unmap(region)
    assert mappings() - before < 100


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("\n")


def test_a_large_region_has_a_mapping_of_its_own(kernel: InspectedKernel) -> None:
    region = kernel.map(LARGEST_PACKED_BYTES + 1, packed=True)
    kernel.punch(region, Span(0, 1))  # which only such a one allows
    with suppress(UnmappedError):
        kernel.unmap(region)


def test_a_packed_region_cannot_have_holes(kernel: InspectedKernel, regions: list[Region]) -> None:
    with pytest.raises(NotPermittedError, match="without packed"):
        kernel.punch(regions[0], Span(0, 1))
