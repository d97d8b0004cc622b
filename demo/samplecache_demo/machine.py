"""Where the comparison runs: the real kernel where swap and eviction work, else the simulated one; and its server."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from samplecache.client import Client
from samplecache.clock import NS_PER_S
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Operation
from samplecache.lab.rig import Limits, Rig, RigOptions
from samplecache_demo.devices import MEMORY_BYTES, DemoDevice

SIMULATED_DEVICE: Final = "hdd-laptop-2008"
SWAP_BYTES: Final = 512 << 20
_STOP_TIMEOUT_S: Final = 15


@dataclass(frozen=True, slots=True)
class Stage:
    """A server to play through, and what is under it.

    Attributes
    ----------
    client : Client
        Connected to the server.
    kernel : str
        Which kernel and why, in one line.
    label : str
        Over the table: simulated (model, seed) or measured (kernel, device).
    rig : Rig or None
        What slows the device, if anything does.
    device : DemoDevice or None
        What the rig has for a device.
    """

    client: Client
    kernel: str
    label: str
    rig: Rig | None = None
    device: DemoDevice | None = None

    @contextlib.contextmanager
    def full_speed(self) -> Iterator[None]:
        """Lift the limit on reads, to make samples cold quickly, and put it back."""
        if self.rig is None or self.device is None:
            yield
            return
        self.rig.limit(Limits(memory_bytes=MEMORY_BYTES))
        try:
            yield
        finally:
            self.rig.limit(self.device.limits)


@contextlib.contextmanager
def stage(device: DemoDevice | None) -> Iterator[Stage]:
    """Start a server, and for a `device` a rig with it under that; take both down again.

    Raises
    ------
    NotPermittedError
        A device, but not root, or without control groups.
    """
    with contextlib.ExitStack() as stack:
        rig: Rig | None = None
        flags: list[str] = []
        if device is not None:
            rig = stack.enter_context(Rig(RigOptions(swap_bytes=SWAP_BYTES, zram=device.zram)))
            line = f"real, as asked: {_linux_line()}; {device.description}"
            label = f"MEASURED: Linux {platform.release()}, {device.description}"
        elif obstacle := _obstacle():
            line = f"simulated, because on the real one: {obstacle}"
            label = f"SIMULATED: {SIMULATED_DEVICE}, seed 0"
            flags = ["--kernel", "simulated", "--device", SIMULATED_DEVICE, "--seed", "0"]
        else:
            line = f"real, because swap and eviction work here: {_linux_line()}"
            label = f"MEASURED: {_linux_line()}"
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="samplecache-"))
        client = stack.enter_context(_server(Path(directory), flags, rig))
        yield Stage(client, line, label, rig, device)


def _obstacle() -> str:
    """Return why samples cannot be made cold on the real kernel, or nothing if they can."""
    found = LinuxKernel().probe()
    return "" if found.useful(Operation.EVICT) else found.operations[Operation.EVICT].why


def _linux_line() -> str:
    found = LinuxKernel().probe()
    return f"Linux {found.release}, {found.swap_device}"


@contextlib.contextmanager
def _server(directory: Path, flags: list[str], rig: Rig | None) -> Iterator[Client]:
    """Run a server on a Unix socket, inside the rig if there is one, and yield a client of it."""
    address = f"unix:{directory / 'samplecache.sock'}"
    command = [sys.executable, "-m", "samplecache", "serve", "--listen", address, *flags]
    with (directory / "server.log").open("w") as log:
        options: dict[str, Any] = {"stdout": log, "stderr": log, "env": {**os.environ, "PYTHONUNBUFFERED": "1"}}
        process = rig.popen(command, **options) if rig else subprocess.Popen(command, **options)
        try:
            with Client(address) as client:
                try:
                    client.wait_ready(20 * NS_PER_S)
                except Exception:
                    print((directory / "server.log").read_text(), file=sys.stderr)
                    raise
                yield client
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
