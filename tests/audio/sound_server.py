"""A PulseAudio daemon of the tests' own, with a sink whose monitor can be recorded: sound without a sound card."""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samplecache.lab.ear.flaws import Frames

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE_S = 20.0
SINK = "samplecache"


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds; fail with `what` after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} for {PATIENCE_S:.0f} s"
        time.sleep(0.005)


@dataclass
class Player:
    """A process that plays."""

    process: subprocess.Popen[str]

    def finish(self) -> tuple[int, str]:
        """Wait for its end and return its exit status and last line."""
        out, _ = self.process.communicate(timeout=PATIENCE_S * 2)
        return self.process.returncode, out.strip().rpartition("\n")[2]


class SoundServer:
    """A private PulseAudio daemon with one null sink.

    ``norewinds`` keeps the sink from rendering two seconds ahead, so that what it takes is what is heard; shared memory
    is off because the daemon has aborted with it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        places = {"XDG_RUNTIME_DIR": "xdg", "PULSE_RUNTIME_PATH": "run", "PULSE_STATE_PATH": "state", "HOME": "home"}
        for place in places.values():
            (directory / place).mkdir(mode=0o700)
        self.socket = directory / "run" / "native"
        self.environment = {
            **os.environ,
            **{name: str(directory / place) for name, place in places.items()},
            "PULSE_SERVER": f"unix:{self.socket}",
            "PULSE_SINK": SINK,
            "PYTHONPATH": os.pathsep.join(str(path) for path in (ROOT, ROOT / "demo", HERE)),
        }
        self._log = (directory / "log").open("w", encoding="utf-8")
        self.daemon = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--disable-shm=yes", "--exit-idle-time=-1", "--disallow-exit"),
                *("--use-pid-file=no", "-L", f"module-native-protocol-unix auth-anonymous=1 socket={self.socket}"),
                *("-L", f"module-null-sink sink_name={SINK} norewinds=1 rate=48000 channels=2 format=s16le"),
            ],
            env=self.environment,
            stderr=self._log,
        )

    def answers(self) -> bool:
        """Return whether clients can reach it."""
        asked = subprocess.run(["pactl", "info"], env=self.environment, capture_output=True, timeout=PATIENCE_S)
        return asked.returncode == 0

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

    @contextlib.contextmanager
    def recording(self) -> Iterator[Callable[[], Frames]]:
        """Record the sink's monitor; what is yielded ends the recording and returns it, shape ``(frames, 2)``."""
        path = self.directory / f"recording-{time.monotonic_ns()}.raw"
        with path.open("wb") as file:
            recorder = subprocess.Popen(
                [
                    *("parec", "-d", f"{SINK}.monitor", "--format=s16le", "--rate=48000", "--channels=2", "--raw"),
                    "--latency-msec=500",
                ],
                env=self.environment,
                stdout=file,
            )
            try:
                wait_until(lambda: path.stat().st_size, "parec has recorded nothing")
                yield lambda: self._finish(recorder, path)
            finally:
                end(recorder)

    def _finish(self, recorder: subprocess.Popen[bytes], path: Path) -> Frames:
        """Let the recorder catch up with what the monitor has given until now: two of its own buffers."""
        enough_bytes = path.stat().st_size + 2 * 48_000 * 4 // 2
        wait_until(lambda: path.stat().st_size >= enough_bytes, "parec has stopped recording")
        end(recorder)
        recorded = path.read_bytes()
        return np.frombuffer(recorded[: len(recorded) // 4 * 4], "<i2").reshape(-1, 2)

    def close(self) -> None:
        """End the daemon."""
        self.daemon.send_signal(signal.SIGCONT)
        end(self.daemon)
        self._log.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process of ours, and kill it if it does not mind."""
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def missing_packages() -> list[str]:
    """Return the Debian packages that the tests need and this machine has not."""
    plugins = list(Path("/usr/lib").glob("**/alsa-lib/libasound_module_pcm_pulse.so"))
    needs = {
        "libportaudio2": ctypes.util.find_library("portaudio"),
        "pulseaudio": shutil.which("pulseaudio"),
        "pulseaudio-utils": shutil.which("parec") and shutil.which("pactl"),
        "libasound2-plugins": plugins,
        "the Python package sounddevice": importlib.util.find_spec("sounddevice"),
    }
    return [package for package, found in needs.items() if not found]
