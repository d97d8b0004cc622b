"""A run as text: the same bytes wherever it runs again."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable

from samplecache.kernel.port import FaultCounts
from samplecache.strategy.events import Event


def event_line(event: Event) -> str:
    """Return an event of the cache: its time in nanoseconds, its kind, and its fields."""
    facts = [
        f"{field.name}={_text(getattr(event, field.name))}"
        for field in dataclasses.fields(event)
        if field.name != "time_ns"
    ]
    return " ".join((str(event.time_ns), type(event).__name__, *facts))


def _text(value: object) -> str:
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, FaultCounts):
        return f"{value.major}+{value.minor}"
    return str(value)


def merge(heading: Iterable[str], machine_log: str, cache_lines: Iterable[str]) -> str:
    """Return one text of the machine's event log and the cache's lines, by their times, under a heading.

    Parameters
    ----------
    heading : iterable of str
        Lines that come first.
    machine_log : str
        From :meth:`samplecache.simulation.machine.Machine.log_text`; may be empty.
    cache_lines : iterable of str
        Lines that begin with a time in nanoseconds. Of equal times, the machine's come first.
    """
    columns, *machine_lines = machine_log.splitlines() or [""]
    lines = sorted((*machine_lines, *cache_lines), key=lambda line: int(line.partition(" ")[0]))
    return "\n".join((*heading, f"# {columns}, or time_ns event of the cache", *lines)) + "\n"
