"""The plug: pages that a thread is about to read or write, merged into requests before the device sees them."""

from __future__ import annotations

from typing import Final

REQUEST_BYTES_MAX: Final = 1 << 20
"""About the longest request that the block layer merges to (``max_sectors_kb``)."""
PLUG_REQUESTS_MAX: Final = 32
"""``BLK_MAX_REQUEST_COUNT``: a plug is flushed when it holds as many."""
PLUG_FLUSH_BYTES: Final = 128 << 10
"""``BLK_PLUG_FLUSH_SIZE``: and when its first request is as long."""


class Request:
    """Pages of consecutive slots, from `slot` on."""

    __slots__ = ("pages", "slot")

    def __init__(self, slot: int, page: int) -> None:
        self.slot = slot
        self.pages = [page]


class Plug:
    """Requests of one thread and one direction that wait for submission. Merges with the last request only.

    Attributes
    ----------
    ready : list of Request
        What has to be submitted before anything else happens.
    """

    __slots__ = ("_flush_pages", "_queued", "_request_pages", "ready")

    def __init__(self, page_bytes: int) -> None:
        self.ready: list[Request] = []
        self._queued: list[Request] = []
        self._request_pages = REQUEST_BYTES_MAX // page_bytes
        self._flush_pages = PLUG_FLUSH_BYTES // page_bytes

    def add(self, slot: int, page: int) -> None:
        """Queue `page`, in the last request if its slot comes next there; else flush first if enough is queued."""
        queued = self._queued
        if queued:
            last = queued[-1]
            if slot == last.slot + len(last.pages) and len(last.pages) < self._request_pages:
                last.pages.append(page)
                return
            if len(queued) >= PLUG_REQUESTS_MAX or len(queued[0].pages) >= self._flush_pages:
                self.flush()
                queued = self._queued
        queued.append(Request(slot, page))

    def flush(self) -> None:
        """Make all requests ready."""
        self.ready += self._queued
        self._queued = []
