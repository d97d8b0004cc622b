"""The thread's options, each a row: which kernel, which strategy, and who had the idea."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from samplecache.simulation.device import device_profile
from samplecache.simulation.options import ReadaheadMode, SimulationOptions, SlotOrder

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Row:
    """One option.

    Attributes
    ----------
    key : str
        What figures call it.
    label : str
        What tables call it.
    author : str
        Whose idea it was; empty for what is there to compare with.
    strategy : str
        What the sample cache does with what is announced or played; ``none`` for nothing.
    today : bool
        Whether the kernel is 6.18 and not 2.6.24.
    changes : Mapping
        How the machine differs from that kernel: fields of :class:`SimulationOptions`.
    locked_sounds, locked_music : bool
        Whether event sounds, or the music, are locked from their upload on.
    tidy : bool
        Whether heaps hold at first what belongs together side by side.
    fresh : bool
        Whether gaps in swap are in one piece, as after ``swapoff`` and ``swapon``.
    memory_times : float
        How much memory there is, in multiples of the usual.
    """

    key: str
    label: str
    author: str = ""
    strategy: str = "none"
    today: bool = False
    changes: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    locked_sounds: bool = False
    locked_music: bool = False
    tidy: bool = False
    fresh: bool = False
    memory_times: float = 1.0

    def runs_on(self, device: str) -> bool:
        """Return whether its kernel knows such a device.

        Raises
        ------
        ConfigurationError
            No device has that name.
        """
        return self.today or not device_profile(device).synchronous

    def options(self, device: str, *, memory_bytes: int, swap_bytes: int, seed: int) -> SimulationOptions:
        """Return its machine with a device. The process may lock what it likes, as it had to in 2008.

        Raises
        ------
        ConfigurationError
            No device has that name, or the row's kernel does not know it.
        """
        memory_bytes = int(memory_bytes * self.memory_times)
        if self.today:
            options = SimulationOptions.for_device(device, memory_bytes=memory_bytes, swap_bytes=swap_bytes, seed=seed)
        else:
            options = SimulationOptions.linux_2_6_24(
                device,
                memory_bytes=memory_bytes,
                swap_bytes=swap_bytes,
                patched=self.strategy == "willneed",
                seed=seed,
            )
        return dataclasses.replace(options, cap_ipc_lock=True, **self.changes)


def _chunks(pages: int, readahead: ReadaheadMode = ReadaheadMode.CHUNK) -> Mapping[str, Any]:
    """Return a machine that swaps in and out in chunks."""
    return {"slot_order": SlotOrder.CHUNKS, "readahead": readahead, "chunk_pages": pages}


_VIRTUAL: Final = {"slot_order": SlotOrder.VIRTUAL}
_ADAPTIVE: Final = _chunks(256, ReadaheadMode.ADAPTIVE)
_IN_ONLY: Final = {"readahead": ReadaheadMode.CHUNK, "chunk_pages": 256}
_PETER, _ANDREW, _ANDI, _RIK = "Peter Zijlstra", "Andrew Morton", "Andi Kleen", "Rik van Riel"

ROWS: Final = {
    row.key: row
    for row in (
        Row("stock", "2.6.24 as it was"),
        Row("patch", "the patch: WILLNEED", _PETER, "willneed"),
        Row("populate", "make_pages_present", _ANDREW, "populate"),
        Row("touch", "a touching thread", _ANDREW, "touch"),
        Row("mlock-announced", "mlock of what is announced", "", "mlock"),
        Row("mlock-sounds", "mlock of all event sounds", "what PulseAudio did", locked_sounds=True),
        Row("mlock-all", "mlock of event sounds and music", "", locked_sounds=True, locked_music=True),
        Row("virtual", "slots by virtual address", _ANDREW, changes=_VIRTUAL),
        Row("chunks-64k", "64 KiB chunks", _ANDI, changes=_chunks(16)),
        Row("chunks-256k", "256 KiB chunks", _ANDI, changes=_chunks(64)),
        Row("chunks-1m", "1 MiB chunks", _ANDI, changes=_chunks(256)),
        Row("chunks-1m-in", "1 MiB chunks, in only", _ANDI, changes=_IN_ONLY),
        Row("chunks-1m-tidy", "1 MiB chunks, tidy heaps", "", changes=_chunks(256), tidy=True),
        Row("adaptive", "adaptive chunks up to 1 MiB", _RIK, changes=_ADAPTIVE),
        Row("patch-virtual", "patch + slots by virtual address", "", "willneed", changes=_VIRTUAL),
        Row("patch-chunks-64k", "patch + 64 KiB chunks", "", "willneed", changes=_chunks(16)),
        Row("patch-chunks-1m", "patch + 1 MiB chunks", "", "willneed", changes=_chunks(256)),
        Row("fresh", "2.6.24, swap not fragmented", fresh=True),
        Row("patch-fresh", "patch, swap not fragmented", "", "willneed", fresh=True),
        Row("chunks-1m-fresh", "1 MiB chunks, swap not fragmented", changes=_chunks(256), fresh=True),
        Row("ample", "2.6.24, a quarter more memory", memory_times=1.25),
        Row("patch-ample", "patch, a quarter more memory", "", "willneed", memory_times=1.25),
        Row("chunks-1m-ample", "1 MiB chunks, a quarter more memory", changes=_chunks(256), memory_times=1.25),
        Row("adaptive-ample", "adaptive chunks, a quarter more memory", changes=_ADAPTIVE, memory_times=1.25),
        Row("today", "6.18", today=True),
        Row("today-willneed", "6.18: WILLNEED", "", "willneed", today=True),
        Row("today-populate", "6.18: POPULATE_READ", "", "populate", today=True),
        Row("today-touch", "6.18: a touching thread", "", "touch", today=True),
    )
}
"""All rows, by key, in the order of the tables."""
