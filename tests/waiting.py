"""Waiting for what other processes and threads do: on a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 60.0
"""Far more than anything takes: a busy machine is no failure."""

POLL_S = 0.005

Found = TypeVar("Found")


def wait_until(condition: Callable[[], Found], what: str = "waited in vain") -> Found:
    """Return what `condition` returns once it holds; fail with `what` after `PATIENCE_S`."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"{what} for {PATIENCE_S:.0f} s"
        time.sleep(POLL_S)
    return found
