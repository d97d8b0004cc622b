"""A session that loops has each round prepared before it begins."""

from __future__ import annotations

from cache_parts import PAGE_BYTES, PAGE_FRAMES, make_cache, pcm, put
from session_parts import BLOCK_FRAMES, answered, closed, opened, play, recording

from samplecache.clock import NS_PER_MS
from samplecache.kernel.port import Span


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
