"""What the demo's table says of runs that the machine disturbed."""

from __future__ import annotations

import pytest

from samplecache.clock import NS_PER_MS
from samplecache.v1 import playback_pb2
from samplecache_demo.performance import NOISY_NS, Performance, Played
from samplecache_demo.report import Results, markdown
from samplecache_demo.schedule import Cue
from samplecache_player import VoiceReport

PLAYED = Played(Cue("hit", 0, 0, 1.0), "none", VoiceReport(0, True, 0, 0, 0, 0, ()), playback_pb2.PlaybackStats())


def performance(strategy: str, *, disturbed: bool = False) -> Performance:
    machine_ns = NOISY_NS + NS_PER_MS if disturbed else 0
    return Performance(strategy, strategy, 0, 48_000, (PLAYED,), (0,), 0, machine_ns, 0)


@pytest.mark.parametrize(
    ("runs", "caption"),
    [
        ({"none": [False], "touch": [False]}, "One run each."),
        ({"none": [True, False, False], "touch": [False]}, "Median and range of 1 to 2 runs each; 1 that the machine "
         "itself disturbed were repeated and are only in the JSON."),
        ({"none": [True, True], "touch": [True, False]}, "Median and range of 1 to 2 runs each; 1 that the machine "
         "itself disturbed were repeated and are only in the JSON; the machine disturbed all of none."),
        ({"none": [False], "touch": []}, "One run each."),
    ],
)  # fmt: skip
def test_the_caption_counts_what_is_shown_and_what_is_left_out(runs: dict[str, list[bool]], caption: str) -> None:
    results = Results(tuple(runs), "SIMULATED")
    for strategy, disturbances in runs.items():
        for disturbed in disturbances:
            results.add(performance(strategy, disturbed=disturbed))
    text = markdown(results)
    assert text.splitlines()[-1] == caption
    assert [f"`{strategy}`" in text for strategy in runs] == [bool(played) for played in runs.values()]
