"""On a device that carries six streams, six of twelve play clean, the others are told early, and none hangs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.kernel.port import Span, Tier
from samplecache.lab.virtual import Performance, VirtualCache
from samplecache.lab.workload import Cue, VirtualSample, Workload
from samplecache.simulation.device import device_profile
from samplecache.simulation.options import SimulationOptions
from samplecache.simulation.throttle import ReadLimit
from samplecache.strategy import Action, Advise, PrefetchStrategy, Recheck, View, hookimpl
from samplecache.strategy.events import Event, Overloaded
from samplecache.strategy.registry import StrategyRegistry

FORMAT = AudioFormat(48_000, 2, Encoding.S16)
RATE = 192_000
FIT = 6
CARRIED = 6.7
LENGTH_S = 12
PAGES = LENGTH_S * RATE // 4096


class Ahead(PrefetchStrategy):
    """Advise the next second, a few pages at a time, and look again soon: the least that a window can be."""

    name = "ahead"
    budgeted = True
    horizon_ns = NS_PER_S

    def prepare(self, view: View) -> Iterable[Action]:
        yield from self.advance(view)

    def advance(self, view: View) -> Iterable[Action]:
        start = view.wanted.start
        stop = min(view.wanted.stop, start + RATE // 4096)
        for run in view.residency.spans_in(Tier.SWAPPED):
            for span in run.intersection(Span(start, stop)).chunks(8):
                yield Advise(span, view.deadline_of(span.start))
        yield Recheck(Span(start, min(view.wanted.stop, stop + 16)), view.now_ns + 100 * NS_PER_MS)


class Plugin:
    @hookimpl
    def samplecache_register_strategies(self) -> list[type[PrefetchStrategy]]:
        return [Ahead]


@dataclass
class Run:
    """Streams that begin at these times, in ms, on a device that carries `fit` of them."""

    starts_ms: list[int]
    fit: float = CARRIED
    told: list[Overloaded] = field(default_factory=list)

    def __post_init__(self) -> None:
        limit = ReadLimit(bytes_per_s=int(self.fit * RATE))
        device = dataclasses.replace(device_profile("ssd-sata"), read_limit=limit)
        options = SimulationOptions(device=device, memory_pages=1 << 16, swap_slots=1 << 16)
        samples = tuple(VirtualSample(f"s{i}", FORMAT, LENGTH_S * 48_000) for i in range(len(self.starts_ms)))
        cues = tuple(
            Cue(f"s{i}", at_ms * NS_PER_MS, "ahead", None, 100 * NS_PER_MS, 20 * NS_PER_MS)
            for i, at_ms in enumerate(self.starts_ms)
        )
        registry = StrategyRegistry()
        registry.register(Plugin(), "tests 1")
        virtual = VirtualCache(options, Workload(samples, cues), registry)
        virtual.cache.events.listen(self._hear)
        self.outcome = virtual.run()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Overloaded):
            self.told.append(event)

    @property
    def performances(self) -> tuple[Performance, ...]:
        return self.outcome.performances

    def told_after_ns(self, performance: Performance) -> int | None:
        """When a stream was told that it is shed, after it began."""
        began_ns = self.outcome.began_ns + performance.cue.at_ns
        times = [event.time_ns for event in self.told if event.session_id == performance.session_id and event.shed]
        return times[0] - began_ns if times else None

    def shed(self) -> list[Performance]:
        return [each for each in self.performances if self.told_after_ns(each) is not None]

    def clean(self) -> list[Performance]:
        return [each for each in self.performances if not each.stats.late_blocks]

    def late_after_s(self, performance: Performance) -> float:
        """When the last late block of a stream was, in seconds since the first stream began."""
        times = [underrun.time_ns - self.outcome.began_ns for underrun in performance.underruns]
        return max(times, default=0) / NS_PER_S


def test_nobody_is_shed_on_a_device_that_carries_all() -> None:
    run = Run([0] * FIT)
    assert run.told == []
    assert [each.stats.late_blocks for each in run.performances] == [0] * FIT


def test_those_that_play_keep_their_places() -> None:
    run = Run([200 * i for i in range(FIT)] + [4000 + 100 * i for i in range(6)])
    first, late = run.performances[:FIT], run.performances[FIT:]
    assert {each.session_id for each in run.shed()} == {each.session_id for each in late}
    assert max(run.told_after_ns(each) or 0 for each in late) <= NS_PER_S
    # Until it is known what the device carries, all of them get their share of what is too little.
    assert max(map(run.late_after_s, first)) < 6.5
    assert max(each.stats.late_blocks for each in first) <= 6
    assert [each.stats.frames for each in run.performances] == [LENGTH_S * 48_000] * 12


def test_of_twelve_at_once_as_many_as_fit_play_clean_before_long() -> None:
    run = Run([0] * 12 + [6000])
    first, shed = run.performances[:FIT], run.shed()
    assert {each.session_id for each in shed} == {each.session_id for each in run.performances[FIT:]}
    told_after_ns = sorted(run.told_after_ns(each) or 0 for each in shed)
    assert told_after_ns[0] == 0  # who comes when it is known is told at once
    assert told_after_ns[4] <= NS_PER_S
    # What a limit lets through at once makes the device look faster at first: the last that do not fit are told later.
    assert told_after_ns[6] <= 5 * NS_PER_S
    settled_ns = run.outcome.began_ns + 7 * NS_PER_S, run.outcome.began_ns + LENGTH_S * NS_PER_S
    late_ns = [
        underrun.late_ns
        for each in first
        for underrun in each.underruns
        if settled_ns[0] < underrun.time_ns < settled_ns[1]
    ]
    assert len(late_ns) <= FIT
    assert max(late_ns, default=0) <= NS_PER_MS
    # None hangs: a block waits for 2 s, and then for the device.
    assert [each.stats.frames for each in run.performances] == [LENGTH_S * 48_000] * 13
    assert max(each.stats.longest_stall_ns for each in run.performances) < 4 * NS_PER_S
    # All of them have their places again in the end.
    assert sum(not event.shed for event in run.told) == len(shed)
