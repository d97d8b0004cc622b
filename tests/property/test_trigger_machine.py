"""Random lives of trigger samples: locks stay within the budget, go where they belong, and are never left behind."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from stepped_workers import SteppedWorkers

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache import CacheSettings, SampleCache
from samplecache.cache.ahead.triggers import HOLDER
from samplecache.cache.play_options import PlayOptions
from samplecache.clock import NS_PER_MS, NS_PER_S, VirtualClock
from samplecache.errors import SamplecacheError
from samplecache.kernel.port import Region, Span
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.device import PROFILES
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.registry import StrategyRegistry

PAGE_BYTES = 4096
LOCK_PAGES = 12
HEADS_PAGES = 9
"""Three quarters of them."""
NAMES = ["kick", "snare", "hat", "clap"]
MONO = AudioFormat(48_000, 1, Encoding.S16)


class Lives(RuleBasedStateMachine):
    sessions: Bundle[object] = Bundle("sessions")

    @initialize(device=st.sampled_from(sorted(PROFILES)), lock=st.booleans())
    def begin(self, device: str, lock: bool) -> None:
        self.clock = VirtualClock()
        self.workers = SteppedWorkers(self.clock)
        lock_limit_bytes = LOCK_PAGES * PAGE_BYTES if lock else 0
        options = SimulationOptions(
            device=PROFILES[device], memory_pages=400, swap_slots=1 << 14, lock_limit_bytes=lock_limit_bytes
        )
        self.kernel = SimulatedKernel(options, self.clock)
        budget = CacheSettings(
            budget_bytes=200 * PAGE_BYTES,
            lock_budget_bytes=LOCK_PAGES * PAGE_BYTES,
            trigger_warm_bytes=8 * PAGE_BYTES,
        )
        self.heads_pages = HEADS_PAGES if lock else 0
        self.cache = SampleCache(self.kernel, budget, StrategyRegistry(), self.clock, workers=self.workers)
        self.regions: list[Region] = []
        self.others: list[tuple[str, Region]] = []
        self.digests = 0

    @rule(
        name=st.sampled_from(NAMES),
        pages=st.integers(1, 30),
        tagged=st.booleans(),
        same=st.booleans(),
    )
    def put(self, name: str, pages: int, tagged: bool, same: bool) -> None:
        region = self.kernel.map(pages * PAGE_BYTES)
        self.kernel.write(region, 0, b"\1" * (pages * PAGE_BYTES))
        self.digests += 1
        digest = (f"same {pages}" if same else f"{self.digests}").encode()
        tags = ("trigger",) if tagged else ()
        self.cache.store.publish(name, region, MONO, pages * PAGE_BYTES // 2, digest, tags=tags, replace=True)
        self.regions.append(region)

    @rule(name=st.sampled_from(NAMES), tagged=st.booleans())
    def tag(self, name: str, tagged: bool) -> None:
        if self.has(name):
            self.cache.update(name, tags=("trigger",) if tagged else ())

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        if self.has(name):
            self.cache.store.remove(name)

    @rule(target=sessions, name=st.sampled_from(NAMES))
    def play(self, name: str) -> object:
        return self.cache.open_session(PlayOptions(name, lead_ns=None)) if self.has(name) else None

    @rule(session=consumes(sessions))
    def end(self, session: object) -> None:
        if session is not None:
            session.close()  # type: ignore[attr-defined]

    @rule(name=st.sampled_from(NAMES), pages=st.integers(1, 12))
    def lock_otherwise(self, name: str, pages: int) -> None:
        """Another holder takes of the budget what it can."""
        if self.has(name):
            region = self.cache.store.get(name).content.region
            holder = f"other-{len(self.others)}"
            try:
                self.cache.ledger.acquire(holder, region, Span(0, min(pages, region.pages)))
            except SamplecacheError:
                return
            self.others.append((holder, region))

    @rule()
    def unlock_otherwise(self) -> None:
        if self.others:
            self.cache.ledger.release(*self.others.pop())

    @rule(name=st.sampled_from(NAMES))
    def go_cold(self, name: str) -> None:
        if self.has(name):
            self.cache.evict(name, NS_PER_S)

    @rule(duration_ms=st.sampled_from([1, 60, 1100, 5000]))
    def let_time_pass(self, duration_ms: int) -> None:
        self.workers.work_until(self.clock.now_ns() + duration_ms * NS_PER_MS)

    def has(self, name: str) -> bool:
        return name in {sample.sample_id for sample in self.cache.store.page("", 10, frozenset())[0]}

    def held(self) -> dict[Region, int]:
        ledger = self.cache.ledger
        held = {region: sum(map(len, ledger.spans(HOLDER, region))) for region in self.regions}
        return {region: pages for region, pages in held.items() if pages}

    @invariant()
    def budgets_are_kept(self) -> None:
        if hasattr(self, "cache"):
            assert self.cache.ledger.locked_bytes <= LOCK_PAGES * PAGE_BYTES
            assert self.kernel.machine.locked_pages <= LOCK_PAGES
            assert sum(self.held().values()) <= self.heads_pages

    @rule()
    def settle(self) -> None:
        """When all is done that is to be done, heads are held of triggers and of nothing else."""
        self.workers.work_until(self.clock.now_ns() + 90 * NS_PER_S)
        assert self.cache.triggers.settled
        samples, _ = self.cache.store.page("", 10, frozenset())
        triggers = {sample.content for sample in samples if "trigger" in sample.tags}
        assert set(self.held()) <= {content.region for content in triggers}
        figures = self.cache.triggers.figures
        assert figures.locked_pages == sum(self.held().values())
        assert figures.heads <= len(triggers)
        if not self.others and self.heads_pages:
            wanted = sum(min(content.region.pages, 5) for content in triggers)
            assert figures.locked_pages == min(HEADS_PAGES, wanted)

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        for sample in self.cache.store.page("", 10, frozenset())[0]:
            self.cache.store.remove(sample.sample_id)
        while self.others:
            self.unlock_otherwise()
        for session in tuple(self.cache._sessions):
            session.close()
        self.workers.work_until(self.clock.now_ns() + 90 * NS_PER_S)
        assert self.held() == {}
        assert (self.cache.ledger.locked_bytes, self.kernel.machine.locked_pages) == (0, 0)
        assert (self.cache.store.used_bytes, self.cache.store.content_count) == (0, 0)
        self.cache.close()


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
