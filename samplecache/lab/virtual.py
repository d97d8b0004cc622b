"""The whole cache on a simulated machine in virtual time: one seed and one workload give one trace, at no time at all.

Store, sessions, prefetches, lock budget, strategies and glitch accounting are the service's own: this is
:class:`~samplecache.cache.cache.SampleCache` with other workers and another kernel. What is done here instead of there
is what takes time: writing samples, reading blocks, and waiting. Python's own time passes only as :class:`ServiceCosts`
says.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from samplecache.cache.accounting.figures import StrategyTotals
from samplecache.cache.accounting.playback import PlaybackStats, Reading
from samplecache.cache.ahead import cues
from samplecache.cache.cache import SampleCache
from samplecache.cache.device.shedding import GATE_POLL_NS
from samplecache.cache.play_options import PlayOptions
from samplecache.cache.reading import ReadBlock
from samplecache.cache.session import Session
from samplecache.cache.settings import CacheSettings
from samplecache.clock import NS_PER_MS, VirtualClock
from samplecache.kernel.port import NO_FAULTS, FaultCounts, SwapCounts
from samplecache.lab.loads import Stage
from samplecache.lab.service_costs import ServiceCosts
from samplecache.lab.trace import event_line, merge
from samplecache.lab.virtual_threads import VirtualKernel, VirtualWorkers
from samplecache.lab.workload import Cue, VirtualSample, Workload
from samplecache.simulation.memory import Steps
from samplecache.simulation.options import SimulationOptions
from samplecache.simulation.scheduler import Scheduler
from samplecache.strategy.events import CueSettled, Event, PrefetchDone, Underrun
from samplecache.strategy.registry import StrategyRegistry

_READER: Final = 0
_WORKER: Final = 1
_LOAD: Final = 2
_WATCH: Final = 3
"""Priorities: who reads audio goes first where several want to go on at the same time."""


@dataclass(slots=True)
class Performance:
    """One cue, played.

    Attributes
    ----------
    cue : Cue
        The cue.
    session_id : str
        The session that played it.
    strategy : str
        The strategy that the session got.
    stats : PlaybackStats
        What happened in it.
    underruns : list of Underrun
        Its late blocks, in their order.
    heard : list of range
        The frames of all blocks in their order, where one follows the other in one piece.
    """

    cue: Cue
    session_id: str
    strategy: str
    stats: PlaybackStats
    underruns: list[Underrun] = field(default_factory=list)
    heard: list[range] = field(default_factory=list)

    def hear(self, frames: range) -> None:
        """Take in the frames of a block."""
        if self.heard and self.heard[-1].stop == frames.start:
            self.heard[-1] = range(self.heard[-1].start, frames.stop)
        else:
            self.heard.append(frames)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run, from the time when all samples were cold; times in nanoseconds.

    Attributes
    ----------
    performances : tuple of Performance
        In the order of the workload's cues.
    prefetches : tuple of PrefetchDone
        Announcements, in the order in which they were done with.
    totals : dict
        The cache's own sums, by strategy.
    swap : SwapCounts
        Swap traffic of the whole machine.
    worker_faults : FaultCounts
        Faults that workers took, so that readers did not.
    peak_locked_bytes : int
        The most that was locked at a time.
    elapsed_ns : int
        Until the last session had ended.
    began_ns : int
        The beginning, on the run's clock.
    scheduled : tuple of CueSettled
        What became of cues announced through schedules, in the order in which that was known.
    """

    performances: tuple[Performance, ...]
    prefetches: tuple[PrefetchDone, ...]
    totals: dict[str, StrategyTotals]
    swap: SwapCounts
    worker_faults: FaultCounts
    peak_locked_bytes: int
    elapsed_ns: int
    began_ns: int = 0
    scheduled: tuple[CueSettled, ...] = ()

    @property
    def late_blocks(self) -> int:
        """Blocks that were not ready when they were due."""
        return sum(performance.stats.late_blocks for performance in self.performances)

    @property
    def longest_stall_ns(self) -> int:
        """How late the latest of them was."""
        return max((performance.stats.longest_stall_ns for performance in self.performances), default=0)

    @property
    def reader_faults(self) -> FaultCounts:
        """Faults that readers took."""
        return sum((performance.stats.faults for performance in self.performances), FaultCounts())


