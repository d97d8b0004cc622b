"""A session that loops has each round prepared before it begins; one that plays what others play lets go of nothing."""

from __future__ import annotations

from collections.abc import Iterable

from cache_parts import PAGE_BYTES, PAGE_FRAMES, make_cache, pcm, put, until
from session_parts import BLOCK_FRAMES, answered, closed, opened, play, recording

from samplecache.clock import NS_PER_MS
from samplecache.kernel.port import Span
from samplecache.strategy import Action, Advice, Advise, PrefetchStrategy, View


def test_a_loops_next_round_is_prepared_once_a_round_before_it_begins() -> None:
    mine = recording()
    with make_cache(mine) as cache:
        pages = put(cache, "pad", pcm(8 * PAGE_BYTES)).sample.content.region.pages
        session = opened(cache, loop=True, lead_ns=100 * NS_PER_MS)
        answered(session)
        assert mine.asked == [("prepare", Span(0, pages))]
        blocks = -(-8 * PAGE_FRAMES // BLOCK_FRAMES)
        for rounds in (1, 2, 3):
            play(session, blocks)
            answered(session)
            assert mine.asked == [("prepare", Span(0, pages))] * (1 + rounds)
        closed(cache, session)


def test_a_session_that_does_not_loop_prepares_no_round() -> None:
    mine = recording()
    with make_cache(mine) as cache:
        put(cache, "pad", pcm(8 * PAGE_BYTES))
        session = opened(cache, lead_ns=100 * NS_PER_MS)
        play(session)
        answered(session)
        assert [moment for moment, _ in mine.asked] == ["prepare"]
        closed(cache, session)


def test_what_another_session_plays_is_not_let_go_of() -> None:
    class Lets(PrefetchStrategy):
        name = "mine"

        def prepare(self, view: View) -> Iterable[Action]:
            return [Advise(view.wanted, 1, Advice.PAGEOUT)]

    with make_cache(Lets) as cache:
        put(cache, "pad", pcm(20 * PAGE_BYTES))
        other = opened(cache, strategy="none")
        session = opened(cache)
        answered(session)
        session.close()
        until(lambda: cache.session_count == 1)
        assert cache.residency("pad").in_core == 20
        closed(cache, other)
        alone = opened(cache)
        answered(alone)
        closed(cache, alone)
        assert cache.residency("pad").in_core < 20
