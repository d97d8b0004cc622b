"""What a block costs the service before gRPC: found resident, read, accounted for."""

from __future__ import annotations

from typing import Final

from benchmarks.measuring import Figure, rates
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.cache import SampleCache
from samplecache.cache.play_options import PlayOptions
from samplecache.cache.session import Session
from samplecache.cache.settings import CacheSettings
from samplecache.clock import MonotonicClock
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Kernel
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.registry import StrategyRegistry

BLOCKS: Final = 10_000
"""Of 20 ms: 200 s of 48 kHz stereo."""
REPETITIONS: Final = 7

_STEREO: Final = AudioFormat(48_000, 2, Encoding.S16)
_BLOCK_FRAMES: Final = 960


def measure() -> list[Figure]:
    """Measure everything: some seconds."""
    options = SimulationOptions.for_device("ssd-sata", memory_bytes=128 << 20, swap_bytes=128 << 20)
    return [
        _blocks("resident, kernel linux", LinuxKernel()),
        _blocks("resident, kernel simulated", SimulatedKernel(options, MonotonicClock())),
    ]


def _blocks(name: str, kernel: Kernel) -> Figure:
    """Play a resident sample over and over, as fast as it goes."""
    frames = BLOCKS * _BLOCK_FRAMES
    length_bytes = _STEREO.frames_to_bytes(frames)
    with SampleCache(kernel, CacheSettings(budget_bytes=2 * length_bytes), StrategyRegistry()) as cache:
        region = kernel.map(length_bytes)
        kernel.write(region, 0, b"\1" * length_bytes)
        cache.store.publish("sample", region, _STEREO, frames, bytes(32))

        def play(session: Session) -> None:
            while (block := session.next_block()) is not None:
                assert session.is_resident(block)
                session.delivered(session.read(block))
            session.close()

        options = PlayOptions("sample", strategy="none", lead_ns=None)
        return rates(name, "blocks per second", BLOCKS, REPETITIONS, lambda: cache.open_session(options), play)
