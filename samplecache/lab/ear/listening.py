"""Runs: one contender plays one case once, and what was heard of it and what it cost is written down."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import soundfile

from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.errors import UnavailableError
from samplecache.kernel import procfs
from samplecache.lab.ear.card import Card
from samplecache.lab.ear.contender import Case, Contender, ContenderFailedError, Cue, CueReport, Sound, Stage
from samplecache.lab.ear.heard import CARD_FORMAT, PERIOD_FRAMES, Heard, HeardCue, Victim
from samplecache.lab.ear.lines import LineProcess, end
from samplecache.lab.ear.path import Path
from samplecache.lab.ear.performing import BEGIN_NS, perform
from samplecache.lab.ear.watching import Usage, Watch, processes_in, thread_faults
from samplecache.lab.rig import Limits, Rig
from samplecache.witness import Witness

NOISY_CARD_NS: Final = CARD_FORMAT.duration_ns(PERIOD_FRAMES)
"""A card that was later than a period asked for more at once than a pipe holds."""
NOISY_WITNESS_NS: Final = 15 * NS_PER_MS
WITNESS_HISTORY_NS: Final = 900 * NS_PER_S
"""The longest run."""
COLD_FRACTION: Final = 0.9
"""How much of the pages needed must have come in from swap, or from files, in a run that was cold."""
WARM_UP: Final = "warm-up"
WARM_UP_FRAMES: Final = CARD_FORMAT.rate_hz // 2
SETTLED_ROUNDS: Final = 16
"""Rounds of the victim: once through its working set."""
SETTLE_NS: Final = 5 * NS_PER_S
"""The longest to wait for the victim to settle; under a load it never does."""
EMPTYING_NS: Final = 5 * NS_PER_S
"""How long a contender's children get to end after it."""
POLL_NS: Final = 5 * NS_PER_MS
PAGE_BYTES: Final = 4096


def listen(contender: Contender, case: Case, rig: Rig) -> Heard:
    """Start `contender`, have it play `case` once, end it, and return what was heard.

    Blocks for as long as the case sounds and some seconds more. `rig` has to be entered; nobody else may be in it.

    Parameters
    ----------
    contender : Contender
        Who plays; it must not have been started.
    case : Case
        What.
    rig : Rig
        Its limits are set, and lifted again.

    Returns
    -------
    Heard
        With `failed` or `discarded` set where it says why nothing was heard, or nothing that counts. Errors of the run
        itself are raised.

    Raises
    ------
    NotPermittedError
        A program that the contender needs is missing.
    """
    stage = Stage(rig, rig.make_directory())
    heard = Heard(contender.name, "", case.name, sound_bytes=sum(sound.pcm_bytes for sound in case.sounds))
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(_empty, rig)
            stack.callback(rig.limit, Limits())
            stack.callback(contender.close)
            heard = dataclasses.replace(heard, version=contender.version)
            victim = stack.enter_context(_victim(stage, case))
            contender.start(stage)
            run = _Run(contender, case, stage, victim)
            heard = dataclasses.replace(heard, base_bytes=run.measure_base())
            heard = dataclasses.replace(heard, stored_bytes=run.prepare())
            if case.load_bytes:
                stack.enter_context(_load(stage, case, run))
            heard = dataclasses.replace(heard, limit_bytes=run.squeeze(heard.base_bytes))
            heard = run.perform(dataclasses.replace(heard, notes=tuple(contender.notes())))
            return dataclasses.replace(heard, discarded=why_discarded(heard, case, contender))
    except ContenderFailedError as error:
        return dataclasses.replace(heard, failed=str(error), notes=tuple(contender.notes()))


