"""Heads of trigger samples are kept, whatever happens to the samples; on worker threads over a simulated machine."""

from __future__ import annotations

from typing import Any

import pytest
from cache_parts import PAGE_BYTES, make_cache, pcm, put, put_cold, until
from session_parts import closed, opened, play

from samplecache.cache import SampleCache
from samplecache.cache.ahead.triggers import HOLDER, TriggerFigures
from samplecache.errors import SampleNotFoundError
from samplecache.kernel.port import Span, Tier

HEAD_PAGES = 5
"""200 ms of MONO, before anything was measured: 19 200 bytes."""

TAGS = ("trigger", "drums")


def settled(cache: SampleCache) -> TriggerFigures:
    until(lambda: cache.triggers.settled)
    return cache.triggers.figures


def locked(cache: SampleCache, sample_id: str) -> tuple[Span, ...]:
    return cache.ledger.spans(HOLDER, cache.store.get(sample_id).content.region)


def trigger_cache(**settings: Any) -> SampleCache:
    return make_cache(**{"lock_budget_bytes": 64 * PAGE_BYTES, **settings})


def test_the_head_of_a_trigger_is_locked_and_nothing_else() -> None:
    with trigger_cache() as cache:
        put(cache, "kick", pcm(20 * PAGE_BYTES), tags=TAGS)
        put(cache, "pad", pcm(20 * PAGE_BYTES, 1), tags=("drums",))
        assert settled(cache) == TriggerFigures(samples=1, heads=1, locked_pages=HEAD_PAGES)
        assert locked(cache, "kick") == (Span(0, HEAD_PAGES),)
        assert locked(cache, "pad") == ()
        assert cache.evict("kick", 20_000_000_000) == (20, 0)
        assert cache.residency("kick").count(Tier.LOCKED) == HEAD_PAGES
        assert cache.residency("kick").count(Tier.SWAPPED) == 20 - HEAD_PAGES


def test_a_cold_sample_becomes_a_trigger_and_ceases_to_be_one() -> None:
    with trigger_cache() as cache:
        put_cold(cache, "kick", 20)
        cache.update("kick", tags=TAGS)
        until(lambda: locked(cache, "kick") == (Span(0, HEAD_PAGES),))
        cache.update("kick", tags=("drums",))
        until(lambda: not cache.ledger.locked_bytes)
        assert settled(cache) == TriggerFigures()


@pytest.mark.parametrize("played_out", [False, True], ids=["idle", "playing"])
def test_removing_a_trigger_gives_up_its_locks_and_its_memory(played_out: bool) -> None:
    with trigger_cache() as cache:
        put(cache, "kick", pcm(20 * PAGE_BYTES), tags=TAGS)
        assert settled(cache).heads == 1
        session = opened(cache, sample_id="kick", strategy="none") if played_out else None
        cache.store.remove("kick")
        until(lambda: not cache.ledger.locked_bytes)
        assert settled(cache) == TriggerFigures()
        if session is not None:
            assert play(session) == pcm(20 * PAGE_BYTES)
            closed(cache, session)
        until(lambda: not cache.store.used_bytes)


def test_replacing_a_trigger_moves_its_locks() -> None:
    with trigger_cache() as cache:
        put(cache, "kick", pcm(20 * PAGE_BYTES), tags=TAGS)
        settled(cache)
        old = cache.store.get("kick").content.region
        put(cache, "kick", pcm(3 * PAGE_BYTES), tags=TAGS, replace=True)
        until(lambda: locked(cache, "kick") == (Span(0, 3),))
        assert settled(cache) == TriggerFigures(samples=1, heads=1, locked_pages=3)
        assert cache.ledger.spans(HOLDER, old) == ()
        assert cache.ledger.locked_bytes == cache.store.used_bytes == 3 * PAGE_BYTES


def test_the_store_may_evict_a_trigger() -> None:
    with trigger_cache(budget_bytes=30 * PAGE_BYTES) as cache:
        put(cache, "kick", pcm(20 * PAGE_BYTES), tags=TAGS)
        settled(cache)
        assert put(cache, "pad", pcm(20 * PAGE_BYTES, 1)).evicted == (("kick", 20 * PAGE_BYTES),)
        until(lambda: not cache.ledger.locked_bytes)
        with pytest.raises(SampleNotFoundError):
            cache.store.get("kick")


