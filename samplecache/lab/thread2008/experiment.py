"""One run of a row of the thread on a device with a seed, and what came of it."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import Final

from samplecache.cache.settings import CacheSettings
from samplecache.clock import NS_PER_S
from samplecache.lab.loads import Press, Stage
from samplecache.lab.thread2008.chance import Chance
from samplecache.lab.thread2008.desktop import PROGRAMS, Jobs, Running, Scan, Uptime
from samplecache.lab.thread2008.rows import Row
from samplecache.lab.thread2008.sounds import MUSIC, programme
from samplecache.lab.virtual import Performance, VirtualCache
from samplecache.lab.workload import Workload
from samplecache.simulation.blockreadahead import AdaptiveReadahead
from samplecache.simulation.memory import Steps
from samplecache.simulation.pages import FRAME
from samplecache.strategy.registry import StrategyRegistry


@dataclass(frozen=True, slots=True)
class Scale:
    """How large and how long a run is.

    Attributes
    ----------
    memory_bytes, swap_bytes : int
        The machine's.
    sounds : int
        How many event sounds there are.
    warm_up_ns, play_ns : int
        How long the desktop runs before, and while sounds are played.
    program_share : float
        How much of each program's size there is.
    """

    memory_bytes: int
    swap_bytes: int
    sounds: int
    warm_up_ns: int
    play_ns: int
    program_share: float = 1.0


FULL: Final = Scale(256 << 20, 384 << 20, 24, 600 * NS_PER_S, 240 * NS_PER_S)
"""A laptop of 2008, in its own size."""
QUICK: Final = Scale(32 << 20, 48 << 20, 4, 20 * NS_PER_S, 20 * NS_PER_S, 0.125)
"""An eighth of it, to see that all works; its figures mean nothing."""

UPTIME_SHARE: Final = 0.95
"""How much of swap has been in use before."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of one run, from the beginning on. Simulated, all of it; times in nanoseconds."""

    row: str
    device: str
    seed: int
    announced: int
    announced_in_time: int
    unannounced: int
    unannounced_in_time: int
    announced_start_ns: int
    """Median time from the strike of an announced sound until its first block was ready."""
    unannounced_start_ns: int
    blocks: int
    late_blocks: int
    late_announced_blocks: int
    """Of these, blocks of announced event sounds."""
    late_music_blocks: int
    longest_stall_ns: int
    audio_major_faults: int
    audio_minor_faults: int
    prefetch_ns: int
    """Median time from the announcement of an event sound until its pages were in."""
    pages_in: int
    neighbours_in: int
    """Of these, pages that readahead brought besides the missing one."""
    neighbours_used: int
    pages_out: int
    requests: int
    run_pages: float
    """Mean length of the runs of consecutive slots that event sounds were in when they were announced or struck."""
    swap_peak_pages: int
    locked_peak_bytes: int
    actions: int
    wait_ns: int
    """What all actions of all programs took, one after the other."""
    slow_action_ns: int
    """What the slowest twentieth of them took at least."""
    desktop_major_faults: int
    chunk_pages: int
    """What an adaptive chunk had come to at the end; 0 for other kinds of readahead."""


class Gauge:
    """Looks at swap while a run goes on, and changes nothing. For one run."""

    EVERY_NS: Final = NS_PER_S

    def __init__(self) -> None:
        self.virtual: VirtualCache
        self.times: list[tuple[int, str]] = []
        self.swap_peak_pages = 0
        self.requests_before = 0
        self._pages = 0
        self._runs = 0

    @property
    def run_pages(self) -> float:
        """The mean length of the runs of slots seen so far, in pages; 0 if nothing was swapped."""
        return self._pages / self._runs if self._runs else 0.0

    def run(self, stage: Stage) -> Steps:
        """Look every second, and where each sound's pages are just before it is announced or struck."""
        machine = stage.kernel.machine
        yield stage.began_ns
        self.requests_before = machine.device_requests
        seconds = range(0, self.times[-1][0], self.EVERY_NS)
        for at_ns, sample_id in sorted([*self.times, *((second, "") for second in seconds)]):
            yield max(stage.clock.now_ns(), stage.began_ns + at_ns)
            if sample_id:
                self._look(sample_id)
            self.swap_peak_pages = max(self.swap_peak_pages, machine.options.swap_slots - machine.free_slots)

    def _look(self, sample_id: str) -> None:
        kernel = self.virtual.kernel
        with self.virtual.cache.store.lease(sample_id) as lease:
            model = kernel.model(lease.content.region)
        slots = kernel.machine.page_slots(model, 0, model.pages)
        flags = kernel.machine.page_flags(model, 0, model.pages)
        before = -1
        for slot, flag in zip(slots, flags, strict=True):
            if flag & FRAME:
                before = -1
                continue
            self._pages += 1
            self._runs += slot != before + 1
            before = slot


