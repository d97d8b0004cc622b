"""Small regions next to each other in mappings of this process: see :mod:`samplecache.kernel.packing` for why."""

from __future__ import annotations

import mmap
import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from samplecache.kernel.linux_region import LinuxRegion, call, madvise, munlock
from samplecache.kernel.packing import ARENA_BYTES, Packing, no_holes
from samplecache.kernel.port import Span

MADV_DONTNEED_LOCKED: Final = 24
"""From ``asm-generic/mman-common.h``, Linux 5.18: what is locked is given back too."""


class PackedRegion(LinuxRegion):
    """Some pages of an arena. Advice that splits a mapping is given to the whole arena once; only locks split it."""

    __slots__ = ("_arenas", "arena", "first_page")

    def __init__(self, arenas: LinuxArenas, arena: LinuxRegion, first_page: int, pages: int, page_bytes: int) -> None:
        with arena as base:
            super().__init__(base + first_page * page_bytes, pages, page_bytes)
        self.arena = arena
        self.first_page = first_page
        self._arenas = arenas

    @property
    def reserved(self) -> tuple[int, int]:
        """Address and length of the arena with its guard pages."""
        return self.arena.reserved

    def punch(self, span: Span) -> None:
        """Refuse: the arena cannot have holes.

        Raises
        ------
        NotPermittedError
            Always.
        """
        raise no_holes()

    def _give_up(self) -> None:
        length_bytes = self.pages * self._page_bytes
        if self.locked.any():
            try:
                call(munlock, self._start, length_bytes)
            except OSError:
                # vm.max_map_count is reached, and unlocking one of two neighbours would split their part. The memory is
                # given back all the same; only the addresses are not used again.
                madvise(self._start, length_bytes, MADV_DONTNEED_LOCKED)
                return
        # No sample any more, so it may be lost: nothing else frees memory and swap without a hole, which is two parts.
        call(madvise, self._start, length_bytes, mmap.MADV_DONTNEED)
        self._arenas.take_back(self)


class LinuxArenas:
    """The arenas of one kernel object. Thread-safe.

    Parameters
    ----------
    page_bytes : int
        Size of a page, in bytes.
    """

    def __init__(self, page_bytes: int) -> None:
        self._page_bytes = page_bytes
        self._lock = threading.Lock()
        self._packing: Packing[LinuxRegion] = Packing(ARENA_BYTES // page_bytes)

    def map(self, pages: int) -> PackedRegion:
        """Return a region of `pages` pages, at most an arena's; they read as zeros.

        Raises
        ------
        OSError
            A new arena would be needed, and the kernel refuses.
        """
        with self._lock:
            while (taken := self._packing.take(pages)) is None:
                self._packing.add(LinuxRegion.map(ARENA_BYTES // self._page_bytes, self._page_bytes))
        arena, first_page = taken
        return PackedRegion(self, arena, first_page, pages, self._page_bytes)

    def unmap(self, regions: Iterable[PackedRegion]) -> None:
        """Unmap regions, arenas in which there is nothing else as a whole: that empties 600 samples with one call."""
        by_arena: defaultdict[LinuxRegion, list[PackedRegion]] = defaultdict(list)
        for region in regions:
            by_arena[region.arena].append(region)
        for arena, those in by_arena.items():
            with self._lock:
                whole = self._packing.forget(arena, [(region.first_page, region.pages) for region in those])
            for region in those:
                if whole:
                    region.retire()
                else:
                    region.unmap()
            if whole:
                arena.unmap()

    def take_back(self, region: PackedRegion) -> None:
        """Let others have the pages of a region that has been emptied; unmap its arena with the last one."""
        with self._lock:
            if self._packing.give_back(region.arena, region.first_page, region.pages):
                region.arena.unmap()
