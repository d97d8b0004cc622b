"""Strategy ``mlock``: lock what will be played, within the budget; what PulseAudio did before 2008."""

from collections.abc import Iterable

from samplecache.strategy import Action, Advice, Advise, Lock, Operation, PrefetchStrategy, Span, Tier, View, hookimpl


class LockHead(PrefetchStrategy):
    """Lock as much from the head as the lock budget allows and advise the rest; unlock when playing ends."""

    name = "mlock"
    requires = frozenset({Operation.LOCK})
    fallback = "willneed"

    def prepare(self, view: View) -> Iterable[Action]:
        """Lock the head; what the budget leaves over is at least advised."""
        cut = _end_of_affordable(view)
        head, rest = Span(view.wanted.start, cut), Span(cut, view.wanted.stop)
        actions: list[Action] = []
        if head:
            actions.append(Lock(head, view.deadline_ns))
        if rest:
            actions.append(Advise(rest, view.deadline_of(rest.start), Advice.WILLNEED))
        return actions


def _end_of_affordable(view: View) -> int:
    """Return the first page past the head that the budget covers; what anyone has locked already costs nothing."""
    left_pages = view.lock_budget_bytes // view.sample.page_bytes
    for page, tier in enumerate(view.residency.tiers, view.wanted.start):
        left_pages -= tier != Tier.LOCKED
        if left_pages < 0:
            return page
    return view.wanted.stop


@hookimpl
def samplecache_register_strategies() -> list[type[PrefetchStrategy]]:
    """Bring ``mlock``."""
    return [LockHead]
