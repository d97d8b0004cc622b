"""The plug: pages that a thread is about to read or write, merged into requests before the device sees them."""

from __future__ import annotations

from typing import Final

REQUEST_BYTES_MAX: Final = 1 << 20
"""About the longest request that the block layer merges to (``max_sectors_kb``)."""
PLUG_REQUESTS_MAX: Final = 32
"""``BLK_MAX_REQUEST_COUNT``: a plug is flushed when it holds as many."""
PLUG_FLUSH_BYTES: Final = 128 << 10
"""``BLK_PLUG_FLUSH_SIZE``: and when its first request is as long. It is also flushed when its thread sleeps."""


class Request:
    """Pages of consecutive slots, from `slot` on, to be read or written.

    Attributes
    ----------
    pages : int
        How many.
    runs : list of tuple of int
        Which, as spans in the order of their slots.
    """

    __slots__ = ("pages", "runs", "slot", "write")

    def __init__(self, slot: int, start: int, stop: int, write: bool) -> None:
        self.slot = slot
        self.pages = stop - start
        self.runs = [(start, stop)]
        self.write = write


class Plug:
    """Requests of one thread that the device has not seen yet. Merges with the last request only.

    Parameters
    ----------
    page_bytes : int
        Size of a page, in bytes.

    Attributes
    ----------
    requests : list of Request
        In the order of issue.
    """

    __slots__ = ("_flush_pages", "_request_pages", "requests")

    def __init__(self, page_bytes: int) -> None:
        self.requests: list[Request] = []
        self._request_pages = REQUEST_BYTES_MAX // page_bytes
        self._flush_pages = PLUG_FLUSH_BYTES // page_bytes

    def room(self, slot: int, *, write: bool) -> int:
        """Return how many pages from `slot` on one request can take: the last one if they continue it, else a new one.

        One page at least.
        """
        if self.requests:
            last = self.requests[-1]
            if slot == last.slot + last.pages and last.write is write and last.pages < self._request_pages:
                return self._request_pages - last.pages
        return max(self._request_pages, 1)

    def add(self, slot: int, start: int, stop: int, *, write: bool) -> list[Request]:
        """Queue a run of pages with slots from `slot` on; return what has to be submitted first.

        They go into the last request if they continue it. There must be :meth:`room` for them.
        """
        requests = self.requests
        if requests:
            last = requests[-1]
            if slot == last.slot + last.pages and last.write is write and last.pages < self._request_pages:
                last.runs.append((start, stop))
                last.pages += stop - start
                return []
            if len(requests) >= PLUG_REQUESTS_MAX or requests[0].pages >= self._flush_pages:
                self.requests = [Request(slot, start, stop, write)]
                return requests
        requests.append(Request(slot, start, stop, write))
        return []

    def take(self) -> list[Request]:
        """Return all requests and hold none."""
        requests, self.requests = self.requests, []
        return requests
