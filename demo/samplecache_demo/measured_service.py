"""Measures what the service's own code takes: through a real server, with samples that cost no I/O.

Those are samples of silence. In RAM they cost nothing; paged out they still cost no I/O, since swap only notes which
pages are zeros, but the service cannot know: it takes the path of cold pages, with all its threads.
"""

from __future__ import annotations

import contextlib
import functools
import io
import statistics
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.prefetching.prefetch import POLL_DUTY
from samplecache.client import Client
from samplecache.clock import NS_PER_S
from samplecache.errors import StateError
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Region
from samplecache.lab.service_costs import ServiceCosts
from samplecache.v1 import playback_pb2
from samplecache_demo.schedule import BLOCK_NS, TOGETHER

ROUNDS: Final = 30
"""A run plays a dozen cues, and what one call in fifty takes makes its worst: fewer rounds may not see that at all."""
SOUNDING: Final = 1 + TOGETHER
"""Streams that play meanwhile: the demo's pad, and the hits of the beat before."""
PAUSE_S: Final = 0.1
SILENCE_PAGES: Final = 48
"""As long as the demo's hits."""
_SOUND: Final = "sounding"


@dataclass(frozen=True, slots=True)
class MeasuredService:
    """What a service takes where memory takes nothing.

    Attributes
    ----------
    transport_ns : tuple of int
        From a client's call until its session opens, and from a block's being ready until the client has it, together;
        in nanoseconds, one value a measurement.
    costs : dict
        The rest, by strategy: what one does beside a session's opening delays that.
    """

    transport_ns: tuple[int, ...]
    costs: dict[str, ServiceCosts]


class Opened(NamedTuple):
    """A block that was played: when the client heard it, when the server had it ready, and what it took there."""

    heard_ns: int
    first_block_ns: int
    major_faults: int


