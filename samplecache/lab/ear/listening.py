"""Runs: one contender plays one case once, and what was heard of it and what it cost is written down."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Self

import numpy as np
import soundfile

from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.errors import UnavailableError
from samplecache.kernel import procfs
from samplecache.lab.ear.card import Card
from samplecache.lab.ear.card_process import PERIOD_NS
from samplecache.lab.ear.contender import Case, Contender, ContenderFailedError, Cue, CueReport, Load, Sound, Stage
from samplecache.lab.ear.heard import CARD_FORMAT, Heard, HeardCue, Victim
from samplecache.lab.ear.lines import LineProcess
from samplecache.lab.ear.path import Path
from samplecache.lab.ear.performing import BEGIN_NS, perform
from samplecache.lab.ear.watching import Usage, Watch, processes_in, thread_faults
from samplecache.lab.ear.witness_process import DistantWitness
from samplecache.lab.rig import Limits, Rig

NOISY_CARD_NS: Final = PERIOD_NS
"""A card that was later than a period asked for more at once than a pipe holds."""
NOISY_WITNESS_NS: Final = 15 * NS_PER_MS
COLD_FRACTION: Final = 0.9
"""How much of the pages needed must have come in from swap, or from files, in a run that was cold."""
WARM_UP: Final = "warm-up"
"""A sound that has the contender's own memory in RAM again: played while all is unlimited but memory."""
REHEARSAL: Final = "rehearsal"
"""One that is cold, and played within all limits just before the performance: on no machine is the first sound ever
played the one that matters, and whoever measures what page-ins take has not measured another disk."""
WARM_UP_FRAMES: Final = CARD_FORMAT.rate_hz
"""Long enough for what a server does now and then."""
REHEARSAL_FRAMES: Final = CARD_FORMAT.rate_hz // 4
"""As floats a tenth of a second of a device that reads 2 MB/s."""
VAIN_ROUNDS: Final = 3
MOST_ROUNDS: Final = 20
"""How often all is pushed out, until nothing more goes so many times: what has just been played is spared at first."""
BETWEEN_ROUNDS_NS: Final = 50 * NS_PER_MS
"""Until what is left is pushed out again where nothing went: half of it may stay, and go soon after."""
SETTLED_ROUNDS: Final = 16
"""Rounds of the victim: once through its working set."""
SETTLE_NS: Final = 5 * NS_PER_S
"""The longest to wait for the victim to settle; under a load it never does."""
EMPTYING_NS: Final = 5 * NS_PER_S
"""How long a contender's children get to end after it."""
POLL_NS: Final = 5 * NS_PER_MS
PAGE_BYTES: Final = 4096


def listen(contender: Contender, case: Case, rig: Rig) -> Heard:
    """Start `contender`, have it play `case` once, end it, and return what was heard; see :class:`Listener`."""
    with Listener(lambda: contender, rig) as listener:
        return listener.hear(case)


