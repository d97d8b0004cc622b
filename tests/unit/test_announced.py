"""What was announced while a session plays is for the next one, too; what nothing can become of is not kept."""

from __future__ import annotations

from cache_parts import make_cache, put_cold, until
from session_parts import answered, closed, opened, play

import samplecache_touch
import samplecache_willneed
from samplecache.cache import SampleCache
from samplecache.cache.accounting.accounts import PageOutcomes

PLUGINS = [samplecache_touch, samplecache_willneed]
FEW_FRAMES = 4096


def outcomes(cache: SampleCache, strategy: str = "touch") -> PageOutcomes:
    return cache.totals.snapshot()[strategy].prefetched


def cold_cache() -> SampleCache:
    cache = make_cache(plugins=PLUGINS)
    put_cold(cache, "pad", 100)
    return cache


def test_a_hint_that_came_while_one_played_is_the_next_ones() -> None:
    with cold_cache() as cache:
        first = opened(cache, strategy="none", frames=FEW_FRAMES)
        assert cache.prefetch("pad", strategy="touch").wait(20)
        play(first)
        closed(cache, first)
        assert first.playback.stats.prefetched == PageOutcomes(asked=2, useful=2)
        assert outcomes(cache) == PageOutcomes(asked=100, useful=2)
        second = opened(cache, strategy="none")
        play(second)
        assert second.playback.stats.prefetched == PageOutcomes(asked=98, useful=98)
        closed(cache, second)
        assert outcomes(cache) == PageOutcomes(asked=100, useful=100)


def test_one_who_plays_still_takes_it_over_from_one_who_ends() -> None:
    with cold_cache() as cache:
        first, second = (opened(cache, strategy="none") for _ in range(2))
        assert cache.prefetch("pad", strategy="touch").wait(20)
        first.close()
        until(lambda: cache.session_count == 1)
        play(second)
        assert second.playback.stats.prefetched == PageOutcomes(asked=100, useful=100)
        closed(cache, second)


def test_what_was_announced_before_a_session_is_over_with_it() -> None:
    with cold_cache() as cache:
        assert cache.prefetch("pad", strategy="touch").wait(20)
        session = opened(cache, strategy="none", frames=FEW_FRAMES)
        play(session)
        closed(cache, session)
        assert outcomes(cache) == PageOutcomes(asked=100, useful=2, wasted=98)


def test_a_hint_that_nobody_played_after_all_is_wasted_when_its_hold_is_over() -> None:
    with cold_cache() as cache:
        session = opened(cache, strategy="none", frames=FEW_FRAMES)
        assert cache.prefetch("pad", strategy="touch", hold_ns=200_000_000).wait(20)
        closed(cache, session)
        until(lambda: outcomes(cache) == PageOutcomes(asked=100, wasted=100))
        assert not cache.totals._accounts


def open_accounts(cache: SampleCache) -> int:
    return len(cache.totals._accounts)


def test_a_hint_of_which_nothing_can_become_is_not_kept() -> None:
    with cold_cache() as cache:
        assert cache.prefetch("pad", strategy="touch", hold_ns=3_600_000_000_000).wait(20)
        assert open_accounts(cache) == 1
        for _ in range(5):  # all is in RAM
            assert cache.prefetch("pad", strategy="touch", hold_ns=3_600_000_000_000).wait(20)
        assert open_accounts(cache) == 1


def test_nor_while_its_content_is_playing() -> None:
    with cold_cache() as cache:
        session = opened(cache, strategy="touch")
        answered(session)
        for _ in range(5):
            assert cache.prefetch("pad", strategy="touch", hold_ns=3_600_000_000_000).wait(20)
        assert open_accounts(cache) == 1
        closed(cache, session)
        assert open_accounts(cache) == 0


def test_a_hint_that_has_been_played_is_not_kept_longer_than_its_hold() -> None:
    with cold_cache() as cache:
        session = opened(cache, strategy="none", loop=True)
        assert cache.prefetch("pad", strategy="touch", hold_ns=100_000_000).wait(20)
        play(session, 300)
        until(lambda: open_accounts(cache) == 1)
        assert outcomes(cache) == PageOutcomes(asked=100, useful=100)
        closed(cache, session)
