"""What tests of the cache are made of: a simulated machine at the wall clock's speed, uploads, plugins, waiting."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache import CacheSettings, Declaration, SampleCache
from samplecache.cache.samples.store import Publication
from samplecache.clock import MonotonicClock
from samplecache.kernel.port import Advice, Capabilities, Capability, Operation, Region, Span
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.device import DeviceProfile, device_profile
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy import PrefetchStrategy, hookimpl
from samplecache.strategy.registry import StrategyRegistry

PAGE_BYTES = 4096
MONO = AudioFormat(48_000, 1, Encoding.S16)
PAGE_FRAMES = 2048
"""Frames of MONO in a page."""

_PATIENCE_S = 20.0


def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds, at most 20 s."""
    deadline_s = time.monotonic() + _PATIENCE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline_s, "waited 20 s in vain"
        pause.wait(0.001)


def passes(gate: threading.Event) -> None:
    """Wait until `gate` is set, at most 20 s."""
    assert gate.wait(_PATIENCE_S), "waited 20 s in vain"


def machine_options(device: str | DeviceProfile = "zram-lz4", **different: Any) -> SimulationOptions:
    """A simulated machine with 16 MiB of memory, 32 MiB of swap and, unless told otherwise, a fast device."""
    profile = device_profile(device) if isinstance(device, str) else device
    return replace(SimulationOptions(device=profile, memory_pages=4096, swap_slots=8192), **different)


def simulated_kernel(device: str | DeviceProfile = "zram-lz4", **different: Any) -> SimulatedKernel:
    """A simulated kernel whose waits take real time."""
    return SimulatedKernel(machine_options(device, **different), MonotonicClock())


class GatedKernel(SimulatedKernel):
    """A simulated kernel in which calls can be held up, and that knows what is mapped and which pages were touched."""

    def __init__(self, device: str | DeviceProfile = "zram-lz4", **different: Any) -> None:
        super().__init__(machine_options(device, **different), MonotonicClock())
        self.mapped: set[Region] = set()
        self.touched: list[tuple[int, int, int]] = []
        """Length of the region, first page and end of every touch, as it began."""
        self.advised: list[tuple[Span, Advice]] = []
        self.held_up = ""
        """The one call that waits at the gate."""
        self.reached = threading.Event()
        self.gate = threading.Event()

    def _wait(self, call: str) -> None:
        if self.held_up == call:
            self.reached.set()
            passes(self.gate)

    def map(self, length_bytes: int, *, packed: bool = False) -> Region:
        region = super().map(length_bytes, packed=packed)
        self.mapped.add(region)
        return region

    def unmap(self, region: Region) -> None:
        super().unmap(region)
        self.mapped.remove(region)

    def touch(self, region: Region, span: Span) -> None:
        self.touched.append((region.pages, span.start, span.stop))
        self._wait("touch")
        super().touch(region, span)

    def advise(self, region: Region, span: Span, advice: Advice) -> None:
        self.advised.append((span, advice))
        super().advise(region, span, advice)

    def lock(self, region: Region, span: Span) -> None:
        self._wait("lock")
        super().lock(region, span)

    def read(self, region: Region, offset_bytes: int, length_bytes: int) -> bytearray:
        self._wait("read")
        return super().read(region, offset_bytes, length_bytes)


def pcm(length_bytes: int, seed: int = 0) -> bytes:
    """Bytes that hold no page of zeros, the same for the same seed."""
    return random.Random(f"{length_bytes} {seed}").randbytes(length_bytes)


def declaration(sample_id: str, data: bytes, **declared: Any) -> Declaration:
    """An upload of raw MONO PCM, unless `declared` says otherwise."""
    declared.setdefault("raw_format", MONO)
    return Declaration(sample_id, len(data), hashlib.sha256(data).digest(), **declared)


def put(cache: SampleCache, sample_id: str, data: bytes, **declared: Any) -> Publication:
    """Upload `data` as a sample."""
    upload = cache.open_upload(declaration(sample_id, data, **declared))
    try:
        upload.append(0, data)
        return cache.finish_upload(upload)
    finally:
        cache.uploads.close(upload, done=False)


def put_cold(cache: SampleCache, sample_id: str, pages: int, seed: int = 0, **declared: Any) -> bytes:
    """Upload so many pages of noise, page them out, and return them."""
    data = pcm(pages * PAGE_BYTES, seed)
    put(cache, sample_id, data, **declared)
    assert cache.evict(sample_id, 20_000_000_000) == (pages, 0)
    return data


class Brings:
    """A plugin that brings strategies."""

    def __init__(self, *strategies: Any) -> None:
        self.strategies = strategies

    @hookimpl
    def samplecache_register_strategies(self) -> Iterable[type[PrefetchStrategy]]:
        return self.strategies


def registry_of(*strategies: type[PrefetchStrategy], plugins: Iterable[object] = ()) -> StrategyRegistry:
    """A registry of these strategies and plugins, none of which may be refused."""
    registry = StrategyRegistry()
    for plugin in (Brings(*strategies), *plugins):
        registry.register(plugin, "test 1.0")
    assert registry.problems == []
    return registry


def make_cache(
    *strategies: type[PrefetchStrategy], kernel: Any = None, plugins: Any = (), **settings: Any
) -> SampleCache:
    """A cache over a simulated machine, with two workers."""
    settings = {"workers": 2, "budget_bytes": 8 << 20} | settings
    registry = registry_of(*strategies, plugins=plugins)
    return SampleCache(kernel or simulated_kernel(), CacheSettings(**settings), registry)


def capabilities(forbidden: Iterable[Operation] = (), useless: Iterable[Operation] = ()) -> Capabilities:
    """A kernel that permits and does everything but these."""

    def judge(operation: Operation) -> Capability:
        if operation in forbidden:
            return Capability(False, False, f"{operation.value} is forbidden", f"Allow {operation.value}")
        if operation in useless:
            return Capability(True, False, f"{operation.value} does nothing", f"Mend {operation.value}")
        return Capability(True, True, "it works")

    return Capabilities("simulated", "6.18", {each: judge(each) for each in Operation}, 1 << 25, "zram0", 1 << 23)
