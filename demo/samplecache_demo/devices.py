"""The devices that the demo's rig can have, and how much memory the demo has beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from samplecache.lab.rig import Limits
from samplecache.lab.swap_device import SwapDevice

UNTHROTTLED: Final = "unthrottled"
MEMORY_BYTES: Final = 512 << 20
DEFAULT: Final = "200iops"
"""A laptop's disk of 2008 reads some 60 places a second, 8 pages at each, and here it has other work to do."""


@dataclass(frozen=True, slots=True)
class DemoDevice(SwapDevice):
    """A device to swap to, as the demo limits it."""

    @property
    def limits(self) -> Limits:
        """What the rig limits its processes to."""
        return Limits(memory_bytes=MEMORY_BYTES, read_iops=self.read_iops, read_bytes_per_s=self.read_bytes_per_s)