class VirtualCache:
    """A cache, its machine and its clients, to be run once.

    Parameters
    ----------
    options : SimulationOptions
        The machine. Its ``log_events`` bounds what :meth:`trace` shows of it.
    workload : Workload
        What happens.
    registry : StrategyRegistry, optional
        Strategies; all installed plugins if not given.
    settings : CacheSettings
        Limits and defaults of the cache.
    costs : ServiceCosts
        What the service's own work costs its threads; nothing by default. The machine's seed draws them.
    on_block : Callable, optional
        Told of every block that is ready, and whose it is.
    reads_together : bool
        Whether blocks that are in RAM are read many at a time, as the service does; else one by one.

    Attributes
    ----------
    cache : SampleCache
        The cache.
    kernel : VirtualKernel
        The machine, behind the port.
    scheduler : Scheduler
        Runs all virtual threads; further ones may be started before :meth:`run`.

    Raises
    ------
    UnknownStrategyError
        ``settings.default_strategy`` is not registered.
    """

    def __init__(
        self,
        options: SimulationOptions,
        workload: Workload,
        registry: StrategyRegistry | None = None,
        settings: CacheSettings | None = None,
        costs: ServiceCosts | None = None,
        on_block: Callable[[Performance, ReadBlock], object] | None = None,
        *,
        reads_together: bool = True,
    ) -> None:
        settings = settings or CacheSettings()
        self.clock = VirtualClock()
        self.scheduler = Scheduler(self.clock)
        costs = costs or ServiceCosts()
        self.kernel = VirtualKernel(options, self.clock, costs)
        self._workload = workload
        self._costs = costs
        self._on_block = on_block
        self._reads_together = reads_together
        self._threads: list[str] = []
        self._client = self._new_thread("client")
        self._workers = [self._new_thread(f"worker {number}") for number in range(settings.workers)]
        workers = VirtualWorkers(self.scheduler, self.kernel, self._workers, _WORKER)
        self.cache = SampleCache(self.kernel, settings, registry, self.kernel.service_clock, workers=workers)
        self.cache.events.listen(self._note)
        self._readers: list[int] = []
        self._watching: list[Callable[[int], Steps]] = []
        self._playing = len(workload.cues)
        self._performances: dict[int, Performance] = {}
        self._by_session: dict[str, Performance] = {}
        self._prefetches: list[PrefetchDone] = []
        self._scheduled: list[CueSettled] = []
        self._lines: list[str] = []
        self._pages: list[str] = []
        self._swap_before = SwapCounts()
        self._began_ns = 0
        self._ended_ns = 0

    @property
    def done(self) -> bool:
        """Whether the last session has ended."""
        return not self._playing

    def reader_faults(self) -> FaultCounts:
        """Return the faults that readers have taken so far."""
        return sum(map(self._faults, self._readers), FaultCounts())

    def when_cold(self, run: Callable[[int], Steps]) -> None:
        """Have `run` go on as a virtual thread once all samples are cold; it is told when that was, on the run's clock.

        To be called before :meth:`run`. Where several threads want to go on at the same time, it does after all others.
        """
        self._watching.append(run)

    def run(self) -> Outcome:
        """Upload all samples, make them cold, and play. Takes no longer than the computation.

        Raises
        ------
        ExhaustedError
            The machine is out of memory or swap.
        SamplecacheError
            The cache refuses what the workload asks: a limit, a strategy that is not there.
        """
        kernel = self.kernel
        self.scheduler.start(self._prepare(), priority=_READER)
        self.scheduler.run()
        return Outcome(
            tuple(self._performances[number] for number in range(len(self._workload.cues))),
            tuple(self._prefetches),
            self.cache.totals.snapshot(),
            kernel.swap_counts() - self._swap_before,
            sum((self._faults(thread) for thread in self._workers), FaultCounts()),
            kernel.peak_locked_pages * kernel.page_bytes,
            self._ended_ns - self._began_ns,
            self._began_ns,
            tuple(self._scheduled),
        )

    def trace(self) -> str:
        """Return what has happened, a line each, by time: the machine's event log and the cache's events."""
        capabilities = self.cache.capabilities
        heading = [
            f"# simulated: {capabilities.release}",
            f"# memory {self.kernel.machine.memory_pages} pages, swap {capabilities.swap_bytes} bytes",
            *(f"# thread {number}: {name}" for number, name in enumerate(self._threads)),
            *self._pages,
            f"# all samples are cold at {self._began_ns}",
        ]
        return merge(heading, self.kernel.machine.log_text(), self._lines)

    def close(self) -> None:
        """Unmap all samples."""
        self.cache.close()

    # --- virtual threads ---

    def _prepare(self) -> Steps:
        """Upload, make cold, and start everyone."""
        machine, workload = self.kernel.machine, self._workload
        for load in workload.before:
            yield from load.run(self._stage())
        start_ns = self.clock.now_ns()
        if workload.warm_up_ns:
            self._began_ns = start_ns + workload.warm_up_ns
            self._press()
        for number, sample in enumerate(workload.samples, 1):
            yield max(self.clock.now_ns(), start_ns + workload.upload_ns * number // len(workload.samples))
            yield from self._upload(sample)
        if workload.warm_up_ns:
            yield max(self.clock.now_ns(), self._began_ns)
            self._begin()
            return
        # As with the limit of a memory control group, taken away and given back. What is locked for heads stays.
        memory_pages, triggers = machine.memory_pages, self.cache.triggers
        while not triggers.settled:
            yield self.clock.now_ns() + NS_PER_MS
        triggers.stop()
        for limit_pages in (machine.locked_pages, memory_pages):
            yield from machine.resize_memory(self._client, limit_pages)
        triggers.start()
        self._began_ns = self.clock.now_ns()
        self._begin()
        self._press()

    def _upload(self, sample: VirtualSample) -> Steps:
        region = self.kernel.map(sample.format.frames_to_bytes(sample.frames))
        model = self.kernel.model(region)
        yield from self.kernel.machine.write(self._client, model, 0, model.pages)
        digest = hashlib.sha256(sample.sample_id.encode()).digest()
        self.cache.store.publish(sample.sample_id, region, sample.format, sample.frames, digest, tags=sample.tags)
        self._pages.append(f"# {sample.sample_id}: pages [{model.base}, {model.base + model.pages})")
        if sample.locked:
            self.kernel.thread = self._client
            self.cache.ledger.acquire(f"locked-{sample.sample_id}", region, region.span)
            yield from self.kernel.finish()

    def _press(self) -> None:
        for load in self._workload.loads:
            self.scheduler.start(load.run(self._stage()), priority=_LOAD)

    def _stage(self) -> Stage:
        return Stage(self.kernel, self.clock, self._new_thread("load"), self._began_ns)

    def _begin(self) -> None:
        self._swap_before = self.kernel.swap_counts()
        if not self._playing:
            self.cache.triggers.stop()
        for number, cue in enumerate(self._workload.cues):
            thread = self._new_thread(f"reader of {cue.sample_id}, cue {number}")
            self._readers.append(thread)
            self.scheduler.start(self._perform(number, cue, thread), priority=_READER)
        for run in self._watching:
            self.scheduler.start(run(self._began_ns), priority=_WATCH)

    def _perform(self, number: int, cue: Cue, thread: int) -> Steps:
        """Be a client, and the service's thread that reads for it."""
        at_ns = self._began_ns + cue.at_ns
        if cue.scheduled_ahead_ns is not None:
            yield max(self._began_ns, at_ns - cue.scheduled_ahead_ns)
            announced = cues.Cue("", cue.sample_id, at_ns, cue.start_frame, cue.frames, cue.strategy, cue.sureness)
            self.cache.schedules.announce(f"cue-{number}", [announced])
        if cue.hint_ahead_ns is not None:
            yield max(self._began_ns, at_ns - cue.hint_ahead_ns)
            self.cache.prefetch(cue.sample_id, cue.start_frame, cue.frames, cue.strategy, deadline_ns=at_ns)
            self._tell(f"announced {cue.sample_id} at {at_ns}")
        yield at_ns
        options = PlayOptions(
            cue.sample_id,
            cue.start_frame,
            cue.frames,
            cue.strategy,
            loop=cue.loop,
            lead_ns=cue.lead_ns,
            block_ns=cue.block_ns,
        )
        session = self.cache.open_session(options)
        performance = Performance(cue, session.session_id, session.strategy, session.playback.stats)
        self._performances[number] = self._by_session[session.session_id] = performance
        self._tell(f"opened {session.session_id} {cue.sample_id} {session.strategy}")
        yield from self._play(session, performance, thread)
        session.close()
        self._ended_ns = self.clock.now_ns()
        self._playing -= 1
        if not self._playing:
            self.cache.triggers.stop()  # it would look at heads for ever, and the run never end
        self._tell(f"closed {session.session_id} after {session.playback.stats.frames} frames")

    def _play(self, session: Session, performance: Performance, thread: int) -> Steps:
        content = session.sample.content
        model, frame_bytes = self.kernel.model(content.region), content.format.frame_bytes
        touch, page_bytes, now_ns = self.kernel.machine.touch, self.kernel.page_bytes, self.clock.now_ns
        faults_of = self.kernel.machine.thread_faults
        before, draw, costs, on_block = faults_of(thread), self.kernel.draw, self._costs, self._on_block
        cue, seeks = performance.cue, deque(performance.cue.seeks)
        opened_ns = now_ns()
        stop_ns = None if cue.plays_ns is None else opened_ns + cue.plays_ns
        if open_ns := draw(costs.open_ns):
            yield now_ns() + open_ns
        ahead = range(0)  # read with a block before
        while (block := session.next_block()) is not None:
            if stop_ns is not None and block.send_ns >= stop_ns:
                break
            if seeks and block.send_ns >= opened_ns + seeks[0].after_ns:
                yield max(now_ns(), opened_ns + seeks[0].after_ns)
                session.seek(seeks.popleft().frame)
                ahead = range(0)
                continue
            if block.send_ns > now_ns():
                yield block.send_ns
            frames = block.frames
            if frames.start in ahead:
                session.delivered_in_time(frames)
                performance.hear(frames)
                if on_block is not None:
                    on_block(performance, ReadBlock(block, b"", frames.start, Reading(now_ns(), now_ns(), NO_FAULTS)))
                continue
            batch = session.resident(block)
            if batch is None and (handover_ns := draw(costs.handover_ns)):
                yield now_ns() + handover_ns
            while batch is None and not session.may_read(block):
                yield now_ns() + GATE_POLL_NS
            if batch is None or not self._reads_together:
                batch = frames
            ahead = range(frames.stop, batch.stop)
            session.about_to_read(batch)
            began_ns = now_ns()
            # What Content.pages_of says, without a span for each block.
            first_page = batch.start * frame_bytes // page_bytes
            stop_page = -(-batch.stop * frame_bytes // page_bytes)
            yield from touch(thread, model, first_page, stop_page)
            after = faults_of(thread)
            faults = FaultCounts(after[0] - before[0], after[1] - before[1])
            before = after
            self.cache.meter.record_faults(faults.major, now_ns() - began_ns)
            if block_ns := draw(costs.block_ns):
                yield now_ns() + block_ns
            read = ReadBlock(block, b"", frames.start, Reading(began_ns, now_ns(), faults))
            session.delivered(read)
            performance.hear(frames)
            if on_block is not None:
                on_block(performance, read)

    # --- notes ---

    def _new_thread(self, name: str) -> int:
        """Return the machine's number of a new thread."""
        number = len(self._threads)
        self._threads.append(name)
        self._faults(number)  # the machine numbers threads as it comes to know them
        return number

    def _faults(self, thread: int) -> FaultCounts:
        minor, major = self.kernel.machine.thread_faults(thread)
        return FaultCounts(minor, major)

    def _tell(self, what: str) -> None:
        self._lines.append(f"{self.clock.now_ns()} {what}")

    def _note(self, event: Event) -> None:
        if isinstance(event, Underrun):
            self._by_session[event.session_id].underruns.append(event)
        elif isinstance(event, PrefetchDone):
            self._prefetches.append(event)
        elif isinstance(event, CueSettled):
            self._scheduled.append(event)
        self._lines.append(event_line(event))
