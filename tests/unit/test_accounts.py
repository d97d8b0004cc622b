"""Every page that was brought in ahead ends as useful, late or wasted, for the strategy whose doing it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType

import pytest
from cache_parts import PAGE_BYTES, PAGE_FRAMES, GatedKernel, make_cache, passes, put_cold, until
from session_parts import answered, closed, opened, play, recording

import samplecache_touch
import samplecache_willneed
from samplecache.cache import SampleCache
from samplecache.cache.accounting.accounts import Account, PageOutcomes
from samplecache.cache.prefetching.announced import Announced
from samplecache.kernel.port import Residency, Span, Tier
from samplecache.simulation.device import device_profile
from samplecache.strategy import Action, Advice, Advise, Touch, View

PLUGINS: list[ModuleType] = [samplecache_touch, samplecache_willneed]
TIERS = {".": Tier.ABSENT, "s": Tier.SWAPPED, "c": Tier.SWAP_CACHE, "m": Tier.MAPPED, "L": Tier.LOCKED}


def where(pages: str, start: int = 0) -> Residency:
    return Residency(Span(start, start + len(pages)), bytes(TIERS[each] for each in pages))


def looks(pages: str) -> Callable[[Span], bool]:
    """What tells whether all pages of a span are in RAM."""
    return lambda span: all(pages[page] in "cmL" for page in span)


def account(pages: int = 8) -> Account:
    return Account("mine", pages)


def test_only_pages_on_the_device_are_asked_for_and_those_once() -> None:
    mine = account()
    assert mine.ask(mine.not_asked(Span(0, 8), where("s.cmLsss"))) == 4
    assert mine.ask(mine.not_asked(Span(0, 8), where("ssssssss"))) == 4
    assert mine.ask(mine.not_asked(Span(0, 8), where("ssssssss"))) == 0
    assert (mine.outcomes, mine.outstanding) == (PageOutcomes(asked=8), 8)


def test_what_was_not_looked_at_is_not_known_to_be_on_the_device() -> None:
    assert len(account().not_asked(Span(0, 8), where("sss", start=3))) == 3


def test_a_page_in_ram_when_it_is_read_was_useful_wherever_it_was_before() -> None:
    mine = account()
    mine.ask(mine.not_asked(Span(0, 4), where("ssss")))
    mine.arrive(Span(0, 1))
    mine.look(where("ccms"))
    mine.read(Span(0, 4), looks("cmLm"))
    assert mine.outcomes == PageOutcomes(asked=4, useful=4)


def test_a_page_not_in_ram_when_it_is_read_was_late_if_it_never_came_else_wasted() -> None:
    mine = account()
    mine.ask(mine.not_asked(Span(0, 4), where("ssss")))
    assert mine.look(where("cc")) == 0
    mine.read(Span(0, 3), looks("scss"))
    assert mine.outcomes == PageOutcomes(asked=4, useful=1, late=1, wasted=1)
    assert mine.outstanding == 1


def test_a_page_seen_taken_back_is_wasted_and_asked_again_it_is_another() -> None:
    mine = account()
    mine.ask(mine.not_asked(Span(0, 2), where("ss")))
    mine.arrive(Span(0, 2))
    assert mine.look(where("sm")) == 1
    assert mine.ask(mine.not_asked(Span(0, 2), where("sm"))) == 1
    mine.read(Span(0, 2), looks("mm"))
    assert mine.outcomes == PageOutcomes(asked=3, useful=2, wasted=1)


def test_reading_it_again_settles_nothing() -> None:
    mine = account()
    mine.ask(mine.not_asked(Span(0, 2), where("ss")))
    for _ in range(3):
        mine.read(Span(0, 1), looks("mm"))
    assert mine.outcomes == PageOutcomes(asked=2, useful=1)


def test_what_is_given_up_is_wasted() -> None:
    mine = account()
    mine.ask(mine.not_asked(Span(0, 8), where("ssssssss")))
    mine.give_up(Span(1, 2))
    mine.keep_only([Span(6, 7), Span(2, 4), Span(3, 5)])
    assert (mine.outcomes.wasted, mine.outstanding) == (4, 4)
    mine.read(Span(0, 8), looks("mmmmmmmm"))
    assert mine.outcomes == PageOutcomes(asked=8, useful=4, wasted=4)


def test_closing_wastes_what_is_left_once_and_ends_asking() -> None:
    told: list[Account] = []
    mine = Account("mine", 8, on_closed=told.append)
    mine.ask(mine.not_asked(Span(0, 3), where("sss")))
    mine.close()
    mine.close()
    assert mine.ask(mine.not_asked(Span(0, 8), where("ssssssss"))) == 0
    mine.arrive(Span(0, 8))
    assert (told, mine.outcomes, mine.outstanding) == ([mine], PageOutcomes(asked=3, wasted=3), 0)


class TestTakingOver:
    def test_the_session_counts_what_was_left_and_the_strategy_all(self) -> None:
        session_total = PageOutcomes()
        mine, hint = Account("window", 8, session_total), Account("touch", 8)
        hint.ask(hint.not_asked(Span(0, 4), where("ssss")))
        hint.give_up(Span(3, 4))
        mine.take_over(hint)
        assert mine.ask(mine.not_asked(Span(0, 8), where("ssssssss"))) == 5
        mine.read(Span(0, 8), looks("mmsmmmmm"))
        assert hint.outcomes == PageOutcomes(asked=4, useful=2, late=1, wasted=1)
        assert mine.outcomes == PageOutcomes(asked=5, useful=5)
        assert session_total == PageOutcomes(asked=8, useful=7, late=1)

    def test_a_prefetch_that_goes_on_is_settled_by_the_session(self) -> None:
        mine, hint = account(), Account("touch", 8)
        mine.take_over(hint)
        hint.ask(hint.not_asked(Span(0, 2), where("ss")))
        assert mine.outstanding == 2
        mine.look(where("ms"))
        mine.give_up(Span(1, 2))
        mine.close()
        assert hint.outcomes == PageOutcomes(asked=2, wasted=2)

    def test_what_comes_too_late_for_a_session_is_closed(self) -> None:
        mine, hint = account(), Account("touch", 8)
        hint.ask(hint.not_asked(Span(0, 2), where("ss")))
        mine.close()
        mine.take_over(hint)
        assert hint.outcomes == PageOutcomes(asked=2, wasted=2)


# --- in the cache ---


def outcomes(cache: SampleCache, strategy: str) -> tuple[int, int, int, int]:
    prefetched = cache.totals.snapshot()[strategy].prefetched
    return prefetched.asked, prefetched.useful, prefetched.late, prefetched.wasted


@pytest.mark.parametrize("strategy", ["willneed", "touch"])
def test_all_that_is_played_was_useful(strategy: str) -> None:
    with make_cache(plugins=PLUGINS) as cache:
        put_cold(cache, "pad", 200)
        session = opened(cache, strategy=strategy)
        answered(session)
        play(session)
        assert session.playback.stats.prefetched == PageOutcomes(asked=200, useful=200)
        closed(cache, session)
        assert outcomes(cache, strategy) == (200, 200, 0, 0)
        assert cache.totals.snapshot()[strategy].played_pages == 200


def test_what_is_not_played_is_wasted() -> None:
    with make_cache(plugins=PLUGINS) as cache:
        put_cold(cache, "pad", 100)
        session = opened(cache, strategy="touch")
        answered(session)
        while session.playback.next_frame < 10 * PAGE_FRAMES:
            play(session, 1)
        read = -(-session.playback.next_frame // PAGE_FRAMES)
        session.seek(50 * PAGE_FRAMES)
        assert session.playback.stats.prefetched == PageOutcomes(asked=100, useful=read, wasted=50 - read)
        closed(cache, session)
        assert outcomes(cache, "touch") == (100, read, 0, 100 - read)


def test_a_page_still_on_its_way_when_it_is_read_is_late() -> None:
    kernel = GatedKernel(device_profile("unthrottled").throttled(iops=50))
    with make_cache(plugins=PLUGINS, kernel=kernel) as cache:
        put_cold(cache, "pad", 8)
        session = opened(cache, strategy="willneed")
        until(lambda: session.account.outstanding == 8)
        play(session)
        closed(cache, session)
        asked, useful, late, wasted = outcomes(cache, "willneed")
        assert (asked, wasted, useful + late) == (8, 0, 8)
        assert late > 0


def test_what_is_taken_back_before_it_is_read_is_wasted() -> None:
    with make_cache(plugins=PLUGINS) as cache:
        put_cold(cache, "pad", 20)
        session = opened(cache, strategy="touch")
        answered(session)
        assert cache.evict("pad", 20_000_000_000) == (20, 0)
        play(session)
        assert session.playback.stats.prefetched == PageOutcomes(asked=20, wasted=20)
        closed(cache, session)


@pytest.mark.parametrize("budgeted", [False, True])
def test_what_came_in_since_the_strategy_looked_was_not_asked_for(budgeted: bool) -> None:
    """It would count for the device's speed, too, though nobody waits for it."""

    def answer(moment: str, view: View) -> Iterable[Action]:
        if moment != "prepare":
            return []
        cache.kernel.touch(cache.store.get("pad").content.region, Span(0, 4))  # another session has got so far
        return [Advise(view.wanted, 1)]

    strategy = recording(answer)
    strategy.budgeted = budgeted
    with make_cache(strategy, workers=1) as cache:
        put_cold(cache, "pad", 10)
        session = opened(cache)
        answered(session)
        assert session.playback.stats.prefetched.asked == 6
        closed(cache, session)