class Listener:
    """Has a contender play cases one after another in one rig, for the length of a ``with`` block.

    The contender is started once and told the sounds once; then it is made cold and limited anew for each case. All
    cases have the same sounds, victim and loads.

    Parameters
    ----------
    make : callable
        Returns a contender that has not been started: one is made for the first case, and for the next after it failed.
    rig : Rig
        Entered, with nobody in it. Its limits are set, and lifted again.
    """

    def __init__(self, make: Callable[[], Contender], rig: Rig) -> None:
        self._make = make
        self._rig = rig
        self._stack = contextlib.ExitStack()
        self._run: _Run | None = None
        self._so_far = Heard("", "", "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the contender and all that was started with it; may be called again."""
        self._run = None
        self._stack.close()

    def hear(self, case: Case) -> Heard:
        """Have `case` played once, and return what was heard. Blocks for as long as it sounds and some seconds more.

        Returns
        -------
        Heard
            With `failed` or `discarded` set where it says why nothing was heard, or nothing that counts. Errors of the
            run itself are raised.

        Raises
        ------
        NotPermittedError
            A program that the contender needs is missing.
        """
        try:
            run = self._run or self._start(case)
            heard = dataclasses.replace(self._so_far, case=case.name, notes=tuple(run.contender.notes()))
            heard = dataclasses.replace(heard, limit_bytes=run.squeeze(case, heard.base_bytes))
            heard = run.perform(case, heard)
            return dataclasses.replace(heard, discarded=why_discarded(heard, case, run.contender))
        except ContenderFailedError as error:
            self.close()
            return dataclasses.replace(self._so_far, case=case.name, failed=str(error))
        except BaseException:
            self.close()
            raise

    def _start(self, case: Case) -> _Run:
        """Start all that is needed, and have the contender keep the sounds."""
        contender = self._make()
        sound_bytes = sum(sound.pcm_bytes for sound in case.sounds)
        self._so_far = Heard(contender.name, "", case.name, sound_bytes=sound_bytes)
        contender.check(case.cues, {sound.sample_id: sound.frames for sound in case.sounds})
        with contextlib.ExitStack() as stack:
            stage = Stage(self._rig, self._rig.make_directory())
            stack.callback(_empty, self._rig)
            stack.callback(self._rig.limit, Limits())
            stack.callback(contender.close)
            self._note(version=contender.version)
            card = stack.enter_context(Card())
            witness = stack.enter_context(DistantWitness(stage.directory / "witness.log"))
            victim = stack.enter_context(_victim(stage, case))
            loads = [stack.enter_context(_load(stage, number, load)) for number, load in enumerate(case.loads)]
            contender.start(stage)
            run = _Run(contender, stage, card, witness, victim, loads)
            self._note(base_bytes=run.measure_base(case))
            self._note(stored_bytes=run.prepare(case))
            self._stack = stack.pop_all()
        self._run = run
        return run

    def _note(self, **known: Any) -> None:
        self._so_far = dataclasses.replace(self._so_far, **known)


class _Run:
    """The steps of a run, in the order of its methods; those from :meth:`squeeze` on again for each case."""

    def __init__(
        self,
        contender: Contender,
        stage: Stage,
        card: Card,
        witness: DistantWitness,
        victim: LineProcess | None,
        loads: Sequence[LineProcess],
    ) -> None:
        self.contender = contender
        self._loads = loads
        self._rig = stage.rig
        self._card = card
        self._witness = witness
        self._victim = victim
        self._clock = MonotonicClock()
        self._warm_up = _write_noise(stage, WARM_UP, WARM_UP_FRAMES)
        self._rehearsal = _write_noise(stage, REHEARSAL, REHEARSAL_FRAMES)

    def pids(self) -> list[int]:
        """Return the contender's processes in the rig."""
        others = [each.process.pid for each in (self._victim, *self._loads) if each is not None]
        return processes_in(self._rig.groups[-1], others)

    def measure_base(self, case: Case) -> int:
        """Return what all need in RAM while short sounds play, and no more than that; of loads a page."""
        self.contender.prepare([self._warm_up, self._rehearsal])
        self._rig.reclaim()
        for process in self._loads:
            process.ask(do="begin", length_bytes=PAGE_BYTES, start_ns=0)
        self._play(self._warm_up, most_together(case))
        self._settle()
        base_bytes = self._rig.working_bytes
        for process in self._loads:
            process.ask(do="stop")
        return base_bytes

    def prepare(self, case: Case) -> int:
        """Have the sounds kept; return by how much the contender grew."""
        before = Usage.of(self.pids())
        self.contender.prepare(case.sounds)
        after = Usage.of(self.pids())
        return after.anonymous_bytes + after.swapped_bytes - before.anonymous_bytes - before.swapped_bytes

    def squeeze(self, case: Case, base_bytes: int) -> int | None:
        """Make all cold, and set the limits; return the memory limit."""
        self._rig.limit(Limits())
        if case.cold:
            self._make_cold()
        limit_bytes = case.memory_bytes
        if case.memory_factor is not None:
            stored = sum(sound.frames for sound in case.sounds) * CARD_FORMAT.channels * self.contender.encoding_bytes
            limit_bytes = base_bytes + round(case.memory_factor * stored)
        try:
            self._rig.limit(Limits(memory_bytes=limit_bytes))
        except UnavailableError as error:
            raise ContenderFailedError(
                f"{self.contender.name} has {self._rig.memory_bytes} bytes that cannot be swapped out, and the limit "
                f"is {limit_bytes}",
                remedy="Give it more memory, or lock less",
            ) from error
        for process, load in zip(self._loads, case.loads, strict=True):
            if load.idle:
                process.ask(do="begin", length_bytes=load.length_bytes, start_ns=0)
        if not case.idle:
            self._play(self._warm_up, most_together(case))
        self._settle()
        self._rig.limit(Limits(limit_bytes, case.read_iops, case.read_bytes_per_s))
        if case.cold and not case.idle:
            self._play(self._rehearsal, 1)
        return limit_bytes

    def perform(self, case: Case, heard: Heard) -> Heard:
        """Play, and return `heard` with what came of it."""
        contender = self.contender
        threads = contender.playing_threads()
        faults_before = thread_faults(threads)
        usage_before, clients_before = Usage.of(self.pids()), Usage.of(contender.clients())
        swap_before = procfs.swap_counts()
        self._tell_victim("begin")
        with Watch(self.pids, self._clock.now_ns() + BEGIN_NS) as watch:
            performance = perform(
                contender, case.cues, case.sounds, self._card, lambda start_ns: self._begin(case, start_ns)
            )
            # What came after the last frame, the listener's own looking through what it heard too, harmed nobody.
            window = (performance.start_ns, performance.over_ns)
            late_ns = (self._witness.lateness_between(*window), self._card.late_between(*window))
        swap_after = procfs.swap_counts()
        victim = None if self._victim is None else Victim(**self._victim.ask(do="report"))
        usage = Usage.of(self.pids()) - usage_before
        clients = Usage.of(contender.clients()) - clients_before
        faults_after = thread_faults(threads)
        for load in self._loads:
            load.ask(do="stop")
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
            prefetches=tuple(
                (sample_id, began_ns - performance.start_ns, ended_ns - performance.start_ns)
                for sample_id, began_ns, ended_ns in contender.prefetches()
            ),
        )

    def _begin(self, case: Case, start_ns: int) -> None:
        """Tell loads when the performance begins."""
        for process, load in zip(self._loads, case.loads, strict=True):
            if not load.idle:
                process.ask(do="begin", length_bytes=load.length_bytes, start_ns=start_ns + load.start_ns)
            if load.stop_ns is not None:
                process.ask(do="until", stop_ns=start_ns + load.stop_ns)

    def _make_cold(self) -> None:
        """Push all out until nothing more of the contender's goes.

        The victim rests meanwhile: what it had brought back at once was pushed out again and again, in place of sounds.
        """
        self._tell_victim("rest")
        self.contender.make_cold()
        self._push_out()
        self._tell_victim("go_on")

    def _push_out(self) -> None:
        vain, left_bytes = 0, Usage.of(self.pids()).anonymous_bytes
        for _ in range(MOST_ROUNDS):
            self._rig.reclaim()
            before_bytes, left_bytes = left_bytes, Usage.of(self.pids()).anonymous_bytes
            vain = vain + 1 if left_bytes >= before_bytes else 0
            if vain == VAIN_ROUNDS:
                return
            if vain and left_bytes:
                self._clock.sleep_until(self._clock.now_ns() + BETWEEN_ROUNDS_NS)

    def _tell_victim(self, what: str) -> None:
        if self._victim is not None:
            self._victim.ask(do=what)

    def _play(self, sound: Sound, times: int) -> None:
        """Have a short sound played, so many times at once, each a period after the one before."""
        cues = tuple(Cue(sound.sample_id, number * PERIOD_NS, hint_ahead_ns=None) for number in range(times))
        perform(self.contender, cues, (sound,), self._card)
        self.contender.finish()

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
        victim.ask(do="begin")  # while it starts it takes ten times the memory that it needs later
        yield victim
    finally:
        victim.close()


@contextlib.contextmanager
def _load(stage: Stage, number: int, load: Load) -> Iterator[LineProcess]:
    """Run a background load in the rig, which does not begin yet."""
    argv = [sys.executable, "-m", "samplecache.lab.ear.churn", str(load.rate_bytes_per_s)]
    process = LineProcess("a load", partial(stage.rig.popen, argv), stage.directory / f"load-{number}.log")
    try:
        process.ask(do="stop")
        yield process
    finally:
        process.close()


def most_together(case: Case) -> int:
    """Return how many cues of `case` sound at the same time at most, if all are in time."""
    spans = [(cue.at_ns, cue.at_ns + CARD_FORMAT.duration_ns(case.path(cue).frames)) for cue in case.cues]
    return max(sum(start <= begin < stop for start, stop in spans) for begin, _ in spans)


def _write_noise(stage: Stage, name: str, frames: int) -> Sound:
    """Write a short sound of noise, which no contender could know by heart."""
    path = stage.directory / f"{name}.wav"
    noise = np.random.default_rng(list(name.encode())).integers(-1000, 1000, (frames, CARD_FORMAT.channels), np.int16)
    soundfile.write(path, noise, CARD_FORMAT.rate_hz, "PCM_16")
    return Sound(name, path, frames)


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
