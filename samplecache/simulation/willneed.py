"""Which pages ``MADV_WILLNEED`` reads, today and in the patch of 2008."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from samplecache.errors import NotPermittedError
from samplecache.simulation.memory import Memory
from samplecache.simulation.options import WillneedMode
from samplecache.simulation.pages import STATE, SWAPPED
from samplecache.simulation.vmas import runs_of

WALK_BATCH_PAGES: Final = 32
"""``WALK_BATCH_SIZE`` of the 2008 patch: entries that it copies before it lets go of the page table."""


def willneed_pages(memory: Memory, pages: range) -> Iterable[range]:
    """Return which of `pages` to look at, in runs; those that are swapped then are to be read.

    Raises
    ------
    NotPermittedError
        This machine's kernel does not know the advice for anonymous memory.
    """
    mode = memory.options.willneed
    if mode is WillneedMode.ABSENT:
        raise NotPermittedError(
            "This kernel does not know MADV_WILLNEED of anonymous memory (EBADF)",
            remedy="Use Linux 3.9 or later",
            advice="willneed",
            errno="EBADF",
        )
    if mode is WillneedMode.PATCH_2008:
        return _walk(memory, pages[: _sane_readahead_pages(memory, len(pages))])
    return (pages,)


def _sane_readahead_pages(memory: Memory, pages: int) -> int:
    """Return ``max_sane_readahead(pages)``: half of what is free or inactive; here the LRU list is all inactive."""
    return min(pages, (memory.limit_pages - memory.used_pages + memory.table.lru_pages) // 2)


def _walk(memory: Memory, pages: range) -> Iterator[range]:
    """Yield the swapped pages in runs, from unlocked copies of the page table that may be out of date."""
    flags = memory.table.flags
    for start in range(pages.start, pages.stop, WALK_BATCH_PAGES):
        batch = range(start, min(start + WALK_BATCH_PAGES, pages.stop))
        yield from list(runs_of([page for page in batch if flags[page] & STATE == SWAPPED]))