class _Run:
    """The steps of a run, in the order of its methods."""

    def __init__(self, contender: Contender, case: Case, stage: Stage, victim: LineProcess | None) -> None:
        self._contender = contender
        self._case = case
        self._stage = stage
        self._rig = stage.rig
        self._victim = victim
        self._warm_up = _write_warm_up(stage)
        self._clock = MonotonicClock()
        self.others = [] if victim is None else [victim.process.pid]
        """Processes in the rig that are not the contender's."""

    def pids(self) -> list[int]:
        """Return the contender's processes in the rig."""
        return processes_in(self._rig.groups[-1], self.others)

    def measure_base(self) -> int:
        """Return what contender and victim need in RAM while a short sound plays, and no more than that."""
        self._contender.prepare([self._warm_up])
        self._rig.reclaim()
        self._play_warm_up()
        self._settle()
        return self._rig.working_bytes

    def prepare(self) -> int:
        """Have the sounds kept; return by how much the contender grew."""
        before = Usage.of(self.pids())
        self._contender.prepare(self._case.sounds)
        after = Usage.of(self.pids())
        return after.anonymous_bytes + after.swapped_bytes - before.anonymous_bytes - before.swapped_bytes

    def squeeze(self, base_bytes: int) -> int | None:
        """Make all cold, and set the limits; return the memory limit."""
        case = self._case
        if case.cold:
            self._contender.make_cold()
            self._rig.reclaim()
        limit_bytes = case.memory_bytes
        if case.memory_factor is not None:
            stored = sum(sound.frames for sound in case.sounds) * CARD_FORMAT.channels * self._contender.encoding_bytes
            limit_bytes = base_bytes + round(case.memory_factor * stored)
        try:
            self._rig.limit(Limits(memory_bytes=limit_bytes))
        except UnavailableError as error:
            raise ContenderFailedError(
                f"{self._contender.name} has {self._rig.memory_bytes} bytes that cannot be swapped out, and the limit "
                f"is {limit_bytes}",
                remedy="Give it more memory, or lock less",
            ) from error
        if not case.idle:
            self._play_warm_up()
        self._settle()
        self._rig.limit(Limits(limit_bytes, case.read_iops, case.read_bytes_per_s))
        return limit_bytes

    def perform(self, heard: Heard) -> Heard:
        """Play, and return `heard` with what came of it."""
        case, contender = self._case, self._contender
        threads = contender.playing_threads()
        faults_before = thread_faults(threads)
        usage_before, clients_before = Usage.of(self.pids()), Usage.of(contender.clients())
        swap_before = procfs.swap_counts()
        if self._victim is not None:
            self._victim.ask(do="begin")
        with (
            Card() as card,
            Witness(history_ns=WITNESS_HISTORY_NS) as witness,
            Watch(self.pids, self._clock.now_ns() + BEGIN_NS) as watch,
        ):
            performance = perform(contender, case.cues, case.sounds, card)
            # What came after the last frame, the listener's own looking through what it heard too, harmed nobody.
            window = (performance.start_ns, performance.over_ns)
            late_ns = (witness.lateness_between(*window), card.late_between(*window))
        swap_after = procfs.swap_counts()
        victim = None if self._victim is None else Victim(**self._victim.ask(do="report"))
        usage = Usage.of(self.pids()) - usage_before
        clients = Usage.of(contender.clients()) - clients_before
        faults_after = thread_faults(threads)
        reports = contender.finish()
        told = [_with_report(cue, reports.get(number)) for number, cue in enumerate(performance.cues)]
        return dataclasses.replace(
            heard,
            cues=tuple(told),
            major_faults=faults_after[0] - faults_before[0] + sum(cue.major_faults or 0 for cue in told),
            minor_faults=faults_after[1] - faults_before[1] + sum(cue.minor_faults or 0 for cue in told),
            pages_needed=_pages_needed(case, contender.encoding_bytes),
            pswpin=swap_after.pswpin - swap_before.pswpin,
            pswpout=swap_after.pswpout - swap_before.pswpout,
            read_bytes=usage.read_bytes,
            rss_bytes=max(moment.rss_bytes for moment in watch.moments),
            locked_bytes=max(moment.locked_bytes for moment in watch.moments),
            cpu_ns=usage.cpu_ns + clients.cpu_ns,
            victim=victim,
            witness_ns=late_ns[0],
            card_ns=late_ns[1],
            timeline=tuple(watch.moments),
        )

    def _play_warm_up(self) -> None:
        """Have a short sound played, so that what playing takes is in RAM."""
        with Card() as card:
            perform(self._contender, (Cue(WARM_UP, 0, hint_ahead_ns=None),), (self._warm_up,), card)
        self._contender.finish()

    def _settle(self) -> None:
        """Wait until the victim has its working set again, or `SETTLE_NS`."""
        deadline_ns = self._clock.now_ns() + SETTLE_NS
        while self._victim is not None and self._clock.now_ns() < deadline_ns:
            if self._victim.ask(do="settled", rounds=SETTLED_ROUNDS)["settled"]:
                return
            self._clock.sleep_until(self._clock.now_ns() + POLL_NS)


