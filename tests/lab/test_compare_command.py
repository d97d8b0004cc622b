"""``samplecache lab compare`` and ``lab report``: what they write, and what they refuse before anything runs."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from pathlib import Path

import pytest
from small_scenario import SMALL
from typer.testing import CliRunner

from samplecache.cli import lab_compare
from samplecache.cli.app import app
from samplecache.lab.contest.log import RUNS
from samplecache.lab.contest.playing import play_all

pytest.importorskip("matplotlib", reason="needs matplotlib")
pytest.importorskip("jinja2", reason="needs jinja2")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["lab", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_a_comparison_leaves_a_report_and_figures(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ("compare", file, "-o", out, "--repeat", 2, "--strategies", "none, touch", "--device", "60iops")
    code, shown, _ = invoke(*asked)
    assert code == 0
    assert "SIMULATED, 60iops, memory ample: all are a tie" in shown
    assert sorted(path.name for path in out.iterdir()) == [
        "picture.png",
        "report.html",
        "results.csv",
        "results.json",
        "results.md",
        "runs.jsonl",
        "scenario.json",
    ]
    assert len(list(csv.reader((out / "results.csv").read_text().splitlines()))) == 1 + 4
    # Asked for more, it plays only what is missing.
    lines = (out / RUNS).read_text().splitlines()
    code, shown, _ = invoke(*asked, "--device", "unthrottled", "--repeat", 1, "--json")
    assert code == 0
    document = json.loads(shown)
    assert [(table["device"], len(table["rows"])) for table in document["tables"]] == [
        ("unthrottled", 2),
        ("60iops", 2),
    ]
    assert (out / RUNS).read_text().splitlines()[:4] == lines
    (out / "report.html").unlink()
    assert invoke("report", out)[0] == 0
    assert (out / "report.html").stat().st_size > 10_000


def test_an_interruption_reports_on_what_was_finished(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(plan, log, simulate, measure, before, after, over):  # type: ignore[no-untyped-def]
        @contextlib.contextmanager
        def player(score, contender):  # type: ignore[no-untyped-def]
            with simulate(score, contender) as turn:

                def run(case):  # type: ignore[no-untyped-def]
                    if len(log.runs) == 1:
                        raise KeyboardInterrupt
                    return turn(case)

                yield run

        play_all(plan, log, player, measure, before, after, over)

    monkeypatch.setattr("samplecache.lab.contest.playing.play_all", interrupted)
    out = tmp_path / "out"
    code, _, err = invoke("compare", file, "-o", out)
    assert code == lab_compare.INTERRUPTED
    assert "interrupted; 1 runs are kept" in err
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--device", "floppy"), "'floppy' is no device"),
        (("--memory", "some"), "'some' is no amount of memory"),
        (("--strategies", "none,magic"), "magic"),
        (("--strategies", ""), "nobody is to play"),
        (("--contenders", "vmtouch"), "vmtouch cannot play on the simulated kernel"),
    ],
)
def test_what_cannot_be_played_is_refused_first(
    file: Path, tmp_path: Path, arguments: tuple[str, ...], what: str
) -> None:
    out = tmp_path / "out"
    code, shown, err = invoke("compare", file, "-o", out, *arguments)
    assert (code, shown) == (1, "")
    assert what in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("line", "wrong", "what"),
    [
        (3, 'strategies = ["wndow"]', "no strategy is called 'wndow'. Ask for one of auto, "),
        (7, 'repetitions = 5\ncontenders = ["pulse"]', "'pulse' is no contender. Name samplecache:STRATEGY"),
        (7, 'repetitions = 5\ncontenders = ["samplecache:wndow"]', "no strategy is called 'wndow'"),
    ],
)
def test_names_that_a_file_has_wrong_are_told_with_their_line(
    file: Path, tmp_path: Path, line: int, wrong: str, what: str
) -> None:
    key = wrong.split(" ")[0]
    right = next(text for text in SMALL.splitlines() if text.startswith(key))
    file.write_text(SMALL.replace(right, wrong))
    code, _, err = invoke("compare", file, "-o", tmp_path / "out")
    assert code == 1
    assert f"{file}:{line}: " in err
    assert what in err


def test_contenders_that_cannot_play_are_refused_first(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for program in ("pulseaudio", "pactl"):
        (tmp_path / program).write_text("")
        (tmp_path / program).chmod(0o700)
    asked = ("compare", file, "-o", tmp_path / "out", "--kernel", "linux", "--contenders", "pulseaudio,disk")
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = invoke(*asked)
    assert code == 1
    assert "pulseaudio plays samples from beginning to end only" in err
    assert "or leave it out: --contenders 'disk'" in err
    (tmp_path / "pactl").unlink()
    code, _, err = invoke(*asked)
    assert code == 1
    assert "apt-get install pulseaudio-utils, or leave it out" in err
    assert not (tmp_path / "out").exists()


def test_the_running_kernel_needs_root(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, err = invoke("compare", file, "-o", tmp_path / "out", "--kernel", "linux")
    assert code == 1
    assert "needs root" in err


def test_a_directory_of_something_else_is_refused(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert invoke("compare", file, "-o", out, "--repeat", 1, "--strategies", "touch", "--device", "unthrottled")[0] == 0
    code, _, err = invoke("compare", file, "-o", out, "--seed", 9)
    assert code == 1
    assert "whose seed was different" in err
    code, _, err = invoke("report", tmp_path)
    assert code == 1
    assert "no runs that can be read" in err


def test_scenarios_are_listed() -> None:
    code, shown, _ = invoke("scenarios")
    assert code == 0
    assert "radio-jingles" in shown
    assert {row["name"] for row in json.loads(invoke("scenarios", "--json")[1])} >= {"drum-fill", "thrashing"}
