"""What the strategy ``window`` asks for, to the page, and how long its window is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cache_parts import PAGE_BYTES, capabilities

from samplecache.kernel.port import Operation, Residency, Span, Tier
from samplecache.strategy import (
    Advice,
    Advise,
    PageInFigures,
    Populate,
    Pressure,
    Recheck,
    SampleView,
    Stretch,
    View,
)
from samplecache_window.length import (
    GROW_STEP_NS,
    MOST_NS,
    MS,
    RECHECK_NS,
    SHRINK_STEP_NS,
    UNMEASURED_NS,
    VERIFY_NS,
    S,
    WindowLength,
    base_length_ns,
)
from samplecache_window.strategy import SLACK_NS, SlidingWindow, merged, pages_until, segments, without

# A page sounds for 10 ms, so a window that was not measured is 201 pages long and is looked at every 500 ms.
PAGES = 4000
SAMPLE = SampleView("pad", PAGES, PAGE_BYTES, PAGE_BYTES * 100)
PAGE_NS = 10 * MS
WINDOW = 201
NEAR = 60
"""Pages that are read before a look 100 ms later than asked for."""
TIERS = {".": Tier.ABSENT, "s": Tier.SWAPPED, "c": Tier.SWAP_CACHE, "m": Tier.MAPPED, "L": Tier.LOCKED}


def where(start: int, *drawn: tuple[str, int], exact: bool = True) -> Residency:
    """Pages from `start` on: ("s", 3) is three pages on the swap device."""
    tiers = b"".join(bytes([TIERS[tier]]) * pages for tier, pages in drawn)
    return Residency(Span(start, start + len(tiers)), tiers, exact)


def view(residency: Residency, *, start: int = 0, now_ns: int = 0, due_ns: int | None = 0, **more: Any) -> View:
    """A session at page `start`, whose next block is due at `due_ns`."""
    more.setdefault("path", (Stretch(Span(start, PAGES), due_ns),))
    more.setdefault("played", Span(0, start))
    more = {"playing": True, "page_in": PageInFigures(), "capabilities": capabilities()} | more
    page_in, can = more.pop("page_in"), more.pop("capabilities")
    return View(now_ns, SAMPLE, more["path"][0].span, due_ns, residency, (), 0, page_in, can, **more)


def recheck(start: int, stop: int, at_ns: int, further_ns: int = 0) -> Recheck:
    """A look at pages of the window, at as many as sound until then, and further, all of it from time 0 on."""
    return Recheck(Span(start, stop + (at_ns + further_ns) // PAGE_NS), at_ns)


class TestAhead:
    def test_a_cold_start_sends_for_all_and_waits_for_what_is_read_first(self) -> None:
        assert list(SlidingWindow().prepare(view(where(0, ("s", 1000))))) == [
            Advise(Span(0, NEAR), 0),
            Populate(Span(0, NEAR), 0),
            Advise(Span(NEAR, WINDOW), NEAR * PAGE_NS),
            recheck(0, WINDOW, RECHECK_NS // 2),
        ]

    def test_what_came_in_is_mapped_and_what_is_new_is_advised(self) -> None:
        residency = where(100, ("m", 100), ("c", 70), ("s", 31))
        assert list(SlidingWindow().prepare(view(residency, start=100))) == [
            Advise(Span(270, 301), 170 * PAGE_NS),
            Populate(Span(200, 270), 100 * PAGE_NS),
            recheck(100, 301, 500 * MS),
        ]

    def test_runs_that_are_close_are_asked_for_in_one(self) -> None:
        residency = where(0, ("m", 100), ("s", 10), ("m", 16), ("s", 10), ("m", 17), ("s", 48))
        assert list(SlidingWindow().prepare(view(residency)))[:2] == [
            Advise(Span(100, 136), 1000 * MS),
            Advise(Span(153, 201), 1530 * MS),
        ]

    def test_where_all_is_there_only_another_look_is_asked_for(self) -> None:
        residency = where(0, ("m", 150), ("L", 30), (".", 21))
        assert list(SlidingWindow().prepare(view(residency))) == [recheck(0, WINDOW, 1600 * MS, further_ns=800 * MS)]

    def test_while_all_stays_it_looks_less_often_and_further(self) -> None:
        window, there = SlidingWindow(), where(0, ("m", 201))
        assert list(window.prepare(view(there))) == [recheck(0, WINDOW, 1600 * MS, further_ns=800 * MS)]
        assert list(window.advance(view(there))) == [recheck(0, WINDOW, 1600 * MS, further_ns=800 * MS)]
        assert list(window.advance(view(there, pressure=Pressure.SOME))) == [recheck(0, WINDOW, 500 * MS)]
        cold_beyond = where(0, ("m", 201), ("s", 80))
        assert list(window.advance(view(cold_beyond))) == [recheck(0, WINDOW, 800 * MS)]
        gone = where(0, ("m", 200), ("s", 1))
        assert list(window.advance(view(gone))) == [Advise(Span(200, 201), 2 * S), recheck(0, WINDOW, 500 * MS)]
        assert list(window.advance(view(there, near_misses=1)))[-1].deadline_ns == 625 * MS

    def test_a_page_may_be_read_as_soon_as_its_block_may_leave(self) -> None:
        residency = where(0, ("s", 1000))
        actions = list(SlidingWindow().prepare(view(residency, now_ns=S, due_ns=S + 100 * MS, lead_ns=100 * MS)))
        assert actions[0] == Advise(Span(0, NEAR), S)

    def test_on_zram_it_waits_for_all_since_advice_does(self) -> None:
        can = replace(capabilities(), swap_synchronous=True)
        assert list(SlidingWindow().prepare(view(where(0, ("s", 1000)), capabilities=can)))[:2] == [
            Populate(Span(0, NEAR), 0),
            Populate(Span(NEAR, WINDOW), NEAR * PAGE_NS),
        ]

    def test_where_advice_does_nothing_it_waits_too(self) -> None:
        can = capabilities(useless=[Operation.WILLNEED])
        actions = list(SlidingWindow().prepare(view(where(0, ("s", 1000)), capabilities=can)))
        assert [type(action) for action in actions] == [Populate, Populate, Recheck]

    def test_where_the_cache_cannot_be_told_from_mapped_pages_all_in_ram_are_mapped(self) -> None:
        residency = where(0, ("m", 201), exact=False)
        assert next(iter(SlidingWindow().prepare(view(residency)))) == Populate(Span(0, 201), 0)

    def test_no_more_than_its_share(self) -> None:
        residency = where(0, ("s", 1000))
        actions = list(SlidingWindow().prepare(view(residency, budget_bytes=80 * PAGE_BYTES)))
        # 800 ms are looked at again after half of that, and what is read until 100 ms later is waited for.
        assert actions[2:] == [Advise(Span(50, 80), 500 * MS), recheck(0, 80, RECHECK_NS // 2)]

    def test_a_hint_brings_in_what_the_window_will_be_and_looks_again_before_it_is_due(self) -> None:
        residency = where(0, ("s", 1000))
        hint = view(residency, due_ns=20 * S, playing=False)
        assert list(SlidingWindow().prepare(hint)) == [
            Advise(Span(0, WINDOW), 20 * S),
            Recheck(Span(0, WINDOW), 20 * S - UNMEASURED_NS),
        ]

    def test_without_a_pace_it_brings_in_all_it_may_and_looks_again_soon(self) -> None:
        actions = list(SlidingWindow().prepare(view(where(0, ("s", 1001)), due_ns=None, now_ns=S)))
        assert actions[-2].span.stop == 1001
        assert actions[-1] == Recheck(Span(0, 1001), S + 20 * MS)

    def test_nothing_is_left_to_do_at_the_end(self) -> None:
        at_the_end = view(where(PAGES), start=PAGES, due_ns=None)
        assert list(SlidingWindow().prepare(at_the_end)) == []

    def test_under_pressure_a_page_that_keeps_being_taken_back_is_left_until_it_is_about_to_be_read(self) -> None:
        strategy, wanted = SlidingWindow(), Advise(Span(190, 201), 1900 * MS)
        there, gone = where(0, ("m", 201)), where(0, ("m", 190), ("s", 11))
        strategy.prepare(view(there))
        for _ in range(2):
            assert wanted in list(strategy.advance(view(gone, pressure=Pressure.SOME)))
            strategy.advance(view(there))
        assert wanted not in list(strategy.advance(view(gone, pressure=Pressure.SOME)))
        strategy.advance(view(there))
        assert wanted in list(strategy.advance(view(gone)))
        due = view(where(150, ("m", 40), ("s", 11), ("m", 150)), start=150, pressure=Pressure.SOME)
        assert Populate(Span(190, 201), 400 * MS) in list(strategy.advance(due))


class TestLoops:
    def loop(self, start: int, stop: int, residency: Residency, **more: Any) -> View:
        path = (Stretch(Span(start, stop), 0), Stretch(Span(0, stop), (stop - start) * PAGE_NS))
        return view(residency, start=start, path=path, **more)

    def test_the_window_goes_on_with_the_next_round(self) -> None:
        actions = list(SlidingWindow().prepare(self.loop(900, 1000, where(900, ("m", 100)))))
        assert actions == [Recheck(Span(0, 101), 500 * MS)]
        strategy = SlidingWindow()
        strategy.prepare(self.loop(900, 1000, where(900, ("m", 100))))
        again = list(strategy.advance(self.loop(900, 1000, where(0, ("s", 101)))))
        assert again[0] == Advise(Span(0, 101), 1000 * MS)
        assert again[1] == Recheck(Span(900, 1000), 500 * MS)

    def test_a_short_loop_is_looked_at_in_one(self) -> None:
        residency = where(0, ("s", 50))
        assert list(SlidingWindow().prepare(self.loop(20, 50, residency))) == [
            Advise(Span(20, 50), 0),
            Populate(Span(20, 50), 0),
            Advise(Span(0, 20), 300 * MS),
            Populate(Span(0, 20), 300 * MS),
            Recheck(Span(0, 50), RECHECK_NS // 2),
        ]

    @pytest.mark.parametrize(("budget_pages", "kept"), [(999, False), (1000, True), (None, True)])
    def test_one_that_fits_is_kept(self, budget_pages: int | None, kept: bool) -> None:
        strategy = SlidingWindow()
        budget_bytes = None if budget_pages is None else budget_pages * PAGE_BYTES
        strategy.prepare(self.loop(100, 1000, where(100, ("m", 900)), budget_bytes=budget_bytes))
        actions = list(strategy.advance(self.loop(150, 1000, where(150, ("m", 850)), budget_bytes=budget_bytes)))
        assert (Advise(Span(100, 150), 0, Advice.COLD) not in actions) == kept

    def test_when_it_begins_again_the_rest_of_the_last_round_is_behind(self) -> None:
        strategy, budget_bytes = SlidingWindow(), 500 * PAGE_BYTES
        strategy.prepare(self.loop(900, 1000, where(900, ("m", 100)), budget_bytes=budget_bytes))
        actions = list(strategy.advance(self.loop(30, 1000, where(0, ("m", 250)), budget_bytes=budget_bytes)))
        cold = [action.span for action in actions if isinstance(action, Advise)]
        assert cold == [Span(900, 1000), Span(0, 30)]


class TestBehind:
    def test_what_was_played_goes_first(self) -> None:
        strategy = SlidingWindow()
        strategy.prepare(view(where(0, ("m", 300))))
        for start, stop in ((0, 50), (50, 90)):
            at = view(where(stop, ("m", 300)), start=stop, now_ns=S)
            assert Advise(Span(start, stop), S, Advice.COLD) in list(strategy.advance(at))

    def test_a_few_pages_wait_for_more(self) -> None:
        strategy = SlidingWindow()
        strategy.prepare(view(where(0, ("m", 300))))
        for page, let_go in ((31, None), (32, Span(0, 32)), (60, None)):
            actions = list(strategy.advance(view(where(page, ("m", 300)), start=page)))
            assert [each.span for each in actions if isinstance(each, Advise)] == ([] if let_go is None else [let_go])

    def test_when_everyone_waits_for_memory_it_is_written_out(self) -> None:
        strategy = SlidingWindow()
        strategy.prepare(view(where(0, ("m", 300))))
        actions = list(strategy.advance(view(where(50, ("m", 300)), start=50, pressure=Pressure.FULL)))
        assert Advise(Span(0, 50), 0, Advice.PAGEOUT) in actions

    def test_a_kernel_that_knows_no_cold_is_not_told(self) -> None:
        strategy, can = SlidingWindow(), capabilities(forbidden=[Operation.COLD])
        strategy.prepare(view(where(0, ("m", 300)), capabilities=can))
        assert list(strategy.advance(view(where(50, ("m", 300)), start=50, capabilities=can))) == [
            recheck(50, 251, 1600 * MS, further_ns=800 * MS)
        ]

    def test_a_seek_gives_the_old_window_back_and_its_target_stays_warm(self) -> None:
        strategy = SlidingWindow()
        strategy.prepare(view(where(0, ("m", 300))))
        actions = list(strategy.prepare(view(where(1000, ("m", 300)), start=1000)))
        assert actions == [recheck(1000, 1201, 1600 * MS, 800 * MS), Advise(Span(0, 201), 0, Advice.COLD)]
        later = list(strategy.advance(view(where(1150, ("m", 300)), start=1150)))
        assert Advise(Span(1100, 1150), 0, Advice.COLD) in later  # the first second is kept

    def test_a_short_sample_is_kept(self) -> None:
        strategy = SlidingWindow()
        sample = replace(SAMPLE, pages=100)
        path = (Stretch(Span(0, 100), 0),)
        strategy.prepare(replace(view(where(0, ("m", 100)), path=path), sample=sample))
        path = (Stretch(Span(50, 100), 0),)
        at = replace(view(where(50, ("m", 50)), start=50, path=path), sample=sample)
        assert list(strategy.advance(at)) == [Recheck(Span(50, 100), 1600 * MS)]


class TestLength:
    def figures(self, latency_ms: float, rate: int) -> View:
        page_in = PageInFigures(1, rate * 2, int(latency_ms * MS), rate)
        return view(where(0, ("m", 1)), page_in=page_in)

    def test_before_anything_was_measured(self) -> None:
        assert base_length_ns(view(where(0, ("m", 1)))) == UNMEASURED_NS

    def test_follows_latency_and_bandwidth_where_they_are_worst(self) -> None:
        # 4 x (10 ms + 256 KiB at 2 MB/s + 500 ms)
        assert base_length_ns(self.figures(10, 2_000_000)) == 4 * (10 * MS + 131_072_000 + 500 * MS)

    def test_has_bounds(self) -> None:
        assert base_length_ns(self.figures(0, 10**12)) == 4 * (1 + 262 + RECHECK_NS)
        assert base_length_ns(self.figures(5_000, 10**6)) == MOST_NS

    def test_grows_when_pages_came_late_and_shrinks_after_a_quiet_time(self) -> None:
        length, at = WindowLength(), view(where(0, ("m", 1)))
        assert length.look(at) == UNMEASURED_NS
        assert length.look(replace(at, near_misses=1)) == UNMEASURED_NS + GROW_STEP_NS
        assert length.look(replace(at, underruns=3)) == UNMEASURED_NS + 2 * GROW_STEP_NS
        assert length.look(replace(at, now_ns=VERIFY_NS - 1)) == UNMEASURED_NS + 2 * GROW_STEP_NS
        quiet = replace(at, now_ns=VERIFY_NS)
        assert length.look(quiet) == length.look(quiet) == UNMEASURED_NS + 2 * GROW_STEP_NS - SHRINK_STEP_NS
        for _ in range(100):
            longest = length.look(replace(at, near_misses=1))
        assert longest == MOST_NS

    def test_what_is_late_at_the_beginning_says_nothing(self) -> None:
        length, at = WindowLength(), view(where(0, ("m", 1)))
        length.begin()
        assert length.look(replace(at, near_misses=5)) == UNMEASURED_NS

    def test_a_guess_does_not_count_when_everyone_waits_for_memory(self) -> None:
        length, at = WindowLength(), view(where(0, ("m", 1)))
        length.look(at)
        assert length.look(replace(at, near_misses=1, pressure=Pressure.FULL)) == UNMEASURED_NS


class TestParts:
    def test_segments_end_with_the_path(self) -> None:
        at = view(where(0, ("m", 1)), path=(Stretch(Span(3990, 4000), 7),), due_ns=7)
        assert list(segments(at, S)) == [(Span(3990, 4000), 7)]

    def test_pages_until_a_time(self) -> None:
        segment = next(segments(view(where(0, ("m", 1)), due_ns=S), S))
        assert pages_until(segment, 0, PAGE_NS) == Span(0, 0)
        assert pages_until(segment, S + 1, PAGE_NS) == Span(0, 1)
        assert pages_until(segment, 99 * S, PAGE_NS) == segment.span

    def test_merged(self) -> None:
        assert list(merged([Span(0, 1), Span(3, 4), Span(7, 8)], 2)) == [Span(0, 4), Span(7, 8)]
        assert list(merged([], 2)) == []

    def test_without(self) -> None:
        assert list(without(Span(2, 9), Span(4, 5))) == [Span(2, 4), Span(5, 9)]
        assert list(without(Span(2, 9), Span(0, 20))) == []
        assert list(without(Span(2, 9), Span(10, 20))) == [Span(2, 9)]
        assert SLACK_NS < RECHECK_NS
