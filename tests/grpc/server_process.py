"""A real server in a process of its own, on the simulated kernel unless told otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from samplecache.client import Client
from samplecache.clock import NS_PER_S

ROOT = Path(__file__).resolve().parents[2]
SAMPLECACHE = (sys.executable, "-m", "samplecache")
END_TIMEOUT_S = 20


def environment() -> dict[str, str]:
    """Variables under which this tree's packages are found, and no setting of the developer's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLECACHE_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("", "plugins", "demo"))}


@dataclass(frozen=True)
class ServerProcess:
    """A server that runs."""

    target: str
    process: subprocess.Popen[str]

    def stop(self) -> str:
        """End it as an administrator would and return what it printed."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=END_TIMEOUT_S)
        return output


@contextmanager
def running_server(folder: Path, *flags: str) -> Iterator[ServerProcess]:
    """Run a server on a socket in `folder` until the block ends."""
    target = f"unix:{folder / 'samplecache.sock'}"
    flags = ("--kernel", "simulated", "--memory", "64MiB", "--grace-s", "0", *flags)
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(
            [*SAMPLECACHE, "serve", "--listen", target, *flags],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(),
        ) as process,
    ):
        try:
            with Client(target) as client:
                client.wait_ready(20 * NS_PER_S)
            yield ServerProcess(target, process)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.communicate(timeout=END_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
