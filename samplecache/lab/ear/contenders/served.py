"""Samplecache itself: its server in the rig, and a player outside that is its client."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from samplecache import __version__
from samplecache.audio.format import Encoding
from samplecache.client import Client
from samplecache.client.failure import ClientError
from samplecache.clock import NS_PER_S
from samplecache.errors import StateError
from samplecache.lab.ear.contender import ContenderFailedError, Cue, Sound, Stage
from samplecache.lab.ear.contenders.piped import PipedPlayer
from samplecache.lab.ear.lines import LineProcess, died, end
from samplecache.lab.ear.path import Path

_START_TIMEOUT_NS = 30 * NS_PER_S


class Samplecache(PipedPlayer):
    """A server with one strategy for all.

    Parameters
    ----------
    name : str
        Its name.
    strategy : str
        What each session and each hint asks for.
    store_encoding : Encoding
        How it keeps sounds: F32 takes as much memory as a sound server that keeps floats, S16 what files have.
    server_flags : sequence of str
        More flags of ``samplecache serve``.
    """

    hears_hints = True

    def __init__(
        self,
        name: str,
        strategy: str,
        store_encoding: Encoding = Encoding.S16,
        server_flags: Sequence[str] = (),
    ) -> None:
        super().__init__(name)
        self._strategy = strategy
        self._store_encoding = store_encoding
        self._server_flags = list(server_flags)
        self.encoding_bytes = store_encoding.width_bytes
        self._server: subprocess.Popen[Any] | None = None
        self._client: Client | None = None

    @property
    def version(self) -> str:
        """Its own and gRPC's."""
        return f"samplecache {__version__}, grpcio {importlib.metadata.version('grpcio')}"

    def start(self, stage: Stage) -> None:
        """Start the server in the rig and the player outside, and connect."""
        self._stage = stage
        address = f"unix:{stage.directory / 'server.sock'}"
        argv = [sys.executable, "-m", "samplecache", "serve", "--listen", address, *self._server_flags]
        log = stage.directory / "server.log"
        with log.open("w") as output:
            self._server = stage.rig.popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self._client = Client(address)
        try:
            self._client.wait_ready(_START_TIMEOUT_NS)
        except ClientError:
            raise died(self.name, self._server.poll(), log) from None
        argv = [sys.executable, "-m", "samplecache.lab.ear.client_player", address]
        self._player = LineProcess(self.name, partial(subprocess.Popen, argv), stage.directory / "player.log")

    def prepare(self, sounds: Sequence[Sound]) -> None:
        """Upload `sounds`."""
        self.remember(sounds)
        try:
            for sound in sounds:
                self.client.put_file(sound.path, sound.sample_id, store_encoding=self._store_encoding, tags=sound.tags)
        except ClientError as error:
            raise ContenderFailedError(f"{self.name}: {error.message}", remedy=error.remedy) from error

    @property
    def client(self) -> Client:
        """A connection for what is no playing."""
        if self._client is None:
            raise StateError(f"{self.name} has not been started", remedy="Start it first")
        return self._client

    def hint(self, cue: Cue) -> None:
        """Have the pages prefetched."""
        self.player.tell(
            do="hint",
            sample_id=cue.sample_id,
            start_frame=cue.start_frame,
            frames=cue.frames,
            strategy=self._strategy,
            deadline_ns=cue.hint_ahead_ns or 0,
        )

    def play_options(self, cue: Cue, way: Path) -> dict[str, Any]:
        """Return what a session is opened with, how many frames of it are taken, and its seeks."""
        options = {
            "start_frame": cue.start_frame,
            "frames": cue.frames,
            "loop": cue.loop,
            "strategy": self._strategy,
            "block_ns": cue.block_ns,
            "lead_ns": cue.lead_ns,
            "realtime": cue.lead_ns is not None,
        }
        return {"frames": way.frames, "seeks": way.seeks, "options": options}

    def keeper(self) -> int | None:
        """Return the server."""
        return None if self._server is None else self._server.pid

    def clients(self) -> Sequence[int]:
        """Return the player, which takes CPU for gRPC."""
        return (self.player.process.pid,)

    def close(self) -> None:
        """End the player and the server."""
        super().close()
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._server is not None:
            end(self._server)
            self._server = None
