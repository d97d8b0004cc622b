"""Really evicting pages from RAM without privileges, over the port.

MADV_PAGEOUT writes pages and unmaps them, but leaves them in the swap cache, where the next MADV_PAGEOUT cannot find
them. Mapped again, and clean by then, it drops them. So: page out, wait for the writing, populate (a minor fault each),
page out again.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from samplecache.clock import NS_PER_MS, Clock
from samplecache.kernel.port import Advice, Kernel, Region, Span, Tier

CHUNK_PAGES = 1024
"""One MADV_PAGEOUT cannot be interrupted: 4 MiB keeps each well under the timeouts in use, on a slow device too."""
PAUSE_NS = NS_PER_MS
LONGEST_PAUSE_NS = 16 * NS_PER_MS


def evict(
    kernel: Kernel,
    region: Region,
    span: Span,
    timeout_ns: int,
    *,
    clock: Clock,
    locking: Lock,
    drain: Callable[[], None],
) -> int:
    """Page `span` out until none of its unlocked pages is in RAM; return how many still are after `timeout_ns`.

    Blocks and faults. It does not end early where swap is over half full on an asynchronous device: mapping a page then
    frees its slot, and it has to be written anew.

    Parameters
    ----------
    kernel, region, span
        What to evict from where.
    timeout_ns : int
        The longest to go on, in nanoseconds; one chunk's write may pass it.
    clock : Clock
        Measures the timeout and the pauses for writing.
    locking : Lock
        Held during each chunk, so that no page is locked between being chosen and being paged out.
    drain : Callable
        Puts pages on the LRU lists that a CPU still holds in its own batch, out of MADV_PAGEOUT's sight.
    """
    deadline_ns = clock.now_ns() + timeout_ns
    pause_ns = PAUSE_NS
    while True:
        left = 0
        for chunk in span.chunks(CHUNK_PAGES):
            with locking:
                if clock.now_ns() < deadline_ns:
                    _page_out(kernel, region, chunk)
                left += _unlocked_in_core(kernel, region, chunk)
        now_ns = clock.now_ns()
        if left == 0 or now_ns >= deadline_ns:
            return left
        drain()
        clock.sleep_until(min(deadline_ns, now_ns + pause_ns))
        pause_ns = min(2 * pause_ns, LONGEST_PAUSE_NS)


def _page_out(kernel: Kernel, region: Region, span: Span) -> None:
    residency = kernel.residency(region, span)
    # Without a pagemap, pages in the swap cache cannot be told from mapped ones.
    unmapped = (Tier.SWAP_CACHE,) if residency.exact else (Tier.SWAP_CACHE, Tier.MAPPED)
    for run in residency.spans_in(*unmapped):
        kernel.populate(region, run)
    for run in residency.spans_in(Tier.SWAP_CACHE, Tier.MAPPED):
        kernel.advise(region, run, Advice.PAGEOUT)


def _unlocked_in_core(kernel: Kernel, region: Region, span: Span) -> int:
    residency = kernel.residency(region, span)
    return residency.in_core - residency.count(Tier.LOCKED)
