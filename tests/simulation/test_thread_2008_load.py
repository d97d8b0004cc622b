"""The desktop that fragments swap, and the sounds over it: what they promise to those who compare with them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecache.clock import NS_PER_S
from samplecache.lab.loads import Stage
from samplecache.lab.thread2008.chance import Chance
from samplecache.lab.thread2008.desktop import PROGRAMS, Running, Scan, Uptime
from samplecache.lab.thread2008.experiment import QUICK, run
from samplecache.lab.thread2008.heap import Heap
from samplecache.lab.thread2008.lone import WAYS, capped, lone_read, read_ns
from samplecache.lab.thread2008.rows import ROWS
from samplecache.lab.thread2008.sounds import MUSIC, programme
from samplecache.lab.virtual import VirtualCache
from samplecache.lab.workload import Workload
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.registry import StrategyRegistry

SPACIOUS = SimulationOptions.linux_2_6_24("ssd-sata", memory_bytes=64 << 20, swap_bytes=64 << 20, patched=False)


class TestHeap:
    def test_takes_the_first_gap_that_fits(self) -> None:
        heap = Heap(16)
        assert [heap.allocate(4) for _ in range(4)] == [0, 4, 8, 12]
        assert heap.allocate(1) is None
        heap.free(4, 4)
        heap.free(12, 4)
        assert (heap.allocate(5), heap.allocate(3), heap.allocate(3)) == (None, 4, 12)

    def test_gaps_that_meet_become_one(self) -> None:
        heap = Heap(12)
        for _ in range(3):
            heap.allocate(4)
        for start in (0, 8, 4):
            heap.free(start, 4)
        assert heap.allocate(12) == 0

    @given(st.lists(st.integers(1, 9), max_size=60), st.integers(0, 99))
    def test_objects_never_overlap_and_nothing_is_lost(self, sizes: list[int], seed: int) -> None:
        heap, chance, living = Heap(64), Chance(seed, "heap"), []
        for size in sizes:
            start = heap.allocate(size)
            if start is not None:
                living.append((start, size))
            if living and chance.random() < 0.4:
                heap.free(*living.pop(chance.below(len(living))))
            pages = [page for start, size in living for page in range(start, start + size)]
            assert len(pages) == len(set(pages)) == heap.pages - heap.free_pages


class TestChance:
    def test_draws_are_the_same_in_every_version(self) -> None:
        chance = Chance(7, "anyone")
        assert [chance.below(1000) for _ in range(4)] == [766, 830, 217, 134]

    def test_who_draws_changes_nobody_elses_draws(self) -> None:
        assert Chance(7, "anyone").random() != Chance(7, "someone").random() != Chance(8, "someone").random()


class TestProgramme:
    def test_each_sound_is_played_once_and_every_other_one_announced(self) -> None:
        sounding = programme(3, "touch", 24, 240 * NS_PER_S)
        cues = [cue for cue in sounding.cues if cue.sample_id != MUSIC]
        assert sorted(cue.sample_id for cue in cues) == [f"event-{number:02}" for number in range(24)]
        assert [cue.hint_ahead_ns for cue in cues] == [NS_PER_S, None] * 12
        assert {cue.strategy for cue in sounding.cues} == {"touch"}
        assert [cue.at_ns for cue in cues] == sorted(cue.at_ns for cue in cues)
        assert all(NS_PER_S <= cue.at_ns < 240 * NS_PER_S for cue in cues)

    def test_event_sounds_are_a_few_hundred_kilobytes(self) -> None:
        *events, music = programme(3, "none", 24, 240 * NS_PER_S, locked_sounds=True).samples
        sizes = [sample.format.frames_to_bytes(sample.frames) for sample in events]
        assert 100_000 < min(sizes) < 300_000 < max(sizes) < 620_000
        assert {sample.locked for sample in events} == {True}
        assert (music.frames, music.locked) == (60 * 44_100, False)

    def test_strategies_see_the_same_sounds_at_the_same_times(self) -> None:
        times = [
            [(cue.sample_id, cue.at_ns) for cue in programme(3, name, 24, 240 * NS_PER_S).cues]
            for name in ("none", "x")
        ]
        assert times[0] == times[1]


def desk(device: str, *programs: Running) -> VirtualCache:
    options = SimulationOptions.linux_2_6_24(device, memory_bytes=6 << 20, swap_bytes=64 << 20, patched=False)
    workload = Workload((), (), programs, warm_up_ns=20 * NS_PER_S)
    virtual = VirtualCache(options, workload, StrategyRegistry())
    virtual.run()
    return virtual


class TestDesktop:
    @staticmethod
    def browser(seed: int, *, tidy: bool = False) -> Running:
        program = dataclasses.replace(PROGRAMS[1], heap_mib=8, code_mib=1)
        return Running(program, Chance(seed, "browser"), 20 * NS_PER_S, 0, tidy=tidy)

    def test_a_faster_disk_only_makes_actions_shorter(self) -> None:
        slow, fast = self.browser(1), self.browser(1)
        desk("hdd-laptop-2008", slow)
        desk("nvme-p3700", fast)
        assert sum(slow.response.times_ns) > 10 * sum(fast.response.times_ns)
        assert slow.response.major_faults > 0

    def test_the_same_seed_does_the_same(self) -> None:
        times = []
        for seed in (1, 1, 2):
            browser = self.browser(seed)
            desk("ssd-sata", browser)
            times.append(browser.response.times_ns)
        assert times[0] == times[1] != times[2]

    def test_uptime_leaves_gaps_all_over_swap_or_in_one_piece(self) -> None:
        runs = {}
        for scattered in (True, False):
            slots: list[int] = []

            class Written:
                """Writes what has to go to swap, and looks where it went."""

                def run(self, stage: Stage, slots: list[int] = slots) -> Generator[int, None, None]:
                    machine = stage.kernel.machine
                    region = machine.map(4096)
                    yield from machine.write(stage.thread, region, 0, 4096)
                    yield from machine.resize_memory(stage.thread, 0)
                    slots.extend(machine.page_slots(region, 0, 4096))

            uptime = Uptime(Chance(1, "uptime"), 15_000, scattered=scattered)
            workload = Workload((), (), (), (uptime, Written()), warm_up_ns=1)
            VirtualCache(SPACIOUS, workload, StrategyRegistry()).run()
            runs[scattered] = 1 + sum(later != earlier + 1 for earlier, later in itertools.pairwise(slots))
        # Slots are handed out 256 at a time: the first few still follow what was swapped out before.
        assert runs[False] <= 2
        assert runs[True] > 100


class TestScan:
    def test_reads_every_file_once(self) -> None:
        virtual = VirtualCache(SPACIOUS, Workload((), (), (Scan(0, 4),)), StrategyRegistry())
        virtual.run()
        assert virtual.kernel.machine.used_pages == 4 * 256
        assert virtual.kernel.swap_counts().pswpin == 0


class TestLoneReads:
    @pytest.mark.parametrize("way", WAYS)
    def test_all_ways_bring_everything_in(self, way: str) -> None:
        ordered, scattered = (lone_read(way, "hdd-laptop-2008", scattered=each) for each in (False, True))
        assert ordered.in_ns < scattered.in_ns
        assert ordered.requests < scattered.requests

    def test_only_the_patch_returns_before_the_pages_come(self) -> None:
        waits = {way: lone_read(way, "ssd-sata", scattered=True) for way in WAYS}
        assert [way for way, read in waits.items() if read.blocked_ns < read.in_ns] == ["WILLNEED (the patch)"]

    def test_the_cap_is_half_of_what_is_free(self) -> None:
        assert capped(16 << 20, 4096).read_pages == 2048
        assert capped(64 << 20, 4096).read_pages == 4096

    def test_a_read_costs_a_seek_half_a_turn_and_the_transfer(self) -> None:
        assert read_ns("hdd-laptop-2008", 256) == 12_000_000 + 5_500_000 + (1 << 20) * 20
        assert read_ns("zram-lz4", 256) == 256 * 1710


class TestRun:
    def test_the_same_seed_gives_the_same_figures(self) -> None:
        first, again, other = (
            run(ROWS["patch"], "hdd-laptop-2008", seed, QUICK, StrategyRegistry.discover()) for seed in (1, 1, 2)
        )
        assert first == again != other

    def test_locked_sounds_are_locked_and_never_swapped(self) -> None:
        figures = run(ROWS["mlock-sounds"], "hdd-laptop-2008", 1, QUICK, StrategyRegistry.discover())
        assert figures.locked_peak_bytes > 4 * 100_000
        assert figures.run_pages == 0
        assert figures.late_announced_blocks == 0

    @pytest.mark.parametrize("key", ROWS)
    def test_every_row_has_a_machine(self, key: str) -> None:
        row = ROWS[key]
        options = row.options("hdd-7200", memory_bytes=32 << 20, swap_bytes=32 << 20, seed=4)
        assert (options.seed, options.swap_slots) == (4, 8192)
        assert row.runs_on("zram-lz4") is row.today
