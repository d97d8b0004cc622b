"""What contenders share that play each cue into a pipe of its own, by a player that is a process."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from samplecache.errors import StateError
from samplecache.lab.ear.card import open_inlet
from samplecache.lab.ear.contender import ContenderFailedError, Cue, CueReport, Sound, Stage
from samplecache.lab.ear.lines import LineProcess
from samplecache.lab.ear.path import Path, path


class PipedPlayer:
    """The part of a contender that has a player process.

    Attributes
    ----------
    hears_hints, mixes, keeps_resident, encoding_bytes
        See :class:`~samplecache.lab.ear.contender.Contender`.
    """

    hears_hints = False
    mixes = False
    keeps_resident = False
    encoding_bytes = 2

    def __init__(self, name: str) -> None:
        self.name = name
        self._stage: Stage | None = None
        self._player: LineProcess | None = None
        self._pipes = itertools.count()
        self._frames: dict[str, int] = {}
        self._prefetches: list[tuple[str, int, int]] = []

    @property
    def stage(self) -> Stage:
        """Where it plays."""
        if self._stage is None:
            raise StateError(f"{self.name} has not been started", remedy="Start it first")
        return self._stage

    @property
    def player(self) -> LineProcess:
        """Its player."""
        if self._player is None:
            raise StateError(f"{self.name} has no player", remedy="Start it first")
        return self._player

    def check(self, cues: Sequence[Cue], lengths_frames: Mapping[str, int]) -> None:
        """Do nothing: it plays anything."""

    def mix_pipe(self) -> int | None:
        """Return None: each cue has its own."""
        return None

    def playing_threads(self) -> Sequence[tuple[int, int]]:
        """Return none: reports tell, cue by cue."""
        return ()

    def notes(self) -> Sequence[str]:
        """Return none."""
        return ()

    def keeper(self) -> int | None:
        """Return the player."""
        return self.player.process.pid

    def clients(self) -> Sequence[int]:
        """Return none."""
        return ()

    def hint(self, cue: Cue) -> None:
        """Do nothing: it takes no hints."""

    def make_cold(self) -> None:
        """Do nothing: what the rig reclaims is all there is."""

    def play(self, number: int, cue: Cue) -> int | None:
        """Have a cue played into a new pipe; see :class:`~samplecache.lab.ear.contender.Contender`."""
        pipe = str(self.stage.directory / f"cue-{next(self._pipes)}.pipe")
        os.mkfifo(pipe, 0o600)
        fd = open_inlet(pipe)
        try:
            self.player.tell(
                do="play",
                number=number,
                sample_id=cue.sample_id,
                pipe=pipe,
                **self.play_options(cue, path(cue, self._frames[cue.sample_id])),
            )
        except BaseException:
            os.close(fd)
            raise
        return fd

    def play_options(self, cue: Cue, way: Path) -> dict[str, Any]:
        """Return what else its player wants to know of a cue."""
        return {"spans": way.spans}

    def finish(self) -> dict[int, CueReport]:
        """Return what the player says of each cue."""
        told = self.player.ask(do="finish")
        cues = told["cues"]
        self._prefetches = [(name, began_ns, ended_ns) for name, began_ns, ended_ns in told.get("prefetches", ())]
        for cue in cues.values():
            if error := cue.pop("error", ""):
                raise ContenderFailedError(f"{self.name}: {error}", remedy="See what it says")
        return {int(number): CueReport(**cue) for number, cue in cues.items()}

    def prefetches(self) -> Sequence[tuple[str, int, int]]:
        """Return what came of hints, if its player says so."""
        return self._prefetches

    def close(self) -> None:
        """End the player; may be called again."""
        if self._player is not None:
            self._player.close()
            self._player = None

    def remember(self, sounds: Sequence[Sound]) -> None:
        """Note the lengths of `sounds`."""
        self._frames |= {sound.sample_id: sound.frames for sound in sounds}