def run(row: Row, device: str, seed: int, scale: Scale, registry: StrategyRegistry) -> Figures:
    """Run one row on a device with a seed. Takes seconds of computation; blocks for nothing else.

    Raises
    ------
    ConfigurationError
        No device has that name.
    ExhaustedError
        Memory or swap is full: where processes would be killed.
    """
    options = row.options(device, memory_bytes=scale.memory_bytes, swap_bytes=scale.swap_bytes, seed=seed)
    sounding = programme(
        seed,
        row.strategy,
        scale.sounds,
        scale.play_ns,
        locked_sounds=row.locked_sounds,
        locked_music=row.locked_music,
    )
    programs = [
        Running(
            dataclasses.replace(
                program,
                heap_mib=max(1, int(program.heap_mib * scale.program_share)),
                code_mib=max(1, int(program.code_mib * scale.program_share)),
            ),
            Chance(seed, program.name),
            scale.play_ns,
            number * NS_PER_S,
            tidy=row.tidy,
        )
        for number, program in enumerate(PROGRAMS)
    ]
    gauge = Gauge()
    events = [cue for cue in sounding.cues if cue.sample_id != MUSIC]
    gauge.times = sorted((cue.at_ns - (cue.hint_ahead_ns or 0) - 1, cue.sample_id) for cue in events)
    scan = Scan(scale.play_ns // 3, max(1, int(96 * scale.program_share)))
    uptime = Uptime(Chance(seed, "uptime"), int(options.swap_slots * UPTIME_SHARE), scattered=not row.fresh)
    loads: tuple[Press, ...] = (*programs, Jobs(Chance(seed, "jobs"), scale.play_ns, scale.program_share), scan, gauge)
    workload = Workload(
        sounding.samples,
        sounding.cues,
        loads,
        (uptime,),
        warm_up_ns=scale.warm_up_ns,
        upload_ns=scale.warm_up_ns // 2,
    )
    settings = CacheSettings(lock_budget_bytes=scale.memory_bytes, advice_bounded=False)
    # A daemon such as PulseAudio advises all at once, and renders block by block, when each is due.
    virtual = gauge.virtual = VirtualCache(options, workload, registry, settings, reads_together=False)
    outcome = virtual.run()
    requests = virtual.kernel.machine.device_requests - gauge.requests_before
    readahead = virtual.kernel.machine.readahead
    virtual.close()
    sounds = [one for one in outcome.performances if one.cue.sample_id != MUSIC]
    announced = [one for one in sounds if one.cue.hint_ahead_ns is not None]
    unannounced = [one for one in sounds if one.cue.hint_ahead_ns is None]
    times_ns = sorted(time_ns for program in programs for time_ns in program.response.times_ns)
    return Figures(
        row=row.key,
        device=device,
        seed=seed,
        announced=len(announced),
        announced_in_time=sum(map(_started_in_time, announced)),
        unannounced=len(unannounced),
        unannounced_in_time=sum(map(_started_in_time, unannounced)),
        announced_start_ns=_median([one.stats.first_block_ns for one in announced]),
        unannounced_start_ns=_median([one.stats.first_block_ns for one in unannounced]),
        blocks=sum(one.stats.blocks for one in outcome.performances),
        late_blocks=outcome.late_blocks,
        late_announced_blocks=sum(one.stats.late_blocks for one in announced),
        late_music_blocks=sum(one.stats.late_blocks for one in outcome.performances if one.cue.sample_id == MUSIC),
        longest_stall_ns=outcome.longest_stall_ns,
        audio_major_faults=outcome.reader_faults.major,
        audio_minor_faults=outcome.reader_faults.minor,
        prefetch_ns=_median([one.elapsed_ns for one in outcome.prefetches if one.sample_id != MUSIC]),
        pages_in=outcome.swap.pswpin,
        neighbours_in=outcome.swap.swap_ra,
        neighbours_used=outcome.swap.swap_ra_hit,
        pages_out=outcome.swap.pswpout,
        requests=requests,
        run_pages=gauge.run_pages,
        swap_peak_pages=gauge.swap_peak_pages,
        locked_peak_bytes=outcome.peak_locked_bytes,
        actions=len(times_ns),
        wait_ns=sum(times_ns),
        slow_action_ns=times_ns[len(times_ns) * 19 // 20] if times_ns else 0,
        desktop_major_faults=sum(program.response.major_faults for program in programs),
        chunk_pages=readahead.chunk_pages if isinstance(readahead, AdaptiveReadahead) else 0,
    )


def _started_in_time(performance: Performance) -> bool:
    return not any(underrun.offset_frames == 0 for underrun in performance.underruns)


def _median(times_ns: list[int]) -> int:
    return int(statistics.median(times_ns)) if times_ns else 0
