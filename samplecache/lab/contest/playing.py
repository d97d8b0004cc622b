"""All runs of a comparison, interleaved: repetition by repetition, and in each in an order of its own."""

from __future__ import annotations

import contextlib
import datetime
import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from samplecache.errors import SamplecacheError
from samplecache.lab.contest.log import RunLog
from samplecache.lab.contest.records import LOCKED, SAMPLECACHE, Case, Run, Status
from samplecache.lab.contest.simulated import simulate
from samplecache.lab.scenarios.reading import Play
from samplecache.lab.scenarios.score import Score
from samplecache.strategy.registry import StrategyRegistry

RETRIES: Final = 2
"""How often a run that says nothing, or that the machine disturbed, is played again."""

_Thing = TypeVar("_Thing")
Turn = Callable[[Case], Run]
"""Plays a score in a machine; machines one after another."""
Player = Callable[[Score, str], AbstractContextManager[Turn]]
"""Gets ready to play a score as a contender, for the length of a block."""


class Measuring(Protocol):
    """What plays on the running kernel; see :mod:`.measured`."""

    def __call__(self) -> AbstractContextManager[Player]:
        """Get ready for runs, for the length of a block."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be played.

    Attributes
    ----------
    play : Play
        The scenario.
    cases : tuple of Case
        In which machines.
    contenders : tuple of str
        By whom. Only those that are samplecache's strategies play on the simulated kernel.
    repetitions : int
        How often each.
    seed : int
        Of schedules and of the order.
    retries : int
        How often a run that says nothing, or that the machine disturbed, is played again.
    """

    play: Play
    cases: tuple[Case, ...]
    contenders: tuple[str, ...]
    repetitions: int
    seed: int
    retries: int = RETRIES

    def turns(self) -> Iterator[tuple[int, str, list[Case]]]:
        """Yield repetition, contender and the machines that it plays in now, in their order.

        All contenders play with one swap device before the next. A contender is started for each, and plays in all of
        that device's memory limits: in an order of their own, as contenders and devices are.
        """
        order = random.Random(self.seed)  # noqa: S311 -- an order, no secret
        devices = list(dict.fromkeys((case.kernel, case.device) for case in self.cases))
        for repetition in range(self.repetitions):
            for device in _shuffled(order, devices):
                for contender in _shuffled(order, self.contenders):
                    cases = [case for case in self.cases if (case.kernel, case.device) == device]
                    simulable = contender.startswith(SAMPLECACHE) and not contender.endswith(LOCKED)
                    if cases[0].measured or simulable:
                        yield repetition, contender, _shuffled(order, cases)


def _shuffled(order: random.Random, things: Sequence[_Thing]) -> list[_Thing]:
    return sorted(things, key=lambda _: order.random())


def simulating(play: Play, registry: StrategyRegistry) -> Player:
    """Return what plays on the simulated kernel."""

    @contextlib.contextmanager
    def ready(score: Score, contender: str) -> Iterator[Turn]:
        def run(case: Case) -> Run:
            played = simulate(score, case, contender.split(":")[1], play.simulated_device, registry)
            return played.model_copy(update={"contender": contender})

        yield run

    return ready


def play_all(
    plan: Plan,
    log: RunLog,
    simulate_with: Player,
    measure_with: Measuring,
    before: Callable[[int, Case, str], object] = lambda repetition, case, contender: None,
    after: Callable[[Run], object] = lambda run: None,
    over: Callable[[int, Case, str], object] = lambda repetition, case, contender: None,
) -> None:
    """Play all runs of `plan` that `log` does not have yet, and add them to it as they end. Blocks.

    A run that fails is kept as one that failed, and the next one played.

    Parameters
    ----------
    plan : Plan
        What is to be played.
    log : RunLog
        Where runs go.
    simulate_with : Player
        Plays on the simulated kernel.
    measure_with : Measuring
        Gets ready for the running kernel; only called if a case needs it.
    before, after, over : Callable
        Told of each run before it begins, of each try when it has ended, and of each run when it will not be tried
        again.
    """
    with contextlib.ExitStack() as stack:
        measure: Player | None = None
        for repetition, contender, cases in plan.turns():
            waiting = [case for case in cases if (case, contender, repetition) not in log.settled()]
            if not waiting:
                continue
            if waiting[0].measured and measure is None:
                measure = stack.enter_context(measure_with())
            player = measure if waiting[0].measured and measure is not None else simulate_with
            score = plan.play.score(repetition, plan.seed)
            with player(score, contender) as turn:
                for case in waiting:
                    before(repetition, case, contender)
                    for _ in range(1 + plan.retries):
                        run = _played(turn, score, repetition, case, contender)
                        log.add(run)
                        after(run)
                        if run.status not in (Status.NOISY, Status.WARM):
                            break
                    over(repetition, case, contender)


def _played(turn: Turn, score: Score, repetition: int, case: Case, contender: str) -> Run:
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        run = turn(case)
    except (SamplecacheError, OSError, subprocess.SubprocessError) as error:
        run = Run(
            case=case, contender=contender, repetition=repetition, seed=score.seed, status=Status.FAILED, why=str(error)
        )
    return run.model_copy(update={"repetition": repetition, "seed": score.seed, "began": began})
