"""PulseAudio's own sample cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from samplecache.errors import NotPermittedError
from samplecache.lab.ear.contender import Cue, Stage
from samplecache.lab.ear.contenders.pulse_cache import PulseSampleCache, PulseServer, threads_named
from samplecache.lab.ear.contenders.pulse_daemon import PulseDaemon

MIXING_THREAD: Final = "pipe-sink"
"""What module-pipe-sink calls its thread, which mixes sounds and so reads them."""
UNADVISED_SOURCE: Final = Path(__file__).with_name("unadvised.c")


class PulseAudio(PulseSampleCache):
    """The sample cache of a PulseAudio daemon.

    Parameters
    ----------
    name : str
        Its name.
    advised : bool
        False keeps its advice (MADV_WILLNEED) from the kernel, by a library of a few lines that is built and preloaded.
    """

    programs: ClassVar = {"pulseaudio": "pulseaudio", "pactl": "pulseaudio-utils"}

    def __init__(self, name: str, *, advised: bool = True) -> None:
        super().__init__(name)
        self._advised = advised

    def check(self, cues: Sequence[Cue], lengths_frames: Mapping[str, int]) -> None:
        """As for all such servers; without advice a compiler has to be there, too."""
        super().check(cues, lengths_frames)
        if not self._advised:
            _compiler()

    @property
    def version(self) -> str:
        """What the daemon says."""
        told = subprocess.run(["pulseaudio", "--version"], capture_output=True, text=True, check=False)
        return told.stdout.strip()

    def serve(self, stage: Stage, sink: str) -> PulseServer:
        """Start the daemon."""
        environment = {} if self._advised else {"LD_PRELOAD": str(build_unadvised(stage.directory))}
        daemon = PulseDaemon(stage.directory, [sink], environment, stage.rig.popen)
        try:
            daemon.wait_ready()
        except BaseException:
            daemon.close()
            raise
        return daemon

    def playing_threads(self) -> Sequence[tuple[int, int]]:
        """Return the thread that mixes."""
        return threads_named(self.server.process.pid, MIXING_THREAD)

    def notes(self) -> Sequence[str]:
        """Return what is stored differently."""
        return ("stores 16-bit sounds as 32-bit floats", *["its advice was kept from the kernel"] * (not self._advised))


def build_unadvised(directory: Path) -> Path:
    """Build the library that swallows MADV_WILLNEED, in `directory`, and return its path. Takes a fraction of a second.

    Raises
    ------
    NotPermittedError
        There is no C compiler.
    """
    library = directory / "unadvised.so"
    built = subprocess.run(
        [_compiler(), "-shared", "-fPIC", "-O2", "-o", os.fspath(library), os.fspath(UNADVISED_SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise NotPermittedError(
            f"The C compiler fails: {built.stderr.strip()}", remedy="Install its headers: apt-get install libc6-dev"
        )
    return library


def _compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        raise NotPermittedError(
            "Keeping advice from the kernel needs a C compiler", remedy="Install one: apt-get install gcc libc6-dev"
        )
    return found
