"""What the running kernel does with anonymous memory, as the strategies and the simulated kernel rely on it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from waiting import wait_until

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import UnmappedError
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Advice, Region, Tier
from samplecache.lab.rig import Limits, Rig

PAGES = 1024
EVICT_NS = 20 * NS_PER_S
FEW_PAGES = 31
"""What one CPU's LRU batch may hold back."""
SOME_PAGES = PAGES // 10
"""Beyond that, what others swap meanwhile: swap traffic is counted for the whole machine."""

Noise = Callable[[int], bytes]


@pytest.fixture
def region(kernel: LinuxKernel, rig: Rig, noise: Noise) -> Iterator[Region]:
    region = kernel.map(PAGES * kernel.page_bytes)
    kernel.write(region, 0, noise(PAGES * kernel.page_bytes))
    yield region
    with suppress(UnmappedError):
        kernel.unmap(region)


@pytest.fixture
def cold(kernel: LinuxKernel, region: Region) -> Region:
    assert kernel.evict(region, region.span, EVICT_NS) == 0
    return region


def prefetch(kernel: LinuxKernel, region: Region) -> None:
    """Advise until every page is in: proactive reclaim may take one again before it is touched."""

    def arrived() -> bool:
        kernel.advise(region, region.span, Advice.WILLNEED)
        return kernel.in_core(region, region.span)

    wait_until(arrived)


def test_evicted_pages_are_read_from_the_device(kernel: LinuxKernel, cold: Region) -> None:
    before = kernel.swap_counts()
    kernel.touch(cold, cold.span)
    delta = kernel.swap_counts() - before
    assert delta.pswpin >= PAGES
    assert delta.pgmajfault >= 1


def test_a_process_that_is_kept_to_one_cpu_evicts_what_others_hold_back(
    kernel: LinuxKernel, rig: Rig, noise: Noise
) -> None:
    """Pages wait in the batch of the CPU that was interrupted when they had been written."""
    allowed = os.sched_getaffinity(0)
    for cpu in allowed:
        region = kernel.map(PAGES * kernel.page_bytes)
        os.sched_setaffinity(0, {cpu})
        try:
            kernel.write(region, 0, noise(PAGES * kernel.page_bytes))
            assert kernel.evict(region, region.span, 5 * NS_PER_S) == 0
            assert os.sched_getaffinity(0) == {cpu}
        finally:
            os.sched_setaffinity(0, allowed)
            kernel.unmap(region)


def test_pages_evicted_unchanged_are_not_written_again(kernel: LinuxKernel, cold: Region) -> None:
    kernel.touch(cold, cold.span)
    before = kernel.swap_counts()
    assert kernel.evict(cold, cold.span, EVICT_NS) == 0
    assert (kernel.swap_counts() - before).pswpout <= SOME_PAGES


def test_one_pageout_leaves_the_pages_in_the_swap_cache(kernel: LinuxKernel, region: Region) -> None:
    kernel.advise(region, region.span, Advice.PAGEOUT)
    assert kernel.residency(region, region.span).in_core == PAGES
    assert kernel.residency(region, region.span).count(Tier.SWAP_CACHE) >= PAGES - 2 * FEW_PAGES
    before = kernel.thread_faults()
    kernel.touch(region, region.span)
    assert (kernel.thread_faults() - before).major == 0


def test_willneed_spares_every_major_fault(kernel: LinuxKernel, cold: Region) -> None:
    before = kernel.swap_counts()
    prefetch(kernel, cold)
    faults = kernel.thread_faults()
    kernel.touch(cold, cold.span)
    delta = kernel.thread_faults() - faults
    assert delta.major == 0
    assert delta.minor >= PAGES
    # It reads what it is told to and nothing beyond; the few are other processes' readahead.
    assert (kernel.swap_counts() - before).swap_ra < SOME_PAGES


def test_untouched_majors_follow_the_readahead_window(kernel: LinuxKernel, cold: Region) -> None:
    """One major fault for each window of pages, give or take the first windows."""
    window_pages = 1 << int(Path("/proc/sys/vm/page-cluster").read_text())
    before = kernel.thread_faults()
    kernel.touch(cold, cold.span)
    assert (kernel.thread_faults() - before).major == pytest.approx(PAGES / window_pages, abs=8)


