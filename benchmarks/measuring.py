"""Repeated measurements and their median and spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from samplecache.clock import NS_PER_S
from samplecache.witness import Witness

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine itself did while something was measured: threads that only sleep tell.

    Attributes
    ----------
    late_p999_ns, late_worst_ns : int
        By how much they woke late, nanoseconds. On a CPU that is measured they wait for what is measured, too.
    steal_ns : int
        Time that the hypervisor kept from all CPUs together; 0 where it is not told.
    """

    late_p999_ns: int
    late_worst_ns: int
    steal_ns: int


@contextmanager
def watched(seen: list[Machine]) -> Iterator[None]:
    """Watch the machine for the length of the block, and add to `seen` what it did."""
    with Witness() as witness:
        yield
    report = witness.report()
    seen.append(Machine(report.p999_ns, report.worst_ns, report.steal_ns or 0))


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, measured several times.

    Attributes
    ----------
    name : str
        What was measured.
    unit : str
        In what.
    values : tuple of float
        One for each repetition.
    machine : tuple of Machine
        What the machine did meanwhile, if that was watched.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    machine: tuple[Machine, ...] = ()

    @property
    def median(self) -> float:
        """The middle of the values."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """How far the values are apart: greatest less least, as a part of the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0

    def document(self) -> dict[str, Any]:
        """Return all that is known of it, for JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "spread": self.spread,
            "values": list(self.values),
            "machine": [asdict(each) for each in self.machine],
        }


def rates(
    name: str, unit: str, amount: int, repetitions: int, prepare: Callable[[], _T], act: Callable[[_T], object]
) -> Figure:
    """Time `act`, which does `amount` of something, on what `prepare` makes anew each time; return amounts a second."""
    values = []
    for _ in range(repetitions):
        prepared = prepare()
        began_ns = time.perf_counter_ns()
        act(prepared)
        values.append(amount * NS_PER_S / (time.perf_counter_ns() - began_ns))
    return Figure(name, unit, tuple(values))
