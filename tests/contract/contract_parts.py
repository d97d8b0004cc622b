"""What the contract tests look at."""

from __future__ import annotations

from collections.abc import Callable

from samplecache.clock import NS_PER_S
from samplecache.kernel.port import Advice, FaultCounts, Kernel, Region, Span, Tier

EVICT_NS = 10 * NS_PER_S

Noise = Callable[[int], bytes]
WaitFor = Callable[[Callable[[], object]], None]


def tiers(kernel: Kernel, region: Region) -> dict[Tier, int]:
    """How many pages of the region are in each tier; those that have none are left out."""
    residency = kernel.residency(region, region.span)
    return {tier: residency.count(tier) for tier in Tier if residency.count(tier)}


def faults_of(kernel: Kernel, action: Callable[[], object]) -> FaultCounts:
    """What faults `action` takes on this thread."""
    before = kernel.thread_faults()
    action()
    return kernel.thread_faults() - before


def prefetched(kernel: Kernel, region: Region, span: Span) -> bool:
    """Ask for `span`, anew each time: reclaim may take a prefetched page again before it is touched."""
    kernel.advise(region, span, Advice.WILLNEED)
    return kernel.in_core(region, span)


def cold_region(kernel: Kernel, pages: int, noise: Noise) -> Region:
    """A region of noise whose pages are all on the swap device."""
    region = kernel.map(pages * kernel.page_bytes)
    kernel.write(region, 0, noise(pages * kernel.page_bytes))
    assert kernel.evict(region, region.span, EVICT_NS) == 0
    return region
