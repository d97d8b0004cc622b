"""Which samples have which tags."""

from __future__ import annotations

from collections.abc import Iterable

from sortedcontainers import SortedSet


class TagIndex:
    """Sample ids by tag, in their order. Not thread-safe."""

    def __init__(self) -> None:
        self._ids: dict[str, SortedSet[str]] = {}

    def replace(self, sample_id: str, old: Iterable[str], new: Iterable[str]) -> None:
        """Note that a sample has the tags `new` instead of `old`."""
        before, after = set(old), set(new)
        for tag in before - after:
            ids = self._ids[tag]
            ids.remove(sample_id)
            if not ids:
                del self._ids[tag]
        for tag in after - before:
            self._ids.setdefault(tag, SortedSet()).add(sample_id)

    def rarest(self, tags: Iterable[str]) -> SortedSet[str]:
        """Return the ids that have that of `tags`, of which there is one at least, that the fewest have. To be read."""
        nothing: SortedSet[str] = SortedSet()
        return min((self._ids.get(tag, nothing) for tag in tags), key=len)

    def clear(self) -> None:
        """Forget everything."""
        self._ids.clear()
