"""The most streams that are held, found in few trials."""

from __future__ import annotations

from collections.abc import Callable

STEP = 1.05
"""From one level to the next: finer than what is to be told apart, and coarser than what repeats."""


def levels(least: int, most: int) -> list[int]:
    """Return numbers of streams to try, ascending, each `STEP` times the one before, rounded."""
    found = [least]
    exact = float(least)
    while (exact := exact * STEP) <= most:
        if round(exact) > found[-1]:
            found.append(round(exact))
    return found


def most_held(held: Callable[[int], bool], among: list[int], guess: int) -> int:
    """Return the greatest of `among` that is held; 0 if none is.

    Goes from `guess` outwards in steps that double until it has one that is held and one that is not, and halves what
    lies between. Supposes that what is held stays so with fewer streams.

    Parameters
    ----------
    held : Callable
        Tries a number of streams.
    among : list of int
        What to try, ascending.
    guess : int
        Where to begin: the nearest of `among` that is not greater.
    """
    good, bad = -1, len(among)
    at = max((index for index, level in enumerate(among) if level <= guess), default=0)
    step = 1
    while good + 1 < bad:
        if held(among[at]):
            good = at
            at = at + step if bad == len(among) else (good + bad) // 2
        else:
            bad = at
            at = at - step if good == -1 else (good + bad) // 2
        step *= 2
        at = min(max(at, good + 1), bad - 1)
    return among[good] if good >= 0 else 0
