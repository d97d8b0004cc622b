"""Which streams a device that is slower than all of them need can carry: planning code, free of I/O.

Without a plan everybody is late: each waits for its share of what the device brings, and no share is enough. So as many
as fit are kept, and the others are *shed*: they are told, their pages yield to everyone else's, and they wait for them
instead of faulting against those that are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from samplecache.clock import NS_PER_MS, NS_PER_S

LOOK_NS: Final = 200 * NS_PER_MS
"""How often streams are looked at. The first rate is known after 300 ms of a busy device, so the second look tells."""

COLD_NS: Final = 2 * NS_PER_S
"""A stream needs the device as long as something was brought in for it within that time."""

CLEAN_LOOKS: Final = 10
"""After so many looks in a row at which it was clean, 2 s, a stream that is shed has recovered."""

CROWDED_LOOKS: Final = 10
"""After so many looks in a row at which batches queued and one that is kept was late, one more is shed."""

REMEMBER_NS: Final = 30 * NS_PER_S
"""How long it is remembered what the device carries, for those who come meanwhile."""

PATIENCE_NS: Final = 2 * NS_PER_S
"""So long a block of a shed stream waits for its pages; then it is read as it is. So none of them hangs."""

BEGIN: Final = 1.05
"""Shedding begins where more than so many times what the device carries is needed: rates are known to a few percent."""
KEEP: Final = 0.9
"""Then so much of what it carries is given out; the rest is for catching up, for those that are shed, and for the error
of the measurement: pages that a reading thread faulted in itself count among those that were asked for."""
RESTORE: Final = 0.8
"""One that is shed comes back where it fits into so much, so that it does not come and go."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One that needs the device.

    Attributes
    ----------
    bytes_per_s : int
        What it reads.
    opened : int
        Its place in the order in which streams were opened: of two, the first has had its deadlines longer.
    shed : bool
        Whether it is shed now.
    recovered : bool
        Whether it has played clean for a while although it is shed: there is room for it.
    can_yield : bool
        Whether its strategy can be kept from bringing pages in; one that asked for everything at once cannot.
    """

    bytes_per_s: int
    opened: int
    shed: bool = False
    recovered: bool = False
    can_yield: bool = True


def shed(streams: Sequence[Stream], capacity_bytes_per_s: int | None) -> list[bool]:
    """Return for each stream whether it is to be shed; all of them stay as they are while the capacity is unknown.

    Those that are not shed keep their place before those that are, and then those that were opened first, whose
    deadlines were there first. The first is always kept.
    """
    if capacity_bytes_per_s is None:
        return [stream.shed for stream in streams]
    verdicts = [False] * len(streams)
    needed = sum(stream.bytes_per_s for stream in streams)
    if needed <= capacity_bytes_per_s * BEGIN and not any(stream.shed for stream in streams):
        return verdicts
    used = 0
    order = sorted(
        range(len(streams)),
        key=lambda i: (streams[i].can_yield, streams[i].shed, streams[i].opened),
    )
    for place, index in enumerate(order):
        stream = streams[index]
        room = capacity_bytes_per_s * (RESTORE if stream.shed else KEEP)
        if not place or not stream.can_yield or stream.recovered or used + stream.bytes_per_s <= room:
            used += stream.bytes_per_s
        else:
            verdicts[index] = True
    return verdicts


def has_room(streams: Sequence[Stream], newcomer_bytes_per_s: int, capacity_bytes_per_s: int | None) -> bool:
    """Return whether one more fits beside `streams` that are not shed, as far as the capacity is known."""
    if capacity_bytes_per_s is None:
        return True
    used = sum(stream.bytes_per_s for stream in streams if not stream.shed)
    return used + newcomer_bytes_per_s <= capacity_bytes_per_s * KEEP
