"""Strategy ``willneed``: what PulseAudio does."""

from collections.abc import Iterable

from samplecache.strategy import Action, Advice, Advise, Operation, PrefetchStrategy, View, hookimpl


class WillNeed(PrefetchStrategy):
    """Advise the kernel of everything that will be played (MADV_WILLNEED) and let it read ahead on its own."""

    name = "willneed"
    requires = frozenset({Operation.WILLNEED})
    fallback = "touch"
    only_missing = True

    def prepare(self, view: View) -> Iterable[Action]:
        """Advise the whole span: the kernel skips what is in RAM already."""
        return [Advise(view.wanted, view.deadline_ns, Advice.WILLNEED)]


@hookimpl
def samplecache_register_strategies() -> list[type[PrefetchStrategy]]:
    """Bring ``willneed``."""
    return [WillNeed]