def measure_service(client: Client, sound: Path, strategies: Sequence[str]) -> MeasuredService:
    """Measure the server that `client` is connected to. Takes some ten seconds for each strategy.

    What a server is asked, it is asked beside streams that sound, by as many at once as the demo strikes. Touches
    cannot be asked of it, and are measured in this process, with its own kernel code.

    Parameters
    ----------
    client : Client
        Of a server that need not do anything else meanwhile.
    sound : Path
        An audio file, to sound and to tell the format of the others.
    strategies : sequence of str
        Those that will be played under.

    Raises
    ------
    ClientError
        The server refuses.
    StateError
        Silence would not leave RAM.
    """
    client.put_file(sound, _SOUND)
    silences = _upload_silence(client)
    frames = BLOCK_NS * client.get(_SOUND).format.rate_hz // NS_PER_S
    touches_ns = _touch(SILENCE_PAGES)
    blocks_ns = tuple(_block_ns(client, _SOUND) for _ in range(ROUNDS))
    warm: dict[str, list[Opened]] = {strategy: [] for strategy in strategies}
    cold: list[Opened] = []
    prefetches_ns: list[int] = []
    awaited_ns: list[int] = []
    with _sounding(client, _SOUND), ThreadPoolExecutor(TOGETHER) as pool:

        def open_all(strategy: str) -> list[Opened]:
            time.sleep(PAUSE_S)  # as between beats: what has slept takes longer to wake than what runs hot
            return list(pool.map(lambda silence: _open(client, silence, frames, strategy), silences))

        for _ in range(ROUNDS):
            for strategy in strategies:
                warm[strategy] += open_all(strategy)
            for silence in silences:
                client.evict(silence)
            cold += (opened for opened in open_all("none") if opened.major_faults)
            for strategy, elapsed_ns in (("none", prefetches_ns), ("willneed", awaited_ns)):
                time.sleep(PAUSE_S)
                elapsed_ns += pool.map(functools.partial(_prefetch, client, strategy), silences)
    if not cold:
        raise StateError("silence would not leave RAM", remedy="See 'samplecache doctor' for whether swap works here")
    # What is charged by itself is taken off: of a session's first block the block; of a prefetch of nothing, which is
    # picked up, looks once and asks the strategy, the look; of a cold block's what a resident one takes.
    looks_ns = _looks(awaited_ns, prefetches_ns)
    look_ns, block_ns = (round(statistics.median(values)) for values in (looks_ns, blocks_ns))
    resident_ns = round(statistics.median(opened.first_block_ns for opened in warm[strategies[0]]))
    common = ServiceCosts(
        handover_ns=tuple(max(0, opened.first_block_ns - resident_ns) for opened in cold),
        block_ns=blocks_ns,
        prefetch_ns=tuple(max(0, prefetch_ns - look_ns) for prefetch_ns in prefetches_ns),
        look_ns=tuple(looks_ns),
        touch_page_ns=tuple(touch_ns // SILENCE_PAGES for touch_ns in touches_ns),
    )
    opens_ns = {
        strategy: tuple(max(0, each.first_block_ns - block_ns) for each in opened) for strategy, opened in warm.items()
    }
    return MeasuredService(
        tuple(max(0, each.heard_ns - each.first_block_ns) for opened in warm.values() for each in opened),
        {strategy: replace(common, open_ns=open_ns) for strategy, open_ns in opens_ns.items()},
    )


def _upload_silence(client: Client) -> list[str]:
    """Upload silence for each of those who strike at once, of different lengths: what is equal would be stored once."""
    wire = client.get(_SOUND).format
    format = AudioFormat(wire.rate_hz, wire.channels, Encoding.S16)
    page_bytes = client.capabilities().page_bytes
    names = [f"silence-{number}" for number in range(TOGETHER)]
    for number, name in enumerate(names):
        client.put_file(io.BytesIO(bytes((SILENCE_PAGES + number) * page_bytes)), name, raw_format=format)
    return names


@contextlib.contextmanager
def _sounding(client: Client, sample_id: str) -> Iterator[None]:
    """Play a sample over and over, in as many streams as the demo has when it strikes the next."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(SOUNDING))
        streams = [
            stack.enter_context(client.play(sample_id, strategy="none", loop=True, channels=2, block_ns=BLOCK_NS))
            for _ in range(SOUNDING)
        ]
        heard = [pool.submit(deque, stream, 0) for stream in streams]
        try:
            yield
        finally:
            for stream in streams:
                stream.stop()
        for one in heard:
            one.result()


def _prefetch(client: Client, strategy: str, sample_id: str) -> int:
    """Prefetch a sample under `strategy`; return how long the server took."""
    return client.prefetch(sample_id, strategy=strategy).result().elapsed.ToNanoseconds()


def _looks(awaited_ns: Sequence[int], nothing_ns: Sequence[int]) -> list[int]:
    """Return what looks at arriving pages take, from prefetches of silence that had to look twice, and of nothing.

    Silence is there at the first look after the advice, but the advice may not be done with by then: then the prefetch
    pauses, for 5 ms or twenty times what the look took, and looks again. A look in a server includes its waits for
    other threads of Python's, and a longer pause is mostly such a wait, twenty times over.
    """
    nothing = statistics.median(nothing_ns)
    return [max(0, round((each_ns - nothing) / (POLL_DUTY + 1))) for each_ns in awaited_ns]


def _open(client: Client, sample_id: str, frames: int, strategy: str) -> Opened:
    """Play a block."""
    began_ns = time.monotonic_ns()
    heard_ns = 0
    with client.play(
        sample_id, frames=frames, strategy=strategy, channels=2, encoding=Encoding.S16, block_ns=BLOCK_NS
    ) as stream:
        for event in stream:
            if isinstance(event, playback_pb2.PlayBlock) and not heard_ns:
                heard_ns = time.monotonic_ns() - began_ns
            elif isinstance(event, playback_pb2.PlaySummary):
                return Opened(heard_ns, event.stats.first_block.ToNanoseconds(), event.stats.faults.major)
    raise AssertionError("a session ended without a summary")


def _touch(pages: int) -> list[int]:
    """Touch pages in RAM, several threads at once; return the times."""
    kernel = LinuxKernel()

    def once(region: Region) -> int:
        began_ns = time.monotonic_ns()
        kernel.touch(region, region.span)
        return time.monotonic_ns() - began_ns

    regions = [kernel.map(pages * kernel.page_bytes) for _ in range(TOGETHER)]
    touches_ns: list[int] = []
    try:
        for region in regions:
            kernel.write(region, 0, b"\1" * (pages * kernel.page_bytes))
        with ThreadPoolExecutor(TOGETHER) as pool:
            for _ in range(ROUNDS):
                time.sleep(PAUSE_S)
                touches_ns += pool.map(once, regions)
    finally:
        for region in regions:
            kernel.unmap(region)
    return touches_ns


def _block_ns(client: Client, sample_id: str) -> int:
    """Play a sample as fast as it comes; return the time of a block."""
    with client.play(sample_id, strategy="none", block_ns=BLOCK_NS, realtime=False) as stream:
        arrivals = [time.monotonic_ns() for event in stream if isinstance(event, playback_pb2.PlayBlock)]
    return (arrivals[-1] - arrivals[0]) // max(1, len(arrivals) - 1)
