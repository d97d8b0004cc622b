"""The sample cache of a server that speaks PulseAudio's protocol, heard through a sink that writes into a pipe."""

from __future__ import annotations

import abc
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from samplecache.errors import StateError
from samplecache.lab.ear.card import open_inlet
from samplecache.lab.ear.contender import ContenderFailedError, Cue, CueReport, Sound, Stage
from samplecache.lab.ear.heard import CARD_FORMAT
from samplecache.lab.ear.programs import require

SINK: Final = "card"
MOST_BYTES: Final = 16 << 20
"""``PA_SCACHE_ENTRY_SIZE_MAX`` of PulseAudio, and PipeWire's the same: of a sample as it is stored."""
_SECOND_BYTES: Final = CARD_FORMAT.rate_hz * CARD_FORMAT.channels * 4
_CLIENT_TIMEOUT_S: Final = 5.0


class PulseServer(Protocol):
    """A running server.

    Attributes
    ----------
    socket : Path
        Where it listens.
    process : Popen
        The process that keeps and reads samples.
    """

    socket: Path
    process: subprocess.Popen[Any]

    def pactl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run pactl with `arguments` and return how it ended."""
        ...

    def close(self) -> None:
        """End it; may be called again."""
        ...


class PulseSampleCache(abc.ABC):
    """``pactl upload-sample``, and ``play_sample`` on an open connection: what all such servers have in common.

    Parameters
    ----------
    name : str
        Its name.

    Attributes
    ----------
    programs : dict
        What it takes: the Debian package of each program, by its name.
    """

    programs: ClassVar[dict[str, str]]
    hears_hints = False
    mixes = True
    keeps_resident = False
    encoding_bytes = 4

    def __init__(self, name: str) -> None:
        self.name = name
        self._server: PulseServer | None = None
        self._requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._asking: threading.Thread | None = None
        self._failure: ContenderFailedError | None = None
        self._pipe = Path()

    @property
    @abc.abstractmethod
    def version(self) -> str:
        """What exactly it is."""

    @abc.abstractmethod
    def serve(self, stage: Stage, sink: str) -> PulseServer:
        """Start the server in the rig with nothing but the sink, and wait until it answers.

        `sink` is ``module-pipe-sink`` with its arguments.
        """

    @abc.abstractmethod
    def playing_threads(self) -> Sequence[tuple[int, int]]:
        """See :class:`~samplecache.lab.ear.contender.Contender`."""

    @abc.abstractmethod
    def notes(self) -> Sequence[str]:
        """See :class:`~samplecache.lab.ear.contender.Contender`."""

    @property
    def server(self) -> PulseServer:
        """The server."""
        if self._server is None:
            raise StateError(f"{self.name} has not been started", remedy="Start it first")
        return self._server

    def check(self, cues: Sequence[Cue], lengths_frames: Mapping[str, int]) -> None:
        """Raise unless its programs are there, and all sounds short enough and played from beginning to end."""
        require(self.programs)
        if any(cue.frames or cue.start_frame or cue.loop or cue.seeks or cue.plays_ns is not None for cue in cues):
            raise ContenderFailedError(
                f"{self.name} plays samples from beginning to end only", remedy="Leave out loops, seeks and lengths"
            )
        for sample_id, frames in lengths_frames.items():
            if frames * CARD_FORMAT.channels * self.encoding_bytes > MOST_BYTES:
                raise ContenderFailedError(
                    f"{self.name} takes {MOST_BYTES >> 20} MiB a sample, and {sample_id} has more as it stores it",
                    remedy=f"Use sounds of up to {MOST_BYTES // _SECOND_BYTES} s",
                )

    def start(self, stage: Stage) -> None:
        """Start the server, and connect."""
        self._pipe = stage.directory / "card.pipe"
        self._server = self.serve(
            stage,
            f"module-pipe-sink sink_name={SINK} file={self._pipe} format=s16le rate={CARD_FORMAT.rate_hz} "
            f"channels={CARD_FORMAT.channels}",
        )
        self._asking = threading.Thread(target=self._ask, name="pulse-client", daemon=True)
        self._asking.start()

    def prepare(self, sounds: Sequence[Sound]) -> None:
        """Upload `sounds`."""
        for sound in sounds:
            uploaded = self.server.pactl("upload-sample", str(sound.path), sound.sample_id)
            if uploaded.returncode:
                raise ContenderFailedError(
                    f"{self.name} does not take {sound.sample_id}: {uploaded.stderr.strip()}", remedy="See its log"
                )

    def make_cold(self) -> None:  # noqa: B027 -- all there is to do
        """Do nothing: what the rig reclaims is all there is."""

    def mix_pipe(self) -> int | None:
        """Return the sink's pipe."""
        return open_inlet(str(self._pipe))

    def hint(self, cue: Cue) -> None:  # noqa: B027 -- all there is to do
        """Do nothing: it takes no hints."""

    def play(self, number: int, cue: Cue) -> int | None:
        """Ask for a sound, on a thread of its own: the answer takes as long as the server takes."""
        if self._failure:
            raise self._failure
        self._requests.put(cue.sample_id)
        return None

    def keeper(self) -> int | None:
        """Return the server."""
        return self.server.process.pid

    def clients(self) -> Sequence[int]:
        """Return none: the client is a thread of the listener, and asks only."""
        return ()

    def finish(self) -> dict[int, CueReport]:
        """Return nothing: the server keeps no account of its samples."""
        if self._failure:
            raise self._failure
        return {}

    def prefetches(self) -> Sequence[tuple[str, int, int]]:
        """Return none."""
        return ()

    def close(self) -> None:
        """End the client and the server."""
        self._requests.put(None)
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._asking is not None:
            self._asking.join(_CLIENT_TIMEOUT_S)
            self._asking = None

    def _ask(self) -> None:
        """Play what is asked for, on one connection, until told to stop."""
        try:
            import pulsectl  # loads libpulse, which not everyone has

            with pulsectl.Pulse("listener", server=f"unix:{self.server.socket}") as pulse:
                while (sample_id := self._requests.get()) is not None:
                    pulse.play_sample(sample_id, SINK)
        except Exception as error:
            self._failure = ContenderFailedError(f"{self.name} does not play: {error}", remedy="See its log")


def threads_named(pid: int, name: str) -> list[tuple[int, int]]:
    """Return process and thread id of each thread of `pid` called `name`."""
    return [
        (pid, int(task.parent.name))
        for task in sorted(Path(f"/proc/{pid}/task").glob("*/comm"))
        if task.read_text().strip() == name
    ]
