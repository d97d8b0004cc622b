"""Randomness that is the same in every version of Python, from a seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import TypeVar

_T = TypeVar("_T")


def shuffled(items: Iterable[_T], seed: int) -> list[_T]:
    """Return `items` in an order that `seed` tells (Fisher-Yates, from the end).

    Of all that :class:`random.Random` offers, only the numbers of ``random()`` are promised to stay what they are; so
    nothing else is drawn here.
    """
    order = list(items)
    chance = Random(seed)  # noqa: S311 -- a model's randomness, not a secret's
    for last in range(len(order) - 1, 0, -1):
        other = int(chance.random() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order


class Chance:
    """Draws one value after the other, which ones a seed tells; it too uses ``random()`` only.

    Parameters
    ----------
    seed : int
        The same draws come from the same seed.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 -- a model's randomness, not a secret's

    def one_of(self, values: Sequence[_T]) -> _T:
        """Return one of `values`, of which there must be one at least; all are as likely."""
        return values[int(self._random.random() * len(values))]
