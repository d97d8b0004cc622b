"""A comparison on the running kernel: what was finished is kept, and swap and control groups are as they were."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from samplecache.kernel import procfs
from samplecache.lab.contest.log import RunLog
from samplecache.lab.contest.records import Status
from samplecache.lab.rig import Rig
from samplecache.lab.rig_undo import SUFFIX

pytest.importorskip("matplotlib", reason="needs matplotlib")
pytest.importorskip("jinja2", reason="needs jinja2")

DEADLINE_S = 60

SCENARIO = """
title = "short"
strategies = ["touch"]
contenders = ["disk"]
repetitions = 3

[[sample]]
name = "pad"
seconds = 0.5

[[trigger]]
samples = "pad"
at_s = [0.0]
"""


def standing(rig: Rig) -> set[str]:
    """What a run sets up: swap areas, control groups, journals and what lies beside them."""
    groups = {str(path) for group in rig.groups for path in group.parent.glob("samplecache-*")}
    files = {str(path) for path in rig.options.directory.iterdir() if path.name.endswith(SUFFIX) or path.is_dir()}
    return {str(area.path) for area in procfs.swap_areas()} | groups | files


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_what_was_finished_is_kept_and_all_is_put_back(
    session_rig: Rig, no_rig: None, tmp_path: Path, ended_by: signal.Signals
) -> None:
    before = standing(session_rig)
    file, out = tmp_path / "short.toml", tmp_path / "out"
    file.write_text(SCENARIO)
    argv = [sys.executable, "-m", "samplecache", "lab", "compare", str(file), "--kernel", "linux", "--strategies", ""]
    process = subprocess.Popen([*argv, "-o", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    runs = out / "runs.jsonl"
    try:
        wait_until(lambda: process.poll() is not None or (runs.exists() and runs.read_bytes().count(b"\n") >= 1))
        # In the middle of the next run: its swap area is there.
        wait_until(
            lambda: process.poll() is not None or [area for area in procfs.swap_areas() if str(area.path) not in before]
        )
        process.send_signal(ended_by)
        _, said = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, said
    assert "runs are kept, and the same command goes on from there" in said
    wait_until(lambda: not standing(session_rig) - before)
    kept = RunLog.read(out).runs
    assert kept
    assert {run.contender for run in kept} == {"disk"}
    assert kept[0].status in (Status.DONE, Status.NOISY), kept[0].why
    figures = kept[0].figures
    assert figures is not None
    assert (figures.periods, len(figures.first_ns), figures.unheard) == (50, 1, 0)
    assert json.loads((out / "results.json").read_text())["tables"][0]["how"] == "MEASURED"
    assert (out / "report.html").exists()
