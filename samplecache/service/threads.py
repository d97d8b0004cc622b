"""Which thread goes first: that of the event loop, where it has to share a CPU with those that work for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def yielding_threads() -> Iterator[None]:
    """Have threads that are started in the block not interrupt the calling one, nor each other; nor do their children.

    On Linux a thread that wakes up takes the CPU from the one that is running there. Every message that a loop sends
    wakes a thread of gRPC, which would so come between that message and the next, five thousand times a second. Under
    SCHED_BATCH (sched(7)) it waits until the loop has nothing to do or has had its share, and finds many messages to
    see to. A thread that has a CPU of its own loses nothing by that. It needs no privilege; where there is no such
    policy, or the caller has been given another than the usual, nothing is changed.
    """
    usual = getattr(os, "SCHED_OTHER", None)
    if usual is None or os.sched_getscheduler(0) != usual:
        yield
        return
    yield_to_others()
    try:
        yield
    finally:
        os.sched_setscheduler(0, usual, os.sched_param(0))  # 0 is the calling thread


def yield_to_others() -> None:
    """Have the calling thread not interrupt others; see :func:`yielding_threads`."""
    if hasattr(os, "SCHED_BATCH"):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
