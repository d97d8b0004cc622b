"""Whether streams whose pages are not there delay those whose pages are: real swap, 400 reads a second. Needs root."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.measuring import Figure, Machine, watched
from benchmarks.streams import servers
from benchmarks.streams.load import Generator, generator, quantile, run_client
from benchmarks.streams.servers import STEREO, ServerUnderTest, play_request
from benchmarks.streams.threads import stacks_of, states_of
from samplecache.cli.render import stderr
from samplecache.client import Client
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import NotPermittedError
from samplecache.lab.rig import Limits, Rig, RigOptions
from samplecache.service.server import SERVICE

STREAMS: Final = 32
READ_IOPS: Final = 400
READERS: Final = 8
"""Fewer than there are cold streams, so that their bound shows."""
BLOCK_NS: Final = 20 * NS_PER_MS
SECONDS: Final = 2.5
REPETITIONS: Final = 5
QUANTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
"""The last is two or three blocks of a turn: what the machine itself does shows there first."""


def measure(*, quick: bool = False) -> list[Figure]:
    """Play 32 streams, all warm and half cold, in turn: a minute and a half. Sets up swap, and takes it down again."""
    repetitions, seconds = (1, 1.0) if quick else (REPETITIONS, SECONDS)
    client = generator()
    cpus = sorted(os.sched_getaffinity(0))
    server_cpus, client_cpus = {cpus[0]}, set(cpus[1:]) or {cpus[0]}
    flags = ("--default-strategy", "none", "--set", f"readers={READERS}")
    try:
        with (
            Rig(RigOptions(swap_bytes=1 << 30, page_cluster=0)) as rig,
            servers.samplecache(server_cpus, *flags, samples=STREAMS, within=rig.command) as server,
        ):
            rig.limit(Limits(read_iops=READ_IOPS))
            return _measure(server, client, client_cpus, repetitions, seconds)
    except NotPermittedError as error:
        stderr().print(f"isolation is left out: {error}")
        return []


def _measure(
    server: ServerUnderTest, client: Generator, cpus: set[int], repetitions: int, seconds: float
) -> list[Figure]:
    late: dict[str, list[npt.NDArray[np.int64]]] = {"all warm": [], "half cold": []}
    machine: dict[str, list[Machine]] = {"all warm": [], "half cold": []}
    for _ in range(repetitions):
        for how, turns in late.items():
            if how == "half cold":
                _evict(server)
            with watched(machine[how]):
                turns.append(_warm_lateness(server, client, cpus, seconds))
    # Looking takes CPU, so lateness does not count any more.
    _evict(server)
    with states_of(server.pid) as states:
        _warm_lateness(server, client, cpus, seconds)
    _evict(server)
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        dumping = pool.submit(stacks_of, server.pid, over)
        _warm_lateness(server, client, cpus, seconds)
        over.set()
        stacks = dumping.result()
    if stacks.dumps:
        stderr().print(f"a dump while a reader was in a page fault:\n{stacks.example or 'none was'}")
    else:
        stderr().print("no stacks: py-spy is not there (pip install py-spy)")
    return [
        *(figure for name, fraction in QUANTILES.items() for figure in _compared(name, fraction, late, machine)),
        Figure("looks with a thread in a page fault", "%", (100 * states.faulting / states.looks,)),
        Figure("most threads in one at a time", f"of {READERS} readers", (float(states.most_faulting),)),
        Figure("looks with the event loop in one", "times", (float(states.first_faulting),)),
        Figure("stack dumps", "dumps", (float(stacks.dumps),)),
        Figure("of those, a reader in a read", "dumps", (float(stacks.reading),)),
        Figure("of those, with the GIL", "dumps", (float(stacks.reading_with_gil),)),
        Figure("reader threads seen", f"of {READERS}", (float(stacks.readers),)),
    ]


def _compared(
    name: str,
    fraction: float,
    late: dict[str, list[npt.NDArray[np.int64]]],
    machine: dict[str, list[Machine]],
) -> Iterator[Figure]:
    """Yield a quantile of the warm streams' lateness, in each turn and in all of them, and how much more it is."""
    each = {how: [quantile(turn, fraction) / NS_PER_MS for turn in turns] for how, turns in late.items()}
    for how, values in each.items():
        yield Figure(f"warm streams' lateness, {how}", f"ms {name}", tuple(values), tuple(machine[how]))
    more = [cold - warm for warm, cold in zip(*each.values(), strict=True)]
    yield Figure("half cold less all warm", f"ms {name}", tuple(more), tuple(machine["half cold"]))
    warm, cold = (quantile(np.concatenate(turns), fraction) / NS_PER_MS for turns in late.values())
    yield Figure("half cold less all warm, all turns together", f"ms {name}", (cold - warm,))


def _warm_lateness(server: ServerUnderTest, client: Generator, cpus: set[int], seconds: float) -> npt.NDArray[np.int64]:
    """Play all, and return the lateness of every block of the first half, which is warm always, in ns."""
    requests = [play_request("stereo", number, STREAMS, BLOCK_NS) for number in range(STREAMS)]
    method = f"/{SERVICE}/Play"
    run = run_client(
        client, "streams", server.address, method, requests, STREAMS, seconds, NS_PER_S, STREAMS, cpus=cpus
    )
    warm = run.records[: STREAMS // 2]
    return np.concatenate([record.lateness_ns(STEREO, BLOCK_NS, run.all_open_ns) for record in warm])


def _evict(server: ServerUnderTest) -> None:
    """Page the second half of the samples out."""
    with Client(server.address) as client:
        for number in range(STREAMS // 2, STREAMS):
            left = client.evict(f"stereo-{number}").pages_left
            if left:
                stderr().print(f"{left} pages of stereo-{number} could not be paged out")
