"""What the rest of a simulated machine suffers: :mod:`samplecache.lab.ear.victim` in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

from samplecache.clock import NS_PER_S
from samplecache.lab.ear.victim import PAGES_A_ROUND, ROUND_NS, WORKING_BYTES
from samplecache.lab.loads import Stage
from samplecache.simulation.memory import Steps

BEFORE_NS: Final = NS_PER_S
"""How long before the first cue may come it is there, if others are by then: several times through its memory."""


class Bystander:
    """A thread that uses memory of its own round and round and times that: a load, for one run.

    Parameters
    ----------
    over : callable
        Tells whether the run is over.

    Attributes
    ----------
    rounds_ns : list of int
        How long each round took since the beginning: ``PAGES_A_ROUND`` pages, every ``ROUND_NS`` if they come so fast.
    major_faults : int
        How often it had to wait for a page of its own meanwhile.
    """

    def __init__(self, over: Callable[[], bool]) -> None:
        self._over = over
        self.rounds_ns: list[int] = []
        self.major_faults = 0

    def run(self, stage: Stage) -> Steps:
        """Use memory until the run is over; what comes before its beginning does not count."""
        kernel, clock, thread = stage.kernel, stage.clock, stage.thread
        yield max(clock.now_ns(), stage.began_ns - BEFORE_NS)
        region = kernel.map(WORKING_BYTES)
        model = kernel.model(region)
        yield from kernel.machine.write(thread, model, 0, model.pages)
        faults_before = 0
        due_ns = clock.now_ns()
        for chunk in itertools.cycle(list(region.span.chunks(PAGES_A_ROUND))):
            yield max(clock.now_ns(), due_ns)
            if self._over():
                break
            began_ns = clock.now_ns()
            yield from kernel.machine.touch(thread, model, chunk.start, chunk.stop)
            _, faults = kernel.machine.thread_faults(thread)
            if began_ns < stage.began_ns:
                faults_before = faults
            else:
                self.rounds_ns.append(clock.now_ns() - began_ns)
                self.major_faults = faults - faults_before
            due_ns = max(due_ns + ROUND_NS, clock.now_ns())  # a round that was late is not made up for
        kernel.unmap(region)
