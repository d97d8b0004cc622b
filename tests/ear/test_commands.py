"""``lab ear`` and ``lab listen`` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from samplecache.cli.app import app

RUN = CliRunner()


def test_error_rates_are_told_with_their_seed() -> None:
    told = RUN.invoke(app, ["lab", "ear", "--count", "5", "--seed", "3", "--json"])
    assert told.exit_code == 0, told.output
    document = json.loads(told.output)
    assert document["seed"] == 3
    assert list(document["injected"]) == ["numbered", "music"]
    for rates in document["injected"].values():
        assert [(rate["injection"], rate["injected"], rate["found"], rate["false_alarms"]) for rate in rates] == [
            (kind, 5, 5, 0) for kind in ("gap", "stall", "repeat", "jump")
        ]


def test_error_rates_are_a_table() -> None:
    told = RUN.invoke(app, ["lab", "ear", "--count", "1"])
    assert told.exit_code == 0, told.output
    assert "false alarms" in told.output


def test_music_of_ones_own_is_walked_along(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(-9000, 9000, (96_000, 1), np.int16)
    soundfile.write(tmp_path / "mono.wav", noise, 48_000, "PCM_16")
    told = RUN.invoke(app, ["lab", "ear", "--music", str(tmp_path / "mono.wav"), "--count", "3", "--json"])
    assert told.exit_code == 0, told.output
    assert [rate["found"] for rate in json.loads(told.output)["injected"]["mono.wav"]] == [3] * 4


def refusal(*arguments: str) -> str:
    """What is said of a command that is refused, in one line."""
    told = RUN.invoke(app, ["lab", *arguments])
    assert told.exit_code == 1, told.output
    return " ".join(told.output.split())


@pytest.mark.parametrize(
    ("rate_hz", "frames", "message"),
    [
        (44_100, 96_000, "44100 Hz. Convert it: sox"),
        (48_000, 12_000, "too short for 200 flaws. Name longer music, or fewer flaws."),
    ],
)
def test_music_that_will_not_do_is_refused(tmp_path: Path, rate_hz: int, frames: int, message: str) -> None:
    soundfile.write(tmp_path / "x.wav", np.ones((frames, 2), np.int16), rate_hz, "PCM_16")
    assert message in refusal("ear", "--music", str(tmp_path / "x.wav"))


@pytest.mark.parametrize("command", [["ear", "--music"], ["listen", "disk", "--sound"]])
def test_what_is_no_sound_is_refused(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "x.wav").write_bytes(b"no sound")
    assert "x.wav cannot be read" in refusal(*command, str(tmp_path / "x.wav"))


def test_a_sound_in_another_format_is_refused_before_anything_is_set_up(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.ones((100, 1), np.int16), 48_000, "PCM_16")
    assert "1 channels and PCM_16. Convert it: sox" in refusal("listen", "disk", "--sound", str(tmp_path / "x.wav"))


def test_an_unknown_contender_is_refused() -> None:
    assert "'nobody' is no contender" in refusal("listen", "nobody")
