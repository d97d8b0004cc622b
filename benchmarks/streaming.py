"""What streaming costs beside a server that only sends ready bytes: the bare one and samplecache, in turn on one CPU.

The server under test has the first CPU, the client and the witness the others. Streams are spread over all phases of a
block; each of up to 64 has its own connection. A stream's own clock is set by its promptest block, and lateness counts
from there.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.measuring import Figure, Machine, watched
from benchmarks.streams import servers
from benchmarks.streams.load import Generator, Run, generator, quantile, rate_per_s, run_client
from benchmarks.streams.search import levels, most_held
from benchmarks.streams.servers import ROUND, SAMPLES, STEREO, ServerUnderTest, play_request
from samplecache.cli.render import stderr
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.service.server import SERVICE
from samplecache.v1 import samplecache_pb2

LATE_NS: Final = 10 * NS_PER_MS
HELD_FRACTION: Final = 0.999
"""Streams are held if no more than one block in a thousand comes `LATE_NS` late."""

CONNECTIONS: Final = 64
BLOCK_BYTES: Final = (4 << 10, 16 << 10, 64 << 10, 1 << 20)
STREAMS: Final = (1, 16, 64)
SETTLE_NS: Final = NS_PER_S // 2
STALL_NS: Final = 150 * NS_PER_MS
"""More than the default lead: every stream is late."""


@dataclass(frozen=True, slots=True)
class Paced:
    """Streams that are sent in real time.

    Attributes
    ----------
    block_ns : int
        Length of a block.
    coalesce_ns : int
        How long samplecache may have a block wait for others; the bare server sends as much in one block.
    guess : int
        How many are tried first.
    """

    block_ns: int
    coalesce_ns: int
    guess: int

    @property
    def message_ns(self) -> int:
        """How much a message holds."""
        return self.block_ns + self.coalesce_ns

    @property
    def name(self) -> str:
        """For tables."""
        name = f"{self.block_ns // NS_PER_MS} ms"
        return f"{name} blocks, {self.message_ns // NS_PER_MS} ms a message" if self.coalesce_ns else name


PACED: Final = (
    Paced(20 * NS_PER_MS, 0, 120),
    Paced(100 * NS_PER_MS, 0, 400),
    Paced(20 * NS_PER_MS, 80 * NS_PER_MS, 400),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to take over it.

    Attributes
    ----------
    repetitions : int
        Of each measurement.
    unpaced_s, paced_s : float
        How long one goes on once all streams are open.
    spread_ns : int
        Over what time paced streams are opened.
    calls : int
        Of which the time to the first block is taken.
    block_bytes, streams : tuple of int
        What is tried unpaced.
    paced : tuple of Paced
        What is tried paced.
    cost_streams : int
        Of how many streams the cost is taken.
    searches : int
        How often it is searched how many are held.
    levels : tuple of int
        The fewest and the most to try.
    stalled_streams : int
        How many go on when the server is stopped for `STALL_NS`.
    stalled_s : float
        How long they go on once all are open; a quarter in, the server is stopped.
    """

    repetitions: int = 3
    unpaced_s: float = 0.4
    paced_s: float = 1.2
    spread_ns: int = NS_PER_S
    calls: int = 150
    block_bytes: tuple[int, ...] = BLOCK_BYTES
    streams: tuple[int, ...] = STREAMS
    paced: tuple[Paced, ...] = PACED
    cost_streams: int = 64
    searches: int = 1
    levels: tuple[int, int] = (32, 1024)
    stalled_streams: int = 120
    stalled_s: float = 2.0


QUICK: Final = Plan(
    repetitions=1,
    unpaced_s=0.3,
    paced_s=0.6,
    spread_ns=NS_PER_S // 5,
    calls=20,
    block_bytes=(4 << 10, 64 << 10),
    streams=(4,),
    paced=(Paced(20 * NS_PER_MS, 40 * NS_PER_MS, 4),),
    cost_streams=4,
    levels=(4, 4),
    stalled_streams=4,
)


