"""The whole cache in virtual time: what strategies come to, and that a run is the same wherever it runs."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

import samplecache_mlock
import samplecache_populate
import samplecache_touch
import samplecache_willneed
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.settings import CacheSettings
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import ExhaustedError, InvalidError, UnknownStrategyError
from samplecache.lab.loads import Load
from samplecache.lab.virtual import Outcome, VirtualCache
from samplecache.lab.workload import HINT_AHEAD_NS, Cue, VirtualSample, Workload, beat
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.registry import StrategyRegistry

PAGE_BYTES = 4096
STEREO = AudioFormat(48_000, 2, Encoding.S16)
PREFETCHING = ["willneed", "touch", "mlock", "populate"]


def bundled() -> StrategyRegistry:
    registry = StrategyRegistry()
    for plugin in (samplecache_willneed, samplecache_touch, samplecache_mlock, samplecache_populate):
        registry.register(plugin, plugin.__name__)
    assert not registry.problems
    return registry


def machine(device: str = "hdd-laptop-2008", memory_bytes: int = 64 << 20, log_events: int = 0) -> SimulationOptions:
    options = SimulationOptions.for_device(device, memory_bytes=memory_bytes, swap_bytes=256 << 20)
    return dataclasses.replace(options, log_events=log_events)


def play(workload: Workload, options: SimulationOptions | None = None) -> tuple[Outcome, VirtualCache]:
    virtual = VirtualCache(options or machine(), workload, bundled())
    return virtual.run(), virtual


def minute(sample_id: str) -> VirtualSample:
    return VirtualSample(sample_id, STEREO, 60 * STEREO.rate_hz)


def command(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "samplecache", "lab", "simulate", *arguments],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestReplay:
    def test_same_seed_gives_the_same_bytes(self) -> None:
        traces = []
        for _ in range(2):
            _, virtual = play(beat("touch", seed=3), machine(log_events=1 << 20))
            traces.append(virtual.trace())
        assert traces[0] == traces[1]

    def test_another_seed_gives_another_run(self) -> None:
        traces = {play(beat("none", seed=seed))[1].trace() for seed in range(3)}
        assert len(traces) == 3

    def test_the_command_writes_the_same_bytes_in_every_process(self, tmp_path: Path) -> None:
        traces = []
        for hash_seed in ("1", "2"):
            file = tmp_path / f"trace-{hash_seed}"
            done = command("--strategies", "none,mlock", "--seed", "7", "--trace", str(file), hash_seed=hash_seed)
            assert (done.returncode, done.stderr) == (0, "")
            traces.append((done.stdout, file.read_bytes()))
        assert traces[0] == traces[1]
        assert traces[0][1].count(b"\n# simulated: ") == 2

    def test_trace_tells_machine_and_cache_in_order(self) -> None:
        outcome, virtual = play(beat("none"), machine(log_events=1 << 20))
        lines = [line for line in virtual.trace().splitlines() if not line.startswith("#")]
        times = [int(line.split()[0]) for line in lines]
        assert times == sorted(times)
        assert sum(line.split()[1] == "Underrun" for line in lines) == outcome.late_blocks
        assert sum(line.split()[2] == "major" for line in lines) == outcome.reader_faults.major


class TestStrategies:
    def test_without_one_blocks_are_late_on_an_old_disk(self) -> None:
        outcome, _ = play(beat("none"))
        assert outcome.late_blocks > 0
        assert outcome.reader_faults.major > 0
        assert outcome.longest_stall_ns > 0

    @pytest.mark.parametrize("strategy", PREFETCHING)
    def test_announced_two_seconds_ahead_nothing_is_late(self, strategy: str) -> None:
        outcome, virtual = play(beat(strategy))
        assert (outcome.late_blocks, outcome.reader_faults.major) == (0, 0)
        assert {performance.strategy for performance in outcome.performances} == {strategy}
        assert sum(performance.stats.blocks for performance in outcome.performances) == 1750
        assert virtual.kernel.machine.locked_pages == 0

    @pytest.mark.parametrize("strategy", PREFETCHING)
    def test_unannounced_it_is_no_worse_than_nothing(self, strategy: str) -> None:
        nothing, _ = play(beat("none", hint_ahead_ns=None))
        outcome, _ = play(beat(strategy, hint_ahead_ns=None))
        assert outcome.prefetches == ()
        assert outcome.late_blocks <= nothing.late_blocks
        assert outcome.longest_stall_ns <= nothing.longest_stall_ns
        assert outcome.reader_faults.major < nothing.reader_faults.major

    @pytest.mark.parametrize("strategy", ["none", *PREFETCHING])
    def test_all_that_is_needed_is_read_in(self, strategy: str) -> None:
        outcome, _ = play(beat(strategy))
        needed = sum(prefetch.pages_needed for prefetch in outcome.prefetches)
        brought_in = sum(prefetch.pages_brought_in for prefetch in outcome.prefetches)
        assert len(outcome.prefetches) == 14
        assert outcome.swap.pswpin >= needed > 0
        assert brought_in == (0 if strategy == "none" else needed)

    def test_workers_take_the_faults_that_readers_do_not(self) -> None:
        touch, willneed = play(beat("touch"))[0], play(beat("willneed"))[0]
        assert touch.worker_faults.major > 0
        assert (touch.reader_faults.minor, touch.reader_faults.major) == (0, 0)
        assert (willneed.worker_faults.minor, willneed.worker_faults.major) == (0, 0)
        assert willneed.reader_faults.minor > 0

    def test_a_strategy_that_the_kernel_forbids_is_degraded(self) -> None:
        options = dataclasses.replace(machine(log_events=1), lock_limit_bytes=0)
        outcome, virtual = play(beat("mlock"), options)
        assert {performance.strategy for performance in outcome.performances} == {"willneed"}
        assert "Degraded sample_id=pad-0 strategy=willneed wanted=mlock" in virtual.trace()


class TestLockBudget:
    LIMIT_BYTES = 1 << 20

    def test_is_kept_at_all_times_and_given_back(self) -> None:
        options = dataclasses.replace(machine(), lock_limit_bytes=self.LIMIT_BYTES)
        virtual = VirtualCache(options, beat("mlock"), bundled())
        budget_bytes = virtual.cache.ledger.budget_bytes
        seen: list[int] = []

        def watch() -> Generator[int, None, None]:
            for _ in range(8000):
                seen.append(virtual.kernel.machine.locked_pages * PAGE_BYTES)
                yield virtual.clock.now_ns() + NS_PER_MS

        virtual.scheduler.start(watch())
        outcome = virtual.run()
        assert 0 < max(seen) <= outcome.peak_locked_bytes <= budget_bytes < self.LIMIT_BYTES
        assert (virtual.kernel.machine.locked_pages, virtual.cache.ledger.locked_bytes) == (0, 0)
        # What the budget leaves over is advised, so that nothing is late all the same.
        assert outcome.late_blocks == 0

    def test_locks_of_an_announcement_that_nobody_plays_expire(self) -> None:
        workload = Workload((minute("pad"),), (Cue("pad", 20 * NS_PER_S, "mlock", 20 * NS_PER_S, frames=48_000),))
        virtual = VirtualCache(machine("ssd-sata"), workload, bundled())
        locked: dict[int, int] = {}

        def watch() -> Generator[int, None, None]:
            start_ns = virtual.clock.now_ns()
            for second in range(30):
                yield start_ns + second * NS_PER_S
                locked[second] = virtual.kernel.machine.locked_pages

        virtual.scheduler.start(watch(), at_ns=NS_PER_S)
        virtual.run()
        pages = -(-48_000 * STEREO.frame_bytes // PAGE_BYTES)
        assert locked[5] == pages
        assert locked[15] == 0
        assert set(locked.values()) == {0, pages}


class TestDeadlines:
    def test_a_nearer_deadline_overtakes_a_long_prefetch(self) -> None:
        far = Cue("far", 10 * NS_PER_S, "touch", 10 * NS_PER_S)
        near = Cue("near", 1 * NS_PER_S, "touch", 950 * NS_PER_MS)
        workload = Workload((minute("far"), VirtualSample("near", STEREO, STEREO.rate_hz)), (far, near))
        virtual = VirtualCache(machine(), workload, bundled(), CacheSettings(workers=1))
        outcome = virtual.run()
        assert [prefetch.sample_id for prefetch in outcome.prefetches] == ["near", "far"]
        assert all(prefetch.in_time for prefetch in outcome.prefetches)
        assert outcome.late_blocks == 0

    def test_chunks_of_one_action_follow_one_another_however_many_workers(self) -> None:
        workload = Workload((minute("pad"),), (Cue("pad", 4 * NS_PER_S, "touch", 4 * NS_PER_S, frames=480_000),))
        outcome, virtual = play(workload, machine("ssd-sata", log_events=1 << 20))
        begun = [line.split() for line in virtual.trace().splitlines() if line.split()[2] == "major"]
        pages = [int(page) for _, _, _, page, _ in begun]
        assert len(pages) == outcome.worker_faults.major > 0
        assert pages == sorted(pages)


class TestPressure:
    def test_memory_is_never_exceeded_and_what_is_evicted_is_read_again(self) -> None:
        samples = tuple(VirtualSample(f"loop-{number}", STEREO, 4 * STEREO.rate_hz) for number in range(3))
        cues = tuple(
            Cue(sample.sample_id, (3 + 5 * again) * NS_PER_S, "willneed", NS_PER_S)
            for again in range(2)
            for sample in samples
        )
        load = Load(8 << 20, 16 << 20, 0, 12 * NS_PER_S)
        options = machine("ssd-sata", memory_bytes=6 << 20)
        used: list[int] = []
        outcomes = []
        for loads in ((), (load,)):
            virtual = VirtualCache(options, Workload(samples, cues, loads), bundled())

            def watch(virtual: VirtualCache = virtual) -> Generator[int, None, None]:
                for _ in range(1500):
                    used.append(virtual.kernel.machine.used_pages)
                    yield virtual.clock.now_ns() + 10 * NS_PER_MS

            virtual.scheduler.start(watch())
            outcomes.append(virtual.run())
        calm, pressed = outcomes
        assert max(used) == options.memory_pages
        assert pressed.swap.pswpout > calm.swap.pswpout
        assert pressed.swap.pswpin > calm.swap.pswpin
        assert [performance.heard for performance in pressed.performances] == [[range(4 * STEREO.rate_hz)]] * 6

    def test_swap_that_is_too_small_is_an_error_with_a_remedy(self) -> None:
        options = dataclasses.replace(machine(), swap_slots=16)
        with pytest.raises(ExhaustedError, match="Give the machine more memory or swap"):
            play(beat("none"), options)


class TestWorkload:
    @pytest.mark.parametrize(
        ("cue", "message"),
        [
            (Cue("none", 0), "which is no sample"),
            (Cue("pad", -1), "negative time"),
            (Cue("pad", 0, hint_ahead_ns=-1), "negative time"),
        ],
    )
    def test_impossible_cues_are_refused(self, cue: Cue, message: str) -> None:
        with pytest.raises(InvalidError, match=message):
            Workload((minute("pad"),), (cue,))

    @pytest.mark.parametrize("facts", [(0, 1, 0, 1), (1, 0, 0, 1), (1, 1, 2, 1), (1, 1, -1, 1)])
    def test_impossible_loads_are_refused(self, facts: tuple[int, int, int, int]) -> None:
        with pytest.raises(InvalidError, match="load is impossible"):
            Load(*facts)

    @pytest.mark.parametrize(("warm_up_ns", "upload_ns"), [(-1, -1), (1, 2), (1, -1)])
    def test_impossible_warm_ups_are_refused(self, warm_up_ns: int, upload_ns: int) -> None:
        with pytest.raises(InvalidError, match="a warm-up lasts"):
            Workload((minute("pad"),), (), warm_up_ns=warm_up_ns, upload_ns=upload_ns)

    def test_empty_samples_are_refused(self) -> None:
        with pytest.raises(InvalidError, match="no frames"):
            Workload((VirtualSample("pad", STEREO, 0),), ())

    def test_the_beat_is_struck_as_the_demo_does(self) -> None:
        workload = beat("willneed", seed=1)
        pads, hits = workload.cues[:2], workload.cues[2:]
        assert [cue.sample_id[:3] for cue in workload.cues] == ["pad"] * 2 + ["hit"] * 12
        for number, cue in enumerate(hits, 2):
            assert abs(cue.at_ns - HINT_AHEAD_NS - number * 250 * NS_PER_MS) <= 5 * NS_PER_MS
        assert {cue.frames for cue in pads} == {5 * 44_100}

    def test_unknown_strategies_are_refused(self) -> None:
        with pytest.raises(UnknownStrategyError):
            play(beat("telepathy"))


class TestCommand:
    def test_json_says_that_it_is_simulated(self) -> None:
        done = command("--json", "--strategies", "none,populate", "--device", "ssd-sata", "--memory", "32MiB")
        document = json.loads(done.stdout)
        assert {key: document[key] for key in ("how", "device", "memory_bytes", "seed")} == {
            "how": "simulated",
            "device": "ssd-sata",
            "memory_bytes": 32 << 20,
            "seed": 0,
        }
        none, populate = document["strategies"]
        assert (none["strategy"], populate["strategy"]) == ("none", "populate")
        assert none["reader_major_faults"] > 0
        assert populate["reader_major_faults"] == 0
        assert populate["pages_brought_in"] == populate["pages_needed"] > 0

    def test_table_says_that_it_is_simulated(self) -> None:
        done = command("--strategies", "willneed", "--seed", "5")
        assert done.stdout.startswith("SIMULATED: linux-6.18, hdd-laptop-2008, memory 64.0 MiB, seed 5\n")
        assert "0 of 1750" in done.stdout

    def test_the_kernel_of_2008_prefetches_with_the_patch_only(self) -> None:
        """Without it the strategy's place is taken by one that faults; with it nobody but the reader does."""
        faults = {}
        for patch in ((), ("--patched",)):
            done = command("--json", "--strategies", "willneed", "--kernel", "linux-2.6.24", *patch)
            document = json.loads(done.stdout)
            (row,) = document["strategies"]
            assert document["kernel"] == "linux-2.6.24"
            faults[document["willneed"]] = row["worker_major_faults"] > 0
        assert faults == {"absent": True, "patch-2008": False}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--strategies", "none,telepathy"), "telepathy"),
            (("--device", "drum"), "Choose from hdd-laptop-2008"),
            (("--kernel", "linux-1.0"), "Choose from linux-6.18, linux-2.6.24"),
            (("--patched",), "Add --kernel linux-2.6.24"),
            (("--kernel", "linux-2.6.24", "--device", "zram-lz4"), "zram came with Linux 3.14"),
        ],
    )
    def test_errors_are_a_line(self, arguments: tuple[str, ...], message: str) -> None:
        done = command(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert message in done.stderr
