"""From figures to verdicts: when one row is better than another, and when that is a tie."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from samplecache.lab.thread2008.figures import Measure, Results, Summary

LEAST_CHANGE: Final = 0.1
"""Medians that differ by less than this part of the larger one are a tie."""


class Outcome(enum.Enum):
    """How a row stands to another."""

    BETTER = "better"
    TIE = "a tie"
    WORSE = "worse"
    NOTHING = "nothing to tell apart"
    """Both are as good as can be."""


class Verdict(enum.Enum):
    """What figures say of a claim, on a device or over all."""

    RIGHT = "right"
    TIE = "a tie"
    """It was not borne out, but nothing spoke against it either."""
    WRONG = "not borne out"
    MIXED = "not the same on all devices"
    MOOT = "nothing to tell apart"
    SILENT = "the model cannot say"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two rows on one device, by one measure, over the same seeds.

    Attributes
    ----------
    device : str
        Which device.
    measure : Measure
        What is compared.
    mine, other : Summary
        Both rows' figures.
    better_seeds, worse_seeds, seeds : int
        With how many seeds the first row is better, worse, and of how many.
    outcome : Outcome
        What that comes to.
    """

    device: str
    measure: Measure
    mine: Summary
    other: Summary
    better_seeds: int
    worse_seeds: int
    seeds: int
    outcome: Outcome


def compare(results: Results, device: str, measure: Measure, row: str, other: str) -> Comparison | None:
    """Return how `row` stands to `other`; None if one of them has no run on the device.

    Where both rows are as good as can be with every seed, to within the measure's floor, there is nothing to tell
    apart. One is better if the medians differ by the floor and by a tenth of the larger at least, and all seeds but one
    in five say so too.
    """
    mine, others = results.of(row, device), results.of(other, device)
    if not mine or not others:
        return None
    sign = 1 if measure.more_is_better else -1
    gains = [sign * (measure.value(one) - measure.value(two)) for one, two in zip(mine, others, strict=True)]
    better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    medians = [statistics.median(map(measure.value, runs)) for runs in (mine, others)]
    change = abs(medians[0] - medians[1])
    outcome = Outcome.TIE
    if all(measure.as_good_as_can_be(measure.value(one)) for one in (*mine, *others)):
        outcome = Outcome.NOTHING
    elif change >= max(measure.floor, LEAST_CHANGE * max(medians)):
        enough = len(gains) - len(gains) // 5
        first_is_better = sign * (medians[0] - medians[1]) > 0
        if (better if first_is_better else worse) >= enough:
            outcome = Outcome.BETTER if first_is_better else Outcome.WORSE
    return Comparison(
        device, measure, measure.summary(mine), measure.summary(others), better, worse, len(gains), outcome
    )


def on_device(outcomes: Iterable[Outcome | None]) -> Verdict:
    """Return the verdict on a claim on one device.

    Parameters
    ----------
    outcomes : iterable of Outcome or None
        What each of its comparisons came to; None if that is as it predicted.
    """
    told = [one for one in outcomes if one is not Outcome.NOTHING]
    if not told:
        return Verdict.MOOT
    against = {one for one in told if one is not None}
    if not against:
        return Verdict.RIGHT
    return Verdict.TIE if against == {Outcome.TIE} else Verdict.WRONG


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict on a claim over devices. Those with nothing to tell apart do not count beside others."""
    found = set(verdicts)
    if not found:
        return Verdict.SILENT
    decided = found - {Verdict.MOOT} or {Verdict.MOOT}
    return decided.pop() if len(decided) == 1 else Verdict.MIXED
