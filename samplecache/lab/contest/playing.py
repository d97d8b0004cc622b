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
from samplecache.lab.contest.records import SAMPLECACHE, Case, Run, Status
from samplecache.lab.contest.simulated import simulate
from samplecache.lab.scenarios.reading import Play
from samplecache.lab.scenarios.score import Score
from samplecache.strategy.registry import StrategyRegistry

RETRIES: Final = 2
"""How often a run that says nothing, or that the machine disturbed, is played again."""

_Thing = TypeVar("_Thing")
Player = Callable[[Score, Case, str], Run]
"""Plays a score once in a machine as a contender."""


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

    def turns(self) -> Iterator[tuple[int, Case, str]]:
        """Yield repetition, case and contender of all runs, in their order."""
        order = random.Random(self.seed)  # noqa: S311 -- an order, no secret
        for repetition in range(self.repetitions):
            for case in _shuffled(order, self.cases):
                for contender in _shuffled(order, self.contenders):
                    if case.measured or contender.startswith(SAMPLECACHE):
                        yield repetition, case, contender


def _shuffled(order: random.Random, things: Sequence[_Thing]) -> list[_Thing]:
    return sorted(things, key=lambda _: order.random())


def simulating(play: Play, registry: StrategyRegistry) -> Player:
    """Return what plays on the simulated kernel."""

    def run(score: Score, case: Case, contender: str) -> Run:
        strategy = contender.split(":")[1]
        run = simulate(score, case, strategy, play.scenario.simulated_device, registry)
        return run.model_copy(update={"contender": contender})

    return run


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
        Told of each turn before it begins, of each run when it has ended, and of each turn when it will not be tried
        again.
    """
    with contextlib.ExitStack() as stack:
        measure: Player | None = None
        for repetition, case, contender in plan.turns():
            if (case, contender, repetition) in log.settled():
                continue
            before(repetition, case, contender)
            if case.measured and measure is None:
                measure = stack.enter_context(measure_with())
            player = measure if case.measured and measure is not None else simulate_with
            for _ in range(1 + plan.retries):
                run = _played(player, plan, repetition, case, contender)
                log.add(run)
                after(run)
                if run.status not in (Status.NOISY, Status.WARM):
                    break
            over(repetition, case, contender)


def _played(player: Player, plan: Plan, repetition: int, case: Case, contender: str) -> Run:
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    score = plan.play.score(repetition, plan.seed)
    try:
        run = player(score, case, contender)
    except (SamplecacheError, OSError, subprocess.SubprocessError) as error:
        run = Run(
            case=case, contender=contender, repetition=repetition, seed=score.seed, status=Status.FAILED, why=str(error)
        )
    return run.model_copy(update={"repetition": repetition, "seed": score.seed, "began": began})
