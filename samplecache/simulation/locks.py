"""Which pages are locked, and how many may be."""

from __future__ import annotations

from collections.abc import Iterable

from samplecache.errors import LockLimitError, NotPermittedError
from samplecache.simulation.memory import Memory
from samplecache.simulation.pages import DIRTY, LOCKED, LRU, PRESENT, SHARED_ZERO, STATE, WRITEBACK


class Locks:
    """The locked pages of the process. Locks do not nest.

    Parameters
    ----------
    memory : Memory
        The frames. Those of locked pages are in no list, so that reclaim does not find them.
    """

    def __init__(self, memory: Memory) -> None:
        self.pages = 0
        """How many pages are in locked spans, with a frame or on the way to one."""
        self._memory = memory

    def check_limit(self, pages: int) -> None:
        """Raise unless `pages` more may be locked.

        Raises
        ------
        NotPermittedError
            The limit is 0 and the process has not CAP_IPC_LOCK.
        LockLimitError
            More would be locked than the limit allows.
        """
        options = self._memory.options
        limit_pages = options.lock_limit_pages
        remedy = "Raise the lock limit of the simulated machine, or give it CAP_IPC_LOCK"
        if limit_pages is None:
            return
        if options.lock_limit_bytes == 0:
            raise NotPermittedError("RLIMIT_MEMLOCK is 0 and CAP_IPC_LOCK is missing", remedy=remedy, errno="EPERM")
        if self.pages + pages > limit_pages:
            raise LockLimitError(
                f"{pages} more pages cannot be locked: the process holds {self.pages} of {limit_pages}",
                remedy=remedy,
                asked_pages=pages,
                held_pages=self.pages,
                limit_pages=limit_pages,
                errno="ENOMEM",
            )

    def mark(self, pages: Iterable[int]) -> None:
        """Lock `pages`, which are not; those without a frame have to be faulted in."""
        table = self._memory.table
        for page in pages:
            flags = table.flags[page]
            if flags & STATE == PRESENT and table.content[page] != SHARED_ZERO:
                if not flags & WRITEBACK:
                    table.remove(page, page + 1)
                flags |= DIRTY  # mlock asks for writable pages
            table.flags[page] = flags | LOCKED
            self.pages += 1

    def unmark(self, pages: Iterable[int]) -> None:
        """Unlock those of `pages` that are locked."""
        table = self._memory.table
        for page in pages:
            flags = table.flags[page]
            if not flags & LOCKED:
                continue
            table.flags[page] = flags & ~LOCKED
            self.pages -= 1
            if flags & (STATE | WRITEBACK) == PRESENT and table.content[page] != SHARED_ZERO:
                table.insert(page, page + 1, LRU)
