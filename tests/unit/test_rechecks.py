"""A strategy is asked again when it wanted to be, about the pages that it named, whatever its last answer came to."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from cache_parts import PAGE_BYTES, PAGE_FRAMES, make_cache, pcm, put, put_cold, until
from session_parts import Follows, answered, closed, opened, play, recording

from samplecache.cache.prefetching.prefetcher import RECHECK_LEAST_NS
from samplecache.clock import NS_PER_MS
from samplecache.kernel.port import Span, Tier
from samplecache.strategy import Action, Recheck, View

# --- frames ---


def test_advance_is_asked_about_the_pages_and_at_the_time_that_it_names() -> None:
    views: list[View] = []

    def note(moment: str, view: View) -> Iterable[Action]:
        views.append(view)
        return [Recheck(Span(len(views), len(views) + 2), view.now_ns + 20 * NS_PER_MS)] if len(views) < 4 else []

    strategy = recording(note, base=Follows)
    with make_cache(strategy) as cache:
        put_cold(cache, "pad", 10)
        session = opened(cache)
        until(lambda: len(views) == 4)
        closed(cache, session)
        assert [moment for moment, _ in strategy.asked] == ["prepare", "advance", "advance", "advance", "finish"]
        assert [view.residency.span for view in views] == [Span(0, 10), Span(1, 3), Span(2, 4), Span(3, 5), Span(0, 10)]
        assert views[1].residency.tiers == bytes([Tier.SWAPPED] * 2)
        times = [view.now_ns for view in views[:4]]
        assert all(later - earlier >= 20 * NS_PER_MS for earlier, later in pairwise(times))


def test_advance_is_not_asked_unless_it_asked_to_be() -> None:
    strategy = recording(base=Follows)
    with make_cache(strategy) as cache:
        put(cache, "pad", pcm(4 * PAGE_BYTES))
        session = opened(cache)
        play(session)
        answered(session)
        closed(cache, session)
        assert [moment for moment, _ in strategy.asked] == ["prepare", "finish"]


def test_the_last_recheck_asked_for_takes_the_place_of_any_other() -> None:
    spans = [Span(0, 1), Span(1, 2), Span(2, 3)]
    looked_at: list[Span] = []

    def answer(moment: str, view: View) -> Iterable[Action]:
        if moment == "advance":
            looked_at.append(view.residency.span)
            return []
        if len(strategy.asked) == 1:
            return [Recheck(spans[0], view.now_ns + 30 * NS_PER_MS), Recheck(spans[1], view.now_ns + 30 * NS_PER_MS)]
        return [Recheck(spans[2], view.now_ns + 60 * NS_PER_MS)] if moment == "prepare" else []

    strategy = recording(answer, base=Follows)
    with make_cache(strategy) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        session = opened(cache)
        until(lambda: strategy.asked)
        session.seek(PAGE_FRAMES)
        until(lambda: looked_at)
        closed(cache, session)
        assert looked_at in ([spans[2]], [spans[1], spans[2]])  # a seek within 30 ms, or not


def test_a_strategy_that_failed_once_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samplecache.cache.prefetching.prefetch.RETRY_NS", 20 * NS_PER_MS)
    looked_at: list[Span] = []

    def answer(moment: str, view: View) -> Iterable[Action]:
        if moment == "prepare":
            return [Recheck(Span(1, 3), view.now_ns)]
        if moment == "advance":
            looked_at.append(view.residency.span)
            if len(looked_at) == 1:
                raise ValueError("not yet")
        return []

    with make_cache(recording(answer, base=Follows)) as cache:
        put(cache, "pad", pcm(4 * PAGE_BYTES))
        session = opened(cache)
        until(lambda: len(looked_at) == 2)
        closed(cache, session)
        assert looked_at == [Span(1, 3), Span(1, 3)]


def test_a_strategy_cannot_have_itself_asked_in_a_circle() -> None:
    times: list[int] = []

    def greedy(moment: str, view: View) -> Iterable[Action]:
        times.append(view.now_ns)
        return [Recheck(Span(0, 1), 0)]

    with make_cache(recording(greedy, base=Follows)) as cache:
        put(cache, "pad", pcm(4 * PAGE_BYTES))
        session = opened(cache)
        until(lambda: len(times) >= 4)
        closed(cache, session)
        asked = len(times)
        assert all(later - earlier >= RECHECK_LEAST_NS for earlier, later in pairwise(times[:4]))
        cache.prefetch("pad", strategy="none").wait(20)
        assert len(times) == asked
