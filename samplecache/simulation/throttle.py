"""A limit on reads as a control group enforces it: slice by slice, so that a slice's worth passes at once.

The algorithm is that of ``block/blk-throttle.c``, Linux 6.18, for one group with one or both limits. It counts in timer
ticks. A slice begins with the first read after a pause; until the next multiple of 100 ms from there as much may pass
as the limit allows by then. The rest waits, in order, for a timer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from samplecache.clock import NS_PER_S
from samplecache.errors import ConfigurationError

HZ: Final = 250
"""Timer ticks (jiffies) a second: CONFIG_HZ as the kernel's configuration and most distributions have it."""
HZ_MAX: Final = 10_000
"""More than any kernel has."""
SLICES_PER_S: Final = 10
"""``DFL_THROTL_SLICE`` is a tenth of a second."""
EXACT_TIMER_TICKS: Final = 63
"""``LVL_START(1)`` of the timer wheel: timers further away are kept in buckets of eight ticks."""
COARSE_TIMER_TICKS: Final = 8


@dataclass(frozen=True, slots=True)
class ReadLimit:
    """A limit on the reads of one control group: ``blkio.throttle.read_*_device`` or ``io.max``.

    Attributes
    ----------
    iops : int or None
        Reads a second. Swap submits one for each page, and limits come before merging: each page counts.
    bytes_per_s : int or None
        Bytes a second.
    hz : int
        The kernel's timer ticks a second, CONFIG_HZ: 100, 250, 300 or 1000 on x86.

    Raises
    ------
    ConfigurationError
        Neither limit is given, or one is not positive, or a tenth of a second is no whole number of ticks.
    """

    iops: int | None = None
    bytes_per_s: int | None = None
    hz: int = HZ

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.iops, self.bytes_per_s) if limit is not None]
        if not limits or min(limits) < 1:
            raise ConfigurationError(
                f"A read limit of {self.iops} reads and {self.bytes_per_s} bytes a second limits nothing or lets "
                "nothing pass",
                remedy="Give iops, bytes_per_s or both, each 1 at least",
            )
        if not 0 < self.hz <= HZ_MAX or self.hz % SLICES_PER_S:
            raise ConfigurationError(
                f"A kernel of {self.hz} Hz has no whole number of timer ticks in a tenth of a second, or too many",
                remedy=f"Give its CONFIG_HZ, a multiple of {SLICES_PER_S} up to {HZ_MAX}: 100, 250, 300 or 1000",
            )


class Throttle:
    """Says when each page that is read may pass. Reads pass in the order in which they come.

    Parameters
    ----------
    limit : ReadLimit
        How much may pass.
    page_bytes : int
        Size of a page, in bytes.
    """

    def __init__(self, limit: ReadLimit, page_bytes: int) -> None:
        self._limit = limit
        self._page_bytes = page_bytes
        self._hz = limit.hz
        self._slice = self._hz // SLICES_PER_S
        self._start = 0
        self._end = -1
        self._reads = 0
        self._bytes = 0
        self._last_ns = -1

    def admit(self, now_ns: int, pages: int) -> list[tuple[int, int]]:
        """Take in a read of `pages` pages; return when how many of them pass, as pairs in the order of time."""
        batches: list[tuple[int, int]] = []
        for _ in range(pages):
            pass_ns = self._pass_one(now_ns)
            if batches and batches[-1][0] == pass_ns:
                batches[-1] = (pass_ns, batches[-1][1] + 1)
            else:
                batches.append((pass_ns, 1))
        return batches

    def _pass_one(self, now_ns: int) -> int:
        queued = self._last_ns > now_ns  # behind others: looked at when the last of them has passed
        pass_ns = max(now_ns, self._last_ns)
        tick = pass_ns * self._hz // NS_PER_S
        if queued or self._start <= tick <= self._end:
            self._extend(tick + self._slice)
        else:
            self._start, self._end, self._reads, self._bytes = tick, tick + self._slice, 0, 0
        while wait := self._wait(tick):
            self._extend(tick + wait)
            tick = _timer_tick(tick, wait)
            pass_ns = -(-tick * NS_PER_S // self._hz)  # rounded up, or it would lie in the tick before
            self._extend(tick + self._slice)
        self._reads += 1
        self._bytes += self._page_bytes
        self._last_ns = pass_ns
        self._trim(tick)
        return pass_ns

    def _extend(self, tick: int) -> None:
        """Have the slice go on until `tick` at least (``throtl_extend_slice``)."""
        if self._end < tick:
            self._end = self._round_up(tick)

    def _wait(self, tick: int) -> int:
        """Return how many ticks the next page has to wait from `tick` on, 0 if it may pass."""
        return self._wait_for_bytes(tick) or self._wait_for_reads(tick)

    def _wait_for_bytes(self, tick: int) -> int:
        """``tg_within_bps_limit``."""
        rate = self._limit.bytes_per_s
        if rate is None:
            return 0
        elapsed = tick - self._start
        rounded = self._round_up(elapsed or self._slice)
        extra = self._bytes + self._page_bytes - rate * rounded // self._hz
        if extra <= 0:
            return 0
        return max(1, extra * self._hz // rate) + rounded - elapsed

    def _wait_for_reads(self, tick: int) -> int:
        """``tg_within_iops_limit``."""
        rate = self._limit.iops
        if rate is None:
            return 0
        elapsed = tick - self._start
        rounded = self._round_up(elapsed + 1)
        if self._reads < rate * rounded // self._hz:
            return 0
        return max(rounded - elapsed, self._hz // rate + 1)

    def _trim(self, tick: int) -> None:
        """Forget slices that are over but for the last, and what passed in them (``throtl_trim_slice``)."""
        self._end = self._round_up(tick + self._slice)
        elapsed = (tick - self._start) // self._slice * self._slice
        if elapsed < 2 * self._slice:
            return
        elapsed -= self._slice
        limit = self._limit
        reads = min(self._reads, (limit.iops or 0) * elapsed // self._hz)
        length_bytes = min(self._bytes, (limit.bytes_per_s or 0) * elapsed // self._hz)
        if reads or length_bytes:
            self._reads -= reads
            self._bytes -= length_bytes
            self._start += elapsed

    def _round_up(self, ticks: int) -> int:
        return -(-ticks // self._slice) * self._slice


def _timer_tick(now: int, ticks: int) -> int:
    """Return when a timer set for `ticks` from `now` fires: a tick late, so that it is never early (``calc_index``)."""
    if ticks < EXACT_TIMER_TICKS:
        return now + ticks + 1
    return ((now + ticks) // COARSE_TIMER_TICKS + 1) * COARSE_TIMER_TICKS
