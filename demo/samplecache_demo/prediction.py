"""What the demo's table should come to, before it is played: the same cache, schedule and player in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.kernel.machine_files import MachineProfile
from samplecache.kernel.probe import PROBE_PAGES
from samplecache.lab import workload
from samplecache.lab.loads import Stage
from samplecache.lab.virtual import Outcome, VirtualCache
from samplecache.lab.workload import VirtualSample, Workload
from samplecache.simulation.chance import Chance
from samplecache.simulation.memory import Steps
from samplecache.strategy.registry import StrategyRegistry
from samplecache_demo.devices import MEMORY_BYTES
from samplecache_demo.machine import SWAP_BYTES
from samplecache_demo.measured_service import MeasuredService
from samplecache_demo.performance import SETTLE_NS
from samplecache_demo.schedule import BLOCK_NS, HINT_AHEAD_NS, LEAD_NS, Cue
from samplecache_player.mixer import Mixer
from samplecache_player.output import PERIOD_NS
from samplecache_player.player import BUFFER_NS
from samplecache_player.voice import Voice

SEEDS: Final = 21
"""Runs that a prediction is the median of: a limit on reads counts in slices, and nobody knows where in one a run
begins."""
SLICE_NS: Final = 100 * NS_PER_MS
PROBES: Final = 2
"""The demo and its server each try once whether paging out works, and use up slots for that."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """One run in virtual time; see :class:`~samplecache_demo.performance.Performance` for the figures."""

    strategy: str
    bound: str
    glitches: int
    late_blocks: int
    longest_stall_ns: int
    first_blocks_ns: list[int]
    major_faults: int
    minor_faults: int
    swap_in_pages: int
    prefetches_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadyBlock:
    """A block of a session, and when the client has it."""

    ready_ns: int
    session_id: str
    frames: range


@dataclass(frozen=True, slots=True)
class _Probe:
    """What finding out whether paging out works leaves behind: slots are handed out from further on."""

    def run(self, stage: Stage) -> Steps:
        """Page a few pages out and give them up."""
        kernel = stage.kernel
        region = kernel.map(PROBE_PAGES * kernel.page_bytes)
        model = kernel.model(region)
        yield from kernel.machine.write(stage.thread, model, 0, model.pages)
        yield from kernel.machine.evict(stage.thread, model, 0, model.pages, NS_PER_S)
        kernel.unmap(region)


@dataclass(frozen=True, slots=True)
class Forecaster:
    """Predicts runs on one machine.

    Attributes
    ----------
    machine : MachineProfile
        The machine, as it was measured.
    service : MeasuredService
        What the service takes there.
    samples : tuple of VirtualSample
        The samples, in the order in which they were uploaded and will be made cold.
    schedule : tuple of Cue
        What will be played.
    rate_hz : int
        The output's rate.
    registry : StrategyRegistry
        Strategies.
    """

    machine: MachineProfile
    service: MeasuredService
    samples: tuple[VirtualSample, ...]
    schedule: Sequence[Cue]
    rate_hz: int
    registry: StrategyRegistry

    def forecast(self, strategy: str, seed: int) -> Forecast:
        """Return one run under `strategy`. A seed says when it begins and how long the service takes each time."""
        options = self.machine.options(memory_bytes=MEMORY_BYTES, swap_bytes=SWAP_BYTES, seed=seed)
        options = replace(options, cap_ipc_lock=True)  # the server is root's
        chance = Chance(seed)
        start_ns = HINT_AHEAD_NS + SETTLE_NS + chance.one_of(range(SLICE_NS))  # anywhere in a slice of a limit
        ready: list[ReadyBlock] = []
        virtual = VirtualCache(
            options,
            self._workload(strategy, start_ns, chance),
            self.registry,
            costs=self.service.costs[strategy],
            on_block=lambda performance, read: ready.append(
                ReadyBlock(read.reading.ready_ns, performance.session_id, read.block.frames)
            ),
        )
        outcome = virtual.run()
        virtual.close()
        return Forecast(
            strategy,
            outcome.performances[0].strategy,
            self._glitches(outcome, start_ns, ready),
            outcome.late_blocks,
            outcome.longest_stall_ns,
            sorted(performance.stats.first_block_ns for performance in outcome.performances),
            outcome.reader_faults.major,
            outcome.reader_faults.minor,
            outcome.swap.pswpin,
            tuple(prefetch.elapsed_ns for prefetch in outcome.prefetches),
        )

    def _workload(self, strategy: str, start_ns: int, chance: Chance) -> Workload:
        """Return what happens at the server: each strike reaches it over a connection."""
        cues = tuple(
            workload.Cue(
                cue.sample_id,
                start_ns + cue.at_ns + chance.one_of(self.service.transport_ns),
                strategy,
                HINT_AHEAD_NS,
                LEAD_NS,
                BLOCK_NS,
                frames=cue.frames,
            )
            for cue in self.schedule
        )
        return Workload(self.samples, cues, before=(_Probe(),) * PROBES)

    def _glitches(self, outcome: Outcome, start_ns: int, ready: Sequence[ReadyBlock]) -> int:
        """Play what was ready when through the demo's mixer; return the gaps that its voices suffer."""
        format = AudioFormat(self.rate_hz, 2, Encoding.S16)
        mixer, period = Mixer(format), np.zeros((format.frames_in(PERIOD_NS), 2), np.int16)
        voices = {
            performance.session_id: Voice(
                format,
                offset_frames=0,
                length_frames=None,
                start_ns=outcome.began_ns + start_ns + cue.at_ns,
                lead_frames=format.frames_in(LEAD_NS),
                buffer_frames=format.frames_in(BUFFER_NS),
                prefill_frames=format.frames_in(NS_PER_S),
                gain=1.0,
                on_change=lambda: None,
            )
            for cue, performance in zip(self.schedule, outcome.performances, strict=True)
        }
        for voice in voices.values():
            mixer.add(voice)
        coming = deque(sorted(ready, key=lambda block: block.ready_ns))
        last = {block.session_id: block for block in coming}
        now_ns = outcome.began_ns
        while not all(voice.finished for voice in voices.values()):
            while coming and coming[0].ready_ns <= now_ns:
                block = coming.popleft()
                voice = voices[block.session_id]
                voice.feed(block.frames.start, np.zeros((len(block.frames), 2), np.int16))
                if block is last[block.session_id]:
                    voice.end()
            mixer.mix_into(period, now_ns)
            now_ns += PERIOD_NS
        return sum(voice.report().glitches for voice in voices.values())
