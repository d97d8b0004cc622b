"""What the machine counts, what it counts for each thread, and its log of events."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from samplecache.simulation.blockqueue import Plug


@dataclass(slots=True)
class MachineCounters:
    """Events of the whole machine since it began, in pages; the names are those of ``/proc/vmstat``."""

    pgmajfault: int = 0
    pswpin: int = 0
    pswpout: int = 0
    swpin_zero: int = 0
    swpout_zero: int = 0
    swap_ra: int = 0
    swap_ra_hit: int = 0


class SimulatedThread:
    """One thread's account.

    Attributes
    ----------
    number : int
        In the order of first appearance, from 0: what the log calls it.
    minor, major : int
        Its faults, as ``getrusage`` counts them.
    debt_ns : int
        CPU time that it has used and not yet slept for, in nanoseconds. Its own time is that much ahead of the clock.
    plug : Plug
        What it is about to read and write; empty whenever it sleeps.
    """

    __slots__ = ("debt_ns", "major", "minor", "number", "plug")

    def __init__(self, number: int, page_bytes: int) -> None:
        self.number = number
        self.plug = Plug(page_bytes)
        self.minor = 0
        self.major = 0
        self.debt_ns = 0


class EventLog:
    """The last events, each a line: time in nanoseconds, thread, event, page, slot.

    Parameters
    ----------
    capacity : int
        How many lines are kept.
    """

    COLUMNS: Final = "time_ns thread event page slot"

    def __init__(self, capacity: int) -> None:
        self._lines: deque[str] = deque(maxlen=capacity)

    def add(self, time_ns: int, thread: int, event: str, page: int, slot: int) -> None:
        """Write one line."""
        self._lines.append(f"{time_ns} {thread} {event} {page} {slot}")

    def text(self) -> str:
        """Return the log, under a heading."""
        return "\n".join((self.COLUMNS, *self._lines)) + "\n"
