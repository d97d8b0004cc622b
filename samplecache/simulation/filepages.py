"""Clean pages of files, which share memory and the disk with everything else."""

from __future__ import annotations

from typing import Final

from samplecache.errors import NotPermittedError
from samplecache.simulation.pages import FILE, SWAPPED, PageTable, SimulatedRegion

FILE_READAHEAD_BYTES: Final = 128 << 10
"""What a missing page of a file brings in with it (``VM_MAX_READAHEAD``)."""


def lay_out(table: PageTable, region: SimulatedRegion, swap_slots: int) -> None:
    """Give the pages of a file their places on the disk: in their order, behind the swap area, for ever.

    A page that is not in memory so looks like one in swap, but is never written and never given another place.
    """
    stop = region.base + region.pages
    for page in range(region.base, stop):
        table.flags[page] = SWAPPED
        table.content[page] = FILE
        table.slot[page] = swap_slots + 1 + page


def file_neighbours(region: SimulatedRegion, page: int, page_bytes: int) -> range:
    """Return the pages of a file that are read for a miss of `page`: the next 128 KiB, as when it is read in order."""
    return range(page, min(page + max(FILE_READAHEAD_BYTES // page_bytes, 1), region.base + region.pages))


def refuse_file(region: SimulatedRegion, what: str) -> None:
    """Raise if `region` is a file.

    Raises
    ------
    NotPermittedError
        It is: its pages are there to be read and dropped.
    """
    if region.file:
        raise NotPermittedError(
            f"Pages of a simulated file cannot be {what}", remedy="Map memory instead, or only touch the file"
        )
