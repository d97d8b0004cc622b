"""What the service's own work takes of the virtual time."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS
from samplecache.errors import InvalidError
from samplecache.lab.service_costs import ServiceCosts
from samplecache.lab.virtual import Outcome, VirtualCache
from samplecache.lab.workload import Cue, VirtualSample, Workload
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.events import UnderrunCause
from samplecache.strategy.registry import StrategyRegistry

STEREO = AudioFormat(48_000, 2, Encoding.S16)
BLOCKS = 50
BLOCK_NS = 10 * NS_PER_MS
LEAD_NS = 5 * NS_PER_MS
OPTIONS = SimulationOptions.for_device("ssd-sata", memory_bytes=4 << 20, swap_bytes=16 << 20)
PAD = VirtualSample("pad", STEREO, STEREO.frames_in(BLOCKS * BLOCK_NS))


def play(
    costs: ServiceCosts | None, *, cold: bool = False, hint_ns: int | None = None, strategy: str = "none"
) -> Outcome:
    cue = Cue("pad", 500 * NS_PER_MS, strategy, hint_ns, LEAD_NS, BLOCK_NS)
    workload = Workload((PAD,), (cue,), warm_up_ns=0 if cold else 1)  # with no load, nothing gets cold
    virtual = VirtualCache(OPTIONS, workload, StrategyRegistry.discover(), costs=costs)
    outcome = virtual.run()
    virtual.close()
    return outcome


def test_nothing_by_default() -> None:
    (performance,) = play(None).performances
    assert performance.stats.first_block_ns == performance.stats.longest_read_ns == 0


def test_the_first_block_waits_for_the_opening_and_for_itself() -> None:
    (performance,) = play(ServiceCosts(open_ns=(400_000,), block_ns=(20_000,))).performances
    assert (performance.stats.first_block_ns, performance.stats.longest_read_ns) == (420_000, 20_000)
    assert performance.stats.late_blocks == 0


def test_a_block_whose_cost_is_longer_than_its_lead_is_late_by_the_service() -> None:
    (performance,) = play(ServiceCosts(block_ns=(LEAD_NS + 1,))).performances
    assert performance.stats.late_by_cause == {UnderrunCause.SERVICE: 2}  # those that were read: see below
    assert performance.stats.longest_stall_ns == 1


def test_a_cold_block_takes_its_faults_and_its_cost() -> None:
    free, costly = (play(costs, cold=True).performances[0].stats for costs in (None, ServiceCosts(block_ns=(20_000,))))
    assert free.faults.major > 0
    assert costly.first_block_ns == free.first_block_ns + 20_000
    assert costly.faults == free.faults


def test_asking_the_strategy_costs_a_prefetch_its_first_piece() -> None:
    free, costly = (
        play(costs, hint_ns=400 * NS_PER_MS).prefetches[0].elapsed_ns
        for costs in (None, ServiceCosts(prefetch_ns=(3 * NS_PER_MS,)))
    )
    assert (free, costly) == (0, 3 * NS_PER_MS)


def test_a_block_that_is_not_in_ram_is_handed_over() -> None:
    costs = ServiceCosts(handover_ns=(70_000,))
    free, costly = (play(each, cold=True).performances[0].stats for each in (None, costs))
    assert costly.first_block_ns == free.first_block_ns + 70_000
    assert costly.faults == free.faults
    assert play(costs).performances[0].stats.first_block_ns == 0


def test_a_longer_look_lengthens_the_pause_after_it() -> None:
    costs = (None, ServiceCosts(look_ns=(NS_PER_MS,)))
    free, costly = (play(each, cold=True, hint_ns=400 * NS_PER_MS, strategy="touch").prefetches[0] for each in costs)
    # Looks: what is missing, what has come at once, and after a pause of POLL_NS or 20 ms what has come since.
    assert (free.elapsed_ns, costly.elapsed_ns) == (5 * NS_PER_MS, 23 * NS_PER_MS)


def test_a_loop_over_pages_takes_its_time() -> None:
    costs = (None, ServiceCosts(touch_page_ns=(NS_PER_MS,)))
    free, costly = (play(each, cold=True, hint_ns=400 * NS_PER_MS, strategy="touch").prefetches[0] for each in costs)
    # All 24 pages are mapped when the loop has taken 24 ms, and the next look, one every 5 ms, sees that.
    assert (free.elapsed_ns, costly.elapsed_ns) == (5 * NS_PER_MS, 25 * NS_PER_MS)


def test_costs_are_drawn_for_each_call_and_the_seed_says_which() -> None:
    blocks_ns = tuple(range(10_000, 1_000_000, 10_000))
    cues = tuple(Cue("pad", number * 500 * NS_PER_MS, "none", None, LEAD_NS, BLOCK_NS) for number in range(1, 21))

    def reads_ns(seed: int) -> list[int]:
        taken: list[int] = []
        virtual = VirtualCache(
            replace(OPTIONS, seed=seed),
            Workload((PAD,), cues, warm_up_ns=1),
            StrategyRegistry(),
            costs=ServiceCosts(block_ns=blocks_ns),
            on_block=lambda _, read: taken.append(read.reading.ready_ns - read.reading.began_ns),
        )
        virtual.run()
        virtual.close()
        return [read_ns for read_ns in taken if read_ns]  # the others were read with one before

    taken = reads_ns(seed=1)
    assert len(taken) == 2 * len(cues)
    assert len(set(taken)) > len(cues)
    assert set(taken) <= set(blocks_ns)
    assert reads_ns(seed=1) == taken != reads_ns(seed=2)


@pytest.mark.parametrize("name", [field.name for field in fields(ServiceCosts)])
@pytest.mark.parametrize("values", [(), (3, -1)])
def test_negative_ones_and_none_at_all_are_refused(name: str, values: tuple[int, ...]) -> None:
    with pytest.raises(InvalidError, match="negative or has no values"):
        ServiceCosts(**{name: values})


def test_what_is_in_ram_is_read_as_far_ahead_as_the_service_does() -> None:
    # Only reads take a block's cost. Half a second of 10 ms blocks, all in RAM: two go up to 400 ms each.
    (performance,) = play(ServiceCosts(block_ns=(20_000,))).performances
    assert performance.stats.blocks == BLOCKS
    assert performance.stats.longest_read_ns == 20_000
    assert [len(frames) for frames in performance.heard] == [PAD.frames]
    late = play(ServiceCosts(block_ns=(LEAD_NS + 1,))).performances[0]
    assert late.stats.late_blocks == 2
