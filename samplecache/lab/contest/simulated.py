"""A scenario on the simulated kernel, in virtual time, under one strategy."""

from __future__ import annotations

import dataclasses
import platform
from typing import Final

from samplecache import __version__
from samplecache.cache import CacheSettings
from samplecache.cache.reading import ReadBlock
from samplecache.clock import NS_PER_S
from samplecache.kernel.machine_files import simulation_options
from samplecache.kernel.port import FaultCounts, Residency, Tier
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.lab.comparison import least_pages
from samplecache.lab.contest.bystander import Bystander
from samplecache.lab.contest.records import (
    SAMPLECACHE,
    Case,
    Figures,
    Head,
    Run,
    Stall,
    Status,
    Strip,
    Timeline,
    digits,
    shares,
)
from samplecache.lab.ear.heard import quantile
from samplecache.lab.ear.victim import WORKING_BYTES
from samplecache.lab.loads import Load
from samplecache.lab.scenarios.score import Score
from samplecache.lab.scenarios.tables import parse_memory
from samplecache.lab.swap_device import SwapDevice
from samplecache.lab.virtual import Outcome, Performance, VirtualCache
from samplecache.lab.workload import Workload
from samplecache.simulation.memory import Steps
from samplecache.simulation.options import SimulationOptions
from samplecache.simulation.throttle import ReadLimit
from samplecache.strategy.registry import StrategyRegistry

ZRAM: Final = "zram-lz4"
LOOKS: Final = 120
"""Times at which a timeline looks: as many as a small picture can show."""
SPARE_BYTES: Final = 64 << 20
"""What makes memory ample, beside all that is stored."""
_IN_RAM: Final = bytes(int(tier >= Tier.SWAP_CACHE) for tier in range(256))
_MAPPED: Final = bytes(int(tier >= Tier.MAPPED) for tier in range(256))


def simulate(score: Score, case: Case, strategy: str, base_device: str, registry: StrategyRegistry) -> Run:
    """Play `score` once under `strategy` and return what came of it. Takes no longer than the computation.

    Parameters
    ----------
    score : Score
        What happens.
    case : Case
        The machine.
    strategy : str
        Name of the strategy.
    base_device : str
        Profile that stands for the disk without a limit; its name, or a file of ``samplecache calibrate``.
    registry : StrategyRegistry
        Strategies.

    Raises
    ------
    SamplecacheError
        The machine is too small, or the cache refuses what the score asks.
    """
    bystander = Bystander(lambda: virtual.done)
    workload = _workload(score, strategy, bystander)
    settings = CacheSettings(
        budget_bytes=max(1 << 30, 2 * score.stored_bytes),
        max_sessions=len(score.cues) + 1,
        max_prefetches=2 * len(score.cues) + 1,
    )
    options = _options(score, case, base_device, workload)
    heads: dict[int, Head] = {}

    def hear(performance: Performance, read: ReadBlock) -> None:
        sample = lengths[performance.cue.sample_id]
        head = heads.setdefault(id(performance), Head(sample_id=performance.cue.sample_id, times_ns=[], places=[]))
        head.times_ns.append(read.reading.ready_ns)
        head.places.append(read.block.frames.stop / sample)

    lengths = {sound.sample.sample_id: sound.sample.frames for sound in score.sounds}
    virtual = VirtualCache(options, workload, registry, settings, on_block=hear)
    watch = _Watch(virtual, score)
    virtual.when_cold(watch.run)
    try:
        outcome = virtual.run()
    finally:
        virtual.close()
    stalls = _stalls(outcome, lengths)
    return Run(
        case=case,
        contender=f"{SAMPLECACHE}{strategy}",
        bound=", ".join(dict.fromkeys(performance.strategy for performance in outcome.performances)),
        repetition=0,
        seed=score.seed,
        status=Status.DONE,
        machine={
            "kernel": f"simulated {options.kernel.value}",
            "device": options.device.name,
            "readahead": f"{options.readahead_mode.value}, page_cluster {options.page_cluster}",
            "memory": f"{options.memory_pages} pages",
            "samplecache": __version__,
            "python": platform.python_version(),
        },
        figures=_figures(outcome, score, stalls, options.page_bytes).model_copy(
            update={
                "limit_bytes": options.memory_pages * options.page_bytes,
                "rss_bytes": watch.most_pages * options.page_bytes,
                "victim_faults": bystander.major_faults,
                "victim_p99_ns": quantile(bystander.rounds_ns, 0.99),
            }
        ),
        stalls=stalls,
        timeline=watch.timeline(outcome, [_thinned(head, outcome.began_ns) for head in heads.values()]),
    )


def _options(score: Score, case: Case, base_device: str, workload: Workload) -> SimulationOptions:
    device = SwapDevice.parse(case.device)
    loads_bytes = sum(load.memory for load in score.loads)
    wanted = parse_memory(case.memory)
    if wanted is None:
        memory_bytes = 2 * score.stored_bytes + loads_bytes + SPARE_BYTES
    else:
        memory_bytes = round(wanted * score.stored_bytes) if isinstance(wanted, float) else wanted
    swap_bytes = 4 * (score.stored_bytes + loads_bytes) + SPARE_BYTES
    options = simulation_options(
        ZRAM if device.zram else base_device, memory_bytes=memory_bytes, swap_bytes=swap_bytes, seed=score.seed
    )
    # What threads need to get on at all comes on top, as a process's own memory does on a real machine; so does the
    # victim's.
    needed_pages = least_pages(options, workload) + WORKING_BYTES // options.page_bytes
    options = dataclasses.replace(options, memory_pages=options.memory_pages + needed_pages)
    if device.read_iops is None and device.read_bytes_per_s is None:
        return options
    limit = ReadLimit(device.read_iops, device.read_bytes_per_s)
    return dataclasses.replace(options, device=dataclasses.replace(options.device, read_limit=limit))


