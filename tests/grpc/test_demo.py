"""The demo's comparison, on a server of its own; what it plays is made up here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_process import running_server

import samplecache_demo.__main__ as demo
from samplecache.client import Client
from samplecache.v1 import playback_pb2
from samplecache_demo.machine import Stage
from samplecache_demo.performance import Performance, Played
from samplecache_demo.schedule import Cue
from samplecache_demo.sounds import find_kit
from samplecache_player import VoiceReport

SILENT = VoiceReport(0, True, 0, 0, 0, 0, ())
NO_STATS = playback_pb2.PlaybackStats(late_by_cause=[0] * len(playback_pb2.UnderrunCause.values()))


def test_an_interruption_loses_nothing_that_was_played_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played: list[str] = []

    def play(
        stage: Stage, schedule: tuple[Cue, ...], strategy: str, rate_hz: int, output: str
    ) -> Iterator[Performance]:
        if len(played) == 3:
            raise KeyboardInterrupt
        played.append(strategy)
        heard = tuple(Played(cue, strategy, SILENT, NO_STATS) for cue in schedule)
        yield Performance(strategy, strategy, 0, rate_hz, heard, (0,) * len(schedule), len(played), 0, 0)

    monkeypatch.setattr(demo, "_play_until_quiet", play)
    results_dir = tmp_path / "results"
    with running_server(tmp_path) as server, Client(server.target) as client:
        comparison = demo.Comparison(find_kit(None, tmp_path), ["none", "touch"], "null", 2, results_dir, seed=0)
        with pytest.raises(KeyboardInterrupt):
            comparison.compared(Stage(client, "simulated", "SIMULATED"))
    kept = json.loads((results_dir / demo.FIGURES).read_text())["runs"]
    assert [run["strategy"] for run in kept] == played
    assert (results_dir / demo.PICTURE).stat().st_size > 0
    assert "median and range of 1 to 2 runs each" in capsys.readouterr().out
