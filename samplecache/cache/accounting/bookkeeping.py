"""Opens the account of each session and prefetch, counts it in the sums, and charges it to the budget."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from samplecache.cache.accounting.accounts import Account, PageOutcomes
from samplecache.cache.accounting.budget import Claim, PrefetchBudget
from samplecache.cache.accounting.figures import Totals
from samplecache.cache.samples.store import Lease
from samplecache.errors import SamplecacheError
from samplecache.kernel.port import Advice, Kernel, Span
from samplecache.strategy.registry import Binding
from samplecache.strategy.view import Stretch


class Bookkeeping:
    """Accounts of pages that are brought in ahead, from their beginning to their end. Any thread; never blocks.

    Parameters
    ----------
    kernel : Kernel
        What is told of pages that have to make room for others.
    totals : Totals
        Where accounts are summed up by strategy.
    budget : PrefetchBudget
        What accounts of budgeted strategies are charged to.
    """

    def __init__(self, kernel: Kernel, totals: Totals, budget: PrefetchBudget) -> None:
        self._kernel = kernel
        self._totals = totals
        self._budget = budget

    def new(self, lease: Lease, binding: Binding, totals: PageOutcomes | None = None) -> Account:
        """Return an account for pages of what is leased, to be begun; `totals` is counted in as well."""
        strategy, pages = binding.strategy, lease.content.region.pages
        if not strategy.budgeted:
            return Account(strategy.name, pages, totals, self._closed)
        return Account(strategy.name, pages, totals, self._closed, self._budget.release)

    def begin(self, account: Account, lease: Lease, binding: Binding, path: Callable[[], tuple[Stretch, ...]]) -> None:
        """Count what becomes of the account's pages, and charge them if the strategy is to be bounded.

        `path` returns what will be read, in order, and when.
        """
        self._totals.begin_account(account)
        strategy, region = binding.strategy, lease.content.region
        if not strategy.budgeted:
            return

        def give_back(span: Span) -> None:
            if len(lease.content.players) > 1:
                return  # others are going to read it
            # It may be unmapped by now, or the kernel cannot be told: then reclaim finds it by itself.
            with contextlib.suppress(SamplecacheError):
                self._kernel.advise(region, span, Advice.COLD)

        view = lease.sample.view(self._kernel.page_bytes)
        self._budget.join(Claim(account, view, path, strategy.horizon_ns, give_back))

    def _closed(self, account: Account) -> None:
        self._budget.leave(account)
        self._totals.end_account(account)