def why_discarded(heard: Heard, case: Case, contender: Contender) -> str:
    """Return why a run does not count; nothing if it does."""
    for what, late_ns, limit_ns in (
        ("card", heard.card_ns, NOISY_CARD_NS),
        ("witness", heard.witness_ns, NOISY_WITNESS_NS),
    ):
        if late_ns > limit_ns:
            return f"the machine itself stalled: the {what} was {late_ns / NS_PER_MS:.0f} ms late"
    if case.cold and not contender.keeps_resident:
        # What is read from a file does not count as swapped in; swap may be memory, of which nothing is read.
        came = max(heard.pswpin, heard.read_bytes // PAGE_BYTES)
        if came < COLD_FRACTION * heard.pages_needed:
            return f"it was not cold: {came} of {heard.pages_needed} pages came in"
    return ""


def _empty(rig: Rig) -> None:
    """Wait until nobody is in the rig; what a contender left behind by then is killed."""
    clock = MonotonicClock()
    deadline_ns = clock.now_ns() + EMPTYING_NS
    while left := processes_in(rig.groups[-1], ()):
        if clock.now_ns() > deadline_ns:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        clock.sleep_until(clock.now_ns() + POLL_NS)


@contextlib.contextmanager
def _victim(stage: Stage, case: Case) -> Iterator[LineProcess | None]:
    """Run the victim in the rig, if there is to be one."""
    if not case.victim_bytes:
        yield None
        return
    argv = [sys.executable, "-m", "samplecache.lab.ear.victim", str(case.victim_bytes)]
    victim = LineProcess("the victim", partial(stage.rig.popen, argv), stage.directory / "victim.log")
    try:
        yield victim
    finally:
        victim.close()


@contextlib.contextmanager
def _load(stage: Stage, case: Case, run: _Run) -> Iterator[None]:
    """Run the background load in the rig."""
    process = stage.rig.popen([sys.executable, "-m", "samplecache.lab.ear.churn", str(case.load_bytes)])
    run.others.append(process.pid)
    try:
        yield
    finally:
        end(process)


def _write_warm_up(stage: Stage) -> Sound:
    """Write a short sound of noise, which no contender could know by heart."""
    path = stage.directory / f"{WARM_UP}.wav"
    noise = np.random.default_rng(0).integers(-1000, 1000, (WARM_UP_FRAMES, CARD_FORMAT.channels), np.int16)
    soundfile.write(path, noise, CARD_FORMAT.rate_hz, "PCM_16")
    return Sound(WARM_UP, path, WARM_UP_FRAMES)


def _pages_needed(case: Case, encoding_bytes: int) -> int:
    """Return how many pages of stored sound the cues read, each counted once."""
    spans: dict[str, tuple[tuple[int, int], ...]] = {}
    for cue in case.cues:
        spans[cue.sample_id] = spans.get(cue.sample_id, ()) + case.path(cue).spans
    frame_bytes = CARD_FORMAT.channels * encoding_bytes
    return sum(Path(of_one, ()).pages(frame_bytes, PAGE_BYTES) for of_one in spans.values())


def _with_report(cue: HeardCue, report: CueReport | None) -> HeardCue:
    if report is None:
        return cue
    return dataclasses.replace(
        cue, major_faults=report.major_faults, minor_faults=report.minor_faults, strategy=report.strategy
    )
