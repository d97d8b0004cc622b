"""Python's garbage collector, which stops every thread while it looks for cycles."""

from __future__ import annotations

import gc


def keep_for_good() -> None:
    """Have what is there now never looked through again: modules, classes, generated messages; they are not garbage.

    A full collection takes some 35 ms for these alone, in the middle of everybody's blocks; one comes whenever a
    quarter as much has been made anew, as when many streams are opened at once. Blocks for as long as one takes.
    """
    gc.collect()  # else what is garbage now would be kept as well
    gc.freeze()
