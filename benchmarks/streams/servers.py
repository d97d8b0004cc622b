"""Servers to be measured, each in a process of its own on given CPUs, and what they cost."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.client import Client
from samplecache.clock import NS_PER_S
from samplecache.service import translate
from samplecache.v1 import playback_pb2

STEREO: Final = AudioFormat(48_000, 2, Encoding.S16)
ROUND: Final = AudioFormat(64_000, 2, Encoding.S16)
"""A rate at which blocks of 4, 16 and 64 KiB last a whole number of milliseconds."""
SAMPLES: Final = 64
SAMPLE_BYTES: Final = 4 << 20
"""More than a CPU's caches hold; each stream of up to 64 reads its own. A bare server sends one block over and over."""
_TICK_NS: Final = NS_PER_S // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: CPU time in nanoseconds, since it began; memory that is resident, in bytes."""

    cpu_ns: int
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class ServerUnderTest:
    """A server that runs.

    Attributes
    ----------
    name : str
        For tables.
    address : str
        Where it listens.
    pid : int
        Its process.
    """

    name: str
    address: str
    pid: int

    def usage(self) -> Usage:
        """Return what it has used so far (proc(5): fields 14 and 15 of ``stat``, VmRSS of ``status``)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return Usage((int(fields[11]) + int(fields[12])) * _TICK_NS, self._memory_bytes("VmRSS"))

    def reset_peak(self) -> None:
        """Have :meth:`peak_bytes` tell of what comes from now on (proc(5), ``clear_refs``)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """Return the most memory that was resident."""
        return self._memory_bytes("VmHWM")

    def stop_for(self, stop_ns: int) -> None:
        """Stop the process for so long. Blocks meanwhile."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            time.sleep(stop_ns / NS_PER_S)
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def _memory_bytes(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{field}:")) << 10


@contextmanager
def _process(name: str, command: list[str], cpus: set[int]) -> Iterator[ServerUnderTest]:
    """Run `command` until the block ends; it must print ``listening on ADDRESS``."""
    affinity = ",".join(map(str, sorted(cpus)))
    with subprocess.Popen(["taskset", "-c", affinity, *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith("listening on ")), "")
            if not line:
                raise RuntimeError(f"the server {name} did not start; what it said stands above")
            yield ServerUnderTest(name, line.split()[-1], process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def bare(cpus: set[int]) -> Iterator[ServerUnderTest]:
    """Run the bare server."""
    with _process("bare", [sys.executable, "-m", "benchmarks.streams.bare"], cpus) as server:
        yield server


@contextmanager
def samplecache(
    cpus: set[int], *flags: str, samples: int = SAMPLES, within: Callable[[Sequence[str]], list[str]] = list
) -> Iterator[ServerUnderTest]:
    """Run samplecache on the real kernel, with its samples uploaded: noise, each of its own, at both rates.

    `within` makes of its command line one that runs it somewhere else, such as in a rig.
    """
    command = [sys.executable, "-m", "samplecache", "serve", "--listen", "127.0.0.1:0", "--grace-s", "0"]
    with _process("samplecache", within([*command, "--set", "max_sessions=4096", *flags]), cpus) as server:
        with Client(server.address) as client:
            for number in range(samples):
                for name, raw in (("stereo", STEREO), ("round", ROUND)):
                    noise = np.random.default_rng(number + len(name) * samples).bytes(SAMPLE_BYTES)
                    client.put_file(io.BytesIO(noise), f"{name}-{number}", raw_format=raw)
        yield server


def play_request(
    kind: str, number: int, samples: int, block_ns: int, *, paced: bool = True, coalesce_ns: int = 0
) -> bytes:
    """Return what opens stream `number`: of ``stereo`` or ``round`` samples, of which there are `samples`, for ever."""
    pace = playback_pb2.PACE_REALTIME if paced else playback_pb2.PACE_UNLIMITED
    start = playback_pb2.PlayStart(sample_id=f"{kind}-{number % samples}", loop=True, pace=pace)
    start.block.FromNanoseconds(block_ns)
    if coalesce_ns:
        start.coalesce.FromNanoseconds(coalesce_ns)
        start.lead.FromNanoseconds(2 * (block_ns + coalesce_ns))
    start.format.CopyFrom(translate.audio_format({"stereo": STEREO, "round": ROUND}[kind]))
    return playback_pb2.PlayRequest(start=start).SerializeToString()
