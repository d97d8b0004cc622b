"""Which swap slot an outgoing page gets: one class for each order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from samplecache.simulation.options import SimulationOptions, SlotOrder
from samplecache.simulation.slots.area import FREE, SwapSlots
from samplecache.simulation.slots.chunks import ChunkSlots
from samplecache.simulation.slots.clusters import ClusterSlots
from samplecache.simulation.slots.scan import ScanSlots, VirtualSlots

__all__ = ["FREE", "SwapSlots", "swap_area"]

_AREAS: Final[dict[SlotOrder, Callable[[SimulationOptions], SwapSlots]]] = {
    SlotOrder.CLUSTERS: lambda options: ClusterSlots(options.swap_slots),
    SlotOrder.SHUFFLED: lambda options: ClusterSlots(options.swap_slots, options.seed),
    SlotOrder.SCAN: lambda options: ScanSlots(options.swap_slots),
    SlotOrder.VIRTUAL: lambda options: VirtualSlots(options.swap_slots),
    SlotOrder.CHUNKS: lambda options: ChunkSlots(options.swap_slots, options.chunk_pages),
}


def swap_area(options: SimulationOptions) -> SwapSlots:
    """Return the swap area of a machine, with no slot in use."""
    return _AREAS[options.slot_order](options)
