"""Repeated measurements and their median and spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from samplecache.clock import NS_PER_S

_T = TypeVar("_T")


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
    """

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the values."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """How far the values are apart: greatest less least, as a part of the median."""
        return (max(self.values) - min(self.values)) / self.median

    def document(self) -> dict[str, Any]:
        """Return all that is known of it, for JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "spread": self.spread,
            "values": list(self.values),
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
