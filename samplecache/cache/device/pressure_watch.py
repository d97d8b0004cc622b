"""Looks at the kernel's signs of scarce memory now and then, as long as anything is brought in ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.device.pressure import PressureController, Signs
from samplecache.cache.tasks.looks import Looks
from samplecache.clock import NS_PER_MS, NS_PER_S, Clock
from samplecache.kernel.port import Kernel
from samplecache.kernel.signals import MemoryState, PressureCounts
from samplecache.strategy.view import Pressure

LOOK_NS: Final = 500 * NS_PER_MS
"""How often is looked. A look takes two or three milliseconds of one worker, most of them in the kernel."""

IDLE_LOOKS: Final = 40
"""Looking stops when so many looks, 20 s, found nothing brought in ahead and no pressure."""

FRESH_NS: Final = NS_PER_S
"""How old what is known of memory may be."""


class PressureWatch:
    """How short memory is. Any thread; only :meth:`memory` may take a millisecond or two.

    Parameters
    ----------
    kernel : Kernel
        Who tells.
    clock : Clock
        The time.
    call_at : Callable
        Has something done by a worker at a time, in nanoseconds.
    meter : PageInMeter
        What page-ins cost.
    on_factor : Callable
        Told which part of the prefetch budget may be used, whenever that changes.
    """

    def __init__(
        self,
        kernel: Kernel,
        clock: Clock,
        call_at: Callable[[Callable[[], None], int], None],
        meter: PageInMeter,
        on_factor: Callable[[float], object],
    ) -> None:
        self._kernel = kernel
        self._clock = clock
        self._meter = meter
        self._on_factor = on_factor
        self._controller = PressureController()
        self._lock = threading.Lock()
        self._asked_pages = 0
        self._taken_back_pages = 0
        self._looks = Looks(clock, call_at, self._look)
        self._idle_looks = 0
        self._memory = kernel.memory()
        self._counts: PressureCounts | None = None
        self._looked_ns = clock.now_ns()

    @property
    def level(self) -> Pressure:
        """How short memory was at the last look."""
        return self._controller.level

    @property
    def factor(self) -> float:
        """Which part of the prefetch budget may be used."""
        return self._controller.factor

    def memory(self) -> MemoryState:
        """Return how much memory there is, a second ago at most."""
        now_ns = self._clock.now_ns()
        with self._lock:
            if now_ns - self._looked_ns < FRESH_NS:
                return self._memory
        return self._kernel.memory()

    def asked(self, pages: int) -> None:
        """Note that so many pages are being brought in ahead."""
        if not pages:
            return
        with self._lock:
            self._asked_pages += pages
        self._looks.begin(self._clock.now_ns())

    def taken_back(self, pages: int) -> None:
        """Note that so many pages had come in and are gone again, not read."""
        if pages:
            with self._lock:
                self._taken_back_pages += pages

    def _look(self) -> int | None:
        counts, memory, now_ns = self._kernel.pressure(), self._kernel.memory(), self._clock.now_ns()
        before, self._counts = self._counts, counts
        with self._lock:
            elapsed_ns, self._looked_ns = now_ns - self._looked_ns, now_ns
            self._memory = memory
            if before is None:  # counts from before looks began are of no interest
                return now_ns + LOOK_NS
            asked_pages, self._asked_pages = self._asked_pages, 0
            taken_back_pages, self._taken_back_pages = self._taken_back_pages, 0
        latency_ns = self._meter.figures.latency_ns
        factor = self._controller.factor
        since = counts.since(before)
        self._controller.look(Signs(elapsed_ns, since, memory, asked_pages, taken_back_pages, latency_ns))
        if self._controller.factor != factor:
            self._on_factor(self._controller.factor)
        quiet = not asked_pages and self._controller.level is Pressure.NONE and self._controller.factor == 1.0
        self._idle_looks = self._idle_looks + 1 if quiet else 0
        if self._idle_looks < IDLE_LOOKS:
            return now_ns + LOOK_NS
        self._idle_looks, self._counts = 0, None
        return None
