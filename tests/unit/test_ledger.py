"""Lock holders are counted, the budget is kept, and no lock outlives its release."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from samplecache.clock import VirtualClock
from samplecache.errors import InvalidError, InvalidSpanError, NotPermittedError, UnmappedError
from samplecache.kernel.ledger import UNLIMITED_BUDGET_BYTES, LockGrant, LockLedger, default_lock_budget
from samplecache.kernel.port import Capabilities, Kernel, Region, Span, Tier
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.options import SimulationOptions

PAGES = 12
BUDGET_PAGES = 16


def make_kernel(lock_limit_bytes: int | None = None) -> Kernel:
    machine = SimulationOptions.for_device("ssd-sata", memory_bytes=1 << 20, swap_bytes=1 << 20)
    return SimulatedKernel(replace(machine, lock_limit_bytes=lock_limit_bytes), VirtualClock())


@pytest.fixture
def kernel() -> Kernel:
    return make_kernel()


@pytest.fixture
def region(kernel: Kernel) -> Region:
    return kernel.map(PAGES * kernel.page_bytes)


@pytest.fixture
def ledger(kernel: Kernel) -> LockLedger:
    return LockLedger(kernel, 8 * kernel.page_bytes + 1)


def locked(kernel: Kernel, region: Region) -> list[Span]:
    return list(kernel.residency(region, region.span).spans_in(Tier.LOCKED))


def test_the_budget_is_whole_pages(kernel: Kernel, ledger: LockLedger) -> None:
    assert ledger.budget_bytes == 8 * kernel.page_bytes


def test_a_page_is_locked_until_its_last_holder_leaves(kernel: Kernel, ledger: LockLedger, region: Region) -> None:
    assert ledger.acquire("a", region, Span(0, 4)) == LockGrant(Span(0, 4), Span(4, 4))
    assert ledger.acquire("b", region, Span(2, 6)) == LockGrant(Span(2, 6), Span(6, 6))
    assert ledger.locked_bytes == 6 * kernel.page_bytes
    ledger.release("a", region)
    assert locked(kernel, region) == [Span(2, 6)]
    ledger.release("b", region, Span(3, 4))
    assert locked(kernel, region) == [Span(2, 3), Span(4, 6)]
    ledger.release("b", region)
    assert (locked(kernel, region), ledger.locked_bytes) == ([], 0)


def test_holding_twice_is_holding_once(kernel: Kernel, ledger: LockLedger, region: Region) -> None:
    ledger.acquire("a", region, Span(0, 4))
    ledger.acquire("a", region, Span(2, 6))
    assert ledger.held("a") == 6
    ledger.release("a", region, Span(2, 4))
    assert ledger.spans("a", region) == (Span(0, 2), Span(4, 6))
    assert ledger.spans("b", region) == ()
    assert locked(kernel, region) == [Span(0, 2), Span(4, 6)]


def test_what_the_budget_does_not_cover_is_refused_from_the_tail(
    kernel: Kernel, ledger: LockLedger, region: Region
) -> None:
    ledger.acquire("a", region, Span(2, 5))
    grant = ledger.acquire("b", region, Span(0, 12))
    assert (grant.locked, grant.refused, grant.complete) == (Span(0, 8), Span(8, 12), False)
    assert grant.why == "The lock budget of 32768 bytes is used up. Raise it, or hold less."
    assert ledger.held("b") == 8
    assert locked(kernel, region) == [Span(0, 8)]


def test_an_exhausted_budget_still_shares_what_is_locked(ledger: LockLedger, region: Region) -> None:
    ledger.acquire("a", region, Span(0, 8))
    assert ledger.acquire("b", region, Span(3, 9)).locked == Span(3, 8)
    assert ledger.acquire("b", region, Span(9, 10)).locked == Span(9, 9)


def test_releasing_what_is_not_held_changes_nothing(kernel: Kernel, ledger: LockLedger, region: Region) -> None:
    ledger.acquire("a", region, Span(0, 2))
    ledger.release("b", region)
    ledger.release("a", region, Span(5, 9))
    assert (locked(kernel, region), ledger.held("b")) == ([Span(0, 2)], 0)


def test_a_region_unmapped_meanwhile_is_released_all_the_same(
    kernel: Kernel, ledger: LockLedger, region: Region
) -> None:
    ledger.acquire("a", region, Span(0, 2))
    kernel.unmap(region)
    ledger.release("a", region)
    assert (ledger.locked_bytes, ledger.held("a")) == (0, 0)


def test_a_failed_acquire_changes_nothing(kernel: Kernel, ledger: LockLedger, region: Region) -> None:
    with pytest.raises(InvalidSpanError):
        ledger.acquire("a", region, Span(0, PAGES + 1))
    kernel.unmap(region)
    with pytest.raises(UnmappedError):
        ledger.acquire("a", region, Span(0, 1))
    assert (ledger.locked_bytes, ledger.held("a")) == (0, 0)


@pytest.mark.parametrize("limit_pages", range(1, PAGES))
def test_what_the_kernel_does_not_allow_is_refused_from_the_tail(limit_pages: int) -> None:
    kernel = make_kernel(lock_limit_bytes=limit_pages * 4096)
    region = kernel.map(PAGES * kernel.page_bytes)
    ledger = LockLedger(kernel, 2 * PAGES * kernel.page_bytes)
    grant = ledger.acquire("a", region, region.span)
    assert (grant.locked, grant.refused) == (Span(0, limit_pages), Span(limit_pages, PAGES))
    assert "cannot be locked" in grant.why
    assert locked(kernel, region) == [Span(0, limit_pages)]
    ledger.release("a", region)
    assert locked(kernel, region) == []


def test_a_process_that_may_not_lock_at_all_is_told() -> None:
    kernel = make_kernel(lock_limit_bytes=0)
    region = kernel.map(kernel.page_bytes)
    ledger = LockLedger(kernel, kernel.page_bytes)
    with pytest.raises(NotPermittedError):
        ledger.acquire("a", region, region.span)
    assert (ledger.locked_bytes, ledger.held("a")) == (0, 0)


def test_a_negative_budget_is_refused(kernel: Kernel) -> None:
    with pytest.raises(InvalidError, match="Give 0 or more"):
        LockLedger(kernel, -1)


@pytest.mark.parametrize(
    ("limit_bytes", "budget_bytes"), [(0, 0), (8 << 20, 6 << 20), (65536, 49152), (None, UNLIMITED_BUDGET_BYTES)]
)
def test_default_budget(limit_bytes: int | None, budget_bytes: int) -> None:
    assert default_lock_budget(Capabilities("simulated", "1", {}, 0, "none", limit_bytes)) == budget_bytes


def test_threads_leave_nothing_locked() -> None:
    kernel = make_kernel()
    region = kernel.map(PAGES * kernel.page_bytes)
    ledger = LockLedger(kernel, 8 * kernel.page_bytes)

    def work(holder: int) -> None:
        rng = random.Random(holder)
        for _ in range(200):
            start = rng.randrange(PAGES)
            ledger.acquire(holder, region, Span(start, rng.randint(start, PAGES)))
            ledger.release(holder, region)

    threads = [threading.Thread(target=work, args=(holder,)) for holder in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (ledger.locked_bytes, locked(kernel, region)) == (0, [])


class LedgerMachine(RuleBasedStateMachine):
    """Any sequence of acquires and releases, against sets of pages."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = make_kernel()
        self.ledger = LockLedger(self.kernel, BUDGET_PAGES * self.kernel.page_bytes)
        self.regions = [self.kernel.map(PAGES * self.kernel.page_bytes) for _ in range(2)]
        self.held: dict[tuple[str, int], set[int]] = {}

    def locked(self, region: int) -> set[int]:
        return set().union(*(pages for (_, where), pages in self.held.items() if where == region))

    holders = st.sampled_from("abc")
    regions_drawn = st.integers(0, 1)
    spans = st.tuples(st.integers(0, PAGES), st.integers(0, PAGES)).map(lambda ends: Span(min(ends), max(ends)))

    @rule(holder=holders, region=regions_drawn, span=spans)
    def acquire(self, holder: str, region: int, span: Span) -> None:
        grant = self.ledger.acquire(holder, self.regions[region], span)
        locked, left = self.locked(region), BUDGET_PAGES - len(self.locked(0)) - len(self.locked(1))
        stop = span.start
        while stop < span.stop and (stop in locked or left):
            left -= stop not in locked
            stop += 1
        assert (grant.locked, grant.refused) == (Span(span.start, stop), Span(stop, span.stop))
        assert bool(grant.why) is not grant.complete
        self.held.setdefault((holder, region), set()).update(grant.locked)

    @rule(holder=holders, region=regions_drawn, span=st.none() | spans)
    def release(self, holder: str, region: int, span: Span | None) -> None:
        self.ledger.release(holder, self.regions[region], span)
        released = self.regions[region].span if span is None else span
        self.held.get((holder, region), set()).difference_update(released)

    @invariant()
    def the_kernel_has_locked_what_is_held(self) -> None:
        for number, region in enumerate(self.regions):
            residency = self.kernel.residency(region, region.span)
            assert {page for page, tier in enumerate(residency.tiers) if tier == Tier.LOCKED} == self.locked(number)
        total = len(self.locked(0)) + len(self.locked(1))
        assert self.ledger.locked_bytes == total * self.kernel.page_bytes <= self.ledger.budget_bytes
        for holder in "abc":
            assert self.ledger.held(holder) == sum(len(self.held.get((holder, region), ())) for region in (0, 1))

    def teardown(self) -> None:
        for region in self.regions:
            self.kernel.unmap(region)
        self.kernel.close()


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_transfer_hands_locks_over_without_touching_a_page(kernel: Kernel) -> None:
    region = kernel.map(8 * kernel.page_bytes)
    kernel.write(region, 0, bytes(range(1, 9)) * kernel.page_bytes)
    ledger = LockLedger(kernel, 8 * kernel.page_bytes)
    ledger.acquire("prefetch", region, Span(0, 6))
    ledger.acquire("session", region, Span(4, 8))
    ledger.transfer("prefetch", "session", region)
    assert (ledger.held("prefetch"), ledger.spans("session", region)) == (0, (Span(0, 8),))
    assert ledger.locked_bytes == 8 * kernel.page_bytes
    ledger.transfer("prefetch", "session", region)
    ledger.transfer("session", "session", region)
    ledger.release("prefetch", region)
    assert ledger.spans("session", region) == (Span(0, 8),)
    ledger.release("session", region)
    assert ledger.locked_bytes == 0
    assert kernel.residency(region, region.span).count(Tier.LOCKED) == 0
    kernel.unmap(region)
