"""Strategy ``populate``: ``make_pages_present()`` of the 2008 thread, today's MADV_POPULATE_READ."""

from collections.abc import Iterable

from samplecache.strategy import Action, Operation, Populate, PrefetchStrategy, Tier, View, hookimpl


class PopulatePages(PrefetchStrategy):
    """Have the kernel fault in every page that is not mapped (MADV_POPULATE_READ): not even minor faults are left."""

    name = "populate"
    requires = frozenset({Operation.POPULATE})
    fallback = "touch"

    def prepare(self, view: View) -> Iterable[Action]:
        """Populate the runs that would fault, in the order in which they will be played."""
        return [
            Populate(span, view.deadline_of(span.start))
            for span in view.residency.spans_in(Tier.SWAPPED, Tier.SWAP_CACHE)
        ]


@hookimpl
def samplecache_register_strategies() -> list[type[PrefetchStrategy]]:
    """Bring ``populate``."""
    return [PopulatePages]
