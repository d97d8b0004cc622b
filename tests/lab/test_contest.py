"""Comparisons: runs on the simulated kernel, the log that keeps them, who is told apart, and what is written."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from small_scenario import SMALL, small

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import ConfigurationError, ExhaustedError, StateError
from samplecache.lab.contest.exporting import as_csv, as_document, as_markdown
from samplecache.lab.contest.log import RUNS, RunLog
from samplecache.lab.contest.page import page
from samplecache.lab.contest.playing import Plan, Player, Turn, play_all, simulating
from samplecache.lab.contest.reading import reading
from samplecache.lab.contest.records import Case, Figures, Run, Status, digits
from samplecache.lab.contest.simulated import simulate
from samplecache.lab.contest.summary import COLUMNS, Spread, Table, tables, told_apart
from samplecache.lab.contest.timelines import timeline
from samplecache.lab.scenarios.score import Score
from samplecache.strategy.registry import StrategyRegistry

FAST = Case(kernel="simulated", device="unthrottled", memory="ample")
SLOW = Case(kernel="simulated", device="60iops", memory="ample")
REAL = Case(kernel="linux", device="2MB/s", memory="0.5x")
IDENTITY = {"name": "small", "seed": 3, "text": SMALL}


@pytest.fixture(scope="module")
def registry() -> StrategyRegistry:
    return StrategyRegistry.discover()


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return RunLog.open(tmp_path / "out", IDENTITY)


def figures(glitches: int, **others: int) -> Figures:
    given = {"periods": 100, "missing_ns": glitches * NS_PER_MS, "longest_stall_ns": NS_PER_MS, "sample_pages": 10}
    return Figures(glitches=glitches, first_ns=[glitches], stored_bytes=1, **{**given, **others})


def a_run(contender: str, repetition: int, glitches: int, case: Case = SLOW, status: Status = Status.DONE) -> Run:
    counted = figures(glitches) if status.counts else None
    return Run(case=case, contender=contender, repetition=repetition, seed=0, status=status, figures=counted)


class TestSimulatedRun:
    def test_faults_and_glitches_are_those_of_the_strategy(self, registry: StrategyRegistry) -> None:
        score = small().score()
        none, touch = (simulate(score, SLOW, name, "hdd-laptop-2008", registry) for name in ("none", "touch"))
        assert none.figures is not None
        assert touch.figures is not None
        assert none.figures.glitches == len(none.stalls) > 0
        assert none.figures.major_faults > 0
        assert none.figures.missing_ns == sum(stall.late_ns for stall in none.stalls)
        assert none.figures.longest_stall_ns == max(stall.late_ns for stall in none.stalls)
        assert {stall.cause for stall in none.stalls} <= {"major_fault", "page_wait"}
        assert touch.figures.major_faults < none.figures.major_faults
        assert none.bound == "none"

    def test_seeks_and_loops_are_played(self, registry: StrategyRegistry) -> None:
        run = simulate(small().score(), FAST, "touch", "hdd-laptop-2008", registry)
        assert run.timeline is not None
        jumping, looping = (
            next(head for head in run.timeline.heads if head.sample_id == name) for name in ("pad-000", "pad-001")
        )
        jumps = [
            (before, after) for before, after in zip(jumping.places, jumping.places[1:], strict=False) if after < before
        ]
        ends = [after for before, after in zip(looping.places, looping.places[1:], strict=False) if after < before]
        # pad-000 plays [0, 0.2) s, then from 0.4 s: forward; 0.6 s in all, so that it ends where the sample does.
        assert jumps == []
        assert jumping.places[-1] == pytest.approx(1.0)
        assert max(b - a for a, b in zip(jumping.places, jumping.places[1:], strict=False)) == pytest.approx(0.2625)
        # pad-001 lasts 0.8 s and plays for 1 s.
        assert len(ends) == 1
        assert looping.places[-1] == pytest.approx(0.25)

    def test_the_timeline_covers_the_run(self, registry: StrategyRegistry) -> None:
        score = small().score()
        run = simulate(score, SLOW, "none", "hdd-laptop-2008", registry)
        seen = run.timeline
        assert seen is not None
        assert run.figures is not None
        assert seen.times_ns[0] == 0
        assert seen.times_ns[-1] >= score.stop_ns - 100 * NS_PER_MS
        assert sum(seen.major_faults) == run.figures.major_faults
        assert sum(seen.pages_in) == run.figures.swap_in_pages
        assert [strip.sample_id for strip in seen.strips] == list(dict.fromkeys(cue.sample_id for cue in score.cues))
        for strip in seen.strips:
            assert len(strip.rows) == len(seen.times_ns)
            assert set(strip.rows[0]) == {"0"}  # cold
            assert {len(row) for row in strip.rows} == {len(strip.rows[0])}

    def test_the_same_seed_gives_the_same_run(self, registry: StrategyRegistry) -> None:
        runs = [simulate(small().score(2), SLOW, "willneed", "hdd-laptop-2008", registry) for _ in range(2)]
        assert runs[0] == runs[1]

    def test_who_shares_the_memory_is_left_alone_or_suffers(self, registry: StrategyRegistry) -> None:
        load = '[[load]]\nmemory = "64MiB"\nrate = "40MB"\n'
        thrashing = Case(kernel="simulated", device="60iops", memory="0.5x")
        ample, scarce = (
            simulate(small(text).score(), case, "touch", "hdd-laptop-2008", registry).figures
            for text, case in ((SMALL, SLOW), (SMALL + load, thrashing))
        )
        assert ample is not None
        assert scarce is not None
        assert (ample.victim_faults, ample.victim_p99_ns) == (0, 0)
        assert scarce.victim_faults is not None
        assert scarce.victim_faults > 10
        assert scarce.victim_p99_ns is not None
        assert scarce.victim_p99_ns > NS_PER_MS

    def test_memory_is_what_samples_have_in_it(self, registry: StrategyRegistry) -> None:
        score = small().score()
        run = simulate(score, SLOW, "touch", "hdd-laptop-2008", registry)
        assert run.figures is not None
        assert run.figures.rss_bytes is not None
        assert 0.9 * score.stored_bytes < run.figures.rss_bytes <= score.stored_bytes + 4096 * len(score.sounds)

    def test_an_idle_hour_makes_samples_cold(self, registry: StrategyRegistry) -> None:
        load = '[[load]]\nmemory = "2MiB"\nrate = "200kB"\nidle = true\n'
        text = SMALL.replace("seed = 3", "seed = 3\nidle_s = 60") + load
        case = Case(kernel="simulated", device="unthrottled", memory="1.5x")
        run = simulate(small(text).score(), case, "none", "ssd-sata", registry)
        assert run.figures is not None
        assert run.figures.major_faults > 0


def test_residency_is_told_in_tenths() -> None:
    assert digits(bytes([1] * 10 + [0] * 10 + [1, 0] * 5), 3) == "904"
    assert digits(bytes([1, 0]), 2) == "90"


class TestLog:
    def test_runs_are_there_again(self, log: RunLog) -> None:
        runs = [a_run("a", 0, 3), a_run("b", 0, 0, status=Status.FAILED)]
        for run in runs:
            log.add(run)
        assert RunLog.open(log.directory, IDENTITY).runs == runs

    def test_another_scenario_is_refused(self, log: RunLog) -> None:
        with pytest.raises(StateError, match="whose seed was different"):
            RunLog.open(log.directory, {**IDENTITY, "seed": 4})

    @pytest.mark.parametrize("kept", [1, 30])
    def test_a_line_cut_off_is_left_out_and_written_after(self, log: RunLog, kept: int) -> None:
        log.add(a_run("a", 0, 3))
        file = log.directory / RUNS
        whole = file.read_bytes()
        file.write_bytes(whole + whole[:kept])
        again = RunLog.open(log.directory, IDENTITY)
        assert again.runs == log.runs
        again.add(a_run("b", 0, 1))
        assert [run.contender for run in RunLog.open(log.directory, IDENTITY).runs] == ["a", "b"]

    def test_damage_is_told_with_its_line(self, log: RunLog) -> None:
        log.add(a_run("a", 0, 3))
        file = log.directory / RUNS
        file.write_bytes(b'{"case": 1}\n' + file.read_bytes())
        with pytest.raises(ConfigurationError, match=rf"{RUNS}:1: this is no run"):
            RunLog.open(log.directory, IDENTITY)

    def test_no_directory_of_runs_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="no runs that can be read"):
            RunLog.read(tmp_path)

    def test_a_quiet_run_replaces_a_noisy_one(self, log: RunLog) -> None:
        for run in (a_run("a", 0, 9, status=Status.NOISY), a_run("a", 0, 1), a_run("a", 1, 8, status=Status.NOISY)):
            log.add(run)
        assert [(run.repetition, run.figures and run.figures.glitches) for run in log.counting()] == [(0, 1), (1, 8)]


def playing(play: Callable[[Score, Case, str], Run]) -> Player:
    """A player whose runs `play` makes."""

    @contextlib.contextmanager
    def ready(score: Score, contender: str) -> Iterator[Turn]:
        yield lambda case: play(score, case, contender)

    return ready


def refused() -> AbstractContextManager[Player]:
    raise AssertionError("nothing is to be measured")


class TestPlaying:
    def plan(self, repetitions: int = 2) -> Plan:
        return Plan(small(), (FAST, SLOW), ("samplecache:none", "samplecache:touch"), repetitions, 3)

    def test_every_contender_plays_in_every_machine_in_every_repetition(self) -> None:
        turns = list(self.plan(3).turns())
        runs = [(repetition, case, who) for repetition, who, cases in turns for case in cases]
        assert len(runs) == len(set(runs)) == 3 * 2 * 2
        assert [repetition for repetition, _, _ in runs] == [0] * 4 + [1] * 4 + [2] * 4
        assert runs[:4] != [(0, case, who) for _, case, who in runs[4:8]]
        assert list(self.plan(3).turns()) == turns

    def test_a_contender_is_started_once_for_all_that_one_device_is_asked_for(self) -> None:
        half = REAL.model_copy(update={"memory": "ample"})
        fast = REAL.model_copy(update={"device": "unthrottled"})
        plan = Plan(small(), (REAL, fast, half), ("samplecache:none", "vmtouch"), 20, 0)
        turns = list(plan.turns())
        assert [len(cases) for _, _, cases in turns].count(2) == [len(cases) for _, _, cases in turns].count(1) == 40
        assert all(len({case.device for case in cases}) == 1 for _, _, cases in turns)
        assert {tuple(cases) for _, _, cases in turns if len(cases) == 2} == {(REAL, half), (half, REAL)}
        # Those that are compared play soon after one another.
        assert all(a[2][0].device == b[2][0].device for a, b in zip(turns[::2], turns[1::2], strict=True))

    def test_others_than_strategies_play_on_the_running_kernel_only(self) -> None:
        plan = Plan(small(), (FAST, REAL), ("samplecache:none", "vmtouch"), 1, 0)
        assert {(repetition, case, who) for repetition, who, cases in plan.turns() for case in cases} == {
            (0, FAST, "samplecache:none"),
            (0, REAL, "samplecache:none"),
            (0, REAL, "vmtouch"),
        }

    def test_a_failure_is_kept_and_the_rest_goes_on(self, log: RunLog) -> None:
        def player(score: Score, case: Case, contender: str) -> Run:
            if contender.endswith("touch"):
                raise ExhaustedError("there is no memory", remedy="Give it some")
            return a_run(contender, 0, 1, case)

        play_all(self.plan(), log, playing(player), refused)
        assert [run.status for run in log.runs].count(Status.DONE) == 4
        failed = [run for run in log.runs if run.status is Status.FAILED]
        assert [run.why for run in failed] == ["there is no memory. Give it some."] * 4
        assert {run.repetition for run in log.runs} == {0, 1}

    def test_an_interruption_keeps_what_was_finished_and_the_rest_is_played_later(self, log: RunLog) -> None:
        played: list[tuple[Case, str, int]] = []

        def player(stop_after: int, score: Score, case: Case, contender: str) -> Run:
            if len(played) == stop_after:
                raise KeyboardInterrupt
            played.append((case, contender, score.seed))
            return a_run(contender, 0, 1, case)

        with pytest.raises(KeyboardInterrupt):
            play_all(self.plan(), log, playing(partial(player, 3)), refused)
        again = RunLog.open(log.directory, IDENTITY)
        assert len(again.runs) == 3
        play_all(self.plan(), again, playing(partial(player, -1)), refused)
        assert len(played) == len(set(played)) == 8
        play_all(self.plan(), again, playing(partial(player, 8)), refused)  # nothing is left to play
        play_all(self.plan(3), again, playing(partial(player, -1)), refused)
        assert len(played) == 12

    def test_what_says_nothing_is_tried_again(self, log: RunLog) -> None:
        statuses = iter([Status.WARM, Status.NOISY, Status.DONE, *[Status.NOISY] * 3])

        def player(score: Score, case: Case, contender: str) -> Run:
            return a_run(contender, 0, 1, case, next(statuses))

        plan = Plan(small(), (FAST,), ("samplecache:none", "samplecache:touch"), 1, 3)
        play_all(plan, log, playing(player), refused)
        assert [run.status.value for run in log.runs] == ["warm", "noisy", "done", "noisy", "noisy", "noisy"]
        assert len(list(log.counting())) == 2


class TestTellingApart:
    @pytest.mark.parametrize(
        ("mine", "others", "expected"),
        [
            ([0] * 5, [1] * 5, True),
            ([0] * 4, [1] * 4, False),
            ([0] * 10, [1] * 9 + [-1], True),
            ([0] * 10, [1] * 8 + [-1] * 2, False),
            ([0] * 10, [1] * 5 + [0] * 5, True),
            ([0] * 10, [1] * 4 + [0] * 6, False),
            ([7] * 10, [7] * 10, False),
        ],
    )
    def test_by_a_sign_test(self, mine: list[float], others: list[float], expected: bool) -> None:
        pair = dict(enumerate(mine)), dict(enumerate(others))
        assert told_apart(*pair) is expected
        assert told_apart(*reversed(pair)) is expected

    def test_only_over_repetitions_that_both_played(self) -> None:
        assert not told_apart(dict.fromkeys(range(5), 0.0), dict.fromkeys(range(1, 9), 1.0))

    def one_table(self, log: RunLog, **glitches: list[int]) -> Table:
        for name, counts in glitches.items():
            for repetition, count in enumerate(counts):
                log.add(a_run(name, repetition, count))
        (table,) = tables(log)
        return table

    def test_ties_share_a_rank(self, log: RunLog) -> None:
        table = self.one_table(log, bad=[9] * 5, good=[0, 0, 0, 0, 1], fair=[0, 1, 0, 0, 0], worse=[10, 9, 9, 9, 9])
        assert [(row.contender, row.rank, row.tied) for row in table.rows] == [
            ("good", 1, True),
            ("fair", 1, True),
            ("bad", 3, True),
            ("worse", 3, True),
        ]
        assert reading(table).startswith("good and fair are a tie at the top")
        best = {row.contender for row in table.rows if (cell := row.cells["glitches"]) and cell.best}
        assert best == {"good", "fair"}

    def test_few_repetitions_tell_nobody_apart(self, log: RunLog) -> None:
        table = self.one_table(log, bad=[9] * 4, good=[0] * 4)
        assert [row.rank for row in table.rows] == [1, 1]
        assert reading(table) == (
            "all are a tie (0 to 9 glitches in the median); fewer than five repetitions tell nobody apart."
        )

    def test_a_clear_win_is_called_one(self, log: RunLog) -> None:
        table = self.one_table(log, bad=[9, 8, 9, 9, 9], good=[0] * 5)
        assert reading(table) == (
            "good is the best (without a glitch in half of the runs at least). "
            "Told apart from that, with glitches in the median: bad 9."
        )

    def test_what_never_counted_is_said_with_its_reason(self, log: RunLog) -> None:
        log.add(a_run("here", 0, 1))
        log.add(a_run("away", 0, 0, status=Status.FAILED).model_copy(update={"why": "it is not installed"}))
        (table,) = tables(log)
        assert table.missing == (("away", "it is not installed"),)

    def test_measured_and_simulated_never_share_a_table(self, log: RunLog) -> None:
        for case in (FAST, REAL, SLOW):
            log.add(a_run("a", 0, 1, case))
        assert [table.case for table in tables(log)] == [REAL, FAST, SLOW]

    def test_spread_is_told(self) -> None:
        assert str(Spread(2.0, 1.0, 10_000.0)) == "2 (1 to 10\u202f000)"
        assert str(Spread(0.123, 0.123, 0.123)) == "0.12"
        assert str(Spread(0.001, 0.0, 0.001)) == "< 0.01 (0 to < 0.01)"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, registry: StrategyRegistry) -> RunLog:
    """A comparison of two repetitions."""
    log = RunLog.open(tmp_path_factory.mktemp("played"), IDENTITY)
    play = small()
    plan = Plan(play, (FAST, SLOW), ("samplecache:none", "samplecache:touch"), 2, 3)
    play_all(plan, log, simulating(play, registry), refused)
    return log


def test_csv_has_a_line_for_each_run(played: RunLog) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(played))))
    assert len(rows) == len(played.runs) == 8
    assert {row["how"] for row in rows} == {"SIMULATED"}
    for row, run in zip(rows, played.runs, strict=True):
        assert run.figures is not None
        assert int(row["glitches"]) == run.figures.glitches
        assert (row["contender"], int(row["repetition"])) == (run.contender, run.repetition)


def test_the_document_has_all_but_timelines(played: RunLog) -> None:
    document = as_document(played, tables(played))
    assert len(document["runs"]) == 8
    assert "timeline" not in document["runs"][0]
    assert [table["device"] for table in document["tables"]] == ["unthrottled", "60iops"]
    slow = {row["contender"]: row["figures"] for row in document["tables"][1]["rows"]}
    assert slow["samplecache:none"]["glitches"]["median"] > slow["samplecache:touch"]["glitches"]["median"]


def test_tables_can_be_pasted_into_what_one_writes(log: RunLog) -> None:
    for repetition, glitches in enumerate((3, 1, 4)):
        log.add(a_run("samplecache:a|b", repetition, glitches).model_copy(update={"machine": {"kernel": "some"}}))
    log.add(a_run("away", 0, 0, status=Status.FAILED).model_copy(update={"why": "it is not installed"}))
    assert as_markdown(tables(log)) == "\n".join(
        [
            "### SIMULATED: swap device 60iops, memory ample",
            "",
            "all are a tie (3 glitches in the median); fewer than five repetitions tell nobody apart.",
            "",
            "kernel some",
            "",
            "| rank | contender | glitches | missing, ms | longest stall, ms | first period p50, ms "
            "| first period p99, ms | stored, MiB | runs |",
            "| --- | --- | --: | --: | --: | --: | --: | --: | --- |",
            "| 1 | `samplecache:a\\|b` | 3 (1 to 4) | 3 (1 to 4) | 1 | < 0.01 | < 0.01 | < 0.01 | 3 |",
            "",
            "away is not in the table: it is not installed",
            "",
        ]
    )


def test_the_page_needs_nothing_else_and_escapes_what_others_wrote(played: RunLog) -> None:
    text = page(played, tables(played), small().scenario)
    assert "Small &amp; &lt;b&gt;bold&lt;/b&gt;" in text
    assert "<b>bold" not in text
    assert "<script" not in text
    outside = text.replace("http://www.w3.org/", "").replace("https://www.w3.org/", "")
    assert "http" not in outside
    for column in COLUMNS[:1]:
        assert column.title in text
    ids = [part.split('"', 1)[0] for part in text.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    assert text.count("<svg") == text.count("</svg>") >= 2 * 2 + 4


def test_a_picture_is_the_same_each_time(played: RunLog) -> None:
    row = tables(played)[1].rows[-1]
    one, two = (timeline(row, "touch", "t") for _ in range(2))
    assert one is not None
    assert one == two


def test_runs_without_timelines_make_a_page(log: RunLog) -> None:
    runs: list[Callable[[], Run]] = [
        partial(a_run, "a", 0, 0),
        partial(a_run, "b", 0, 4),
        partial(a_run, "c", 0, 0, status=Status.FAILED),
    ]
    for make in runs:
        log.add(make())
    text = page(log, tables(log), small().scenario)
    assert "c</strong> is not in the table" in text
    assert str(NS_PER_S) not in text
