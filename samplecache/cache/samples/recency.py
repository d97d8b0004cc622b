"""What may be evicted, and in which order: apart from what is pinned or in use, which nobody shall have to skip."""

from __future__ import annotations

import itertools

from sortedcontainers import SortedDict

from samplecache.cache.samples.sample import Content


class Recency:
    """The contents that may be evicted, least recently used first. Each change is O(log contents). Not thread-safe.

    Attributes
    ----------
    evictable_bytes : int
        What they take of the budget, in bytes.
    """

    def __init__(self) -> None:
        self.evictable_bytes = 0
        self._uses = itertools.count(1)
        self._by_use: SortedDict[int, Content] = SortedDict()

    def use(self, content: Content) -> None:
        """Note that a content is used now."""
        self._take_out(content)
        content.last_use = next(self._uses)
        self.sort(content)

    def sort(self, content: Content) -> None:
        """Have a content among those that may be evicted, or not: to be called when that may have changed."""
        if not content.evictable:
            self._take_out(content)
        elif content.last_use not in self._by_use:
            self._by_use[content.last_use] = content
            self.evictable_bytes += content.charged_bytes

    def _take_out(self, content: Content) -> None:
        if self._by_use.pop(content.last_use, None) is not None:
            self.evictable_bytes -= content.charged_bytes

    def victims(self, wanted_bytes: int, spared: Content | None) -> list[Content] | None:
        """Return the least recently used contents that come to `wanted_bytes` without `spared`; None if all do not."""
        left_bytes = self.evictable_bytes
        if spared is not None and spared.evictable:
            left_bytes -= spared.charged_bytes
        if wanted_bytes > left_bytes:
            return None
        victims: list[Content] = []
        for content in self._by_use.values():
            if wanted_bytes <= 0:
                break
            if content is not spared:
                victims.append(content)
                wanted_bytes -= content.charged_bytes
        return victims

    def clear(self) -> None:
        """Forget everything."""
        self._by_use.clear()
        self.evictable_bytes = 0
