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
    """Pages of consecutive slots, from `slot` on, to be read or written."""

    __slots__ = ("pages", "slot", "write")

    def __init__(self, slot: int, page: int, write: bool) -> None:
        self.slot = slot
        self.pages = [page]
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

    def add(self, slot: int, page: int, *, write: bool) -> list[Request]:
        """Queue `page`, in the last request if its slot comes next there; return what has to be submitted first."""
        requests = self.requests
        if requests:
            last = requests[-1]
            pages = last.pages
            if slot == last.slot + len(pages) and len(pages) < self._request_pages and last.write is write:
                pages.append(page)
                return []
            if len(requests) >= PLUG_REQUESTS_MAX or len(requests[0].pages) >= self._flush_pages:
                self.requests = [Request(slot, page, write)]
                return requests
        requests.append(Request(slot, page, write))
        return []

    def take(self) -> list[Request]:
        """Return all requests and hold none."""
        requests, self.requests = self.requests, []
        return requests