def test_what_the_strategy_gives_back_is_wasted() -> None:
    def answer(moment: str, view: View) -> Iterable[Action]:
        return [Touch(view.wanted, 1), Advise(Span(2, 5), 2, Advice.COLD)] if moment == "prepare" else []

    with make_cache(recording(answer), workers=1) as cache:
        put_cold(cache, "pad", 10)
        session = opened(cache)
        answered(session)
        assert session.playback.stats.prefetched == PageOutcomes(asked=10, wasted=3)
        closed(cache, session)


class TestHints:
    def test_a_hint_that_is_played_in_time_was_useful_for_its_own_strategy(self) -> None:
        with make_cache(plugins=PLUGINS) as cache:
            put_cold(cache, "pad", 100)
            assert cache.prefetch("pad", strategy="touch").wait(20)
            session = opened(cache, strategy="willneed")
            answered(session)
            play(session)
            assert session.playback.stats.prefetched == PageOutcomes(asked=100, useful=100)
            closed(cache, session)
            assert (outcomes(cache, "touch"), outcomes(cache, "willneed")) == ((100, 100, 0, 0), (0, 0, 0, 0))

    def test_a_hint_that_comes_while_it_plays_is_handed_over_at_once(self) -> None:
        with make_cache(plugins=PLUGINS) as cache:
            put_cold(cache, "pad", 100)
            session = opened(cache, strategy="none")
            assert cache.prefetch("pad", strategy="touch").wait(20)
            play(session)
            closed(cache, session)
            assert outcomes(cache, "touch") == (100, 100, 0, 0)

    def test_a_hint_that_nobody_plays_is_wasted_when_its_hold_is_over(self) -> None:
        with make_cache(plugins=PLUGINS) as cache:
            put_cold(cache, "pad", 100)
            assert cache.prefetch("pad", strategy="touch", hold_ns=50_000_000).wait(20)
            until(lambda: outcomes(cache, "touch") == (100, 0, 0, 100))
            assert cache.store.get("pad").content.leases == 0

    def test_a_hint_that_is_cancelled_is_wasted(self) -> None:
        kernel = GatedKernel()
        with make_cache(plugins=PLUGINS, kernel=kernel) as cache:
            put_cold(cache, "pad", 100)
            kernel.held_up = "touch"
            prefetch = cache.prefetch("pad", strategy="touch")
            passes(kernel.reached)
            prefetch.cancel()
            kernel.gate.set()
            assert prefetch.wait(20)
            assert outcomes(cache, "touch") == (64, 0, 0, 64)

    def test_nothing_is_kept_of_what_has_ended(self) -> None:
        with make_cache(plugins=PLUGINS) as cache:
            put_cold(cache, "pad", 10)
            for _ in range(3):
                assert cache.prefetch("pad", strategy="touch", hold_ns=1).wait(20)
            session = opened(cache, strategy="touch")
            play(session)
            closed(cache, session)
            announced: Announced = cache._announced
            until(lambda: not announced._waiting)
            assert (announced._playing, cache.totals._accounts) == ({}, set())
            assert cache.store.used_bytes == PAGE_BYTES * 10
