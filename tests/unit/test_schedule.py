"""Planning of schedules: when prefetches begin, and which give way."""

from __future__ import annotations

import pytest

from samplecache.cache.ahead.schedule import MARGIN_NS, RETRY_NS, Decision, Hint, decide, fetching_ns, latest_beginnings
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.strategy.view import PageInFigures, Pressure

MB = 1_000_000
SLOW = PageInFigures(latency_ns=1, bytes_per_s=1 << 30, latency_high_ns=100 * NS_PER_MS, bytes_per_s_low=MB)
"""A megabyte a second after a tenth of one: with the safety, 1 MB takes 1.65 s."""
ONE_NS = 1650 * NS_PER_MS
PLENTY = 1 << 40


def hint(key: str, due_s: float, needed_mb: float = 1, sureness: float = 1.0, **state: bool) -> Hint:
    return Hint(key, int(due_s * NS_PER_S), int(needed_mb * MB), sureness, **state)


def decided(*hints: Hint, now_s: float = 0, pressure: Pressure = Pressure.NONE, budget_mb: float = PLENTY) -> Decision:
    return decide(hints, int(now_s * NS_PER_S), SLOW, pressure, int(budget_mb * MB))


def test_what_bringing_in_takes_is_told_from_bad_times() -> None:
    assert fetching_ns(MB, SLOW) == ONE_NS
    assert fetching_ns(MB, PageInFigures(10 * NS_PER_MS, MB)) == 1515 * NS_PER_MS
    assert fetching_ns(2 << 20, PageInFigures()) == 1575 * NS_PER_MS


def test_a_hint_begins_as_late_as_is_safe() -> None:
    begin_ns = 10 * NS_PER_S - MARGIN_NS - ONE_NS
    assert decided(hint("a", 10)) == Decision((), (), begin_ns)
    assert decide([hint("a", 10)], begin_ns - 1, SLOW, Pressure.NONE, PLENTY) == Decision((), (), begin_ns)
    assert decide([hint("a", 10)], begin_ns, SLOW, Pressure.NONE, PLENTY) == Decision(("a",), (), None)


def test_hints_that_are_due_together_begin_one_before_the_other() -> None:
    assert latest_beginnings([hint("a", 10), hint("b", 10), hint("c", 11)], SLOW) == {
        "c": 11 * NS_PER_S - MARGIN_NS - ONE_NS,
        "b": 11 * NS_PER_S - MARGIN_NS - 2 * ONE_NS,
        "a": 11 * NS_PER_S - MARGIN_NS - 3 * ONE_NS,
    }


def test_what_is_in_already_takes_nothing_of_the_device() -> None:
    later, earlier = hint("a", 10), hint("b", 11, begun=True, ended=True)
    assert latest_beginnings([later, earlier], SLOW)["a"] == 10 * NS_PER_S - MARGIN_NS - ONE_NS


def test_the_nearest_begin_first() -> None:
    assert decided(hint("b", 1.5), hint("a", 1)).begin == ("a", "b")


def test_sure_hints_begin_however_late_it_is() -> None:
    assert decided(hint("a", 0.1), hint("past", 0)).begin == ("past", "a")


def test_an_unsure_hint_gives_way_to_a_sure_one_that_it_would_make_late() -> None:
    sure, unsure = hint("sure", 2), hint("unsure", 1.9, sureness=0.9)
    assert decided(unsure) == decided(sure, unsure) == Decision((), (), 200 * NS_PER_MS)
    assert decided(unsure, now_s=0.2).begin == ("unsure",)
    assert decided(sure, unsure, now_s=0.2) == Decision((), (), 300 * NS_PER_MS)
    assert decided(sure, unsure, now_s=0.3) == Decision(("sure",), (), 400 * NS_PER_MS)


def test_an_unsure_hint_that_could_not_be_in_time_does_not_begin() -> None:
    assert decided(hint("a", 1, sureness=0.5)) == Decision((), (), RETRY_NS)


def test_of_two_unsure_hints_the_surer_one_begins() -> None:
    hints = [hint("likely", 2, sureness=0.8), hint("perhaps", 1.9, sureness=0.2)]
    assert decided(*hints, now_s=0.3).begin == ("likely",)


@pytest.mark.parametrize(("pressure", "least"), [(Pressure.NONE, 0.0), (Pressure.SOME, 0.5), (Pressure.FULL, 1.0)])
def test_under_pressure_the_unsure_wait(pressure: Pressure, least: float) -> None:
    for sureness in (0.0, 0.49, 0.5, 0.99, 1.0):
        begin = decided(hint("a", 1.7, sureness=sureness), pressure=pressure).begin
        assert begin == (("a",) if sureness >= least else ())


def test_what_has_no_room_waits_until_there_is() -> None:
    hints = [hint("in", 1, 3, begun=True, ended=True), hint("a", 2, 2)]
    assert decided(*hints, now_s=0.5, budget_mb=4) == Decision((), (), NS_PER_S // 2 + RETRY_NS)
    assert decided(*hints, now_s=0.5, budget_mb=5).begin == ("a",)


def test_a_hint_larger_than_the_budget_begins_alone() -> None:
    assert decided(hint("large", 1, 9), hint("a", 1.1), budget_mb=4).begin == ("large",)


def test_unsure_prefetches_give_way_to_sure_ones_if_that_makes_room() -> None:
    fetching = [hint("half", 9, 2, 0.5, begun=True), hint("tenth", 9, 2, 0.1, begun=True)]
    assert decided(*fetching, hint("sure", 1, 2), budget_mb=4) == Decision(("sure",), ("tenth",), None)
    assert set(decided(*fetching, hint("sure", 1, 4), budget_mb=4).give_way) == {"tenth", "half"}


def test_nothing_gives_way_in_vain() -> None:
    hints = [hint("tenth", 9, 2, 0.1, begun=True), hint("other", 9, 3, begun=True), hint("sure", 1, 4)]
    assert decided(*hints, budget_mb=6) == Decision((), (), RETRY_NS)


def test_nothing_comes_of_nothing() -> None:
    assert decided() == Decision((), (), None)
