"""What a claim is: words, the comparisons that it predicts, and when it counts as borne out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from samplecache.lab.thread2008.figures import Measure, Results
from samplecache.lab.thread2008.rows import ROWS
from samplecache.lab.thread2008.verdicts import Comparison, Outcome, Verdict, compare, on_device, together


@dataclass(frozen=True, slots=True)
class Test:
    """A comparison that a claim makes a prediction of.

    Attributes
    ----------
    row, other : str
        The rows that are compared.
    measure : Measure
        By what.
    predicted : frozenset of Outcome
        Outcomes of which the claim is borne out; empty if the figures are only to be seen.
    """

    row: str
    other: str
    measure: Measure
    predicted: frozenset[Outcome] = frozenset()

    def comparisons(self, results: Results) -> list[Comparison]:
        """Return the comparison on each device that both rows ran on."""
        found = [compare(results, device, self.measure, self.row, self.other) for device in results.devices]
        return [one for one in found if one is not None]


def predicts(row: str, other: str, measure: Measure, *predicted: Outcome) -> Test:
    """Return a comparison of two rows, and what a claim predicts of it."""
    return Test(ROWS[row].key, ROWS[other].key, measure, frozenset(predicted))


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that was said in the thread.

    Attributes
    ----------
    key : str
        What the document calls it.
    author, quote : str
        Who said it, and in which words.
    meaning : str
        What it is taken to predict; no figures.
    tests : tuple of Test
        What decides it: on a device it is right if all predictions hold, and a tie if ties are all that is against.
    since : str
        What kernels did about it later; no figures.
    decide : Callable or None
        Decides instead, on each device, where no comparison of rows can.
    """

    key: str
    author: str
    quote: str
    meaning: str
    tests: tuple[Test, ...] = ()
    since: str = ""
    decide: Callable[[Results], Mapping[str, bool | None]] | None = None

    def by_device(self, results: Results) -> Mapping[str, Verdict]:
        """Return what the figures say of it on each device that a test of it ran on."""
        if self.decide is not None:
            return {device: _DECIDED[borne_out] for device, borne_out in self.decide(results).items()}
        found: dict[str, list[Outcome | None]] = {}
        for test in self.tests:
            if test.predicted:
                for one in test.comparisons(results):
                    against = one.outcome is Outcome.NOTHING or one.outcome not in test.predicted
                    found.setdefault(one.device, []).append(one.outcome if against else None)
        return {device: on_device(outcomes) for device, outcomes in found.items()}

    def verdict(self, results: Results) -> Verdict:
        """Return what the figures say of it over all devices."""
        return together(self.by_device(results).values())


_DECIDED: Final = {True: Verdict.RIGHT, False: Verdict.WRONG, None: Verdict.MOOT}
