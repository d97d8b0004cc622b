"""A heap as malloc() and free() leave it: which pages a program's objects lie on."""

from __future__ import annotations

import bisect


class Heap:
    """Spans of pages, handed out at the first place where they fit.

    The C library's allocator of 2008 serves what is smaller than 128 KiB from one heap, and reuses gaps; small objects
    that share a page are one object here.

    Parameters
    ----------
    pages : int
        Its length.
    """

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self._gaps: list[tuple[int, int]] = [(0, pages)]

    @property
    def free_pages(self) -> int:
        """Pages of all gaps."""
        return sum(stop - start for start, stop in self._gaps)

    def allocate(self, pages: int) -> int | None:
        """Return the first page of `pages` consecutive ones; None if no gap is that long."""
        for index, (start, stop) in enumerate(self._gaps):
            if stop - start >= pages:
                self._gaps[index : index + 1] = [(start + pages, stop)] if stop - start > pages else []
                return start
        return None

    def free(self, start: int, pages: int) -> None:
        """Take a span back; gaps that meet become one."""
        stop, gaps = start + pages, self._gaps
        index = bisect.bisect(gaps, (start, stop))
        if index < len(gaps) and gaps[index][0] == stop:
            stop = gaps.pop(index)[1]
        if index and gaps[index - 1][1] == start:
            index -= 1
            start = gaps.pop(index)[0]
        gaps.insert(index, (start, stop))
