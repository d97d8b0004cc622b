"""Strategy ``window``: a window of pages slides ahead of the playhead; docs/window.md tells how it decides."""

from samplecache.strategy import PrefetchStrategy, hookimpl
from samplecache_window.strategy import SlidingWindow


@hookimpl
def samplecache_register_strategies() -> list[type[PrefetchStrategy]]:
    """Bring ``window``."""
    return [SlidingWindow]
