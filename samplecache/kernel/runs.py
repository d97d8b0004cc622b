"""Runs of pages in a mask of pages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from samplecache.kernel.port import Span


def runs(mask: npt.NDArray[np.bool_], first: int = 0) -> Iterator[Span]:
    """Yield the maximal runs of True in `mask`, shape ``(pages,)``, ascending; its first element is page `first`."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)) + first
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield Span(start, stop)
