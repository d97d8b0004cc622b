"""Figures are medians of what was measured, and sums that add up."""

from __future__ import annotations

from collections import Counter

from samplecache.cache.accounting.accounts import Account, PageOutcomes
from samplecache.cache.accounting.figures import PageInMeter, StrategyTotals, Totals
from samplecache.cache.accounting.playback import PlaybackStats
from samplecache.kernel.port import FaultCounts, Residency, Span, Tier
from samplecache.strategy.events import UnderrunCause
from samplecache.strategy.view import PageInFigures


def test_latency_is_the_median_of_a_single_fault() -> None:
    meter = PageInMeter()
    for faults, elapsed_ns in ((1, 100), (2, 600), (10, 90_000), (0, 10**9)):
        meter.record_faults(faults, elapsed_ns)
    assert meter.figures == PageInFigures(latency_ns=300, latency_high_ns=9_000)


def test_old_measurements_are_forgotten() -> None:
    meter = PageInMeter()
    for _ in range(64):
        meter.record_faults(1, 1)
    for _ in range(64):
        meter.record_faults(1, 1_000)
    assert meter.figures.latency_ns == 1_000


def test_totals_add_up_by_strategy() -> None:
    ended = PlaybackStats(
        blocks=3,
        frames=205,
        late_blocks=2,
        longest_stall_ns=900,
        faults=FaultCounts(5, 1),
        late_by_cause=Counter({UnderrunCause.MAJOR_FAULT: 1, UnderrunCause.CLIENT: 1}),
    )
    playing = PlaybackStats(
        blocks=1,
        late_blocks=1,
        longest_stall_ns=700,
        faults=FaultCounts(1, 1),
        late_by_cause=Counter({UnderrunCause.CLIENT: 1}),
    )
    totals = Totals()
    totals.begin_session("session-1", "touch", ended, 10)
    totals.begin_session("session-2", "touch", playing, 10)
    totals.end_session("session-1")
    totals.add_prefetch("none", 10, 7)
    totals.add_prefetch("none", 5, 5)
    assert list(totals.snapshot().items()) == [
        ("none", StrategyTotals(prefetches=2, pages_needed=15, pages_brought_in=12)),
        (
            "touch",
            StrategyTotals(
                sessions=2,
                blocks=4,
                played_pages=20,
                late_blocks=3,
                longest_stall_ns=900,
                faults=FaultCounts(6, 2),
                late_by_cause={UnderrunCause.MAJOR_FAULT: 1, UnderrunCause.CLIENT: 2},  # type: ignore[arg-type]
            ),
        ),
    ]


def test_a_snapshot_stays_what_it_was() -> None:
    stats = PlaybackStats(blocks=1, late_by_cause=Counter({UnderrunCause.CLIENT: 1}))
    totals = Totals()
    totals.begin_session("session-1", "none", stats, 1)
    before = totals.snapshot()
    stats.blocks += 1
    stats.late_by_cause[UnderrunCause.SERVICE] += 1
    assert (before["none"].blocks, dict(before["none"].late_by_cause)) == (1, {UnderrunCause.CLIENT: 1})
    totals.end_session("session-1")
    after = totals.snapshot()
    assert (after["none"].blocks, len(after["none"].late_by_cause)) == (2, 2)


def test_sums_do_not_go_back_when_a_session_ends() -> None:
    totals = Totals()
    totals.begin_session("session-1", "none", PlaybackStats(blocks=3), 1)
    before = totals.snapshot()
    totals.end_session("session-1")
    assert totals.snapshot() == before


def test_pages_brought_in_ahead_count_for_the_strategy_that_did_it_while_it_goes_on_and_after() -> None:
    totals, swapped = Totals(), Residency(Span(0, 8), bytes([Tier.SWAPPED] * 8))
    account = Account("touch", 8, on_closed=totals.end_account)
    totals.begin_account(account)
    account.ask(account.not_asked(Span(0, 5), swapped))
    account.read(Span(0, 2), lambda pages: True)
    before = totals.snapshot()
    assert before["touch"].prefetched == PageOutcomes(asked=5, useful=2)
    account.close()
    assert totals.snapshot()["touch"].prefetched == PageOutcomes(asked=5, useful=2, wasted=3)
    assert before["touch"].prefetched == PageOutcomes(asked=5, useful=2)
