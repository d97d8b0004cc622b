"""``samplecache lab trace`` on the simulated kernel, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from samplecache.cli.app import app
from samplecache.lab.tracing.bench import Outcome, Run
from samplecache.lab.tracing.comparing import compare
from samplecache.lab.tracing.documents import json_document, markdown
from samplecache.lab.tracing.program import Mode
from samplecache.lab.tracing.reading import load
from samplecache.lab.tracing.setting import Setting, State, swap_bytes_for

SIMULATED = ["lab", "trace", "--simulated-only"]


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def outcome(name: str, setting: Setting) -> Outcome:
    """What two simulated kernels agree on, one of them in the place of the running one."""
    program = load(name)
    recording = setting.simulate(program, swap_bytes=swap_bytes_for(program))
    own = setting.own(recording)
    return Outcome(name, program, setting, (Run(own, own, compare(program, own, own), []),))


def test_every_step_is_a_row() -> None:
    code, out, _ = invoke(*SIMULATED, "5", "--mode", "vma")
    assert code == 0
    heading, what, *_ = out.splitlines()
    assert heading == "simulated only: as asked"
    assert what.startswith("05-stride-2 (vma, page_cluster 3).")
    rows = [line.split() for line in out.splitlines() if "SIMULATED" in line]
    assert [row[:6] for row in rows] == [
        ["1", "evict", "main", "SIMULATED", "0", "1024"],
        ["2", "touch-stride", "main", "SIMULATED", "384", "128"],
    ]


def test_a_trace_runs_where_it_says_unless_told_otherwise() -> None:
    def settings(*arguments: str) -> list[tuple[str, int, str]]:
        code, out, _ = invoke(*SIMULATED, "--json", *arguments)
        assert code == 0
        return [(each["mode"], each["page_cluster"], each["state"]) for each in json.loads(out)["traces"]]

    assert settings("15") == [("zram", 3, "scattered")]
    assert settings("2") == [("vma", 0, "scattered"), ("cluster", 0, "scattered")]
    assert settings("2", "--mode", "cluster", "--page-cluster", "4", "--state", "boot") == [("cluster", 4, "boot")]
    assert len(settings("2", "--all-modes")) == 6 + 2 * 6 + 1


def test_json_has_every_figure() -> None:
    code, out, _ = invoke(*SIMULATED, "--json", "14", "--mode", "vma")
    assert code == 0
    document = json.loads(out)
    assert document["why_simulated_only"] == "as asked"
    (trace,) = document["traces"]
    (run,) = trace["runs"]
    assert (run["measured"], run["agrees"], trace["agrees"]) == (None, None, None)  # with what?
    lock = run["simulated"][1]
    assert (lock["do"], lock["thread"], lock["pgmajfault"], lock["locked_bytes"]) == (
        "lock",
        "prefetcher",
        130,
        4 << 20,
    )


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('title = "own"\n[[region]]\nname = "a"\npages = 4\n[[step]]\ndo = "touch"\n')
    code, out, _ = invoke(*SIMULATED, str(path), "--mode", "zram")
    assert (code, "own (zram, page_cluster 3). own." in out) == (0, True)


def test_files_that_share_a_name_run_both(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "x.toml" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(f'title = "{path.parent.name}"\n[[region]]\nname = "a"\npages = 4\n[[step]]\ndo = "touch"\n')
    code, out, _ = invoke(*SIMULATED, "--json", *map(str, paths), "1", "01", "--mode", "vma", "--page-cluster", "3")
    assert code == 0
    traces = [(each["name"], each["title"]) for each in json.loads(out)["traces"]]
    assert traces[:2] == [(str(paths[0]), "a"), (str(paths[1]), "b")]
    assert [name for name, _ in traces[2:]] == ["01-sequential"]


def test_a_step_that_does_not_end_as_expected_fails(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('title = "own"\n[[region]]\nname = "a"\npages = 4\n[[step]]\ndo = "lock"\nerrno = "ENOMEM"\n')
    code, out, _ = invoke(*SIMULATED, str(path), "--mode", "zram")
    assert code == 1
    assert "run 1, step 1 (lock) ended with success, expected ENOMEM" in out


def test_a_bad_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('title = "bad"\n[[region]]\nname = "a"\npages = 4\n[[step]]\ndo = "trouch"\n')
    code, out, err = invoke("lab", "trace", str(path))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"error: {path}:6: no step does \"trouch\". Did you mean 'touch'? ")


@pytest.mark.parametrize("arguments", [["--all-modes", "--mode", "vma"], ["--all-modes", "--page-cluster", "1"]])
def test_all_modes_is_all(arguments: list[str]) -> None:
    code, _, err = invoke(*SIMULATED, *arguments)
    assert code == 2
    assert "--all-modes stands for every --mode" in err


def test_without_root_it_simulates_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    code, out, _ = invoke("lab", "trace", "1", "--mode", "vma")
    assert (code, out.splitlines()[0]) == (0, "simulated only: making swap needs root")
    assert "MEASURED" not in out
    page = tmp_path / "page.md"
    code, _, err = invoke("lab", "trace", "1", "--markdown", str(page))
    assert (code, page.exists()) == (1, False)
    assert "There is nothing measured to write" in err


def test_the_page_has_a_table_for_each_kind_of_swap() -> None:
    outcomes = [
        outcome("01-sequential", Setting(Mode.VMA)),
        outcome("01-sequential", Setting(Mode.VMA, 5)),
        outcome("05-stride-2", Setting(Mode.CLUSTER, 3, State.BOOT)),
    ]
    lines = markdown(outcomes, command="samplecache lab trace", kernel_release="6.18", disk="a disk").splitlines()
    vma, cluster = lines.index("## VMA mode"), lines.index("## Cluster mode, boot")
    assert lines[vma + 2 : vma + 5] == [
        "| trace | page_cluster 3 | page_cluster 5 |",
        "|---|---|---|",
        "| 01-sequential | 130/894/1024/894 (1 of 1) | 36/988/1024/988 (1 of 1) |",
    ]
    assert lines[cluster + 4] == "| 05-stride-2 | 128/384/1023/895 (1 of 1) |"
    assert lines[-1] == "None."


def test_the_page_says_where_published_figures_hold() -> None:
    outcomes = [
        outcome("05-stride-2", Setting(Mode.VMA)),
        *(outcome("05-stride-2", Setting(Mode.CLUSTER, 3, state)) for state in State),
    ]
    page = markdown(outcomes, command="samplecache lab trace", kernel_release="6.18", disk="a disk")
    assert "| 05-stride-2 | 3 | 384/128/769 | holds | 128/384/1023 | holds | 512/0/512/0 |  |  |" in page
    own = Outcome("own", outcomes[0].program, Setting(Mode.VMA), outcomes[0].runs)
    assert "published figures" not in markdown([own], command="", kernel_release="", disk="")


def test_a_document_tells_measured_from_simulated() -> None:
    (trace,) = json_document([outcome("01-sequential", Setting(Mode.VMA))], "6.18", "")["traces"]
    assert set(trace["runs"][0]["verdicts"][1].values()) == {"agree"}
    assert trace["runs"][0]["measured"] == trace["runs"][0]["simulated"]
    assert (trace["agrees"], trace["runs"][0]["agrees"]) == (True, True)