class Bench:
    """Two servers, a client, and what was measured of them.

    Parameters
    ----------
    plan : Plan
        How long to take.
    client : Generator
        What makes the load.
    """

    def __init__(self, plan: Plan, client: Generator) -> None:
        self.plan = plan
        self.client = client
        cpus = sorted(os.sched_getaffinity(0))
        self.server_cpus, self.client_cpus = {cpus[0]}, set(cpus[1:]) or {cpus[0]}
        self.values: dict[tuple[str, str], list[float]] = {}
        self.machine: dict[tuple[str, str], list[Machine]] = {}

    def figures(self) -> list[Figure]:
        """Return all figures, in the order in which they were first noted."""
        return [
            Figure(name, unit, tuple(values), tuple(self.machine[name, unit]))
            for (name, unit), values in self.values.items()
        ]

    @contextmanager
    def _noting(self) -> Iterator[Callable[[str, str, float], None]]:
        """Watch the machine while something is measured; note figures with what it did."""
        seen: list[Machine] = []
        noted: list[tuple[str, str, float]] = []
        with watched(seen):
            yield lambda name, unit, value: noted.append((name, unit, value))
        for name, unit, value in noted:
            self.values.setdefault((name, unit), []).append(value)
            self.machine.setdefault((name, unit), []).append(seen[0])
            stderr().print(f"  {name}: {value:.4g} {unit}")

    # --- unpaced ---

    def unpaced(self, both: list[ServerUnderTest]) -> None:
        """Measure how much each sends when the client takes all it can get."""
        for block_bytes in self.plan.block_bytes:
            for streams in self.plan.streams:
                what = f"unpaced, {block_bytes >> 10} KiB x {streams}"
                with self._noting() as note:
                    rates = [self._unpaced(server, block_bytes, streams) for server in both]
                    for server, (rate, received, cpu_ns) in zip(both, rates, strict=True):
                        note(f"{what}, {server.name}", "MB/s", received / 1e6)
                        note(f"{what}, {server.name}", "messages/s", rate)
                        note(f"{what}, {server.name}", "CPU us/message", cpu_ns / 1e3)
                    note(what, "samplecache/bare", rates[1][1] / rates[0][1])

    def _unpaced(self, server: ServerUnderTest, block_bytes: int, streams: int) -> tuple[float, float, float]:
        """Return messages a second, bytes a second, and the server's CPU time for a message in ns."""
        block_ns = block_bytes * NS_PER_S // (ROUND.rate_hz * ROUND.frame_bytes)
        if server.name != "bare":
            block_ns = min(block_ns, NS_PER_S)  # the contract's longest, 250 KiB at this rate
        requests = [play_request("round", number, SAMPLES, block_ns, paced=False) for number in range(streams)]
        before = server.usage()
        run = self._streams(server, requests, self.plan.unpaced_s, NS_PER_S // 10)
        cpu_ns = server.usage().cpu_ns - before.cpu_ns
        stop_ns = run.all_open_ns + int(self.plan.unpaced_s * NS_PER_S)
        messages = sum(len(record.arrivals_ns) for record in run.records)
        length = sum(int(record.lengths.sum()) for record in run.records) / max(1, messages)
        rate = rate_per_s(run.records, stop_ns - int(self.plan.unpaced_s * 0.8 * NS_PER_S), stop_ns)
        return rate, rate * length, cpu_ns / max(1, messages)

    # --- paced ---

    def paced(self, both: list[ServerUnderTest]) -> None:
        """Search how many paced streams each holds, and what one costs where both hold them."""
        least, most = self.plan.levels
        bare_held: dict[tuple[int, int], int] = {}  # by search and length of a message: blocks are all the same to it
        for paced in self.plan.paced:
            what = f"paced streams held, {paced.name}"
            guesses = dict.fromkeys((server.name for server in both), paced.guess)
            for search in range(self.plan.searches):
                with self._noting() as note:
                    for server in both:
                        held = bare_held.get((search, paced.message_ns)) if server.name == "bare" else None
                        if held is None:
                            held_by = functools.partial(self._held, server, paced)
                            held = most_held(held_by, levels(least, most), guesses[server.name])
                        if server.name == "bare":
                            bare_held[search, paced.message_ns] = held
                        guesses[server.name] = held
                        note(f"{what}, {server.name}", "streams", held)
                    note(what, "samplecache/bare", guesses["samplecache"] / max(1, guesses["bare"]))

    def _held(self, server: ServerUnderTest, paced: Paced, streams: int) -> bool:
        """Try twice before saying no: the machine itself is late now and then."""
        return any(quantile(self._paced(server, streams, paced), HELD_FRACTION) <= LATE_NS for _ in range(2))

    def _paced(self, server: ServerUnderTest, streams: int, paced: Paced) -> np.typing.NDArray[np.int64]:
        """Return the lateness of every message once all streams are open, in ns."""
        bare = server.name == "bare"
        block_ns, coalesce_ns = (paced.message_ns, 0) if bare else (paced.block_ns, paced.coalesce_ns)
        requests = [
            play_request("stereo", number, SAMPLES, block_ns, coalesce_ns=coalesce_ns) for number in range(streams)
        ]
        run = self._streams(server, requests, self.plan.paced_s, self.plan.spread_ns)
        settled_ns = run.all_open_ns + SETTLE_NS
        if len(run.records) < streams or run.ended:
            raise RuntimeError(f"{server.name} ended streams with {set(run.ended)}")
        late = [record.lateness_ns(STEREO, block_ns, settled_ns) for record in run.records]
        # A stream that got nothing any more is as late as can be.
        return np.concatenate([each if len(each) else np.array([NS_PER_S]) for each in late])

    def cost(self, both: list[ServerUnderTest]) -> None:
        """Measure what a paced stream costs: CPU, and memory over that of the idle server."""
        block_ns = 20 * NS_PER_MS
        streams = self.plan.cost_streams
        what = f"a 20 ms stream of {streams}"
        with self._noting() as note:
            for server in both:
                requests = [play_request("stereo", number, SAMPLES, block_ns) for number in range(streams)]
                before = server.usage()
                with _peak(server) as peak:
                    run = self._streams(server, requests, self.plan.paced_s, self.plan.spread_ns)
                cpu_ns = server.usage().cpu_ns - before.cpu_ns
                blocks = sum(len(record.arrivals_ns) for record in run.records)
                note(f"{what}, {server.name}", "CPU us/block", cpu_ns / 1e3 / max(1, blocks))
                note(f"{what}, {server.name}", "% of a core", 100 * cpu_ns / max(1, blocks) / block_ns)
                note(f"{what}, {server.name}", "KiB RSS", (peak[0] - before.rss_bytes) / 1024 / streams)
                note(f"{what}, client of {server.name}", "% of a core", 100 * run.cpu_ns / run.elapsed_ns / streams)

    def stalled(self, both: list[ServerUnderTest]) -> None:
        """Stop each server for a moment, as a machine does that stalls, and measure what becomes of its streams."""
        block_ns, streams = 20 * NS_PER_MS, self.plan.stalled_streams
        what = f"{streams} streams of 20 ms after a stall of {STALL_NS // NS_PER_MS} ms"
        last_ns = NS_PER_S // 2
        due_bytes = STEREO.frames_to_bytes(STEREO.frames_in(last_ns)) * streams
        requests = [play_request("stereo", number, SAMPLES, block_ns) for number in range(streams)]
        with self._noting() as note:
            for server in both:
                stopping = threading.Timer(
                    (self.plan.spread_ns + self.plan.stalled_s * NS_PER_S / 4) / NS_PER_S, server.stop_for, [STALL_NS]
                )
                stopping.start()
                run = self._streams(server, requests, self.plan.stalled_s, self.plan.spread_ns)
                stopping.join()
                stop_ns = run.all_open_ns + int(self.plan.stalled_s * NS_PER_S)
                received = sum(record.received_bytes(stop_ns - last_ns, stop_ns) for record in run.records)
                told = sum(record.others for record in run.records) / streams - 1  # without the answer to the start
                note(f"{what}, {server.name}", "underruns/stream", told)
                note(f"{what}, {server.name}", "% of what is due, at last", 100 * received / due_bytes)

    # --- first block ---

    def first(self, both: list[ServerUnderTest]) -> None:
        """Measure the time from Play to its first block, and that of a bare unary round trip."""
        starts = [play_request("stereo", number, SAMPLES, 20 * NS_PER_MS) for number in range(SAMPLES)]
        get = samplecache_pb2.GetSampleRequest(sample_id="stereo-0").SerializeToString()
        with self._noting() as note:
            unary = self._times("unary", both[0], "GetSample", [get])
            for fraction in (0.5, 0.99):
                note("unary round trip, bare", f"ms p{fraction * 100:g}", quantile(unary, fraction) / NS_PER_MS)
            for server in both:
                first = self._times("first", server, "Play", starts)
                for fraction in (0.5, 0.99):
                    note(
                        f"first block, {server.name}", f"ms p{fraction * 100:g}", quantile(first, fraction) / NS_PER_MS
                    )
                note(f"first block, {server.name}", "p50/unary p50", quantile(first, 0.5) / quantile(unary, 0.5))

    def _times(self, mode: str, server: ServerUnderTest, method: str, requests: list[bytes]) -> list[int]:
        run = run_client(
            self.client,
            mode,
            server.address,
            f"/{SERVICE}/{method}",
            requests,
            self.plan.calls,
            3 * NS_PER_MS,
            cpus=self.client_cpus,
        )
        return [int(record.arrivals_ns[0]) - record.began_ns for record in run.records if len(record.arrivals_ns)]

    def _streams(self, server: ServerUnderTest, requests: list[bytes], seconds: float, spread_ns: int) -> Run:
        return run_client(
            self.client,
            "streams",
            server.address,
            f"/{SERVICE}/Play",
            requests,
            len(requests),
            seconds,
            spread_ns,
            min(len(requests), CONNECTIONS),
            cpus=self.client_cpus,
        )


@contextmanager
def _peak(server: ServerUnderTest) -> Iterator[list[int]]:
    """Give the greatest memory that `server` had in the block, which is told when it ends (VmHWM of proc(5))."""
    peak = [0]
    server.reset_peak()
    yield peak
    peak[0] = server.peak_bytes()


def measure(*, quick: bool = False) -> list[Figure]:
    """Measure everything: three to four minutes; half a minute if `quick`, for figures that mean nothing."""
    plan = QUICK if quick else Plan()
    client = generator()
    if client.caveat:
        stderr().print(client.caveat)
    bench = Bench(plan, client)
    with ExitStack() as stack:
        both = [
            stack.enter_context(servers.bare(bench.server_cpus)),
            stack.enter_context(servers.samplecache(bench.server_cpus)),
        ]
        steps: Iterable[Callable[[list[ServerUnderTest]], None]] = (
            bench.first,
            bench.cost,
            bench.stalled,
            bench.unpaced,
        )
        for _ in range(plan.repetitions):
            for step in steps:
                step(both)
        bench.paced(both)
    figures = bench.figures()
    return (
        [Figure(f"{each.name} (Python client)", each.unit, each.values, each.machine) for each in figures]
        if (client.caveat)
        else figures
    )
