"""PipeWire's sample cache, through its PulseAudio server."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np
import soundfile

from samplecache.errors import StateError
from samplecache.lab.ear.contender import ContenderFailedError, Sound, Stage
from samplecache.lab.ear.contenders.pipewire_server import PROGRAMS, PipeWireServer
from samplecache.lab.ear.contenders.pulse_cache import PulseSampleCache, PulseServer

TAIL_FRAMES: Final = 1024
"""Silence put after each sound: version 0.3.65 leaves out what a sample has beyond the last whole 512 frames."""


class PipeWire(PulseSampleCache):
    """The sample cache of pipewire-pulse."""

    programs: ClassVar = PROGRAMS

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._stage: Stage | None = None

    @property
    def version(self) -> str:
        """What the program says."""
        told = subprocess.run(["pipewire", "--version"], capture_output=True, text=True, check=False)
        number = re.search(r"libpipewire (\S+)", told.stdout)
        return f"pipewire {number[1]}" if number else "pipewire"

    def serve(self, stage: Stage, sink: str) -> PulseServer:
        """Start the daemon, its session manager and its PulseAudio server, all in the rig."""
        self._stage = stage
        server = PipeWireServer(stage.directory, stage.rig.popen)
        try:
            server.wait_ready()
            loaded = server.pactl("load-module", *sink.split())
            if loaded.returncode:
                raise ContenderFailedError(
                    f"{self.name} has no pipe sink: {loaded.stderr.strip()}", remedy="Use PipeWire 0.3.65 or newer"
                )
        except BaseException:
            server.close()
            raise
        return server

    def prepare(self, sounds: Sequence[Sound]) -> None:
        """Upload `sounds`, with some silence after each."""
        if self._stage is None:
            raise StateError(f"{self.name} has not been started", remedy="Start it first")
        padded = []
        for sound in sounds:
            frames, rate_hz = soundfile.read(sound.path, dtype="int16", always_2d=True)
            path = self._stage.directory / f"{sound.sample_id}-padded.wav"
            soundfile.write(path, np.pad(frames, ((0, TAIL_FRAMES), (0, 0))), rate_hz, "PCM_16")
            padded.append(dataclasses.replace(sound, path=path))
        super().prepare(padded)

    def playing_threads(self) -> Sequence[tuple[int, int]]:
        """Return the threads of pipewire-pulse but its first: in them streams, samples' too, go into the graph."""
        pid = self.server.process.pid
        return [(pid, tid) for tid in map(int, os.listdir(f"/proc/{pid}/task")) if tid != pid]

    def notes(self) -> Sequence[str]:
        """Return what differs."""
        return (
            "its graph runs on a clock of its own, not on the card's",
            f"{TAIL_FRAMES} frames of silence follow each sound, since it leaves out the last ones",
        )