def test_reading_counts_no_faults_of_its_own_buffer(kernel: LinuxKernel, region: Region) -> None:
    before = kernel.thread_faults()
    copies = [kernel.read(region, 0, PAGES * kernel.page_bytes) for _ in range(4)]
    delta = kernel.thread_faults() - before
    assert len(copies) == 4
    assert delta.major == 0
    assert delta.minor < FEW_PAGES


def test_a_forked_child_does_not_keep_pages_in_ram(rig: Rig) -> None:
    """Pages that are mapped twice are skipped by PAGEOUT; MADV_DONTFORK keeps a child from mapping them."""
    program = f"""
import os, random
from samplecache.errors import UnmappedError
from samplecache.kernel.linux import LinuxKernel
kernel = LinuxKernel()
region = kernel.map(1 << 20)
kernel.write(region, 0, random.Random(1).randbytes(1 << 20))
reader, writer = os.pipe()
if os.fork() == 0:
    os.close(writer)
    os.read(reader, 1)
    os._exit(0)
print(kernel.evict(region, region.span, {EVICT_NS}))
os.close(writer)
os.wait()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("0", "")


@pytest.mark.parametrize("action", ["touch", "populate", "read", "lock"])
def test_other_threads_run_while_one_waits_for_the_device(
    kernel: LinuxKernel, cold: Region, rig: Rig, action: str
) -> None:
    actions: dict[str, Callable[[], object]] = {
        "touch": lambda: kernel.touch(cold, cold.span),
        "populate": lambda: kernel.populate(cold, cold.span),
        "read": lambda: kernel.read(cold, 0, PAGES * kernel.page_bytes),
        "lock": lambda: kernel.lock(cold, cold.span),
    }
    gaps_ns = [0]
    done = threading.Event()

    def witness() -> None:
        last_ns = time.monotonic_ns()
        while not done.wait(0.001):
            now_ns = time.monotonic_ns()
            gaps_ns.append(now_ns - last_ns)
            last_ns = now_ns

    thread = threading.Thread(target=witness)
    with rig.joined():
        rig.limit(Limits(read_iops=2000))
        thread.start()
        start_ns = time.monotonic_ns()
        actions[action]()
        took_ns = time.monotonic_ns() - start_ns
        done.set()
        thread.join()
    assert took_ns > 300 * NS_PER_MS
    assert max(gaps_ns) < took_ns / 3


def test_a_region_is_not_unmapped_under_its_reader(kernel: LinuxKernel, cold: Region, rig: Rig, noise: Noise) -> None:
    copies: list[bytearray] = []
    started = threading.Event()

    def read() -> None:
        started.set()
        copies.append(kernel.read(cold, 0, PAGES * kernel.page_bytes))

    reader = threading.Thread(target=read)
    with rig.joined():
        rig.limit(Limits(read_iops=2000))
        reader.start()
        started.wait()
        wait_until(lambda: kernel.residency(cold, cold.span).count(Tier.MAPPED) > 0)
        kernel.unmap(cold)
        reader.join()
    assert copies == [noise(PAGES * kernel.page_bytes)]
    with pytest.raises(UnmappedError):
        kernel.touch(cold, cold.span)


def test_a_limit_on_operations_slows_swap_as_asked(kernel: LinuxKernel, cold: Region, rig: Rig) -> None:
    with rig.joined():
        rig.limit(Limits(read_iops=1000))
        start = time.monotonic()
        kernel.touch(cold, cold.span)
        assert time.monotonic() - start == pytest.approx(PAGES / 1000, rel=0.5)


def test_a_limit_on_bytes_slows_swap_as_asked(kernel: LinuxKernel, cold: Region, rig: Rig) -> None:
    with rig.joined():
        rig.limit(Limits(read_bytes_per_s=4 << 20))
        start = time.monotonic()
        kernel.touch(cold, cold.span)
        assert time.monotonic() - start == pytest.approx(PAGES * kernel.page_bytes / (4 << 20), rel=0.5)
