"""A sound server without a sound card: a PulseAudio daemon of our own, with a sink whose monitor can be recorded."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from samplecache.errors import UnavailableError
from samplecache.lab.ear.contenders.pulse_daemon import PulseDaemon
from samplecache.lab.ear.flaws import Frames
from samplecache.lab.ear.heard import CARD_FORMAT
from samplecache.lab.ear.lines import end

PATIENCE_S: Final = 20.0
SINK: Final = "samplecache"
_POLL_S: Final = 0.005
_BUFFER_BYTES: Final = CARD_FORMAT.frames_to_bytes(CARD_FORMAT.rate_hz // 2)
"""What parec is asked to buffer: half a second."""


class SoundServer:
    """A private PulseAudio daemon with one null sink.

    ``norewinds`` keeps the sink from rendering two seconds ahead, so that what it takes is what is heard.

    Parameters
    ----------
    directory : Path
        For all that it keeps; exists, with a path short enough for a socket in it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        module = f"module-null-sink sink_name={SINK} norewinds=1 rate={CARD_FORMAT.rate_hz} channels=2 format=s16le"
        self.daemon = PulseDaemon(directory, [module])
        self.environment = self.daemon.environment | {"PULSE_SINK": SINK}

    def answers(self) -> bool:
        """Return whether clients can reach it."""
        return self.daemon.pactl("info").returncode == 0

    @contextlib.contextmanager
    def recording(self) -> Iterator[Callable[[], Frames]]:
        """Record the sink's monitor; what is yielded ends the recording and returns it, shape ``(frames, 2)``.

        Raises
        ------
        UnavailableError
            Nothing is recorded for `PATIENCE_S`.
        """
        path = self.directory / f"recording-{time.monotonic_ns()}.raw"
        with path.open("wb") as file:
            recorder = subprocess.Popen(
                [
                    *("parec", "-d", f"{SINK}.monitor", "--format=s16le", f"--rate={CARD_FORMAT.rate_hz}"),
                    *("--channels=2", "--raw", "--latency-msec=500"),
                ],
                env=self.environment,
                stdout=file,
            )
            try:
                _wait_until(lambda: path.stat().st_size > 0, "parec has recorded nothing")
                yield lambda: self._finish(recorder, path)
            finally:
                end(recorder)

    def close(self) -> None:
        """End the daemon, also one that was stopped; may be called again."""
        with contextlib.suppress(ProcessLookupError):
            self.daemon.process.send_signal(signal.SIGCONT)
        self.daemon.close()

    def _finish(self, recorder: subprocess.Popen[bytes], path: Path) -> Frames:
        """Let the recorder catch up with what the monitor has given until now: two of its own buffers."""
        enough_bytes = path.stat().st_size + 2 * _BUFFER_BYTES
        _wait_until(lambda: path.stat().st_size >= enough_bytes, "parec has stopped recording")
        end(recorder)
        recorded = path.read_bytes()
        whole_bytes = len(recorded) // CARD_FORMAT.frame_bytes * CARD_FORMAT.frame_bytes
        return np.frombuffer(recorded[:whole_bytes], "<i2").reshape(-1, CARD_FORMAT.channels)


def missing_packages() -> list[str]:
    """Return the Debian packages that playing through PortAudio into such a server needs and this machine has not."""
    needs = {
        "libportaudio2": _libraries("libportaudio.so.2"),
        "pulseaudio": shutil.which("pulseaudio"),
        "pulseaudio-utils": shutil.which("parec") and shutil.which("pactl"),
        "libasound2-plugins": _libraries("alsa-lib/libasound_module_pcm_pulse.so"),
        "the Python package sounddevice": importlib.util.find_spec("sounddevice"),
    }
    return [package for package, found in needs.items() if not found]


def _libraries(name: str) -> list[Path]:
    """Return the libraries of that name, of whatever architecture; to search all of /usr/lib would take a second."""
    return [path for pattern in (name, f"*/{name}") for path in Path("/usr/lib").glob(pattern)]


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise UnavailableError(f"{what} for {PATIENCE_S:.0f} s", remedy="See that the sound server runs")
        time.sleep(_POLL_S)
