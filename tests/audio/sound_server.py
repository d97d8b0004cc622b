"""The lab's sound server, and processes that play the numbered signal into it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from samplecache.lab.ear import sound_server
from samplecache.lab.ear.sound_server import PATIENCE_S, missing_packages

__all__ = ["HERE", "ROOT", "SoundServer", "missing_packages"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass
class Player:
    """A process that plays."""

    process: subprocess.Popen[str]

    def finish(self) -> tuple[int, str]:
        """Wait for its end and return its exit status and last line."""
        out, _ = self.process.communicate(timeout=PATIENCE_S * 2)
        return self.process.returncode, out.strip().rpartition("\n")[2]


class SoundServer(sound_server.SoundServer):
    """A sound server that the tests' player plays into."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.environment["PYTHONPATH"] = os.pathsep.join(str(path) for path in (ROOT, ROOT / "demo", HERE))

    def play(self, *arguments: str) -> Player:
        """Start a process that plays the numbered signal."""
        process = subprocess.Popen(
            [sys.executable, str(HERE / "play_numbered.py"), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return Player(process)
