"""Asks the strategies of prefetches without a session again, until their pages are due or somebody plays them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from samplecache.cache.prefetching.orders import Moment, Order
from samplecache.cache.prefetching.prefetch import Prefetch
from samplecache.cache.prefetching.prefetcher import Prefetcher
from samplecache.cache.samples.sample import Content
from samplecache.cache.samples.store import Lease
from samplecache.errors import SampleNotFoundError
from samplecache.strategy.actions import Recheck


class Lookout:
    """Carries out what such strategies want to look at again. Any thread; never blocks.

    Parameters
    ----------
    prefetcher : Prefetcher
        Who asks them.
    lease : Callable
        Returns a lease of a sample by its id.
    """

    def __init__(self, prefetcher: Prefetcher, lease: Callable[[str], Lease]) -> None:
        self._prefetcher = prefetcher
        self._lease = lease

    def watched(self, order: Order) -> Order:
        """Return `order`, whose strategy is asked again whenever it wants that, as long as its account is open."""
        return replace(order, on_recheck=lambda recheck: self._recheck(order, recheck))

    def _recheck(self, order: Order, recheck: Recheck) -> None:
        at_ns = self._prefetcher.again_ns(recheck.deadline_ns)
        if order.deadline_ns is None or at_ns <= order.deadline_ns:
            self._prefetcher.look_at(lambda: self._again(order, recheck), at_ns)

    def _again(self, order: Order, recheck: Recheck) -> Iterator[None]:
        if order.account.settled_by_others or (lease := self._lease_of(order)) is None:
            return iter(())

        def on_end(prefetch: Prefetch) -> None:
            lease.release()

        again = replace(order, moment=Moment.ADVANCE, look=recheck.span)
        return Prefetch(self._prefetcher, self.watched(again), on_end).run()

    def _lease_of(self, order: Order) -> Lease | None:
        """Return a lease of what was announced, unless it is gone: waiting for a deadline keeps no sample."""
        try:
            lease = self._lease(order.sample.sample_id)
        except SampleNotFoundError:
            return None
        content: Content = lease.content
        if content is order.sample.content:
            return lease
        lease.release()
        return None
