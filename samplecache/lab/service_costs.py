"""What the service's own work takes on the machine that is simulated."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Final

from samplecache.errors import InvalidError

_NOTHING: Final = (0,)


@dataclass(frozen=True, slots=True)
class ServiceCosts:
    """CPU time, in nanoseconds, that the service itself takes: measure it on the machine that is simulated.

    Each is the values that were measured; every call takes one of them, drawn by the run's seed. The worst of many
    calls is then the worst that was measured, not the one value that a run would have had for all of them.

    Attributes
    ----------
    open_ns : tuple of int
        For a session, between its opening and the reading of its first block.
    handover_ns : tuple of int
        For a block of which a page is not in RAM: it is read by another thread, which has to wake up.
    block_ns : tuple of int
        For a block, besides the faults that reading it takes, until it is ready.
    prefetch_ns : tuple of int
        For a piece of a prefetch: its being picked up by a worker, and the strategy's decision.
    look_ns : tuple of int
        For a look at where a prefetch's pages are. The pause until the next grows with it.
    touch_page_ns : tuple of int
        For a page that is touched, besides its fault; drawn once for a call.

    Raises
    ------
    InvalidError
        One is negative, or has no values.
    """

    open_ns: tuple[int, ...] = _NOTHING
    handover_ns: tuple[int, ...] = _NOTHING
    block_ns: tuple[int, ...] = _NOTHING
    prefetch_ns: tuple[int, ...] = _NOTHING
    look_ns: tuple[int, ...] = _NOTHING
    touch_page_ns: tuple[int, ...] = _NOTHING

    def __post_init__(self) -> None:
        for values in astuple(self):
            if min(values, default=-1) < 0:
                raise InvalidError(
                    f"a cost is negative or has no values: {self}", remedy="Give one value at least, of 0 or more ns"
                )
