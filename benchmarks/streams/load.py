"""The load: builds the client, has it run, and reads off its records when blocks came."""

from __future__ import annotations

import hashlib
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from samplecache.audio.format import AudioFormat
from samplecache.clock import NS_PER_S
from samplecache.errors import StateError

SOURCE: Final = Path(__file__).with_name("client.cc")
BUILD: Final = Path(__file__).with_name("build")
RUNNING: Final = -1
"""Status of a call that went on until time was up."""

Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Record:
    """One call, as the client saw it.

    Attributes
    ----------
    began_ns : int
        When it sent the request, nanoseconds of the monotonic clock.
    status : int
        gRPC's code; `RUNNING` if it was still going on.
    others : int
        Messages that were no blocks.
    arrivals_ns : array of int64, shape (messages,)
        When blocks came, nanoseconds of the monotonic clock.
    lengths : array of int64, shape (messages,)
        Bytes of each of these messages.
    """

    began_ns: int
    status: int
    others: int
    arrivals_ns: Times
    lengths: Times

    def received_bytes(self, start_ns: int, stop_ns: int) -> int:
        """Return how many bytes came between two times."""
        return int(self.lengths[(self.arrivals_ns >= start_ns) & (self.arrivals_ns < stop_ns)].sum())

    def lateness_ns(self, audio: AudioFormat, block_ns: int, since_ns: int = 0) -> Times:
        """Return by how much each message of a paced stream came after its first block was due.

        A stream's own clock is set by the message that came soonest after its time, so that no constant delay counts
        and a stream that falls behind stays late. A message may have several blocks of `audio`; what came before
        `since_ns` is left out.

        Returns
        -------
        array of int64, shape (messages since then,)
            Nanoseconds, none negative.
        """
        block_bytes = audio.frames_to_bytes(audio.frames_in(block_ns))
        blocks = np.rint(self.lengths / block_bytes).astype(np.int64)  # what else is in a message is less than half one
        behind = (self.arrivals_ns - (np.cumsum(blocks) - blocks) * block_ns)[self.arrivals_ns >= since_ns]
        return behind - behind.min() if len(behind) else behind


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the client: its records and the CPU time that it took, in nanoseconds."""

    records: tuple[Record, ...]
    cpu_ns: int
    elapsed_ns: int

    @property
    def all_open_ns(self) -> int:
        """When the last call began, nanoseconds of the monotonic clock."""
        return max(record.began_ns for record in self.records)

    @property
    def ended(self) -> tuple[int, ...]:
        """Status of each call that did not last until time was up."""
        return tuple(record.status for record in self.records if record.status != RUNNING)


@dataclass(frozen=True, slots=True)
class Generator:
    """A load generator: the command that runs it, and what to say of figures that were got with it, if anything."""

    command: tuple[str, ...]
    caveat: str = ""


def generator() -> Generator:
    """Return the compiled client, or the one in Python where it cannot be built."""
    try:
        return Generator((str(build_client()),))
    except StateError as error:
        return Generator((sys.executable, "-m", "benchmarks.streams.client"), f"the client is the limit: {error}")


def build_client() -> Path:
    """Return the client, compiled if its source has changed. Takes some seconds then.

    Raises
    ------
    StateError
        There is no compiler, or the headers of gRPC are missing.
    """
    missing = [tool for tool in ("g++", "pkg-config") if shutil.which(tool) is None]
    flags = [] if missing else _pkg_config()
    if not flags:
        raise StateError(
            f"the load generator cannot be built: {' and '.join(missing) or 'grpc++'} is missing",
            remedy="apt-get install g++ pkg-config libgrpc++-dev",
        )
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    client = BUILD / f"client-{digest}"
    if not client.exists():
        BUILD.mkdir(exist_ok=True)
        half = client.with_suffix(".part")
        subprocess.run(["g++", "-std=c++17", "-O2", str(SOURCE), "-o", str(half), *flags], check=True)
        half.rename(client)
    return client


def _pkg_config() -> list[str]:
    found = subprocess.run(["pkg-config", "--cflags", "--libs", "grpc++"], capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else []


def run_client(
    client: Generator,
    mode: str,
    address: str,
    method: str,
    requests: Iterable[bytes],
    *arguments: object,
    cpus: set[int],
) -> Run:
    """Run `client` on `cpus`, and return what it saw. Blocks until it ends.

    Raises
    ------
    CalledProcessError
        It failed; what it said is on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        starts, output = Path(folder, "requests"), Path(folder, "records")
        starts.write_bytes(b"".join(struct.pack("=I", len(request)) + request for request in requests))
        command = [*client.command, mode, address, method, starts, output, *arguments]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        affinity = ",".join(map(str, sorted(cpus)))
        began_ns = time.monotonic_ns()
        subprocess.run(["taskset", "-c", affinity, *map(str, command)], check=True)
        elapsed_ns = time.monotonic_ns() - began_ns
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Run(tuple(read_records(output.read_bytes())), int(cpu_s * NS_PER_S), elapsed_ns)


def read_records(data: bytes) -> Iterable[Record]:
    """Yield the records in `data`, as the client writes them."""
    words = np.frombuffer(data, np.int64)
    at = 0
    while at < len(words):
        began_ns, status, others, messages = map(int, words[at : at + 4])
        at += 4
        yield Record(began_ns, status, others, words[at : at + messages], words[at + messages : at + 2 * messages])
        at += 2 * messages


def quantile(values: Sequence[float] | npt.NDArray[np.generic], fraction: float) -> float:
    """Return the smallest value that `fraction` of all do not exceed (the nearest rank); NaN of none."""
    return float(np.quantile(values, fraction, method="inverted_cdf")) if len(values) else float("nan")


def rate_per_s(records: Iterable[Record], start_ns: int, stop_ns: int) -> float:
    """Return how many blocks a second came between two times, over all streams."""
    came = sum(
        int(np.searchsorted(record.arrivals_ns, stop_ns) - np.searchsorted(record.arrivals_ns, start_ns))
        for record in records
    )
    return came * NS_PER_S / (stop_ns - start_ns)
