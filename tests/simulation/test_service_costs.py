"""What the service's own work takes of the virtual time."""

from __future__ import annotations

import pytest

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS
from samplecache.errors import InvalidError
from samplecache.lab.virtual import Outcome, ServiceCosts, VirtualCache
from samplecache.lab.workload import Cue, VirtualSample, Workload
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.events import UnderrunCause
from samplecache.strategy.registry import StrategyRegistry

STEREO = AudioFormat(48_000, 2, Encoding.S16)
BLOCKS = 50
BLOCK_NS = 10 * NS_PER_MS
LEAD_NS = 5 * NS_PER_MS
OPTIONS = SimulationOptions.for_device("ssd-sata", memory_bytes=4 << 20, swap_bytes=16 << 20)


def play(costs: ServiceCosts | None, *, cold: bool = False, hint_ns: int | None = None) -> Outcome:
    sample = VirtualSample("pad", STEREO, STEREO.frames_in(BLOCKS * BLOCK_NS))
    cue = Cue("pad", 500 * NS_PER_MS, "none", hint_ns, LEAD_NS, BLOCK_NS)
    workload = Workload((sample,), (cue,), warm_up_ns=0 if cold else 1)  # with no load, nothing gets cold
    virtual = VirtualCache(OPTIONS, workload, StrategyRegistry(), costs=costs)
    outcome = virtual.run()
    virtual.close()
    return outcome


def test_nothing_by_default() -> None:
    (performance,) = play(None).performances
    assert performance.stats.first_block_ns == performance.stats.longest_read_ns == 0


def test_the_first_block_waits_for_the_opening_and_for_itself() -> None:
    (performance,) = play(ServiceCosts(open_ns=400_000, block_ns=20_000)).performances
    assert (performance.stats.first_block_ns, performance.stats.longest_read_ns) == (420_000, 20_000)
    assert performance.stats.late_blocks == 0


def test_a_block_whose_cost_is_longer_than_its_lead_is_late_by_the_service() -> None:
    (performance,) = play(ServiceCosts(block_ns=LEAD_NS + 1)).performances
    assert performance.stats.late_by_cause == {UnderrunCause.SERVICE: BLOCKS}
    assert performance.stats.longest_stall_ns == 1


def test_a_cold_block_takes_its_faults_and_its_cost() -> None:
    free, costly = (play(costs, cold=True).performances[0].stats for costs in (None, ServiceCosts(block_ns=20_000)))
    assert free.faults.major > 0
    assert costly.first_block_ns == free.first_block_ns + 20_000
    assert costly.faults == free.faults


def test_asking_the_strategy_costs_a_prefetch_its_first_piece() -> None:
    free, costly = (
        play(costs, hint_ns=400 * NS_PER_MS).prefetches[0].elapsed_ns
        for costs in (None, ServiceCosts(prefetch_ns=3 * NS_PER_MS))
    )
    assert (free, costly) == (0, 3 * NS_PER_MS)


@pytest.mark.parametrize("name", ["open_ns", "block_ns", "prefetch_ns"])
def test_negative_ones_are_refused(name: str) -> None:
    with pytest.raises(InvalidError, match="negative"):
        ServiceCosts(**{name: -1})
