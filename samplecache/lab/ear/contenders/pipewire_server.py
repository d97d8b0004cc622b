"""PipeWire with its PulseAudio server and a session manager, all our own, on a private message bus."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from samplecache.lab.ear.contenders.pulse_daemon import PATIENCE_S
from samplecache.lab.ear.heard import CARD_FORMAT, PERIOD_FRAMES
from samplecache.lab.ear.lines import died, end

_POLL_S: Final = 0.02
PROGRAMS: Final = {
    "dbus-daemon": "dbus-daemon",
    "pipewire": "pipewire",
    "wireplumber": "wireplumber",
    "pipewire-pulse": "pipewire-pulse",
    "pactl": "pulseaudio-utils",
}
_QUANTUM: Final = f"""context.properties = {{
    default.clock.rate = {CARD_FORMAT.rate_hz}
    default.clock.quantum = {PERIOD_FRAMES}
    default.clock.min-quantum = {PERIOD_FRAMES}
    default.clock.max-quantum = {PERIOD_FRAMES}
    default.clock.power-of-two-quantum = false
}}
"""
"""One period of the card at a time: by default the graph would write two pages at once, and a pipe has one."""


class PipeWireServer:
    """What :class:`~samplecache.lab.ear.contenders.pulse_daemon.PulseDaemon` is, of PipeWire.

    Parameters
    ----------
    directory : Path
        Where all that it keeps goes; exists, with a short path.
    popen : callable
        Starts its processes; in a rig or outside.

    Raises
    ------
    ContenderFailedError
        One of its processes ends, or makes no socket for `PATIENCE_S`.
    """

    def __init__(self, directory: Path, popen: Callable[..., subprocess.Popen[Any]] = subprocess.Popen) -> None:
        runtime, home = directory / "xdg", directory / "home"
        for place in (runtime, home):
            place.mkdir(mode=0o700)
        for name in ("pipewire.conf.d", "pipewire-pulse.conf.d"):
            (home / ".config/pipewire" / name).mkdir(parents=True)
        (home / ".config/pipewire/pipewire.conf.d/quantum.conf").write_text(_QUANTUM)
        self.socket = runtime / "pulse" / "native"
        self.log = directory / "pipewire.log"
        bus = f"unix:path={runtime / 'bus'}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PULSE_", "PIPEWIRE_"))},
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_STATE_HOME": str(home / "state"),
            "HOME": str(home),
            "DBUS_SESSION_BUS_ADDRESS": bus,
            "PULSE_SERVER": f"unix:{self.socket}",
        }
        self._popen = popen
        self._processes: list[subprocess.Popen[Any]] = []
        try:
            self._start(["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={bus}"], runtime / "bus")
            self._start(["pipewire"], runtime / "pipewire-0")
            self._start(["wireplumber"])
            self.process = self._start(["pipewire-pulse"], self.socket)
        except BaseException:
            self.close()
            raise

    def wait_ready(self) -> None:
        """Block until it answers; raises as starting does."""
        deadline = time.monotonic() + PATIENCE_S
        while self.pactl("info").returncode:
            self._check(self.process, deadline)

    def pactl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run pactl with `arguments` and return how it ended."""
        return subprocess.run(
            ["pactl", *arguments], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )

    def close(self) -> None:
        """End it all, last started first; may be called again."""
        while self._processes:
            end(self._processes.pop())

    def _start(self, argv: list[str], socket: Path | None = None) -> subprocess.Popen[Any]:
        """Start a program and wait until its socket is there."""
        with self.log.open("a") as log:
            process = self._popen(argv, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(process)
        deadline = time.monotonic() + PATIENCE_S
        while socket is not None and not socket.exists():
            self._check(process, deadline)
        return process

    def _check(self, process: subprocess.Popen[Any], deadline: float) -> None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise died("PipeWire", process.poll(), self.log)
        time.sleep(_POLL_S)
