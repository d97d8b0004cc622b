"""Random schedules, announced, replaced, cancelled and played: every cue comes to one end, and nothing is left."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from stepped_workers import SteppedWorkers

import samplecache_mlock
import samplecache_touch
import samplecache_willneed
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache import CacheSettings, PlayOptions, SampleCache
from samplecache.cache.ahead.cues import Cue
from samplecache.clock import NS_PER_MS, NS_PER_S, VirtualClock
from samplecache.errors import LimitError, SampleNotFoundError, ScheduleNotFoundError
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.device import PROFILES
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.events import CueSettled, CueState, Event
from samplecache.strategy.registry import StrategyRegistry

PAGE_BYTES = 4096
MONO = AudioFormat(48_000, 1, Encoding.S16)
SAMPLES = ["kick", "snare", "pad"]
PAGES = {"kick": 3, "snare": 10, "pad": 150}
MAX_CUES = 8
REGISTRY = StrategyRegistry()
for plugin in (samplecache_willneed, samplecache_touch, samplecache_mlock):
    REGISTRY.register(plugin, plugin.__name__)

GOING_ON = (CueState.WAITING, CueState.FETCHING, CueState.READY)
CUES = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(SAMPLES),
        st.integers(0, 4000),
        st.sampled_from(["", "willneed", "touch", "mlock"]),
        st.sampled_from([0.0, 0.3, 0.6, 1.0]),
    ),
    max_size=4,
    unique_by=lambda cue: cue[0],
)


class Sequencer(RuleBasedStateMachine):
    @initialize(device=st.sampled_from(sorted(PROFILES)), budget_pages=st.sampled_from([5, 100, 1000]))
    def begin(self, device: str, budget_pages: int) -> None:
        self.clock = VirtualClock()
        self.workers = SteppedWorkers(self.clock)
        options = SimulationOptions(device=PROFILES[device], memory_pages=600, swap_slots=1 << 14)
        self.kernel = SimulatedKernel(options, self.clock)
        limits = CacheSettings(
            max_cues=MAX_CUES, prefetch_budget_bytes=budget_pages * PAGE_BYTES, lock_budget_bytes=40 * PAGE_BYTES
        )
        self.cache = SampleCache(self.kernel, limits, REGISTRY, self.clock, workers=self.workers)
        self.settled: list[CueSettled] = []
        self.cache.events.listen(self.hear)
        self.works: dict[tuple[str, str], object] = {}
        self.cues = 0
        for name in SAMPLES:
            self.put(name)

    def hear(self, event: Event) -> None:
        if isinstance(event, CueSettled):
            self.settled.append(event)

    @rule(name=st.sampled_from(SAMPLES))
    def put(self, name: str) -> None:
        region = self.kernel.map(PAGES[name] * PAGE_BYTES)
        self.kernel.write(region, 0, b"\1" * (PAGES[name] * PAGE_BYTES))
        self.cache.store.publish(name, region, MONO, PAGES[name] * 2048, name.encode(), replace=True)
        self.cache.evict(name, NS_PER_S)

    @rule(name=st.sampled_from(SAMPLES))
    def remove(self, name: str) -> None:
        if len(self.cache.store) > 1 and name in self.stored():
            self.cache.store.remove(name)

    @rule(schedule=st.sampled_from(["one", "two"]), cues=CUES, keep=st.booleans())
    def announce(self, schedule: str, cues: list[tuple[str, str, int, str, float]], keep: bool) -> None:
        now_ns = self.clock.now_ns()
        wanted = [
            Cue(name, sample, now_ns + after_ms * NS_PER_MS, strategy=strategy, sureness=sureness)
            for name, sample, after_ms, strategy, sureness in cues
        ]
        before = self.standing(schedule)
        if {cue.sample_id for cue in wanted} - self.stored():
            with pytest.raises(SampleNotFoundError):
                self.cache.schedules.announce(schedule, wanted, keep_others=keep)
            assert self.standing(schedule) == before
            return
        try:
            answer = self.cache.schedules.announce(schedule, wanted, keep_others=keep)
        except LimitError:
            assert self.standing(schedule) == before
            assert len(self.cache.schedules) + len(wanted) > MAX_CUES
            return
        states = {name: state for name, _, state in before}
        for cue in wanted:
            key, goes_on = (schedule, cue.cue_id), states.get(cue.cue_id) in GOING_ON
            self.cues += not (goes_on and self.works[key] == cue.work)
            self.works[key] = cue.work
        after = {status.cue_id: status for status in answer.cues}
        kept = {name for name, *_ in before} if keep else set()
        assert after.keys() == kept | {cue.cue_id for cue in wanted}
        assert len(self.cache.schedules) <= MAX_CUES
        for cue in wanted:
            assert (after[cue.cue_id].due_ns, after[cue.cue_id].sureness) == (cue.due_ns, cue.sureness)
            assert after[cue.cue_id].sample_id == cue.sample_id

    @rule(schedule=st.sampled_from(["one", "two"]), names=st.sets(st.sampled_from("abcd")))
    def cancel(self, schedule: str, names: set[str]) -> None:
        before = {name: state for name, _, state in self.standing(schedule)}
        try:
            answer = self.cache.schedules.cancel(schedule, names)
        except ScheduleNotFoundError:
            assert not before or names - before.keys()
            return
        chosen = names or before.keys()
        assert {status.cue_id for status in answer.cues} == {name for name in chosen if not before[name].settled}
        assert all(status.state is CueState.CANCELLED for status in answer.cues)

    @rule(name=st.sampled_from(SAMPLES))
    def play(self, name: str) -> None:
        if name in self.stored():
            session = self.cache.open_session(PlayOptions(name, lead_ns=None, frames=100))
            while (block := session.next_block()) is not None:
                session.delivered(session.read(block))
            session.close()

    @rule(duration_ms=st.sampled_from([1, 100, 700, 3000]))
    def let_time_pass(self, duration_ms: int) -> None:
        self.workers.work_until(self.clock.now_ns() + duration_ms * NS_PER_MS)

    def stored(self) -> set[str]:
        return {sample.sample_id for sample in self.cache.store.page("", 10, frozenset())[0]}

    def standing(self, schedule: str) -> list[tuple[str, int, CueState]]:
        try:
            cues = self.cache.schedules.get(schedule).cues
        except ScheduleNotFoundError:
            return []
        return [(cue.cue_id, cue.due_ns, cue.state) for cue in cues]

    @invariant()
    def what_is_settled_says_why(self) -> None:
        for event in getattr(self, "settled", ()):
            assert event.state.settled
            assert (event.margin_ns is not None) == (event.state is CueState.READY)
            if event.state is CueState.READY:
                assert event.pages_brought_in == event.pages_needed
                assert event.margin_ns is not None
                assert event.margin_ns >= 0
            else:
                assert event.why.endswith(".")
            assert 0 <= event.pages_brought_in <= event.pages_needed

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        self.workers.work_until(self.clock.now_ns() + 3700 * NS_PER_S)
        schedules = self.cache.schedules
        assert len(schedules) == 0
        assert len(self.settled) == self.cues
        assert self.standing("one") == self.standing("two") == []
        assert (self.cache.prefetch_count, self.cache.session_count) == (0, 0)
        assert (self.cache.ledger.locked_bytes, self.kernel.machine.locked_pages) == (0, 0)
        for name in self.stored():
            self.cache.store.remove(name)
        assert self.cache.store.used_bytes == 0  # no lease was left
        self.cache.close()


TestSequencer = Sequencer.TestCase
TestSequencer.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
