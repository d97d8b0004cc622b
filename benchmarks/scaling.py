"""What a second worker is worth: the CPU that paced streams take with one process and with two, and how many are held.

The load has to run somewhere. On a machine of two cores it takes what it needs from the servers, so streams are counted
with each streaming process kept to a part of a core by a control group: that leaves room for the load and for the
owner of the samples, which is not kept to anything, and whose CPU is told beside.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measuring import Figure
from benchmarks.streams.load import Generator, generator, quantile, run_client
from benchmarks.streams.search import levels, most_held
from benchmarks.streams.servers import STEREO, ServerUnderTest, play_request, samplecache
from samplecache.clock import NS_PER_MS, NS_PER_S

PLAY: Final = "/samplecache.v1.SampleCacheService/Play"
BLOCK_NS: Final = 20 * NS_PER_MS
LATE_NS: Final = 10 * NS_PER_MS
SECONDS: Final = 2
STREAMS: Final = 48
"""Fewer than one process holds."""
SAMPLES: Final = 16
CONNECTIONS: Final = 32
"""So many that each of two workers gets about half of the streams, whatever the kernel's hash says."""
REPETITIONS: Final = 1
"""More for a spread: each takes a minute."""
PART_OF_A_CORE: Final = 0.4
PERIOD_US: Final = 4_000
"""A process that has used up its part waits for the rest of the period: less than a block may be late."""
CGROUPS: Final = Path("/sys/fs/cgroup")
_TICK_MS: Final = 1000 / os.sysconf("SC_CLK_TCK")


def measure(*, quick: bool = False) -> list[Figure]:
    """Measure everything: some minutes."""
    client = generator()
    if client.caveat:
        print(client.caveat, file=sys.stderr)
    costs: dict[int, list[_Outcome]] = {1: [], 2: []}
    limited: dict[int, list[_Outcome]] = {1: [], 2: []}
    for _ in range(1 if quick else REPETITIONS):
        for workers, outcomes in costs.items():
            outcomes.append(_cost(client, workers))
        if os.geteuid() == 0 and not quick:
            for workers, outcomes in limited.items():
                outcomes.append(_streams_held(client, workers, outcomes[-1].held if outcomes else 28 * workers))
    figures = []
    for workers, outcomes in costs.items():
        figures += _figures(f"{_said(workers)}, {STREAMS} streams", outcomes)
    for workers, outcomes in limited.items():
        if outcomes:
            name = f"{_said(workers)}, {PART_OF_A_CORE:g} of a core for each that streams"
            held = tuple(outcome.held for outcome in outcomes)
            figures += [Figure(f"{name}: held", "streams of 20 ms blocks", held), *_figures(name, outcomes)]
    if limited[1] and all(one.held for one in limited[1]):
        ratios = (two.held / one.held for one, two in zip(limited[1], limited[2], strict=True))
        figures.append(Figure("two workers, of one process", "ratio of streams held", tuple(ratios)))
    return figures


def _said(workers: int) -> str:
    return f"{workers} workers" if workers > 1 else "one process"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A number of streams, and milliseconds of CPU a stream and second at that."""

    held: int
    streaming_ms: float
    owner_ms: float
    client_ms: float


def _figures(name: str, outcomes: list[_Outcome]) -> list[Figure]:
    unit = "CPU ms a stream and second"
    figures = [
        Figure(f"{name}: all that stream", unit, tuple(outcome.streaming_ms for outcome in outcomes)),
        Figure(f"{name}: client", unit, tuple(outcome.client_ms for outcome in outcomes)),
    ]
    if any(outcome.owner_ms for outcome in outcomes):
        figures.append(Figure(f"{name}: owner", unit, tuple(outcome.owner_ms for outcome in outcomes)))
    return figures


def _cost(client: Generator, workers: int) -> _Outcome:
    """Return what `STREAMS` streams cost, be they in time or not."""
    cpus = os.sched_getaffinity(0)
    with samplecache(cpus, "--workers", str(workers), samples=SAMPLES) as server:
        return _played(client, server, cpus, STREAMS)[0]


def _streams_held(client: Generator, workers: int, guess: int) -> _Outcome:
    """Return the most streams of which no block in a thousand is late, and what they cost."""
    cpus = os.sched_getaffinity(0)
    best: dict[int, _Outcome] = {}
    with samplecache(cpus, "--workers", str(workers), samples=SAMPLES) as server, _limited(server, PART_OF_A_CORE):

        def held(count: int) -> bool:
            for _ in range(2):  # a machine stalls now and then; the second time counts
                outcome, in_time = _played(client, server, cpus, count)
                if in_time:
                    best[count] = outcome
                    return True
            return False

        most_held(held, levels(8, 500), guess)
    return best[max(best)] if best else _Outcome(0, 0, 0, 0)


def _played(client: Generator, server: ServerUnderTest, cpus: set[int], count: int) -> tuple[_Outcome, bool]:
    """Play `count` streams; return what that cost, and whether all went on and no block in a thousand came late."""
    requests = [play_request("stereo", number, SAMPLES, BLOCK_NS) for number in range(min(count, SAMPLES))]
    streaming = _streaming(server)
    before = {pid: _cpu_ms(pid) for pid in {server.pid, *streaming}}
    run = run_client(
        client, "streams", server.address, PLAY, requests, count, SECONDS, NS_PER_S, CONNECTIONS, cpus=cpus
    )
    spent = {pid: _cpu_ms(pid) - cpu_ms for pid, cpu_ms in before.items()}
    played_s = sum(len(record.arrivals_ns) for record in run.records) * BLOCK_NS / NS_PER_S
    streaming_ms = sum(spent[pid] for pid in streaming)
    owner_ms = sum(spent.values()) - streaming_ms
    outcome = _Outcome(count, streaming_ms / played_s, owner_ms / played_s, run.cpu_ns / NS_PER_MS / played_s)
    late = [record.lateness_ns(STEREO, BLOCK_NS, record.began_ns + 10 * BLOCK_NS) for record in run.records]
    in_time = not run.ended and quantile([value for each in late for value in each], 0.999) <= LATE_NS
    return outcome, in_time


def _streaming(server: ServerUnderTest) -> list[int]:
    """Return the processes of a server that stream: its workers, or itself."""
    files = Path(f"/proc/{server.pid}/task").glob("*/children")
    children = [int(pid) for file in files for pid in file.read_text().split()]
    return [pid for pid in children if b"workers.process" in Path(f"/proc/{pid}/cmdline").read_bytes()] or [server.pid]


def _cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_MS


@contextmanager
def _limited(server: ServerUnderTest, limit: float) -> Iterator[None]:
    """Keep each process that streams to `limit` of a core, until the end of the block."""
    first = (CGROUPS / "cpu").is_dir()  # the first version of control groups has a hierarchy for each controller
    root = CGROUPS / "cpu" if first else CGROUPS
    quota_us = int(limit * PERIOD_US)
    with ExitStack() as stack:
        for pid in _streaming(server):
            group = Path(tempfile.mkdtemp(prefix="samplecache-", dir=root))
            stack.callback(group.rmdir)
            if first:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(quota_us))
            else:
                (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
            (group / "cgroup.procs").write_text(str(pid))
            stack.callback((root / "cgroup.procs").write_text, str(pid))
        yield
