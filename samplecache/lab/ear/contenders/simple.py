"""Players without a cache, as a user would have instead: all locked, files locked by vmtouch, or read when played."""

from __future__ import annotations

import mmap
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.lab.ear.contender import ContenderFailedError, Cue, Sound, Stage
from samplecache.lab.ear.contenders.piped import PipedPlayer
from samplecache.lab.ear.lines import LineProcess, died, end
from samplecache.lab.ear.programs import require
from samplecache.lab.ear.simple_player import write_raw

_LOCKING_TIMEOUT_NS = 60 * NS_PER_S
_POLL_NS = 10 * NS_PER_MS


class SimpleContender(PipedPlayer):
    """A player that keeps sounds in one of the ways of :mod:`samplecache.lab.ear.simple_player`.

    Parameters
    ----------
    name : str
        Its name.
    keeping : str
        ``"memory"``, ``"mapped"`` or ``"disk"``.
    lock : bool
        Whether it locks all its memory (mlockall).
    """

    def __init__(self, name: str, keeping: str, *, lock: bool = False) -> None:
        super().__init__(name)
        self._keeping = keeping
        self._lock = lock
        self.keeps_resident = lock
        self._files: list[Path] = []

    @property
    def version(self) -> str:
        """Python's."""
        return f"own player, CPython {platform.python_version()}"

    def start(self, stage: Stage) -> None:
        """Start the player in the rig."""
        self._stage = stage
        argv = [sys.executable, "-m", "samplecache.lab.ear.simple_player", self._keeping, *["--lock"] * self._lock]
        self._player = LineProcess(self.name, partial(stage.rig.popen, argv), stage.directory / "player.log")
        self.player.ask(do="lock")

    def prepare(self, sounds: Sequence[Sound]) -> None:
        """Have the player keep `sounds`."""
        self.remember(sounds)
        for sound in sounds:
            file = self.stage.directory / f"{sound.sample_id}.raw"
            write_raw(str(sound.path), str(file))
            self._files.append(file)
            self.player.ask(do="load", sample_id=sound.sample_id, path=str(file))

    def make_cold(self) -> None:
        """Drop files that nobody has mapped or locked from the page cache."""
        for file in self._files:
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Vmtouch(SimpleContender):
    """``vmtouch -l`` on files that a player maps: a process of its own holds them in RAM."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "mapped")
        self.keeps_resident = True
        self._vmtouch: list[subprocess.Popen[str]] = []

    @property
    def version(self) -> str:
        """That of vmtouch."""
        told = subprocess.run(["vmtouch"], capture_output=True, text=True, check=False)
        banner = re.search(r"vmtouch v\S+", told.stdout + told.stderr)
        return banner[0] if banner else "vmtouch"

    def check(self, cues: Sequence[Cue], lengths_frames: Mapping[str, int]) -> None:
        """Raise unless vmtouch is there."""
        require({"vmtouch": "vmtouch"})

    def prepare(self, sounds: Sequence[Sound]) -> None:
        """Keep `sounds`, and wait until they are locked."""
        super().prepare(sounds)
        files = self._files[-len(sounds) :]
        log = self.stage.directory / f"vmtouch-{len(self._vmtouch)}.log"
        with log.open("w") as output:
            process = self.stage.rig.popen(["vmtouch", "-l", *map(str, files)], stdout=output, stderr=output)
        self._vmtouch.append(process)
        pages = sum(-(-file.stat().st_size // mmap.PAGESIZE) for file in files)
        clock = MonotonicClock()
        deadline_ns = clock.now_ns() + _LOCKING_TIMEOUT_NS
        while _locked_bytes(process.pid) < pages * mmap.PAGESIZE:
            if process.poll() is not None:
                raise died("vmtouch", process.returncode, log)
            if clock.now_ns() > deadline_ns:
                raise ContenderFailedError("vmtouch has not locked all files", remedy="Give it more memory")
            clock.sleep_until(clock.now_ns() + _POLL_NS)

    def close(self) -> None:
        """End vmtouch and the player."""
        while self._vmtouch:
            end(self._vmtouch.pop())
        super().close()


def _locked_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmLck:")), 0)
