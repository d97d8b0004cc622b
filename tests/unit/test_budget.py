"""One horizon for all, the nearest deadlines first, and never more than the budget."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from cache_parts import PAGE_BYTES, make_cache, put_cold, until
from session_parts import Follows, closed, opened, play, recording

from samplecache.cache.accounting.accounts import Account, PageOutcomes
from samplecache.cache.accounting.budget import (
    LEAST_BUDGET_BYTES,
    SHARES_LAST_NS,
    UNKNOWN_BUDGET_BYTES,
    Admission,
    Claim,
    PrefetchBudget,
    default_budget_bytes,
    horizon_s,
)
from samplecache.clock import NS_PER_S
from samplecache.kernel.port import Residency, Span, Tier
from samplecache.kernel.signals import MemoryState
from samplecache.strategy import Advise, Recheck, SampleView, Stretch, Touch

PAGES = 64
SWAPPED = Residency(Span(0, PAGES), bytes([Tier.SWAPPED] * PAGES))


@pytest.mark.parametrize(
    ("budget", "claims", "expected_s"),
    [
        (600, [], math.inf),
        (600, [(100, 10_000)], 6.0),
        (600, [(100, 10_000), (200, 10_000)], 2.0),
        (600, [(100, 60), (200, 10_000)], 2.7),  # the first wants no more than 60: 540 are left to the other
        (600, [(100, 300), (200, 300)], math.inf),
        (600, [(100, 0), (200, 10_000)], 3.0),
        (0, [(100, 10)], 0.0),
    ],
)
def test_all_look_as_far_ahead_and_what_one_does_not_want_the_others_get(
    budget: int, claims: list[tuple[int, int]], expected_s: float
) -> None:
    found_s = horizon_s(budget, claims)
    assert found_s == pytest.approx(expected_s)
    if found_s != math.inf:
        assert sum(min(rate * found_s, wanted) for rate, wanted in claims) == pytest.approx(budget)


@pytest.mark.parametrize(
    ("available_bytes", "expected_bytes"),
    [(None, UNKNOWN_BUDGET_BYTES), (0, LEAST_BUDGET_BYTES), (1 << 30, 256 << 20)],
)
def test_a_quarter_of_what_is_available_unless_that_is_too_little(
    available_bytes: int | None, expected_bytes: int
) -> None:
    assert default_budget_bytes(MemoryState(None, available_bytes)) == expected_bytes


@dataclass
class Player:
    """One whose pages are charged; a page sounds for a second."""

    budget: PrefetchBudget
    path: tuple[Stretch, ...] = (Stretch(Span(0, PAGES), 0),)
    given_back: list[Span] = field(default_factory=list)
    rate: int = PAGE_BYTES

    def __post_init__(self) -> None:
        self.account = Account("mine", PAGES, on_closed=self.budget.leave, on_settled=self.budget.release)
        view = SampleView("pad", PAGES, PAGE_BYTES, self.rate)
        self.claim = Claim(self.account, view, lambda: self.path, 10 * NS_PER_S, self.given_back.append)
        self.budget.join(self.claim)

    def admit(self, span: Span, now_s: int = 0) -> Admission:
        return self.budget.admit(self.account, span, SWAPPED, now_s * NS_PER_S)


def budget_of(pages: int) -> PrefetchBudget:
    return PrefetchBudget(pages * PAGE_BYTES, PAGE_BYTES)


class TestShares:
    def test_follow_the_rates(self) -> None:
        budget = budget_of(9)
        slow, fast = Player(budget), Player(budget, rate=2 * PAGE_BYTES)
        assert budget.share_bytes(slow.account, 0) == 3 * PAGE_BYTES
        assert budget.share_bytes(fast.account, 0) == 6 * PAGE_BYTES

    def test_nobody_wants_more_than_his_strategy_looks_ahead_or_there_is_to_read(self) -> None:
        budget = budget_of(40)
        Player(budget, path=(Stretch(Span(60, 64), 0),))
        player, loop = Player(budget), Player(budget, path=(Stretch(Span(3, 5), 0), Stretch(Span(0, 5), 9)))
        # 4, 11 and 7 pages at the most fit: everyone may have all of it.
        assert budget.share_bytes(player.account, 0) == budget.share_bytes(loop.account, 0) == 40 * PAGE_BYTES

    def test_are_worked_out_again_when_one_comes_or_goes_or_memory_is_short(self) -> None:
        budget = budget_of(8)
        first = Player(budget)
        assert budget.share_bytes(first.account, 0) == 8 * PAGE_BYTES
        second = Player(budget)
        assert budget.share_bytes(first.account, 0) == 4 * PAGE_BYTES
        budget.scale(0.5)
        assert budget.share_bytes(first.account, 0) == 2 * PAGE_BYTES
        second.account.close()
        assert budget.share_bytes(first.account, 0) == 4 * PAGE_BYTES

    def test_one_that_was_taken_over_has_none_of_its_own(self) -> None:
        budget = budget_of(8)
        session, hint = Player(budget), Player(budget)
        session.account.take_over(hint.account)
        assert budget.share_bytes(session.account, NS_PER_S) == 8 * PAGE_BYTES

    def test_one_that_asks_for_nothing_more_claims_what_it_has(self) -> None:
        budget = budget_of(8)
        player, hint = Player(budget), Player(budget)
        hint.admit(Span(0, 2))
        assert budget.share_bytes(player.account, 0) == 4 * PAGE_BYTES
        hint.account.finished = True
        assert budget.share_bytes(player.account, SHARES_LAST_NS) == 6 * PAGE_BYTES

    def test_whoever_is_not_charged_has_no_bound(self) -> None:
        assert budget_of(8).share_bytes(Account("touch", 8), 0) is None


class TestAdmission:
    def test_what_fits_is_charged_and_paid_back_when_it_is_settled(self) -> None:
        budget = budget_of(10)
        player = Player(budget)
        assert player.admit(Span(0, 6)) == Admission(Span(0, 6), 6)
        assert player.admit(Span(0, 6)) == Admission(Span(0, 6), 0)
        assert budget.used_bytes == 6 * PAGE_BYTES
        player.account.read(Span(0, 2), lambda pages: True)
        assert budget.used_bytes == 4 * PAGE_BYTES
        player.account.close()
        assert (budget.used_bytes, budget.peak_bytes) == (0, 6 * PAGE_BYTES)

    def test_what_does_not_fit_is_cut_short(self) -> None:
        budget = budget_of(4)
        player = Player(budget)
        assert player.admit(Span(0, 6)) == Admission(Span(0, 4), 4)
        assert player.admit(Span(4, 6)) == Admission(Span(4, 4), 0)

    def test_pages_in_ram_need_no_room(self) -> None:
        budget = budget_of(2)
        player = Player(budget)
        residency = Residency(Span(0, 6), bytes([Tier.SWAPPED, Tier.MAPPED, Tier.SWAP_CACHE] * 2))
        assert budget.admit(player.account, Span(0, 6), residency, 0) == Admission(Span(0, 6), 2)
        assert budget.used_bytes == 2 * PAGE_BYTES

    def test_a_nearer_deadline_takes_the_place_of_what_is_due_last(self) -> None:
        budget = budget_of(8)
        near, far = Player(budget), Player(budget, path=(Stretch(Span(0, PAGES), 10 * NS_PER_S),))
        far.admit(Span(0, 8))
        assert near.admit(Span(0, 3)) == Admission(Span(0, 3), 3, ((far.claim, Span(5, 8)),))
        assert far.account.outcomes == PageOutcomes(asked=8, wasted=3)
        # What is left of the far one is due from 10 to 14 s on.
        assert near.admit(Span(12, 14)) == Admission(Span(12, 14), 2, ((far.claim, Span(3, 5)),))
        assert budget.used_bytes == 8 * PAGE_BYTES

    def test_nobody_takes_the_place_of_what_is_due_sooner(self) -> None:
        budget = budget_of(4)
        near, far = Player(budget), Player(budget, path=(Stretch(Span(0, PAGES), 10 * NS_PER_S),))
        near.admit(Span(0, 4))
        assert far.admit(Span(0, 4)) == Admission(Span(0, 0), 0)
        assert near.account.outstanding == 4

    def test_what_nobody_will_read_goes_first(self) -> None:
        budget = budget_of(4)
        player, other = Player(budget), Player(budget)
        player.admit(Span(0, 4))
        player.path = (Stretch(Span(2, 40), 0),)
        assert other.admit(Span(30, 32)) == Admission(Span(30, 32), 2, ((player.claim, Span(0, 2)),))

    def test_a_loops_next_round_is_due_after_the_rest_of_this_one(self) -> None:
        budget = budget_of(4)
        loop, other = Player(budget), Player(budget)
        loop.path = (Stretch(Span(6, 8), 0), Stretch(Span(4, 8), 2 * NS_PER_S))
        loop.admit(Span(4, 8))
        assert other.admit(Span(0, 1)).displaced == ((loop.claim, Span(5, 6)),)
        assert other.admit(Span(1, 2)).displaced == ((loop.claim, Span(4, 5)),)
        assert other.admit(Span(2, 3)) == Admission(Span(2, 2), 0)

    def test_for_one_that_has_stopped_time_stands_still(self) -> None:
        budget = budget_of(4)
        paused, other = Player(budget), Player(budget)
        paused.admit(Span(0, 4))
        assert other.admit(Span(1, 2), now_s=100).displaced == ((paused.claim, Span(3, 4)),)

    def test_under_pressure_nothing_is_admitted_until_enough_is_settled(self) -> None:
        budget = budget_of(8)
        player = Player(budget)
        player.admit(Span(0, 8))
        budget.scale(0.5)
        assert player.admit(Span(8, 9)) == Admission(Span(8, 8), 0)
        player.account.read(Span(0, 5), lambda pages: True)
        assert player.admit(Span(8, 10)) == Admission(Span(8, 9), 1)

    def test_what_a_session_took_over_is_due_as_its_own(self) -> None:
        budget = budget_of(4)
        session, hint, other = Player(budget), Player(budget), Player(budget)
        session.path = (Stretch(Span(0, PAGES), 50 * NS_PER_S),)
        hint.admit(Span(0, 4))
        session.account.take_over(hint.account)
        assert other.admit(Span(0, 1)).displaced == ((hint.claim, Span(3, 4)),)


# --- in the cache ---


def greedy(moment: str, view: object) -> list[Touch]:
    return [Touch(Span(0, 40), 1)] if moment == "prepare" else []


def test_the_cache_brings_no_more_in_than_the_budget_and_the_rest_when_there_is_room() -> None:
    strategy = recording(greedy)  # type: ignore[arg-type]
    strategy.budgeted = True
    with make_cache(strategy, prefetch_budget_bytes=10 * PAGE_BYTES) as cache:
        data = put_cold(cache, "pad", 40)
        session = opened(cache)
        until(lambda: cache.prefetch_budget.used_bytes == 10 * PAGE_BYTES)
        assert cache.residency("pad").in_core == 10
        played = bytearray()
        while session.next_block() is not None:
            played += play(session, 1)
            until(lambda: cache.prefetch_budget.used_bytes or all(each.progress.done for each in session._prefetches))
        closed(cache, session)
        assert played == data
        assert cache.prefetch_budget.peak_bytes == 10 * PAGE_BYTES
        assert cache.prefetch_budget.used_bytes == 0
        outcomes = cache.totals.snapshot()["mine"].prefetched
        assert (outcomes.asked, outcomes.outstanding) == (outcomes.useful + outcomes.late + outcomes.wasted, 0)


def test_pages_that_the_strategy_never_looked_at_are_charged_all_the_same() -> None:
    def answer(moment: str, view: object) -> list[Advise | Recheck]:
        if moment == "prepare":
            return [Recheck(Span(0, 1), 0)]
        return [Advise(Span(0, 40))] if moment == "advance" else []

    strategy = recording(answer, base=Follows)  # type: ignore[arg-type]
    strategy.budgeted = True
    with make_cache(strategy, prefetch_budget_bytes=10 * PAGE_BYTES) as cache:
        put_cold(cache, "pad", 40)
        session = opened(cache)
        until(lambda: cache.prefetch_budget.used_bytes == 10 * PAGE_BYTES)
        closed(cache, session)
        assert cache.prefetch_budget.peak_bytes == 10 * PAGE_BYTES


class TestHints:
    def test_a_budgeted_strategy_needs_what_it_sets_out_to_bring_in(self) -> None:
        strategy = recording(lambda moment, view: [Touch(Span(10, 30)), Touch(Span(20, 35))])
        strategy.budgeted = True
        with make_cache(strategy) as cache:
            put_cold(cache, "pad", 60)
            prefetch = cache.prefetch("pad", strategy="mine")
            assert prefetch.wait(20)
            progress = prefetch.progress
            assert (progress.pages_needed, progress.pages_in, prefetch.in_time) == (25, 25, True)

    def test_its_strategy_is_asked_again_until_the_deadline(self) -> None:
        strategy = recording(
            lambda moment, view: [Touch(Span(0, 5)), Recheck(Span(0, 5), view.now_ns + 20_000_000)], base=Follows
        )
        with make_cache(strategy) as cache:
            put_cold(cache, "pad", 60)
            cache.prefetch("pad", strategy="mine", deadline_ns=cache.clock.now_ns() + NS_PER_S // 4)
            until(lambda: strategy.asked.count(("advance", Span(0, 60))) >= 3)
            assert cache.evict("pad", 20 * NS_PER_S) == (60, 0)
            until(lambda: cache.residency("pad").in_core == 5)
            content = cache.store.get("pad").content
            until(lambda: cache.clock.now_ns() > 0 and not content.leases)
            asked = len(strategy.asked)
            assert asked < 15

    def test_a_session_that_plays_it_looks_after_it_instead(self) -> None:
        strategy = recording(lambda moment, view: [Recheck(Span(0, 5), view.now_ns + 20_000_000)], base=Follows)
        with make_cache(strategy) as cache:
            put_cold(cache, "pad", 60)
            cache.prefetch("pad", strategy="mine", deadline_ns=cache.clock.now_ns() + 60 * NS_PER_S)
            until(lambda: len(strategy.asked) >= 2)
            session = opened(cache, strategy="none")
            asked = len(strategy.asked)
            play(session)
            closed(cache, session)
            cache.prefetch("pad", strategy="none").wait(20)
            assert len(strategy.asked) <= asked + 1
