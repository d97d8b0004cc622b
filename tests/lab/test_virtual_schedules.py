"""Schedules in virtual time: what is announced long ahead is fetched late enough not to be taken back."""

from __future__ import annotations

from typing import Any

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache import CacheSettings
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.lab.loads import Load
from samplecache.lab.virtual import Outcome, VirtualCache
from samplecache.lab.workload import Cue, VirtualSample, Workload
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.events import CueState

MONO = AudioFormat(48_000, 1, Encoding.S16)
MEMORY_BYTES = 8 << 20
PRESSING = Load(7 << 20, 4 << 20, 0, 20 * NS_PER_S)
FRAMES = 96_000
PAGES = 47


def played(*cues: Cue, loads: tuple[Load, ...] = (), **settings: Any) -> Outcome:
    samples = tuple(VirtualSample(name, MONO, FRAMES) for name in sorted({cue.sample_id for cue in cues}))
    options = SimulationOptions.for_device("hdd-7200", memory_bytes=MEMORY_BYTES, swap_bytes=64 << 20)
    virtual = VirtualCache(options, Workload(samples, cues, loads), settings=CacheSettings(**settings))
    outcome = virtual.run()
    assert len(virtual.cache.schedules) == 0
    virtual.close()
    return outcome


def cue(name: str, at_s: float, **wishes: Any) -> Cue:
    wishes = {"strategy": "willneed", "hint_ahead_ns": None} | wishes
    return Cue(name, int(at_s * NS_PER_S), **wishes)


def test_a_schedule_fetches_late_what_a_hint_fetches_too_early() -> None:
    scheduled = [cue(f"hit-{number}", 15 + number / 4, scheduled_ahead_ns=20 * NS_PER_S) for number in range(8)]
    outcome = played(*scheduled, loads=(PRESSING,))
    assert [event.state for event in outcome.scheduled] == [CueState.READY] * 8
    margins_ns = [event.margin_ns for event in outcome.scheduled]
    assert all(margin_ns is not None and 0 < margin_ns < 3 * NS_PER_S for margin_ns in margins_ns)
    assert outcome.totals["willneed"].prefetched.asked == 8 * PAGES

    hinted = [cue(f"hit-{number}", 15 + number / 4, hint_ahead_ns=20 * NS_PER_S) for number in range(8)]
    early = played(*hinted, loads=(PRESSING,))
    assert early.totals["willneed"].prefetched.asked > 1.5 * 8 * PAGES


def test_unsure_cues_give_way_where_the_device_cannot_bring_all_in() -> None:
    cues = [
        cue(f"hit-{number}", 1, scheduled_ahead_ns=NS_PER_S, sureness=1.0 if number < 2 else 0.5)
        for number in range(40)
    ]
    outcome = played(*cues)
    by_sample = {event.sample_id: event for event in outcome.scheduled}
    assert {by_sample[f"hit-{number}"].state for number in range(2)} == {CueState.READY}
    states = [by_sample[f"hit-{number}"].state for number in range(2, 40)]
    assert states.count(CueState.GAVE_WAY) > 10
    assert all(event.why for event in outcome.scheduled if event.state is CueState.GAVE_WAY)
    margin_ns = by_sample["hit-0"].margin_ns
    assert margin_ns is not None
    assert margin_ns > 10 * NS_PER_MS


def test_cues_take_no_more_memory_than_the_budget() -> None:
    cues = [cue(f"hit-{number}", 2, scheduled_ahead_ns=2 * NS_PER_S) for number in range(6)]
    outcome = played(*cues, prefetch_budget_bytes=3 * PAGES * 4096)
    states = [event.state for event in outcome.scheduled]
    assert (states.count(CueState.READY), states.count(CueState.GAVE_WAY)) == (3, 3)
