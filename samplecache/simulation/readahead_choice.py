"""Which readahead a machine has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from samplecache.simulation.blockreadahead import AdaptiveReadahead, ChunkReadahead, FixedReadahead
from samplecache.simulation.options import ReadaheadMode, SimulationOptions
from samplecache.simulation.pages import PageTable
from samplecache.simulation.readahead import ClusterReadahead, Owners, Readahead, VmaReadahead

_READAHEADS: Final[dict[ReadaheadMode, Callable[[SimulationOptions, PageTable, Owners], Readahead]]] = {
    ReadaheadMode.VMA: lambda options, table, owner: VmaReadahead(options.page_cluster),
    ReadaheadMode.CLUSTER: lambda options, table, owner: ClusterReadahead(
        options.page_cluster, table, owner, options.cluster_hits, options.cluster_window_pages
    ),
    ReadaheadMode.FIXED: lambda options, table, owner: FixedReadahead(options.page_cluster, table, owner),
    ReadaheadMode.CHUNK: lambda options, table, owner: ChunkReadahead(options.chunk_pages, table, owner),
    ReadaheadMode.ADAPTIVE: lambda options, table, owner: AdaptiveReadahead(
        options.page_cluster, options.chunk_pages, table, owner
    ),
}


def choose_readahead(options: SimulationOptions, table: PageTable, owner: Owners) -> Readahead:
    """Return the readahead of a machine, in the state that earlier faults left behind."""
    return _READAHEADS[options.readahead_mode](options, table, owner)
