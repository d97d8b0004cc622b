"""A PulseAudio daemon of our own, and its client programs; nobody else's is touched, and none of its files stay."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from samplecache.lab.ear.lines import died, end

PATIENCE_S: Final = 20.0
_POLL_S: Final = 0.01
_PLACES: Final = {
    "XDG_RUNTIME_DIR": "xdg",
    "PULSE_RUNTIME_PATH": "run",
    "PULSE_STATE_PATH": "state",
    "PULSE_CONFIG_PATH": "config",
    "HOME": "home",
}


class PulseDaemon:
    """A daemon with modules of the caller's choice, reached by a socket in `directory`.

    Shared memory is off: with it the daemon has aborted, and samples would not be private memory.

    Parameters
    ----------
    directory : Path
        Where all that it keeps goes; exists, with a short path.
    modules : sequence of str
        What to load beside the protocol, with arguments.
    environment : dict
        More variables for the daemon.
    popen : callable
        Starts it; in a rig or outside.
    """

    def __init__(
        self,
        directory: Path,
        modules: Sequence[str],
        environment: dict[str, str] | None = None,
        popen: Callable[..., subprocess.Popen[Any]] = subprocess.Popen,
    ) -> None:
        for place in _PLACES.values():
            (directory / place).mkdir(mode=0o700)
        self.socket = directory / "run" / "native"
        self.log = directory / "pulseaudio.log"
        self.environment = {
            **os.environ,
            **{name: str(directory / place) for name, place in _PLACES.items()},
            "PULSE_SERVER": f"unix:{self.socket}",
        }
        modules = [f"module-native-protocol-unix auth-anonymous=1 socket={self.socket}", *modules]
        with self.log.open("w") as log:
            self.process = popen(
                [
                    *("pulseaudio", "-n", "--daemonize=no", "--disable-shm=yes", "--exit-idle-time=-1"),
                    *("--disallow-exit", "--use-pid-file=no", "--log-target=stderr"),
                    *(word for module in modules for word in ("-L", module)),
                ],
                env=self.environment | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Block until it answers.

        Raises
        ------
        ContenderFailedError
            It has ended, or does not answer for `PATIENCE_S`.
        """
        deadline = time.monotonic() + PATIENCE_S
        while self.pactl("info").returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise died("PulseAudio", self.process.poll(), self.log)
            time.sleep(_POLL_S)

    def pactl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run pactl with `arguments` and return how it ended."""
        return subprocess.run(
            ["pactl", *arguments], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )

    def close(self) -> None:
        """End it; may be called again."""
        end(self.process)
