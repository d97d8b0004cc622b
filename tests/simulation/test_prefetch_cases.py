"""The cases of ``benchmarks/prefetch``, as far as strategies without tuning decide them."""

from __future__ import annotations

from functools import cache

import pytest

from benchmarks.prefetch import simulated
from benchmarks.prefetch.cases import CASES, Contender
from benchmarks.prefetch.figures import Run, Series, table
from samplecache.clock import NS_PER_S

PAGES_OF_TEN_SECONDS = -(-48_000 * 10 * 4 // 4096)


@cache
def ample(strategy: str) -> Run:
    """The case that several tests look at; that a seed gives one run is shown below."""
    return simulated.run(CASES["ample"], Contender(strategy), seed=0)


@pytest.mark.parametrize(
    ("strategy", "major", "minor"),
    [("none", 59, PAGES_OF_TEN_SECONDS - 59), ("willneed", 0, PAGES_OF_TEN_SECONDS), ("touch", 0, 0)],
)
def test_with_ample_memory_an_announced_sample_is_read_once_and_in_time(strategy: str, major: int, minor: int) -> None:
    run = ample(strategy)
    assert (run.total("late_blocks"), run.pages_in, run.pages_played) == (0, PAGES_OF_TEN_SECONDS, PAGES_OF_TEN_SECONDS)
    assert (run.total("major_faults"), run.total("minor_faults")) == (major, minor)


def test_advice_is_worth_nothing_where_the_sample_does_not_fit() -> None:
    nothing, advised = (simulated.run(CASES["large"], Contender(name), seed=0) for name in ("none", "willneed"))
    assert nothing.swap_ins_per_page == 1
    assert advised.swap_ins_per_page == pytest.approx(2, abs=0.01)
    assert advised.total("major_faults") > 0.9 * nothing.total("major_faults")


def test_who_is_resident_takes_no_fault() -> None:
    run = simulated.run(CASES["triggers"], Contender("none", tagged=False, cold=False), seed=0)
    assert (run.pages_in, run.total("major_faults"), run.total("minor_faults")) == (0, 0, 0)


def test_one_seed_gives_one_run() -> None:
    first, second = (simulated.run(CASES["slow-8"], Contender("willneed"), seed=3) for _ in range(2))
    assert first == second


def test_a_table_shows_medians_and_ranges_where_contenders_differ() -> None:
    both = {"none": Series("none"), "mixed": Series("mixed")}
    for strategy in ("none", "touch", "none"):
        both["none"].runs.append(ample("none"))
        both["mixed"].runs.append(ample(strategy))
    columns, rows = table({name: series.figures for name, series in both.items()})
    none, mixed = (dict(zip(columns, row, strict=True)) for row in rows)
    assert (none["major faults"], mixed["major faults"]) == ("59", "59 (0-59)")
    assert none["underruns"] == mixed["underruns"] == "0"
    assert not {"told", "server CPU, % of a core"} & set(columns)


def test_as_many_streams_as_fit_play_clean_and_the_others_are_told_at_once() -> None:
    run = simulated.run(CASES["overload"], Contender("window"), seed=0)
    told = [heard for heard in run.heard if heard.told_after_ns is not None]
    clean = [heard for heard in run.heard if not heard.late_blocks]
    # 0.9 of what the device carries is given out: 1.47 MB/s, or seven streams of 192 kB/s.
    assert (len(clean), len(told)) == (7, 5)
    assert not {heard.sample_id for heard in clean} & {heard.sample_id for heard in told}
    assert max(heard.told_after_ns for heard in told if heard.told_after_ns is not None) < NS_PER_S
    assert {heard.blocks for heard in run.heard} == {500}
