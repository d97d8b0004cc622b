"""Strategy ``touch``: what Andrew Morton asked in 2008, "does he know about pthread_create()?"."""

from collections.abc import Iterable

from samplecache.strategy import Action, Operation, PrefetchStrategy, Tier, Touch, View, hookimpl


class TouchThread(PrefetchStrategy):
    """Read a byte of every page that is not mapped, on a worker thread, before the playing thread gets there."""

    name = "touch"
    requires = frozenset({Operation.TOUCH})

    def prepare(self, view: View) -> Iterable[Action]:
        """Touch the runs that would fault, in the order in which they will be played."""
        return [
            Touch(span, view.deadline_of(span.start)) for span in view.residency.spans_in(Tier.SWAPPED, Tier.SWAP_CACHE)
        ]


@hookimpl
def samplecache_register_strategies() -> list[type[PrefetchStrategy]]:
    """Bring ``touch``."""
    return [TouchThread]
