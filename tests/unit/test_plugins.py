"""What each bundled strategy asks for, to the page, and what comes of it on a simulated machine."""

from __future__ import annotations

from types import ModuleType

import pytest
from cache_parts import PAGE_BYTES, capabilities, make_cache, put_cold

import samplecache_mlock
import samplecache_populate
import samplecache_touch
import samplecache_willneed
from samplecache.cache import SampleCache
from samplecache.kernel.port import Operation, Residency, Span, Tier
from samplecache.strategy import Action, Advise, Lock, Populate, PrefetchStrategy, Touch
from samplecache.strategy.registry import StrategyRegistry
from samplecache.strategy.view import PageInFigures, SampleView, View

PLUGINS = {
    "mlock": samplecache_mlock,
    "populate": samplecache_populate,
    "touch": samplecache_touch,
    "willneed": samplecache_willneed,
}
# One page sounds for 1000 ns.
SAMPLE = SampleView("kick", 64, PAGE_BYTES, PAGE_BYTES * 1_000_000)
TIERS = {".": Tier.ABSENT, "s": Tier.SWAPPED, "c": Tier.SWAP_CACHE, "m": Tier.MAPPED, "L": Tier.LOCKED}


def strategy(name: str) -> PrefetchStrategy:
    registry = StrategyRegistry()
    registry.register(PLUGINS[name], name)
    assert (registry.names, registry.problems) == (tuple(sorted((name, "none"))), [])
    return next(each.strategy for each in registry.registrations if each.strategy.name == name)()


def prepare(
    name: str,
    pages: str,
    *,
    start: int = 0,
    deadline_ns: int | None = 10_000,
    budget_pages: float = 0,
    held: tuple[Span, ...] = (),
) -> list[Action]:
    """What strategy `name` asks for when it wants the pages that `pages` draws, from page `start` on, at 500 ns."""
    wanted = Span(start, start + len(pages))
    residency = Residency(wanted, bytes(TIERS[each] for each in pages))
    budget_bytes = int(budget_pages * PAGE_BYTES)
    view = View(500, SAMPLE, wanted, deadline_ns, residency, held, budget_bytes, PageInFigures(), capabilities())
    return list(strategy(name).prepare(view))


@pytest.mark.parametrize(
    ("name", "requires", "fallback"),
    [
        ("mlock", {Operation.LOCK}, "willneed"),
        ("populate", {Operation.POPULATE}, "touch"),
        ("touch", {Operation.TOUCH}, "none"),
        ("willneed", {Operation.WILLNEED}, "touch"),
    ],
)
def test_what_they_require_and_fall_back_to(name: str, requires: set[Operation], fallback: str) -> None:
    assert (strategy(name).requires, strategy(name).fallback) == (frozenset(requires), fallback)


@pytest.mark.parametrize("name", PLUGINS)
def test_they_say_what_they_do(name: str) -> None:
    assert strategy(name).summary().endswith(".")


@pytest.mark.parametrize("name", PLUGINS)
def test_only_preparing_is_their_business(name: str) -> None:
    span = Span(0, 2)
    view = View(0, SAMPLE, span, 0, Residency(span, b"\1\1"), (), 1 << 20, PageInFigures(), capabilities())
    assert (list(strategy(name).advance(view)), list(strategy(name).finish(view))) == ([], [])


class TestWillneed:
    @pytest.mark.parametrize("pages", ["ssss", "mmmm", "smcL.", ""])
    def test_advises_all_wherever_it_is(self, pages: str) -> None:
        assert prepare("willneed", pages, start=3) == [Advise(Span(3, 3 + len(pages)), 10_000)]

    def test_at_once_if_there_is_no_deadline(self) -> None:
        assert prepare("willneed", "ss", deadline_ns=None) == [Advise(Span(0, 2), None)]


@pytest.mark.parametrize(("name", "action"), [("touch", Touch), ("populate", Populate)])
class TestTouchAndPopulate:
    def test_every_run_that_would_fault_by_when_it_sounds(self, name: str, action: type[Action]) -> None:
        assert prepare(name, "sscmmsLsc.s", start=10) == [
            action(Span(10, 13), 10_000),
            action(Span(15, 16), 15_000),
            action(Span(17, 19), 17_000),
            action(Span(20, 21), 20_000),
        ]

    @pytest.mark.parametrize("pages", ["mmLL.", ""])
    def test_nothing_where_nothing_would_fault(self, name: str, action: type[Action], pages: str) -> None:
        assert prepare(name, pages) == []

    def test_without_a_deadline_it_counts_from_now(self, name: str, action: type[Action]) -> None:
        assert prepare(name, "mms", deadline_ns=None) == [action(Span(2, 3), 2_500)]


class TestMlock:
    def test_locks_all_if_it_may(self) -> None:
        assert prepare("mlock", "scm.s", start=2, budget_pages=5) == [Lock(Span(2, 7), 10_000)]

    @pytest.mark.parametrize("budget_pages", [3, 3.99])
    def test_locks_the_head_and_advises_the_rest(self, budget_pages: float) -> None:
        assert prepare("mlock", "sssss", start=2, budget_pages=budget_pages) == [
            Lock(Span(2, 5), 10_000),
            Advise(Span(5, 7), 13_000),
        ]

    @pytest.mark.parametrize("budget_pages", [0, 0.99, -1])
    def test_advises_all_if_the_budget_is_used_up(self, budget_pages: float) -> None:
        assert prepare("mlock", "ssss", budget_pages=budget_pages) == [Advise(Span(0, 4), 10_000)]

    @pytest.mark.parametrize("held", [(), (Span(1, 3),)])
    def test_what_is_locked_already_costs_nothing_whoever_holds_it(self, held: tuple[Span, ...]) -> None:
        assert prepare("mlock", "sLLss", budget_pages=2, held=held) == [
            Lock(Span(0, 4), 10_000),
            Advise(Span(4, 5), 14_000),
        ]
        assert prepare("mlock", "LLLL", held=held) == [Lock(Span(0, 4), 10_000)]

    def test_nothing_wanted_nothing_done(self) -> None:
        assert prepare("mlock", "", start=4, budget_pages=9) == []


# --- on a simulated machine ---

PAGES = 300
LOCKED_PAGES = 100


def tiers(cache: SampleCache, sample_id: str) -> dict[Tier, int]:
    residency = cache.residency(sample_id)
    return {tier: residency.count(tier) for tier in Tier if residency.count(tier)}


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("willneed", {Tier.SWAP_CACHE: PAGES}),
        ("touch", {Tier.MAPPED: PAGES}),
        ("populate", {Tier.MAPPED: PAGES}),
        ("mlock", {Tier.LOCKED: LOCKED_PAGES, Tier.SWAP_CACHE: PAGES - LOCKED_PAGES}),
        ("none", {Tier.SWAPPED: PAGES}),
    ],
)
def test_where_the_pages_are_afterwards(name: str, left: dict[Tier, int]) -> None:
    plugins: list[ModuleType] = list(PLUGINS.values())
    with make_cache(plugins=plugins, lock_budget_bytes=LOCKED_PAGES * PAGE_BYTES) as cache:
        put_cold(cache, "pad", PAGES)
        prefetch = cache.prefetch("pad", strategy=name)
        assert prefetch.wait(20)
        assert (prefetch.order.binding.strategy.name, prefetch.notes) == (name, [])
        brought_in = PAGES - left.get(Tier.SWAPPED, 0)
        assert (prefetch.progress.pages_needed, prefetch.progress.pages_in) == (PAGES, brought_in)
        assert tiers(cache, "pad") == left
