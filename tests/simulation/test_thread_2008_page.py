"""From figures to verdicts and the page: what is committed is what the figures say, and they come out again."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from samplecache.cli.app import app
from samplecache.errors import ConfigurationError
from samplecache.lab.thread2008.claim import Claim, predicts
from samplecache.lab.thread2008.claims import CLAIMS, MODERN, OBSERVATIONS
from samplecache.lab.thread2008.experiment import FULL, QUICK, Figures, run
from samplecache.lab.thread2008.figures import ANNOUNCED, LATE, PER_ACTION, Results
from samplecache.lab.thread2008.page import page, standing
from samplecache.lab.thread2008.rows import ROWS
from samplecache.lab.thread2008.suite import investigate
from samplecache.lab.thread2008.verdicts import Outcome, Verdict, compare, on_device, together
from samplecache.strategy.registry import StrategyRegistry

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "the-2008-thread.md"
RESULTS = DOCS / "the-2008-thread" / "results.json"
DEVICES = ("hdd-laptop-2008", "hdd-7200", "ssd-sata", "nvme-p3700", "zram-lz4")
ZERO = {field.name: 0 for field in dataclasses.fields(Figures)}


def figures(row: str, seed: int, device: str = "hdd-7200", **facts: int) -> Figures:
    return Figures(**ZERO | {"row": row, "device": device, "seed": seed} | facts)  # type: ignore[arg-type]


def results(late: Mapping[str, list[int]], device: str = "hdd-7200") -> Results:
    """Return results of which only late blocks matter, a list of them by seed for each row."""
    runs = tuple(
        figures(row, seed, device, late_blocks=blocks) for row, each in late.items() for seed, blocks in enumerate(each)
    )
    return Results(QUICK, (device,), tuple(range(5)), runs, (), ())


def outcome(mine: list[int], other: list[int]) -> Outcome:
    compared = compare(results({"patch": mine, "stock": other}), "hdd-7200", LATE, "patch", "stock")
    assert compared is not None
    return compared.outcome


class TestOutcomes:
    @pytest.mark.parametrize(
        ("mine", "other", "expected"),
        [
            ([0, 0, 0, 0, 0], [50, 60, 70, 80, 90], Outcome.BETTER),
            ([50, 60, 70, 80, 90], [0, 0, 0, 0, 0], Outcome.WORSE),
            ([95, 95, 95, 95, 95], [100, 100, 100, 100, 100], Outcome.TIE),  # less than a tenth
            ([6, 6, 6, 6, 6], [10, 10, 10, 10, 10], Outcome.TIE),  # less than five blocks
            ([0, 0, 0, 99, 99], [50, 50, 50, 50, 50], Outcome.TIE),  # two seeds say otherwise
            ([0, 0, 0, 0, 99], [50, 50, 50, 50, 50], Outcome.BETTER),  # one seed does
            ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], Outcome.NOTHING),
            ([0, 1, 2, 3, 99], [0, 0, 0, 0, 0], Outcome.TIE),  # with one seed there is something to tell
        ],
    )
    def test_needs_a_difference_that_counts_with_all_seeds_but_one_in_five(
        self, mine: list[int], other: list[int], expected: Outcome
    ) -> None:
        assert outcome(mine, other) is expected

    def test_more_is_better_where_it_is(self) -> None:
        runs = tuple(
            figures(row, seed, announced=10, announced_in_time=in_time)
            for row, in_time in (("patch", 10), ("stock", 5))
            for seed in range(5)
        )
        compared = compare(Results(QUICK, ("hdd-7200",), (0,), runs, (), ()), "hdd-7200", ANNOUNCED, "patch", "stock")
        assert compared is not None
        assert (compared.outcome, str(compared.mine), compared.better_seeds) == (Outcome.BETTER, "100", 5)

    def test_where_all_sounds_start_in_time_there_is_nothing_to_tell_apart(self) -> None:
        runs = tuple(figures(row, 0, announced=10, announced_in_time=10) for row in ("patch", "stock"))
        compared = compare(Results(QUICK, ("hdd-7200",), (0,), runs, (), ()), "hdd-7200", ANNOUNCED, "patch", "stock")
        assert compared is not None
        assert compared.outcome is Outcome.NOTHING

    def test_rows_that_did_not_run_are_not_compared(self) -> None:
        assert compare(results({"patch": [1]}), "hdd-7200", LATE, "patch", "stock") is None

    def test_spread_is_shown_where_there_is_any(self) -> None:
        summary = LATE.summary(results({"patch": [3, 9, 4, 5, 1]}).of("patch", "hdd-7200"))
        assert str(summary) == "4 (1\u20139)"
        assert str(PER_ACTION.summary(results({"patch": [1]}).of("patch", "hdd-7200"))) == "0.0"


class TestVerdicts:
    CLAIM = Claim("key", "Someone", "words", "meaning", (predicts("patch", "stock", LATE, Outcome.BETTER),))

    @pytest.mark.parametrize(
        ("patch", "verdict", "words"),
        [
            (0, Verdict.RIGHT, "**right** on hdd-7200"),
            (48, Verdict.TIE, "**a tie** on hdd-7200"),
            (90, Verdict.WRONG, "**not borne out** on hdd-7200"),
        ],
    )
    def test_follow_the_figures(self, patch: int, verdict: Verdict, words: str) -> None:
        found = results({"patch": [patch] * 5, "stock": [50] * 5})
        assert self.CLAIM.verdict(found) is verdict
        assert standing(self.CLAIM, found) == words

    def test_devices_may_differ(self) -> None:
        runs = [
            *results({"patch": [0] * 5, "stock": [50] * 5}, "hdd-7200").runs,
            *results({"patch": [50] * 5, "stock": [0] * 5}, "hdd-laptop-2008").runs,
            *results({"patch": [0] * 5, "stock": [0] * 5}, "ssd-sata").runs,
            *results({"patch": [50] * 5, "stock": [50] * 5}, "nvme-p3700").runs,
        ]
        devices = ("hdd-7200", "hdd-laptop-2008", "ssd-sata", "nvme-p3700")
        found = Results(QUICK, devices, (0,), tuple(runs), (), ())
        assert self.CLAIM.verdict(found) is Verdict.MIXED
        assert standing(self.CLAIM, found) == (
            "**right on hdd-7200; a tie on nvme-p3700; not borne out on hdd-laptop-2008**; "
            "nothing to tell apart on ssd-sata"
        )

    def test_what_shows_nowhere_is_not_decided(self) -> None:
        found = results({"patch": [0] * 5, "stock": [0] * 5})
        assert self.CLAIM.verdict(found) is Verdict.MOOT
        assert Claim("key", "Someone", "words", "meaning").verdict(found) is Verdict.SILENT

    def test_on_a_device_a_tie_is_no_more_than_that(self) -> None:
        assert on_device([None, Outcome.NOTHING]) is Verdict.RIGHT
        assert on_device([None, Outcome.TIE]) is Verdict.TIE
        assert on_device([None, Outcome.TIE, Outcome.WORSE]) is Verdict.WRONG
        assert on_device([Outcome.NOTHING]) is Verdict.MOOT

    def test_devices_that_differ_are_told_apart(self) -> None:
        assert together([Verdict.RIGHT, Verdict.MOOT]) is Verdict.RIGHT
        assert together([Verdict.RIGHT, Verdict.WRONG]) is Verdict.MIXED
        assert together([Verdict.RIGHT, Verdict.TIE]) is Verdict.MIXED
        assert together([Verdict.TIE, Verdict.MOOT]) is Verdict.TIE
        assert together([Verdict.WRONG, Verdict.MOOT]) is Verdict.WRONG


class TestSuite:
    def test_figures_do_not_depend_on_processes_and_progress_is_told_from_nothing_to_all(self) -> None:
        told: list[tuple[int, int]] = []
        one, two = (
            investigate(QUICK, ("zram-lz4",), (0, 1), lambda *progress: told.append(progress), processes=processes)
            for processes in (1, 2)
        )
        assert one == two
        assert len(one.runs) == 2 * sum(row.today for row in ROWS.values())
        assert told == 2 * [(done, len(one.runs)) for done in range(len(one.runs) + 1)]

    def test_unknown_devices_are_refused_before_anything_runs(self) -> None:
        with pytest.raises(ConfigurationError, match="No simulated device is called 'drum'"):
            investigate(FULL, ("hdd-7200", "drum"), (0,))


class TestCommitted:
    def test_the_page_is_what_the_figures_say(self) -> None:
        text = RESULTS.read_text(encoding="utf-8")
        committed = Results.from_json(text)
        assert committed.to_json() == text
        assert page(committed, "the-2008-thread") == PAGE.read_text(encoding="utf-8")

    def test_the_figures_are_of_full_runs_on_all_devices(self) -> None:
        committed = Results.from_json(RESULTS.read_text(encoding="utf-8"))
        assert (committed.scale, committed.devices, committed.seeds) == (FULL, DEVICES, tuple(range(5)))
        assert {(one.row, one.device, one.seed) for one in committed.runs} == {
            (row, device, seed) for row in ROWS for device in DEVICES if ROWS[row].runs_on(device) for seed in range(5)
        }

    @pytest.mark.parametrize(("row", "device", "seed"), [("patch", "hdd-laptop-2008", 0), ("today", "nvme-p3700", 1)])
    def test_the_figures_come_out_again(self, row: str, device: str, seed: int) -> None:
        """If they do not, the model has changed, and ``samplecache lab thread-2008`` has to write the page anew."""
        committed = Results.from_json(RESULTS.read_text(encoding="utf-8")).of(row, device)[seed]
        assert run(ROWS[row], device, seed, FULL, StrategyRegistry.discover()) == committed

    def test_every_claim_is_on_the_page_with_its_words_and_plots_are_there(self) -> None:
        text = PAGE.read_text(encoding="utf-8")
        for claim in (*CLAIMS, *OBSERVATIONS, *MODERN):
            assert f'<a id="{claim.key}"></a>\n### {claim.quote}\n' in text
        plots = sorted((DOCS / "the-2008-thread").glob("*.png"))
        assert [f"(the-2008-thread/{plot.name})" in text for plot in plots] == [True] * 4
        assert {plot.read_bytes()[:4] for plot in plots} == {b"\x89PNG"}


def command(*arguments: str, hash_seed: str = "0", prelude: str = "") -> subprocess.CompletedProcess[str]:
    program = f"{prelude}\nfrom samplecache.cli import main\nif __name__ == '__main__':\n    main()"
    return subprocess.run(
        [sys.executable, "-c", program, "lab", "thread-2008", *arguments],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def refusal(*arguments: object) -> str:
    """The one line that is said of a command that is refused."""
    done = CliRunner().invoke(app, ["lab", "thread-2008", *map(str, arguments)], catch_exceptions=False)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    return done.stderr


class TestCommand:
    def test_runs_every_row_on_a_disk(self, tmp_path: Path) -> None:
        done = command("--quick", "--seeds", "1", "--devices", "hdd-laptop-2008", "--output", str(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"SIMULATED: {len(ROWS)} runs; ")
        found = Results.from_json((tmp_path / "the-2008-thread" / "results.json").read_text(encoding="utf-8"))
        assert {one.row for one in found.runs} == set(ROWS)
        assert len(list((tmp_path / "the-2008-thread").glob("*.png"))) == 4

    def test_writes_the_page_from_figures_without_a_run(self, tmp_path: Path) -> None:
        done = command("--figures", str(RESULTS), "--output", str(tmp_path))
        assert done.returncode == 0
        assert (tmp_path / "the-2008-thread.md").read_bytes() == PAGE.read_bytes()

    def test_runs_again_to_the_same_bytes_and_needs_no_device_that_the_old_kernel_knows(self, tmp_path: Path) -> None:
        pages = []
        for hash_seed in ("1", "2"):
            output = tmp_path / hash_seed
            arguments = ("--quick", "--seeds", "1", "--devices", "zram-lz4,zram-lz4", "--output", str(output))
            done = command(*arguments, hash_seed=hash_seed)
            assert (done.returncode, done.stderr) == (0, "")
            # A device that is named twice counts once.
            assert done.stdout.startswith(f"SIMULATED: {sum(row.today for row in ROWS.values())} runs; ")
            assert len(list((output / "the-2008-thread").glob("*.png"))) == 4
            results_json = output / "the-2008-thread" / "results.json"
            pages.append([(output / "the-2008-thread.md").read_bytes(), results_json.read_bytes()])
        assert pages[0] == pages[1]
        lines = pages[0][0].decode().splitlines()
        assert lines[:2] == ["# The 2008 thread, answered", ""]
        assert lines[2].startswith("**The figures on this page mean nothing**")
        assert "2.6.24 knows none of these devices: zram-lz4." in lines

    def test_without_matplotlib_it_says_what_to_install(self, tmp_path: Path) -> None:
        done = command(
            "--figures", str(RESULTS), "--output", str(tmp_path), prelude="import sys; sys.modules['matplotlib'] = None"
        )
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "Install samplecache[lab]" in done.stderr
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("text", ["no figures", "[]", '{"runs": []}'])
    def test_a_file_of_something_else_is_a_line(self, text: str, tmp_path: Path) -> None:
        file = tmp_path / "figures.json"
        file.write_text(text)
        assert "These are not figures of this experiment" in refusal("--figures", file, "--output", tmp_path / "docs")
        assert not (tmp_path / "docs").exists()

    def test_an_unknown_device_is_a_line(self, tmp_path: Path) -> None:
        assert "Choose from hdd-laptop-2008" in refusal("--quick", "--devices", "drum", "--output", tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_an_output_that_cannot_be_made_is_a_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("a file")
        assert "cannot be made (Not a directory)" in refusal("--quick", "--output", tmp_path / "file" / "docs")
