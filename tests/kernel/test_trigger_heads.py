"""Trigger samples on the running kernel: the head stays when all else is paged out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache import CacheSettings, PlayOptions, SampleCache
from samplecache.clock import NS_PER_S
from samplecache.kernel import procfs
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Tier
from samplecache.lab.rig import Rig

pytestmark = pytest.mark.parametrize("kernel_name", ["linux"], indirect=True)

MONO = AudioFormat(48_000, 1, Encoding.S16)
PAGES = 64
LOCK_PAGES = 12

WaitFor = Callable[[Callable[[], object]], None]


@pytest.fixture
def cache(kernel: LinuxKernel, rig: Rig, noise: Callable[[int], bytes]) -> Iterator[SampleCache]:
    budget = {"lock_budget_bytes": LOCK_PAGES * 4096, "trigger_lock_bytes": LOCK_PAGES * 4096}
    with SampleCache(kernel, CacheSettings(**budget, trigger_warm_bytes=0, workers=2)) as made:
        for number in range(4):
            region = kernel.map(PAGES * kernel.page_bytes)
            kernel.write(region, 0, noise(PAGES * kernel.page_bytes))
            made.store.publish(
                f"hit-{number}", region, MONO, PAGES * 2048, bytes([number]), tags=("trigger",) if number else ()
            )
        yield made


def test_a_struck_trigger_waits_for_nothing(cache: SampleCache, kernel: LinuxKernel, wait_for: WaitFor) -> None:
    assert kernel.page_bytes == 4096
    wait_for(lambda: cache.triggers.settled)
    assert cache.triggers.figures.locked_pages == LOCK_PAGES
    assert procfs.locked_bytes() == LOCK_PAGES * 4096
    for number in range(4):
        assert cache.evict(f"hit-{number}", 20 * NS_PER_S) == (PAGES, 0)
        found = cache.residency(f"hit-{number}")
        assert (found.count(Tier.LOCKED), found.count(Tier.SWAPPED)) == ((4, 60) if number else (0, 64))

    for number in range(4):
        session = cache.open_session(PlayOptions(f"hit-{number}", strategy="none"))
        block = session.next_block()
        assert block is not None
        assert session.is_resident(block) == bool(number)
        faults = session.read(block).reading.faults
        assert (faults.major == 0) == bool(number)
        session.close()
    wait_for(lambda: not cache.session_count)

    for number in range(1, 4):
        cache.store.remove(f"hit-{number}")
    wait_for(lambda: cache.triggers.settled and not cache.ledger.locked_bytes)
    assert procfs.locked_bytes() == 0
