"""Batches of pages that are on their way from the swap device: when they arrived, so that the device can be measured.

MADV_WILLNEED tells nobody when it is over, and sessions look at their pages as rarely as they can afford. Here, one
page of each batch is looked at, the last, and of the oldest batches only: one ``mincore`` each, some microseconds.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.accounting.throughput import BURST_NS
from samplecache.cache.device.gate import MOST_BYTES, STALE_NS, Gate
from samplecache.cache.tasks.looks import Looks
from samplecache.clock import NS_PER_MS, NS_PER_S, Clock
from samplecache.errors import SamplecacheError
from samplecache.kernel.port import Kernel, Region, Span

LOOK_NS: Final = 2 * NS_PER_MS
"""How soon is looked again, at the least."""
LOOK_MOST_NS: Final = 100 * NS_PER_MS
LOOK_SHARE: Final = 8
"""A batch is looked at again when an eighth of its age has passed, so that its arrival is known to 6 %."""
OLDEST: Final = 16
"""How many that have not arrived are looked at: batches arrive nearly in the order in which they were asked for."""
OVERTAKEN_NS: Final = NS_PER_S // 2
"""A batch asked for so long before one that has arrived will not be seen any more: reclaim took its page back."""
LOST_NS: Final = 10 * NS_PER_S
"""A batch that has not arrived after so long is not awaited any more."""


@dataclass(slots=True)
class _Flight:
    region: Region
    last: Span
    length_bytes: int
    began_ns: int
    looked_ns: int


class Flights:
    """Watches batches arrive and tells a meter. Any thread; :meth:`depart` never blocks, looks are done by workers.

    Parameters
    ----------
    kernel : Kernel
        Whom to ask.
    clock : Clock
        The time.
    call_at : Callable
        Has something done by a worker at a time, in nanoseconds.
    meter : PageInMeter
        Who is told.
    bounded : bool
        Whether what is on its way is bounded.
    """

    def __init__(
        self,
        kernel: Kernel,
        clock: Clock,
        call_at: Callable[[Callable[[], None], int], None],
        meter: PageInMeter,
        *,
        bounded: bool = True,
    ) -> None:
        self._kernel = kernel
        self._clock = clock
        self._meter = meter
        self._bounded = bounded
        self._lock = threading.Lock()
        self._flights: deque[_Flight] = deque()
        self._looks = Looks(clock, call_at, self._look)
        self._gate = Gate()
        self._kept_back_ns = -BURST_NS

    @property
    def part_pages(self) -> int:
        """How many pages are to be sent for in one piece, at the most."""
        return max(1, (self._gate.part_bytes if self._bounded else MOST_BYTES) // self._kernel.page_bytes)

    @property
    def others_wait(self) -> bool:
        """Whether more is to be sent for than may be on its way, or was a moment ago."""
        return len(self._gate) > 0 or self._clock.now_ns() - self._kept_back_ns < BURST_NS

    def may_depart(
        self, otherwise: Callable[[], object], deadline_ns: int, urgency: int, wanted: Callable[[], bool]
    ) -> bool:
        """Return whether more may be sent for now; if not, call `otherwise` when it may and nobody is before it, or
        when it is not `wanted` any more.
        """
        if not self._bounded:
            return True
        with self._lock:
            if self._gate.admits(self._in_flight_bytes(self._clock.now_ns())):
                return True
            self._gate.wait(otherwise, deadline_ns, urgency, wanted)
            self._kept_back_ns = self._clock.now_ns()
            return False

    def _in_flight_bytes(self, now_ns: int) -> int:
        return sum(flight.length_bytes for flight in self._flights if now_ns - flight.began_ns < STALE_NS)

    def depart(self, region: Region, last: int, length_bytes: int) -> None:
        """Note that `length_bytes` of `region` have been asked for, of which page `last` should come in last."""
        now_ns = self._clock.now_ns()
        with self._lock:
            self._flights.append(_Flight(region, Span(last, last + 1), length_bytes, now_ns, now_ns))
            self._meter.begin(now_ns)
        self._looks.begin(now_ns + LOOK_NS)

    def _look(self) -> int | None:
        with self._lock:
            waiting = list(self._flights)
        ended: dict[int, _Flight] = {}
        arrivals_ns: list[int] = []
        left, newest_ns = 0, 0
        for flight in waiting:
            if left == OLDEST:
                break
            now_ns = self._clock.now_ns()
            try:
                arrived = self._kernel.in_core(flight.region, flight.last)
            except (SamplecacheError, OSError):  # unmapped, or the kernel does not answer just now
                self._meter.lose(now_ns)
                ended[id(flight)] = flight
                continue
            if arrived:
                newest_ns = flight.began_ns
                # Some time since the last look: half-way is never wrong by more than half.
                arrived_ns = (flight.looked_ns + now_ns) // 2
                self._meter.end(flight.length_bytes, flight.began_ns, arrived_ns, others_wait=self.others_wait)
                arrivals_ns.append(arrived_ns - flight.began_ns)
                ended[id(flight)] = flight
            else:
                left += 1
                flight.looked_ns = now_ns
        now_ns = self._clock.now_ns()
        for flight in waiting:
            overtaken = newest_ns - flight.began_ns >= OVERTAKEN_NS
            if id(flight) not in ended and (overtaken or now_ns - flight.began_ns >= LOST_NS):
                self._meter.lose(now_ns)
                ended[id(flight)] = flight
        with self._lock:
            self._flights = deque(flight for flight in self._flights if id(flight) not in ended)
            for after_ns in arrivals_ns:
                self._gate.arrived(after_ns)
            going = self._gate.let_out(self._in_flight_bytes(now_ns))
            # Those let out may find nothing to send for; then only another look helps who is waiting still.
            again = bool(self._flights) or len(self._gate) > 0
            oldest_ns = self._flights[0].began_ns if self._flights else now_ns
        for go in going:
            go()
        return now_ns + min(max(LOOK_NS, (now_ns - oldest_ns) // LOOK_SHARE), LOOK_MOST_NS) if again else None
