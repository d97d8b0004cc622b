"""Whatever is done to a store in whatever order, it keeps its budget and unmaps each region once."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.samples.store import Lease, Publication, Store
from samplecache.clock import VirtualClock
from samplecache.errors import ConflictError, LimitError, SamplecacheError, SampleNotFoundError, StoreFullError
from samplecache.kernel.port import Region
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.options import SimulationOptions

PAGE_BYTES = 4096
MONO = AudioFormat(48_000, 1, Encoding.S16)
BUDGET_PAGES = 8
MAX_SAMPLES = 5

sample_ids = st.sampled_from("abcdefg")
contents = st.sampled_from([(pages, variant) for pages in (1, 2, 3, 5, 9) for variant in (0, 1)])


def outcome(action: Callable[[], object]) -> object:
    """What `action` returns, or the class of what it raises."""
    try:
        return action()
    except SamplecacheError as error:
        return type(error)


class WatchedKernel(SimulatedKernel):
    """The simulated kernel, which knows what is mapped. It raises if a region is unmapped twice."""

    def __init__(self) -> None:
        options = SimulationOptions.for_device("zram-lz4", memory_bytes=1 << 20, swap_bytes=1 << 20)
        super().__init__(options, VirtualClock())
        self.mapped: set[Region] = set()

    def map(self, length_bytes: int, *, packed: bool = False) -> Region:
        region = super().map(length_bytes, packed=packed)
        self.mapped.add(region)
        return region

    def unmap(self, region: Region) -> None:
        super().unmap(region)
        self.mapped.remove(region)


class StoreMachine(RuleBasedStateMachine):
    """The store beside a model: ids to contents, contents in the order of use, leases."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.kernel = WatchedKernel()
        self.store = Store(self.kernel, BUDGET_PAGES * PAGE_BYTES, MAX_SAMPLES)
        self.serial = itertools.count()
        self.samples: dict[str, tuple[int, ...]] = {}
        self.pinned: set[str] = set()
        # Contents by a key that is new each time one is stored anew; least recently used first.
        self.used: list[tuple[int, ...]] = []
        self.held: dict[tuple[int, ...], int] = {}

    # --- the model ---

    def ids_of(self, key: tuple[int, ...]) -> set[str]:
        return {sample_id for sample_id, its in self.samples.items() if its == key}

    def alive(self) -> set[tuple[int, ...]]:
        return set(self.samples.values()) | {key for key, count in self.held.items() if count}

    def used_pages(self) -> int:
        return sum(key[0] for key in self.alive())

    def evictable(self, key: tuple[int, ...]) -> bool:
        return not self.held.get(key) and not self.ids_of(key) & self.pinned

    def forget(self, sample_id: str) -> None:
        del self.samples[sample_id]
        self.pinned.discard(sample_id)

    def expect(self, sample_id: str, pages: int, replace: bool) -> type[SamplecacheError] | list[tuple[int, ...]]:
        """What publishing a new content should raise, or evict."""
        if sample_id in self.samples and not replace:
            return ConflictError
        if sample_id not in self.samples and len(self.samples) >= MAX_SAMPLES:
            return LimitError
        missing = self.used_pages() + pages - BUDGET_PAGES
        leaving = self.samples.get(sample_id)
        if leaving is not None and (self.held.get(leaving) or self.ids_of(leaving) != {sample_id}):
            leaving = None
        missing -= leaving[0] if leaving else 0
        victims = []
        for key in self.used:
            if missing > 0 and key != leaving and self.ids_of(key) and self.evictable(key):
                victims.append(key)
                missing -= key[0]
        return StoreFullError if missing > 0 else victims

    # --- what is done ---

    @rule(sample_id=sample_ids, content=contents, pinned=st.booleans(), replace=st.booleans())
    def publish(self, sample_id: str, content: tuple[int, int], pinned: bool, replace: bool) -> None:
        pages, _ = content
        twin = next((key for key in self.samples.values() if key[:2] == content), None)
        expected = self.expect(sample_id, pages, replace)
        if twin is not None and expected is StoreFullError:
            expected = []
        region = self.kernel.map(pages * PAGE_BYTES)
        sha256 = repr(content).encode()
        publication = outcome(
            lambda: self.store.publish(sample_id, region, MONO, pages * 2048, sha256, pinned=pinned, replace=replace)
        )
        if not isinstance(publication, Publication):
            assert publication is expected
            self.kernel.unmap(region)
            return
        assert isinstance(expected, list)
        assert publication.deduplicated == (twin is not None)
        victims = [] if twin is not None else expected
        evicted = {each for key in victims for each in self.ids_of(key)} - {sample_id}
        assert {each for each, _ in publication.evicted} == evicted
        for each in evicted:
            self.forget(each)
        key = twin or (*content, next(self.serial))
        self.samples[sample_id] = key
        (self.pinned.add if pinned else self.pinned.discard)(sample_id)
        self.used = [other for other in self.used if other != key] + [key]

    @rule(sample_id=sample_ids, pages=st.integers(0, 9), replace=st.booleans())
    def check_room(self, sample_id: str, pages: int, replace: bool) -> None:
        expected = self.expect(sample_id, pages, replace)
        found = outcome(lambda: self.store.check_room(sample_id, pages * PAGE_BYTES, replace=replace))
        assert found is (None if isinstance(expected, list) else expected)

    @rule(target=leases, sample_id=sample_ids)
    def lease(self, sample_id: str) -> object:
        try:
            lease = self.store.lease(sample_id)
        except SampleNotFoundError:
            assert sample_id not in self.samples
            return None
        key = self.samples[sample_id]
        self.used = [other for other in self.used if other != key] + [key]
        self.held[key] = self.held.get(key, 0) + 1
        return lease, key

    @rule(target=leases, held=leases)
    def share(self, held: tuple[Lease, tuple[int, ...]] | None) -> object:
        if held is None or not held[0].held:
            return None
        self.held[held[1]] += 1
        return held[0].share(), held[1]

    @rule(held=consumes(leases), twice=st.booleans())
    def release(self, held: tuple[Lease, tuple[int, ...]] | None, twice: bool) -> None:
        if held is None or not held[0].held:
            return
        lease, key = held
        self.held[key] -= 1
        lease.release()
        if twice:
            lease.release()

    @rule(sample_id=sample_ids, pinned=st.booleans())
    def update(self, sample_id: str, pinned: bool) -> None:
        try:
            assert self.store.update(sample_id, pinned=pinned).pinned is pinned
        except SampleNotFoundError:
            assert sample_id not in self.samples
            return
        (self.pinned.add if pinned else self.pinned.discard)(sample_id)

    @precondition(lambda self: self.samples)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        sample_id = data.draw(st.sampled_from(sorted(self.samples)))
        self.store.remove(sample_id)
        self.forget(sample_id)

    # --- what always holds ---

    @invariant()
    def the_budget_is_kept_and_counted(self) -> None:
        assert self.store.used_bytes == self.used_pages() * PAGE_BYTES
        assert self.store.used_bytes <= BUDGET_PAGES * PAGE_BYTES
        assert self.store.content_count == len(self.alive())

    @invariant()
    def exactly_what_is_stored_or_leased_is_mapped(self) -> None:
        assert sum(region.pages for region in self.kernel.mapped) == self.used_pages()
        assert len(self.kernel.mapped) == len(self.alive())

    @invariant()
    def the_samples_are_those_of_the_model(self) -> None:
        listed, more = self.store.page("", MAX_SAMPLES + 1, frozenset())
        assert [sample.sample_id for sample in listed] == sorted(self.samples)
        assert not more
        for sample in listed:
            assert sample.pinned == (sample.sample_id in self.pinned)
            assert sample.content.region.pages == self.samples[sample.sample_id][0]
            assert sample.content.leases == self.held.get(self.samples[sample.sample_id], 0)
            assert sample.content.sample_ids == self.ids_of(self.samples[sample.sample_id])

    def teardown(self) -> None:
        self.store.clear()
        assert self.kernel.mapped == set()


StoreMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestStore = StoreMachine.TestCase
