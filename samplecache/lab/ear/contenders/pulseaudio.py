"""PulseAudio's own sample cache, heard through its pipe sink."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from samplecache.errors import NotPermittedError, StateError
from samplecache.lab.ear.card import open_inlet
from samplecache.lab.ear.contender import ContenderFailedError, Cue, CueReport, Sound, Stage
from samplecache.lab.ear.contenders.pulse_daemon import PulseDaemon
from samplecache.lab.ear.heard import CARD_FORMAT

SINK: Final = "card"
MIXING_THREAD: Final = "pipe-sink"
"""What module-pipe-sink calls its thread, which mixes sounds and so reads them."""
UNADVISED_SOURCE: Final = Path(__file__).with_name("unadvised.c")


class PulseAudio:
    """The sample cache of a daemon: ``pactl upload-sample``, and ``play_sample`` on an open connection.

    Parameters
    ----------
    name : str
        Its name.
    advised : bool
        False keeps its advice (MADV_WILLNEED) from the kernel, by a library of a few lines that is built and preloaded.
    """

    hears_hints = False
    mixes = True
    keeps_resident = False
    encoding_bytes = 4

    def __init__(self, name: str, *, advised: bool = True) -> None:
        self.name = name
        self._advised = advised
        self._daemon: PulseDaemon | None = None
        self._requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._asking: threading.Thread | None = None
        self._failure: ContenderFailedError | None = None
        self._pipe = Path()

    @property
    def version(self) -> str:
        """What the daemon says."""
        told = subprocess.run(["pulseaudio", "--version"], capture_output=True, text=True, check=False)
        return told.stdout.strip()

    @property
    def daemon(self) -> PulseDaemon:
        """The daemon."""
        if self._daemon is None:
            raise StateError(f"{self.name} has not been started", remedy="Start it first")
        return self._daemon

    def start(self, stage: Stage) -> None:
        """Start the daemon in the rig, with nothing but a pipe sink, and connect."""
        for program, package in (("pulseaudio", "pulseaudio"), ("pactl", "pulseaudio-utils")):
            if shutil.which(program) is None:
                raise NotPermittedError(f"{program} is missing", remedy=f"Install it: apt-get install {package}")
        self._pipe = stage.directory / "card.pipe"
        environment = {} if self._advised else {"LD_PRELOAD": str(build_unadvised(stage.directory))}
        self._daemon = PulseDaemon(
            stage.directory,
            [
                f"module-pipe-sink sink_name={SINK} file={self._pipe} format=s16le "
                f"rate={CARD_FORMAT.rate_hz} channels={CARD_FORMAT.channels}"
            ],
            environment,
            stage.rig.popen,
        )
        self._daemon.wait_ready()
        self._asking = threading.Thread(target=self._ask, name="pulse-client", daemon=True)
        self._asking.start()

    def prepare(self, sounds: Sequence[Sound]) -> None:
        """Upload `sounds`."""
        for sound in sounds:
            uploaded = self.daemon.pactl("upload-sample", str(sound.path), sound.sample_id)
            if uploaded.returncode:
                raise ContenderFailedError(
                    f"{self.name} does not take {sound.sample_id}: {uploaded.stderr.strip()}",
                    remedy="Use sounds of up to 16 MiB, 43 s as it stores them",
                )

    def make_cold(self) -> None:
        """Do nothing: what the rig reclaims is all there is."""

    def mix_pipe(self) -> int | None:
        """Return the sink's pipe."""
        return open_inlet(str(self._pipe))

    def hint(self, cue: Cue) -> None:
        """Do nothing: it takes no hints."""

    def play(self, number: int, cue: Cue) -> int | None:
        """Ask for a sound, on a thread of its own: the answer takes as long as the daemon takes."""
        if self._failure:
            raise self._failure
        if cue.frames or cue.start_frame or cue.loop or cue.seeks or cue.plays_ns is not None:
            raise ContenderFailedError(
                f"{self.name} plays samples from beginning to end only", remedy="Leave out loops, seeks and lengths"
            )
        self._requests.put(cue.sample_id)
        return None

    def playing_threads(self) -> Sequence[tuple[int, int]]:
        """Return the thread that mixes."""
        return threads_named(self.daemon.process.pid, MIXING_THREAD)

    def clients(self) -> Sequence[int]:
        """Return none: the client is a thread of the listener, and asks only."""
        return ()

    def finish(self) -> dict[int, CueReport]:
        """Return nothing: the daemon keeps no account of its samples."""
        if self._failure:
            raise self._failure
        return {}

    def notes(self) -> Sequence[str]:
        """Return what is stored differently."""
        return ("stores 16-bit sounds as 32-bit floats", *["its advice was kept from the kernel"] * (not self._advised))

    def close(self) -> None:
        """End the client and the daemon."""
        if self._asking is not None:
            self._requests.put(None)
        if self._daemon is not None:
            self._daemon.close()
        if self._asking is not None:
            self._asking.join(PULSE_TIMEOUT_S)
        self._asking = self._daemon = None

    def _ask(self) -> None:
        """Play what is asked for, on one connection, until told to stop."""
        try:
            pulsectl = _pulsectl()
            with pulsectl.Pulse("listener", server=f"unix:{self.daemon.socket}") as pulse:
                while (sample_id := self._requests.get()) is not None:
                    pulse.play_sample(sample_id, SINK)
        except Exception as error:
            self._failure = ContenderFailedError(f"{self.name} does not play: {error}", remedy="See its log")


PULSE_TIMEOUT_S: Final = 5.0


def _pulsectl() -> Any:
    """Return the module; imported here, since it loads libpulse."""
    import pulsectl

    return pulsectl


def threads_named(pid: int, name: str) -> list[tuple[int, int]]:
    """Return process and thread id of each thread of `pid` called `name`."""
    return [
        (pid, int(task.parent.name))
        for task in sorted(Path(f"/proc/{pid}/task").glob("*/comm"))
        if task.read_text().strip() == name
    ]


def build_unadvised(directory: Path) -> Path:
    """Build the library that swallows MADV_WILLNEED, in `directory`, and return its path. Takes a fraction of a second.

    Raises
    ------
    NotPermittedError
        There is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NotPermittedError(
            "Keeping advice from the kernel needs a C compiler", remedy="Install one: apt-get install gcc libc6-dev"
        )
    library = directory / "unadvised.so"
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", os.fspath(library), os.fspath(UNADVISED_SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise NotPermittedError(
            f"The C compiler fails: {built.stderr.strip()}", remedy="Install its headers: apt-get install libc6-dev"
        )
    return library
