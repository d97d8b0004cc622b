"""What the demo predicts before it plays, and how a prediction is judged."""

from __future__ import annotations

import pytest

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.errors import InvalidError
from samplecache.kernel.machine_files import MachineProfile
from samplecache.lab.service_costs import ServiceCosts
from samplecache.lab.workload import VirtualSample
from samplecache.simulation.device import DeviceProfile
from samplecache.simulation.throttle import ReadLimit
from samplecache.strategy.registry import StrategyRegistry
from samplecache_demo.devices import DemoDevice
from samplecache_demo.measured_service import MeasuredService
from samplecache_demo.prediction import Forecast, Forecaster
from samplecache_demo.schedule import Cue
from samplecache_demo.side_by_side import Pair, Verdict

RATE_HZ = 44_100
FORMAT = AudioFormat(RATE_HZ, 2, Encoding.S16)
PAGES = 44
"""A second of sound, of which the last page holds a little."""


def forecast(strategy: str, iops: int, seed: int = 0) -> Forecast:
    """Predict one cold sample of a second, struck when a bar has gone by, on a disk with a limit on reads."""
    machine = MachineProfile(
        DeviceProfile("limited", "made up", servers=32, latency_ns=100_000, read_limit=ReadLimit(iops=iops))
    )
    costs = ServiceCosts(open_ns=(500_000,), block_ns=(100_000,), prefetch_ns=(600_000,))
    service = MeasuredService((1_000_000, 2_000_000), {strategy: costs})
    samples = (VirtualSample("hit", FORMAT, RATE_HZ),)
    schedule = (Cue("hit", 0, 0, 1.0),)
    return Forecaster(machine, service, samples, schedule, RATE_HZ, StrategyRegistry.discover()).forecast(
        strategy, seed
    )


class TestForecast:
    def test_a_seed_gives_the_same_again(self) -> None:
        assert forecast("none", 50, seed=3) == forecast("none", 50, seed=3)

    def test_what_is_announced_in_time_is_heard_whole(self) -> None:
        heard = forecast("willneed", 50)
        assert (heard.bound, heard.glitches, heard.late_blocks, heard.longest_stall_ns) == ("willneed", 0, 0, 0)
        # 44 at 5 a slice, of which the first passes at once.
        assert (heard.major_faults, heard.minor_faults, heard.swap_in_pages) == (0, PAGES, PAGES)
        assert heard.prefetches_ns[0] == pytest.approx(0.8e9, rel=0.05)

    def test_what_is_not_stutters_on_a_device_that_is_slower_than_sound(self) -> None:
        # Two pages pass at once every 100 ms, and hold 46 ms of sound: with a lead of 30 ms, that much is missing.
        heard = forecast("none", 20)
        assert heard.glitches == heard.late_blocks == 21
        assert heard.longest_stall_ns == pytest.approx(60e6, abs=4e6)
        assert heard.major_faults + heard.minor_faults == PAGES

    def test_the_service_takes_its_time_before_the_first_block(self) -> None:
        assert forecast("willneed", 400).first_blocks_ns == [500_000 + 100_000 + 18 * PAGE_FAULT_NS]


PAGE_FAULT_NS = 1_500
"""With the first block 400 ms are read, which lie in 18 pages, all in the swap cache."""


class TestVerdict:
    @pytest.mark.parametrize(
        ("figure", "predicted", "measured", "verdict"),
        [
            ("major faults", (105,), (100,), Verdict.CLOSE),
            ("major faults", (106,), (100,), Verdict.MISSED),
            ("major faults", (106,), (98, 100, 107), Verdict.TIE),
            ("major faults", (0,), (0,), Verdict.CLOSE),
            ("major faults", (1,), (0,), Verdict.CLOSE),
            ("major faults", (2,), (0,), Verdict.MISSED),
            ("prefetch, mean, ms", (1.5,), (0.6,), Verdict.CLOSE),
            ("longest stall, ms", (75, 75, 300), (100,), Verdict.CLOSE),
            ("longest stall, ms", (70,), (100,), Verdict.MISSED),
            ("glitches", (70,), (100,), None),
        ],
    )
    def test_medians_are_held_against_each_other(
        self, figure: str, predicted: tuple[float, ...], measured: tuple[float, ...], verdict: Verdict | None
    ) -> None:
        assert Pair("none", figure, predicted, measured).verdict is verdict


class TestDevices:
    def test_names(self) -> None:
        assert DemoDevice.parse("unthrottled") == DemoDevice("unthrottled")
        assert DemoDevice.parse("zram") == DemoDevice("zram", zram=True)
        assert DemoDevice.parse("400iops") == DemoDevice("400iops", read_iops=400)
        assert DemoDevice.parse("2MB/s") == DemoDevice("2MB/s", read_bytes_per_s=2_000_000)
        assert DemoDevice.parse("0.5 MB/s").read_bytes_per_s == 500_000

    @pytest.mark.parametrize("name", ["", "floppy", "0iops", "iops", "-1iops", "2MB"])
    def test_others_are_refused(self, name: str) -> None:
        with pytest.raises(InvalidError, match="no device"):
            DemoDevice.parse(name)