def _workload(score: Score, strategy: str, bystander: Bystander) -> Workload:
    stop_ns = score.stop_ns
    loads = [
        Load(
            load.memory,
            load.rate,
            round(load.from_s * NS_PER_S),
            stop_ns if load.until_s is None else round(load.until_s * NS_PER_S),
            idle=load.idle,
        )
        for load in score.loads
    ]
    samples = tuple(sound.sample for sound in score.sounds)
    return Workload(samples, score.played_by(strategy), (*loads, bystander), warm_up_ns=score.idle_ns)


def _stalls(outcome: Outcome, lengths: dict[str, int]) -> list[Stall]:
    return sorted(
        (
            Stall(
                at_ns=underrun.time_ns - underrun.late_ns - outcome.began_ns,
                late_ns=underrun.late_ns,
                sample_id=underrun.sample_id,
                place=underrun.offset_frames / lengths[underrun.sample_id],
                cause=underrun.cause.value,
            )
            for performance in outcome.performances
            for underrun in performance.underruns
        ),
        key=lambda stall: stall.at_ns,
    )


def _figures(outcome: Outcome, score: Score, stalls: list[Stall], page_bytes: int) -> Figures:
    played = {cue.sample_id for cue in score.cues}
    faults = outcome.reader_faults
    return Figures(
        periods=sum(performance.stats.blocks for performance in outcome.performances),
        glitches=outcome.late_blocks,
        missing_ns=sum(stall.late_ns for stall in stalls),
        longest_stall_ns=outcome.longest_stall_ns,
        first_ns=[performance.stats.first_block_ns for performance in outcome.performances],
        sample_pages=sum(
            -(-sound.size_bytes // page_bytes) for sound in score.sounds if sound.sample.sample_id in played
        ),
        stored_bytes=score.stored_bytes,
        major_faults=faults.major,
        minor_faults=faults.minor,
        swap_in_pages=outcome.swap.pswpin,
        locked_bytes=outcome.peak_locked_bytes,
    )


def _thinned(head: Head, began_ns: int) -> Head:
    """Return a playhead with no more points than a picture can show, jumps and stalls kept."""
    kept: list[int] = []
    last = len(head.times_ns) - 1
    step = max(1, last // LOOKS)
    for index in range(last + 1):
        jumps = index and not 0 <= head.places[index] - head.places[index - 1] < 0.1
        if index % step == 0 or index == last or jumps:
            kept.append(index)
    return Head(
        sample_id=head.sample_id,
        times_ns=[head.times_ns[index] - began_ns for index in kept],
        places=[round(head.places[index], 4) for index in kept],
    )


class _Watch:
    """A virtual thread that only looks, at no cost to anyone.

    Attributes
    ----------
    most_pages : int
        The most pages of samples that were mapped when it looked: of those that sound or are tagged, as no others are
        brought in.
    """

    def __init__(self, virtual: VirtualCache, score: Score) -> None:
        self.most_pages = 0
        self._virtual = virtual
        self._step_ns = max(1, score.stop_ns // LOOKS)
        self._cues = score.cues
        self._times_ns: list[int] = []
        self._rows: dict[str, list[str]] = {cue.sample_id: [] for cue in score.cues}
        self._unstruck = [
            sound.sample.sample_id
            for sound in score.sounds
            if sound.sample.tags and sound.sample.sample_id not in self._rows
        ]
        self._major: list[int] = []
        self._pages_in: list[int] = []
        self._pages: dict[str, int] = {}

    def run(self, began_ns: int) -> Steps:
        """Look, until the last cue has sounded."""
        virtual, kernel = self._virtual, self._virtual.kernel
        regions = {name: virtual.cache.store.get(name).content.region for name in (*self._rows, *self._unstruck)}
        self._pages = {name: regions[name].pages for name in self._rows}
        parts = shares(self._pages)
        swap_before, faults_before = kernel.swap_counts().pswpin, FaultCounts()
        while True:
            self._times_ns.append(virtual.clock.now_ns() - began_ns)
            mapped_pages = 0
            for name, region in regions.items():
                # The simulated kernel's own: a virtual one takes the time of whoever looks.
                found: Residency = SimulatedKernel.residency(kernel, region, region.span)
                mapped_pages += found.tiers.translate(_MAPPED).count(1)
                if name in self._rows:
                    self._rows[name].append(digits(found.tiers.translate(_IN_RAM), parts[name]))
            self.most_pages = max(self.most_pages, mapped_pages)
            swapped, faults = kernel.swap_counts().pswpin, virtual.reader_faults()
            self._pages_in.append(swapped - swap_before)
            self._major.append((faults - faults_before).major)
            swap_before, faults_before = swapped, faults
            if virtual.done:
                return
            yield virtual.clock.now_ns() + self._step_ns

    def timeline(self, outcome: Outcome, heads: list[Head]) -> Timeline:
        """Return what was seen."""
        began_ns = outcome.began_ns
        return Timeline(
            times_ns=self._times_ns,
            strips=[Strip(sample_id=name, pages=self._pages[name], rows=rows) for name, rows in self._rows.items()],
            heads=heads,
            hints_ns=[
                (cue.sample_id, cue.at_ns - cue.hint_ahead_ns) for cue in self._cues if cue.hint_ahead_ns is not None
            ],
            major_faults=self._major,
            pages_in=self._pages_in,
            prefetches=[
                (done.sample_id, done.time_ns - done.elapsed_ns - began_ns, done.time_ns - began_ns)
                for done in outcome.prefetches
            ],
        )
