"""However what listens ends, swap, control groups, files and processes are as they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from waiting import wait_until

from samplecache.kernel import procfs
from samplecache.lab.rig import Rig

DEADLINE_S = 60
SECONDS = 40
PLAYING = "cue-3.pipe"
"""Three short sounds come before it."""


def standing(rig: Rig) -> tuple[list[str], ...]:
    """What a run changes: swap areas, control groups, files."""
    groups = [path.name for group in rig.groups for path in group.parent.glob("samplecache-*")]
    files = [path.name for path in rig.options.directory.iterdir()]
    return sorted(str(area.path) for area in procfs.swap_areas()), sorted(groups), sorted(files)


def commands_naming(text: str) -> list[str]:
    """The command lines of living processes that have `text` in them."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if text in command:
            found.append(command)
    return found


def test_what_is_killed_leaves_nothing(session_rig: Rig, no_rig: None, tmp_path: Path) -> None:
    before = standing(session_rig)
    noise = np.random.default_rng(1).integers(-9000, 9000, (SECONDS * 48_000, 2), np.int16)
    soundfile.write(tmp_path / "long.wav", noise, 48_000, "PCM_16")
    process = started("listen", "samplecache:none", "--sound", str(tmp_path / "long.wav"))
    try:
        wait_until(lambda: process.poll() is not None or list(session_rig.options.directory.glob(f"*/{PLAYING}")))
        (pipe,) = session_rig.options.directory.glob(f"*/{PLAYING}")
        assert len(commands_naming(str(pipe.parent))) >= 2  # server and player
        process.kill()
        process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: standing(session_rig) == before)
    wait_until(lambda: not commands_naming(str(pipe.parent)))


def started(*arguments: str) -> subprocess.Popen[str]:
    """A command of the lab."""
    return subprocess.Popen(
        [sys.executable, "-m", "samplecache", "lab", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
