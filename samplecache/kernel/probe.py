"""What the running kernel lets this process do, and what of it has an effect, tried out on a few pages."""

from __future__ import annotations

import platform
from collections.abc import Callable

from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.errors import SamplecacheError
from samplecache.kernel import procfs
from samplecache.kernel.port import Advice, Capabilities, Capability, Kernel, Operation, Region, Tier

PROBE_PAGES = 16
EVICT_TIMEOUT_NS = 2 * NS_PER_S
PREFETCH_TIMEOUT_NS = 2 * NS_PER_S
POLL_NS = NS_PER_MS

_ADD_SWAP = "Add swap: a zram device, or a swap file (mkswap, swapon)"

_CALLS = {
    Operation.WILLNEED: "MADV_WILLNEED",
    Operation.COLD: "MADV_COLD",
    Operation.PAGEOUT: "MADV_PAGEOUT",
    Operation.POPULATE: "MADV_POPULATE_READ",
    Operation.TOUCH: "A touch",
    Operation.LOCK: "mlock",
    Operation.EVICT: "Eviction",
}


def probe_linux(kernel: Kernel) -> Capabilities:
    """Try every operation on a few pages of `kernel` and say what came of it.

    Blocks for up to a few seconds where eviction does not work or the swap device is slow. Faults.
    """
    areas = procfs.swap_areas()
    region = kernel.map(PROBE_PAGES * kernel.page_bytes)
    try:
        # The kernel keeps pages of zeros, or of one repeated word, off the device; these differ word by word.
        kernel.write(region, 0, b"".join(number.to_bytes(4, "little") for number in range(region.pages * 1024)))
        trials: dict[Operation, Callable[[], None]] = {
            Operation.COLD: lambda: kernel.advise(region, region.span, Advice.COLD),
            Operation.PAGEOUT: lambda: kernel.advise(region, region.span, Advice.PAGEOUT),
            Operation.WILLNEED: lambda: kernel.advise(region, region.span, Advice.WILLNEED),
            Operation.POPULATE: lambda: kernel.populate(region, region.span),
            Operation.TOUCH: lambda: kernel.touch(region, region.span),
            Operation.LOCK: lambda: _lock_and_unlock(kernel, region),
        }
        refusals = {operation: _refusal(trial) for operation, trial in trials.items()}
        obstacle = _swap_obstacle(kernel, region)
        exact = kernel.residency(region, region.span).exact
    finally:
        kernel.unmap(region)
    refusals[Operation.EVICT] = refusals[Operation.PAGEOUT]
    operations = {operation: _judge(operation, refusals[operation], obstacle) for operation in _CALLS}
    operations[Operation.RESIDENCY] = Capability(
        permitted=True,
        useful=exact,
        why="mincore and /proc/self/pagemap answer" if exact else "/proc/self/pagemap cannot be read, mincore can",
        remedy="" if exact else "Mount /proc, and let the process keep its dumpable flag",
    )
    operations[Operation.FAULT_COUNTS] = Capability(True, True, "getrusage counts a thread's own faults")
    return Capabilities(
        kernel=kernel.name,
        release=platform.release(),
        operations=operations,
        swap_bytes=sum(area.size_bytes for area in areas),
        swap_device=procfs.describe_swap(areas),
        lock_limit_bytes=procfs.lock_limit_bytes(),
        swap_synchronous=procfs.swaps_synchronously(areas),
    )


def _judge(operation: Operation, refusal: SamplecacheError | None, obstacle: tuple[str, str] | None) -> Capability:
    call = _CALLS[operation]
    if refusal is not None:
        return Capability(False, False, f"{call} is refused: {refusal.message}", refusal.remedy)
    if obstacle is not None:
        why, remedy = obstacle
        return Capability(True, False, f"{call} is permitted; {why}", remedy)
    return Capability(True, True, f"{call} works: pages went to swap and came back")


def _refusal(trial: Callable[[], None]) -> SamplecacheError | None:
    try:
        trial()
    except SamplecacheError as error:
        return error
    return None


def _lock_and_unlock(kernel: Kernel, region: Region) -> None:
    kernel.lock(region, region.span)
    kernel.unlock(region, region.span)


def _swap_obstacle(kernel: Kernel, region: Region) -> tuple[str, str] | None:
    """Send the pages to swap and fetch them back; return what stood in the way and its remedy, None if nothing did."""
    if not procfs.swap_areas():
        return "no swap is configured, so it does nothing for anonymous memory", _ADD_SWAP
    try:
        left = kernel.evict(region, region.span, EVICT_TIMEOUT_NS)
    except SamplecacheError as error:
        return f"nothing can be paged out: {error.message}", error.remedy
    if left == region.pages:
        return _why_stuck(kernel, region)
    read_before = kernel.swap_counts().pswpin
    clock = MonotonicClock()
    deadline_ns = clock.now_ns() + PREFETCH_TIMEOUT_NS
    while not kernel.in_core(region, region.span):
        # Asked anew each time: reclaim may take a prefetched page again before it is touched.
        kernel.advise(region, region.span, Advice.WILLNEED)
        if clock.now_ns() >= deadline_ns:
            return (
                f"pages were not read back from swap within {PREFETCH_TIMEOUT_NS // NS_PER_S} s",
                "Use a faster swap device, or give it less other work",
            )
        clock.sleep_until(clock.now_ns() + POLL_NS)
    if kernel.swap_counts().pswpin == read_before:
        return "what was paged out came back without a read from swap", "Look whether the pages are deduplicated (KSM)"
    return None


def _why_stuck(kernel: Kernel, region: Region) -> tuple[str, str]:
    """Tell why not a single page left RAM."""
    ban = procfs.swap_ban()
    if ban is not None:
        return f"the control group forbids swap ({ban})", f"Raise {ban}"
    free_bytes = sum(area.size_bytes - area.used_bytes for area in procfs.swap_areas())
    if free_bytes < region.pages * kernel.page_bytes:
        return "swap is full", "Add swap, or free some"
    if kernel.residency(region, region.span).count(Tier.SWAP_CACHE):
        return "the swap device did not take the pages in time", "Use a faster swap device, or give it less other work"
    return "the kernel kept the pages in RAM", "Give the process more swap allowance (memory.swap.max, swap priorities)"
