"""A scenario of a second or two that every part of a comparison can be tried with."""

from __future__ import annotations

from pathlib import Path

from samplecache.lab.scenarios.reading import Play, parse
from samplecache.lab.toml_file import TomlFile

SMALL = """\
title = "Small & <b>bold</b>"
about = "Two pads and some hits."
strategies = ["none", "willneed", "touch"]
devices = ["unthrottled", "60iops"]
memory = ["ample"]
repetitions = 5
simulated_device = "hdd-laptop-2008"
hint_ahead_s = 0.5
lead_ms = 5
seed = 3

[[sample]]
name = "pad"
count = 2
seconds = 0.8

[[sample]]
name = "hit"
count = 3
seconds = [0.1, 0.2]

[[stream]]
samples = "pad-000"
seconds = 0.6
seeks = [[0.2, 0.4]]

[[stream]]
samples = "pad-001"
seconds = 1.0
loop = true

[[trigger]]
samples = "hit-*"
at_s = [0.1, 0.3, 0.5]
sway_ms = 20
"""


def small(text: str = SMALL) -> Play:
    return parse(TomlFile(text, "small.toml"), "small", Path())
