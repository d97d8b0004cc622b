"""Every command against a real server, for people and with --json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from server_process import ServerProcess, running_server
from typer.testing import CliRunner, Result

from samplecache.cli import app
from samplecache.client import Client

FRAMES = 4_000
RATE_HZ = 8_000


class Shell:
    """Runs commands in this process against a server."""

    def __init__(self, target: str) -> None:
        self.target = target

    def run(self, *arguments: str, exit_code: int = 0) -> Result:
        """Run a command and check its exit code, and that it shows no traceback."""
        result = CliRunner().invoke(app, ["--server", self.target, *arguments], catch_exceptions=False)
        assert result.exit_code == exit_code, result.output
        return result

    def json(self, *arguments: str, exit_code: int = 0) -> Any:
        """Run a command and return the JSON document that it prints."""
        return json.loads(self.run(*arguments, "--json", exit_code=exit_code).stdout)

    def events(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command and return the JSON lines that it prints."""
        return [json.loads(line) for line in self.run(*arguments, "--json").stdout.splitlines()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def shell(server: ServerProcess) -> Iterator[Shell]:
    yield Shell(server.target)
    with Client(server.target) as client:
        for sample in list(client.list_samples()):
            client.delete(sample.sample_id)


@pytest.fixture
def kick(shell: Shell, tmp_path: Path) -> Path:
    """A stored sample, `kick`, and its file: 500 ms of a ramp."""
    file = tmp_path / "Kick.wav"
    soundfile.write(file, np.arange(FRAMES, dtype=np.int16), RATE_HZ)
    shell.run("put", str(file), "--tag", "drum")
    return file


# --- samples ---


def test_put_uploads_files_and_folders(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "kit/low").mkdir(parents=True)
    for name in ("kit/Hat 1.wav", "kit/low/Tom.flac", "alone.wav"):
        soundfile.write(tmp_path / name, np.full(10, len(name), np.int16), RATE_HZ)
    done = shell.json("put", str(tmp_path / "kit"), str(tmp_path / "alone.wav"), "--pin", "--strategy", "touch")
    assert [(one["file"], one["sample"]["sample_id"]) for one in done["uploaded"]] == [
        (str(tmp_path / "kit/Hat 1.wav"), "hat-1"),
        (str(tmp_path / "kit/low/Tom.flac"), "low.tom"),
        (str(tmp_path / "alone.wav"), "alone"),
    ]
    assert all(one["sample"]["pinned"] and one["sample"]["strategy"] == "touch" for one in done["uploaded"])
    assert done["errors"] == []


def test_put_goes_on_after_a_bad_file(shell: Shell, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", np.zeros(10), RATE_HZ)
    (tmp_path / "bad.wav").write_bytes(b"no sound at all")
    arguments = ("put", str(tmp_path / "bad.wav"), str(tmp_path / "missing.wav"), str(tmp_path / "good.wav"))
    result = shell.run(*arguments, exit_code=1)
    bad, missing = result.stderr.splitlines()
    assert bad.startswith(f"error: {tmp_path / 'bad.wav'}: ")
    assert missing == f"error: {tmp_path / 'missing.wav'}: there is no file {tmp_path / 'missing.wav'}. Check the name."
    assert "good" in result.stdout
    done = shell.json(*arguments, "--replace", exit_code=1)
    assert [one["sample"]["sample_id"] for one in done["uploaded"]] == ["good"]
    assert [error["reason"] for error in done["errors"]] == ["UNDECODABLE_AUDIO", "NO_SUCH_FILE"]
    assert all(error["remedy"] for error in done["errors"])


def test_put_does_not_let_one_file_replace_another(shell: Shell, tmp_path: Path) -> None:
    for name in ("a b.wav", "a-b.wav"):
        soundfile.write(tmp_path / name, np.zeros(10), RATE_HZ)
    done = shell.json("put", str(tmp_path), "--replace", exit_code=1)
    assert [one["file"] for one in done["uploaded"]] == [str(tmp_path / "a b.wav")]
    assert [error["file"] for error in done["errors"]] == [str(tmp_path / "a-b.wav")]


def test_put_raw_pcm_under_an_id(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "x.pcm").write_bytes(bytes(600))
    arguments = ("put", str(tmp_path / "x.pcm"), "--raw", "44100:2:s24", "--id", "noise.1")
    (one,) = shell.json(*arguments)["uploaded"]
    assert one["sample"]["format"] == {"rate_hz": 44_100, "channels": 2, "encoding": "s24"}
    assert (one["sample"]["sample_id"], one["sample"]["frames"]) == ("noise.1", 100)
    again = shell.run(*arguments, exit_code=1)
    assert again.stderr.endswith("there is a sample 'noise.1' already. Choose another id, or set replace.\n")


def test_put_without_a_server_says_so_once(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, np.zeros(10), RATE_HZ)
    (line,) = Shell("127.0.0.1:1").run("put", str(tmp_path), exit_code=1).stderr.splitlines()
    assert "samplecache serve" in line


def test_ls(shell: Shell, kick: Path) -> None:
    table = shell.run("ls").stdout
    assert "8000 Hz mono s16" in table
    assert "500.0 ms" in table
    assert "7.8 KiB" in table
    assert [sample["sample_id"] for sample in shell.json("ls", "--tag", "drum")["samples"]] == ["kick"]
    assert shell.json("ls", "--tag", "bass") == {"samples": []}
    assert shell.run("ls", "--tag", "bass").stdout == "No sample has all of these tags.\n"


def test_ls_of_nothing_says_what_to_do(shell: Shell) -> None:
    assert shell.run("ls").stdout == "No samples. Upload some with 'samplecache put FILE'.\n"


def test_show(shell: Shell, kick: Path) -> None:
    shown = shell.json("show", "kick")
    assert (shown["sample_id"], shown["frames"], shown["tags"], shown["source"]) == (
        "kick",
        4_000,
        ["drum"],
        "WAV PCM_16",
    )
    assert shown["content_sha256"] in shell.run("show", "kick").stdout


def test_update(shell: Shell, kick: Path) -> None:
    changed = shell.json("update", "kick", "--pin", "--tag", "a", "--tag", "b", "--strategy", "auto")
    assert (changed["pinned"], changed["tags"], changed["strategy"]) == (True, ["a", "b"], "auto")
    changed = shell.json("update", "kick", "--unpin", "--no-tags")
    assert (changed["pinned"], changed["tags"], changed["strategy"]) == (False, [], "auto")
    assert "auto" in shell.run("update", "kick", "--pin").stdout


def test_rm(shell: Shell, kick: Path) -> None:
    result = shell.run("rm", "nothing", "kick", exit_code=1)
    assert result.stdout == "removed kick\n"
    assert result.stderr.startswith("error: nothing: there is no sample")
    assert shell.json("rm", "kick", "--missing-ok") == {"removed": ["kick"], "errors": []}


@pytest.mark.parametrize(
    "command",
    [
        ["show"],
        ["update", "--pin"],
        ["prefetch"],
        ["residency"],
        ["evict"],
        ["play", "-o", "null"],
        ["play", "-o", "-"],
    ],
)
def test_a_sample_that_is_not_there(shell: Shell, command: list[str]) -> None:
    result = shell.run(*command, "ghost", exit_code=1)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: there is no sample 'ghost'. ")


@pytest.mark.parametrize(
    "command",
    [
        ["ls"],
        ["stats"],
        ["strategies"],
        ["watch"],
        ["residency"],
        ["show", "a"],
        ["prefetch", "a"],
        ["play", "a", "-o", "-"],
    ],
)
def test_no_server(command: list[str]) -> None:
    result = Shell("127.0.0.1:1").run(*command, exit_code=1)
    assert result.stdout == ""
    assert result.stderr == (
        "error: no server answers at 127.0.0.1:1. Start one with 'samplecache serve', or name another with --server or "
        "SAMPLECACHE_SERVER.\n"
    )


# --- paging ---


def test_evict_residency_and_prefetch(shell: Shell, kick: Path) -> None:
    assert shell.json("evict", "kick") == {"sample_id": "kick", "pages": 2, "pages_left": 0}
    (found,) = shell.json("residency", "--map")["samples"]
    assert found["sample_id"] == "kick"
    assert found["residency"] == {
        "page_bytes": 4096,
        "absent": 0,
        "swapped": 2,
        "swap_cache": 0,
        "mapped": 0,
        "locked": 0,
        "exact": True,
        "map": "0101",
    }
    assert "░░" in shell.run("residency", "kick").stdout
    events = shell.events("prefetch", "kick", "--strategy", "populate", "--deadline-ms", "10000")
    assert [events[0][key] for key in ("event", "strategy", "chosen_by")] == ["binding", "populate", "request"]
    result = events[-1]
    assert [result[key] for key in ("event", "pages_needed", "pages_brought_in", "in_time")] == ["result", 2, 2, True]
    assert "██" in shell.run("residency", "kick").stdout
    assert "all 2 pages are out of RAM" in shell.run("evict", "kick").stdout
    assert shell.run("prefetch", "kick", "--strategy", "touch").stdout.startswith("2 of 2 pages brought in within ")


def test_residency_of_nothing(shell: Shell) -> None:
    assert shell.json("residency") == {"samples": []}
    assert shell.run("residency").stdout.startswith("No samples.")


# --- playback ---


def test_play_writes_raw_pcm_to_stdout(shell: Shell, kick: Path) -> None:
    result = shell.run("play", "kick", "-o", "-", "--start", "1000", "--frames", "2000")
    assert result.stdout_bytes == np.arange(1000, 3000, dtype="<i2").tobytes()
    assert "raw PCM: 8000 Hz mono s16" in result.stderr
    assert "blocks" in result.stderr


def test_play_converts(shell: Shell, kick: Path) -> None:
    result = shell.run("play", "kick", "-o", "-", "--channels", "2", "--encoding", "f64", "--gain", "0.5")
    expected = np.repeat(np.arange(FRAMES) / 32_768 / 2, 2)
    assert np.array_equal(np.frombuffer(result.stdout_bytes, "<f8"), expected)


def test_play_into_a_file_holds_exactly_the_sample(shell: Shell, kick: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.wav"
    shell.run("play", "kick", "-o", f"wav:{file}")
    played, rate_hz = soundfile.read(file, dtype="int16")
    assert rate_hz == RATE_HZ
    assert np.array_equal(played, np.arange(FRAMES))


def test_play_in_real_time_tells_what_happened(shell: Shell, kick: Path) -> None:
    shell.run("evict", "kick")
    started, *rest = shell.events("play", "kick", "-o", "null", "--lead-ms", "400", "--strategy", "touch")
    assert started["event"] == "started"
    assert started["binding"]["strategy"] == "touch"
    assert started["format"] == {"rate_hz": 8_000, "channels": 1, "encoding": "s16"}
    summary, player = (event for event in rest if event["event"] != "underrun")
    assert (summary["event"], summary["next_frame"], summary["stats"]["blocks"]) == ("summary", FRAMES, 25)
    assert list(player) == ["event", "output", "glitches", "glitch_total_ns", "glitch_longest_ns", "output_underruns"]
    assert player["output"] == "null"


def test_play_prints_a_summary_for_people(shell: Shell, kick: Path) -> None:
    result = shell.run(
        "play", "kick", "-o", "null", "--prefetch-ms", "1000", "--strategy", "populate", "--encoding", "f32"
    )
    assert result.stderr.startswith("8000 Hz mono f32\nstrategy populate (chosen by request)")
    facts = {line[:18].strip(): line[18:].strip() for line in result.stdout.splitlines()}
    assert facts["blocks"] == "25 (4000 frames)"
    assert list(facts) == [
        "blocks",
        "late blocks",
        "longest stall",
        "first block after",
        "major faults",
        "minor faults",
        "glitches heard",
    ]


@pytest.mark.parametrize(
    ("wishes", "exit_code", "text"),
    [
        (["--start", "4001"], 1, "error: frames [4001, 4000) reach past a sample of 4000 frames. "),
        (["--strategy", "magic"], 1, "error: "),
        (["-o", "tape"], 1, "error: 'tape' is not an output. "),
        (["-o", "wav:/nowhere/x.wav"], 1, "error: /nowhere/x.wav cannot be written"),
        (["--encoding", "s24"], 2, "Usage: "),
    ],
)
def test_play_refuses(shell: Shell, kick: Path, wishes: list[str], exit_code: int, text: str) -> None:
    result = shell.run("play", "kick", "-o", "null", *wishes, exit_code=exit_code)
    assert result.stdout == ""
    assert result.stderr.startswith(text)


# --- the server ---


def test_strategies(shell: Shell) -> None:
    by_name = {strategy["name"]: strategy for strategy in shell.json("strategies")["strategies"]}
    assert by_name["mlock"]["requires"] == ["lock"]
    table = shell.run("strategies").stdout
    assert "willneed (default)" in table
    assert by_name["touch"]["summary"] in table


def test_what_auto_comes_to_is_explained(shell: Shell, kick: Path) -> None:
    bound, why = shell.run("strategies", "--explain", "kick", "--lead-ms", "2000").stdout.splitlines()
    assert bound == "strategy populate (chosen by hook)"
    # By what the tests before this one have had the server measure, or before anything was measured.
    measured = r"all 8 KiB come in within \d+ ms, before they are due in 2000 ms"
    assert re.fullmatch(rf"because (?:{measured}|8 KiB sound for less than 1000 ms: all .* at once)", why)
    explained = shell.json("strategies", "--explain", "kick")["explained"]
    assert (explained["strategy"], explained["chosen_by"]) == ("populate", "hook")
    assert "ghost" in shell.run("strategies", "--explain", "ghost", exit_code=1).stderr


def test_stats(shell: Shell, kick: Path) -> None:
    stats = shell.json("stats")
    assert (stats["kernel"], stats["samples"], stats["contents"], stats["used_bytes"]) == ("simulated", 1, 1, 8192)
    assert "8.0 KiB of 1.0 GiB" in shell.run("stats").stdout


def test_doctor(shell: Shell) -> None:
    found = shell.json("doctor")
    assert found["asked"] == shell.target
    assert found["kernel"]["kernel"] == "simulated"
    assert {check["works"] for check in (found["sound"], found["memory_pressure"])} <= {True, False}
    operations = [capability["operation"] for capability in found["kernel"]["capabilities"]]
    text = shell.run("doctor").stdout
    assert all(f"\n {operation} " in text for operation in operations)


def test_doctor_asks_this_machine(shell: Shell) -> None:
    found = Shell("127.0.0.1:1").json("doctor", "--local")
    assert (found["asked"], found["kernel"]["kernel"]) == ("local", "linux")
    assert len(found["kernel"]["capabilities"]) == 9


def test_doctor_without_a_server_checks_the_rest() -> None:
    result = Shell("127.0.0.1:1").run("doctor", exit_code=1)
    assert "memory pressure: " in result.stdout
    assert result.stderr.startswith("error: no server answers")


# --- schedules: last, since they make the server measure its device ---


def test_schedule(shell: Shell, kick: Path, tmp_path: Path) -> None:
    shell.run("evict", "kick")
    (settled,) = shell.events("schedule", "kick@+300ms", "--strategy", "touch", "--wait")
    assert [settled[key] for key in ("cue_id", "state", "pages_needed", "pages_brought_in")] == ["1", "ready", 2, 2]
    assert 0 < settled["margin_ns"] < 300_000_000
    told = shell.run("schedule", "kick@+200ms", "--wait").stdout
    assert told.startswith("cue 1 (kick): ready ")
    assert " before its time, 0 of 0 pages, strategy " in told
    song = tmp_path / "song.txt"
    song.write_text("# what comes next\nkick@+60s\n\nkick@+61s?0.5  # perhaps\n")
    announced = shell.json("schedule", "--file", str(song), "--id", "song")
    assert announced["schedule_id"] == "song"
    assert [(cue["cue_id"], cue["sureness"], cue["state"]) for cue in announced["cues"]] == [
        ("1", 1.0, "waiting"),
        ("2", 0.5, "waiting"),
    ]
    shown = shell.json("schedule", "--id", "song")
    assert [(cue["cue_id"], cue["state"]) for cue in shown["cues"]] == [("1", "waiting"), ("2", "waiting")]
    assert "waiting" in shell.run("schedule", "--id", "song").stdout
    cancelled = shell.json("schedule", "--id", "song", "--cancel")["cues"]
    assert [cue["state"] for cue in cancelled] == ["cancelled", "cancelled"]
    missing = shell.run("schedule", "--file", str(tmp_path / "none.txt"), exit_code=1)
    assert "cannot be read" in missing.stderr
