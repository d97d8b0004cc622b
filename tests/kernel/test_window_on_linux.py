"""The strategy ``window`` on the running kernel: the reading thread finds its pages mapped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache import CacheSettings, PlayOptions, SampleCache
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import FaultCounts
from samplecache.lab.rig import Rig

pytestmark = pytest.mark.parametrize("kernel_name", ["linux"], indirect=True)

STEREO = AudioFormat(48_000, 2, Encoding.S16)
SECONDS = 2
PAGES = -(-SECONDS * STEREO.rate_hz * STEREO.frame_bytes // 4096)

WaitFor = Callable[[Callable[[], object]], None]


@pytest.fixture
def cache(kernel: LinuxKernel, rig: Rig, noise: Callable[[int], bytes]) -> Iterator[SampleCache]:
    with SampleCache(kernel, CacheSettings(prefetch_budget_bytes=4 << 20)) as made:
        region = kernel.map(PAGES * kernel.page_bytes)
        kernel.write(region, 0, noise(PAGES * kernel.page_bytes))
        made.store.publish("pad", region, STEREO, SECONDS * STEREO.rate_hz, b"pad")
        yield made


def play(cache: SampleCache, strategy: str, wait_for: WaitFor) -> FaultCounts:
    """Announce the sample, play it in real time, and return what the reading thread suffered."""
    assert cache.evict("pad", 20 * NS_PER_S) == (PAGES, 0)
    assert cache.prefetch("pad", strategy=strategy, deadline_ns=cache.clock.now_ns() + NS_PER_S).wait(20)
    session = cache.open_session(PlayOptions("pad", strategy=strategy, lead_ns=200 * NS_PER_MS))
    while (block := session.next_block()) is not None:
        time.sleep(max(0, block.send_ns - cache.clock.now_ns()) / NS_PER_S)
        session.delivered(session.read(block))
    session.close()
    wait_for(lambda: not cache.session_count)  # else it takes over what is announced next, and gives it up at once
    return session.playback.stats.faults


def test_the_reading_thread_takes_hardly_a_fault(cache: SampleCache, wait_for: WaitFor) -> None:
    willneed, window = play(cache, "willneed", wait_for), play(cache, "window", wait_for)
    assert window.major == 0
    assert 10 * window.minor < willneed.minor
    prefetched = cache.totals.snapshot()["window"].prefetched
    assert prefetched.asked >= PAGES - 64
    assert prefetched.late == prefetched.wasted == 0
    assert 0 < cache.prefetch_budget.peak_bytes <= 4 << 20