def test_keeping_a_head_is_no_use_of_the_sample() -> None:
    with trigger_cache(budget_bytes=50 * PAGE_BYTES) as cache:
        put(cache, "kick", pcm(20 * PAGE_BYTES))
        put(cache, "pad", pcm(20 * PAGE_BYTES, 1))
        cache.update("kick", tags=TAGS)
        assert settled(cache).heads == 1
        assert put(cache, "new", pcm(20 * PAGE_BYTES, 2)).evicted == (("kick", 20 * PAGE_BYTES),)


def test_samples_that_share_a_content_have_one_head() -> None:
    with trigger_cache() as cache:
        put(cache, "kick", pcm(20 * PAGE_BYTES), tags=TAGS)
        put(cache, "kick-too", pcm(20 * PAGE_BYTES), tags=TAGS)
        assert settled(cache) == TriggerFigures(samples=2, heads=1, locked_pages=HEAD_PAGES)
        cache.store.remove("kick")
        assert settled(cache) == TriggerFigures(samples=1, heads=1, locked_pages=HEAD_PAGES)
        assert locked(cache, "kick-too") == (Span(0, HEAD_PAGES),)


def test_locks_follow_use() -> None:
    with trigger_cache(trigger_lock_bytes=6 * PAGE_BYTES, trigger_warm_bytes=0) as cache:
        put(cache, "kick", pcm(20 * PAGE_BYTES), tags=TAGS)
        put(cache, "snare", pcm(20 * PAGE_BYTES, 1), tags=TAGS)
        assert settled(cache).locked_pages == 6
        assert locked(cache, "kick") == locked(cache, "snare") == (Span(0, 3),)
        for _ in range(4):
            session = opened(cache, sample_id="snare", strategy="none")
            session.close()
        until(lambda: locked(cache, "snare") == (Span(0, 5),))
        until(lambda: locked(cache, "kick") == (Span(0, 1),))
        assert settled(cache).locked_pages == 6


def test_heads_leave_the_rest_of_the_lock_budget_to_others() -> None:
    with trigger_cache(lock_budget_bytes=8 * PAGE_BYTES) as cache:
        for number in range(4):
            put(cache, f"hit-{number}", pcm(20 * PAGE_BYTES, number), tags=TAGS)
        assert settled(cache).locked_pages == 6
        assert cache.ledger.locked_bytes == 6 * PAGE_BYTES


def test_what_others_have_locked_is_not_taken_from_them() -> None:
    with trigger_cache(lock_budget_bytes=4 * PAGE_BYTES, trigger_lock_bytes=4 * PAGE_BYTES) as cache:
        put(cache, "pad", pcm(20 * PAGE_BYTES))
        region = cache.store.get("pad").content.region
        cache.ledger.acquire("session", region, Span(0, 3))
        put(cache, "kick", pcm(20 * PAGE_BYTES, 1), tags=TAGS)
        assert settled(cache).locked_pages == 1
        assert len(cache.ledger.spans("session", region)[0]) == 3
        cache.ledger.release("session", region)
        put(cache, "snare", pcm(PAGE_BYTES, 2), tags=TAGS)
        until(lambda: cache.triggers.settled and cache.triggers.figures.locked_pages == 4)


def test_where_nothing_may_be_locked_a_head_that_went_cold_is_populated_again() -> None:
    with trigger_cache(lock_budget_bytes=0) as cache:
        put(cache, "kick", pcm(20 * PAGE_BYTES), tags=TAGS)
        assert settled(cache) == TriggerFigures(samples=1, heads=1, warm_pages=HEAD_PAGES)
        assert cache.evict("kick", 20_000_000_000) == (20, 0)
        until(lambda: cache.residency("kick").count(Tier.MAPPED) == HEAD_PAGES)
        assert settled(cache).repopulated_pages == HEAD_PAGES


def test_what_stops_lets_heads_be() -> None:
    with trigger_cache(lock_budget_bytes=0) as cache:
        put(cache, "kick", pcm(20 * PAGE_BYTES), tags=TAGS)
        settled(cache)
        cache.triggers.stop()
        put(cache, "snare", pcm(20 * PAGE_BYTES, 1), tags=TAGS)
        assert cache.triggers.figures.samples == 1
        cache.triggers.start()
        until(lambda: cache.triggers.settled and cache.triggers.figures.heads == 2)
