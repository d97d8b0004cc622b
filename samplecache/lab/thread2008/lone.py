"""One sound brought in by itself, on a machine where nothing else happens: what each way costs, and who waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from samplecache.clock import VirtualClock
from samplecache.simulation.device import Device, device_profile
from samplecache.simulation.machine import Machine
from samplecache.simulation.memory import Steps
from samplecache.simulation.options import SimulationOptions, SlotOrder
from samplecache.simulation.pages import CACHED, READING, STATE, SimulatedRegion

PAGE_BYTES: Final = 4096
SOUND_PAGES: Final = 128
"""512 KiB: three seconds of 44.1 kHz stereo, 16 bits."""
WAYS: Final[dict[str, Callable[[Machine, SimulatedRegion], Steps]]] = {
    "WILLNEED (the patch)": lambda machine, region: machine.willneed(0, region, 0, region.pages),
    "make_pages_present": lambda machine, region: machine.populate(0, region, 0, region.pages),
    "a touching thread": lambda machine, region: machine.touch(0, region, 0, region.pages),
}
LOOKS: Final = 1000
"""Arrival is looked for so often that it is known to a thousandth."""
READ_PAGES: Final = (1, 16, 64, 256)
"""4 KiB, and the chunks that the thread speaks of."""


@dataclass(frozen=True, slots=True)
class LoneRead:
    """How bringing one sound in went; times in nanoseconds.

    Attributes
    ----------
    way, device : str
        Which way, on which device.
    scattered : bool
        Whether its slots were in random order, or one after the other.
    blocked_ns : int
        How long the call took.
    in_ns : int
        When all pages were in RAM, from the start of the call.
    requests : int
        How many requests that took.
    """

    way: str
    device: str
    scattered: bool
    blocked_ns: int
    in_ns: int
    requests: int


def lone_read(way: str, device: str, *, scattered: bool) -> LoneRead:
    """Bring one sound in on patched 2.6.24 and return how it went.

    Raises
    ------
    ConfigurationError
        No device has that name, or 2.6.24 does not know it.
    """
    clock = VirtualClock()
    options = SimulationOptions.linux_2_6_24(device, memory_bytes=16 << 20, swap_bytes=16 << 20, patched=True)
    if scattered:
        options = replace(options, slot_order=SlotOrder.SHUFFLED)
    machine = Machine(options, clock.now_ns)
    sound = machine.map(SOUND_PAGES)
    _finish(machine.write(0, sound, 0, SOUND_PAGES), clock)
    for limit_pages in (0, options.memory_pages):
        _finish(machine.resize_memory(0, limit_pages), clock)
    began_ns, requests_before = clock.now_ns(), machine.device_requests
    _finish(WAYS[way](machine, sound), clock)
    blocked_ns = clock.now_ns() - began_ns
    while any(flags & (STATE | READING) == CACHED | READING for flags in machine.page_flags(sound, 0, SOUND_PAGES)):
        now_ns = clock.now_ns()
        clock.sleep_until(now_ns + max(1000, (now_ns - began_ns) // LOOKS))
    return LoneRead(
        way, device, scattered, blocked_ns, clock.now_ns() - began_ns, machine.device_requests - requests_before
    )


@dataclass(frozen=True, slots=True)
class Cap:
    """What one call of the patch's WILLNEED read of a region that was all swapped.

    Attributes
    ----------
    memory_bytes : int
        The machine's memory, all free.
    asked_pages, read_pages : int
        Pages of the region, and how many of them the call read.
    """

    memory_bytes: int
    asked_pages: int
    read_pages: int


def capped(memory_bytes: int, asked_pages: int) -> Cap:
    """Ask for `asked_pages` pages at once and return how many come."""
    clock = VirtualClock()
    swap_bytes = 2 * asked_pages * PAGE_BYTES
    options = SimulationOptions.linux_2_6_24("ssd-sata", memory_bytes=memory_bytes, swap_bytes=swap_bytes, patched=True)
    machine = Machine(options, clock.now_ns)
    region = machine.map(asked_pages)
    _finish(machine.write(0, region, 0, asked_pages), clock)
    for limit_pages in (0, options.memory_pages):
        _finish(machine.resize_memory(0, limit_pages), clock)
    before = machine.counters.pswpin
    _finish(machine.willneed(0, region, 0, asked_pages), clock)
    return Cap(memory_bytes, asked_pages, machine.counters.pswpin - before)


def read_ns(device: str, pages: int) -> int:
    """Return how long one read of `pages` pages takes that lies anywhere on an idle device, in nanoseconds."""
    profile = device_profile(device)
    if profile.page_ns is not None:
        return pages * profile.page_ns
    return Device(profile, PAGE_BYTES).submit(0, 1 << 20, pages)


def _finish(steps: Steps, clock: VirtualClock) -> None:
    for wake_ns in steps:
        clock.sleep_until(wake_ns)
