"""``samplecache lab simulate``: what ran, and what it refuses before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from samplecache.cli.app import app


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["lab", "simulate", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_fallback_is_shown_as_what_ran() -> None:
    old = ("--kernel", "linux-2.6.24", "--strategies", "willneed, touch")
    code, out, _ = invoke(*old)
    assert (code, "willneed → touch" in out, "the strategy that ran instead" in out) == (0, True, True)
    rows = json.loads(invoke(*old, "--json")[1])["strategies"]
    assert [(row["strategy"], row["bound"]) for row in rows] == [("willneed", "touch"), ("touch", "touch")]
    assert {**rows[0], "strategy": "touch"} == rows[1]


def test_a_strategy_that_runs_itself_has_no_arrow() -> None:
    code, out, _ = invoke("--strategies", "touch")
    assert (code, "→" in out) == (0, False)


@pytest.mark.parametrize("strategies", ["", "touch,", "none, ,touch"])
def test_a_strategy_needs_a_name(strategies: str) -> None:
    code, out, err = invoke("--strategies", strategies)
    assert (code, out) == (1, "")
    assert "A strategy without a name cannot be compared. Name some of " in err


def test_memory_in_which_nobody_could_go_on_is_refused() -> None:
    code, out, err = invoke("--memory", "4KiB")
    assert (code, out) == (1, "")
    assert "1 pages of memory" in err
    assert "Give the machine 50 pages at least, 200 KiB" in err


def test_the_least_memory_is_enough() -> None:
    code, out, _ = invoke("--memory", "200KiB", "--strategies", "none")
    assert (code, "memory 200" in out) == (0, True)


def test_a_trace_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    file = tmp_path / "none" / "trace"
    code, out, err = invoke("--trace", str(file))
    assert (code, out) == (1, "")
    assert f"{file} cannot be written" in err


def test_a_refusal_leaves_no_trace_file(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    assert invoke("--trace", str(file), "--memory", "4KiB")[0] == 1
    assert not file.exists()
