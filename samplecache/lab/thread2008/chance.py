"""What a seed draws, the same in every version of Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")


class Chance:
    """A source of draws. Of all that :mod:`random` offers, only ``random()`` is promised to stay what it is.

    Parameters
    ----------
    seed : int
        The run's seed.
    name : str
        Who draws: each part of a run has draws of its own, so that one more or less in one changes no other.
    """

    def __init__(self, seed: int, name: str) -> None:
        self.random = random.Random(f"{seed} {name}").random  # noqa: S311 -- a model's randomness, no secret

    def below(self, limit: int) -> int:
        """Return an integer from 0 to `limit` - 1, all equally likely."""
        return int(self.random() * limit)

    def choice(self, items: Sequence[_T]) -> _T:
        """Return one of `items`, all equally likely."""
        return items[self.below(len(items))]
