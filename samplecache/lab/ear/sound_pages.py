"""Where the sounds of another process are: found in its memory by what they are, then looked at in its page table."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from samplecache.kernel.inspection import ENTRY_PRESENT, ENTRY_SWAPPED
from samplecache.lab.ear.unmixing import Pcm

NEEDLE_FRAMES: Final = 64
"""A sound is looked for by its beginning, and then compared as a whole."""
STEP_BYTES: Final = 1 << 20
FULL_SCALE: Final = 32_768
"""What 16-bit values are divided by to be floats; exact."""
_ENTRY_BYTES: Final = 8


class SoundPages:
    """The pages of sounds in a process that keeps each in one piece, as 16-bit values or as 32-bit floats.

    Finding them reads all of its private memory, which brings it into RAM. Looking at them costs the process nothing.

    Parameters
    ----------
    pid : int
        The process; reading its memory takes the rights of ptrace.
    sounds : mapping
        Frames by the sound's id.
    files : Path
        Sounds may also be in mapped files of this directory.
    """

    def __init__(self, pid: int, sounds: Mapping[str, Pcm], files: Path) -> None:
        self._pid = pid
        self._spans: dict[str, tuple[int, int]] = {}
        parts = [run for start, stop in _readable(pid, files) for run in self._populated(start, stop)]
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for sample_id, pcm in sounds.items():
                for stored in (pcm, pcm.astype("<f4") / np.float32(FULL_SCALE)):
                    address = _find(memory.fileno(), parts, stored.tobytes(), NEEDLE_FRAMES * stored[0].nbytes)
                    if address is not None:
                        self._spans[sample_id] = (address, stored.nbytes)
                        break

    def look(self) -> dict[str, bytes]:
        """Return for each sound that was found a byte a page: 1 if it is mapped.

        A page that waits in the swap cache is in RAM and not mapped: only the process itself can tell it from one that
        is on the disk.

        Raises
        ------
        OSError
            The process has ended.
        """
        return {
            sample_id: self._with(ENTRY_PRESENT, address, address + length).tobytes()
            for sample_id, (address, length) in self._spans.items()
        }

    def _populated(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield runs of pages that there is something in; to read others would have the process have page tables."""
        edges = np.flatnonzero(np.diff(self._with(ENTRY_PRESENT | ENTRY_SWAPPED, start, stop), prepend=0, append=0))
        for first, last in edges.reshape(-1, 2).tolist():
            yield start + first * mmap.PAGESIZE, start + last * mmap.PAGESIZE

    def _with(self, bits: int, start: int, stop: int) -> npt.NDArray[np.int8]:
        """Return for each page between two addresses whether its entry has one of `bits`."""
        first, count = start // mmap.PAGESIZE, -(-stop // mmap.PAGESIZE) - start // mmap.PAGESIZE
        with open(f"/proc/{self._pid}/pagemap", "rb", buffering=0) as pagemap:
            entries = os.pread(pagemap.fileno(), count * _ENTRY_BYTES, first * _ENTRY_BYTES)
        has: npt.NDArray[np.int8] = (np.frombuffer(entries, np.uint64) & np.uint64(bits) != 0).astype(np.int8)
        return has


def _readable(pid: int, files: Path) -> Iterator[tuple[int, int]]:
    """Yield what may hold sounds: anonymous memory that is written to, and mapped files of a directory."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        addresses, permissions, _, _, inode, *path = line.split(maxsplit=5)
        start, stop = (int(address, 16) for address in addresses.split("-"))
        if (inode == "0" and permissions.startswith("rw")) or (path and Path(path[0]).parent == files):
            yield start, stop


def _find(memory: int, parts: list[tuple[int, int]], sound: bytes, needle_bytes: int) -> int | None:
    """Return the address of `sound` in a process's memory; None if it is nowhere in one piece."""
    needle = sound[:needle_bytes]
    for start, stop in parts:
        for begin in range(start, stop, STEP_BYTES):
            with contextlib.suppress(OSError):  # guard pages, and what was unmapped meanwhile
                at = os.pread(memory, min(STEP_BYTES + len(needle) - 1, stop - begin), begin).find(needle)
                if at >= 0 and os.pread(memory, len(sound), begin + at) == sound:
                    return begin + at
    return None
