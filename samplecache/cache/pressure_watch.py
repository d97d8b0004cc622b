"""Looks at the kernel's signs of scarce memory now and then, as long as anything is brought in ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from samplecache.cache.figures import PageInMeter
from samplecache.cache.pressure import PressureController, Signs
from samplecache.clock import NS_PER_MS, NS_PER_S, Clock
from samplecache.kernel.port import Kernel
from samplecache.kernel.signals import MemoryState
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
        self._call_at = call_at
        self._meter = meter
        self._on_factor = on_factor
        self._controller = PressureController()
        self._lock = threading.Lock()
        self._asked_pages = 0
        self._taken_back_pages = 0
        self._looking = False
        self._idle_looks = 0
        self._memory = kernel.memory()
        self._counts = kernel.pressure()
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
            begin, self._looking = not self._looking, True
        if begin:
            self._begin()

    def taken_back(self, pages: int) -> None:
        """Note that so many pages had come in and are gone again, not read."""
        if pages:
            with self._lock:
                self._taken_back_pages += pages

    def _begin(self) -> None:
        """Look regularly from now on: counts from before are of no interest."""
        now_ns = self._clock.now_ns()
        self._idle_looks = 0
        self._call_at(self._first_look, now_ns)

    def _first_look(self) -> None:
        counts, memory, now_ns = self._kernel.pressure(), self._kernel.memory(), self._clock.now_ns()
        with self._lock:
            self._counts, self._memory, self._looked_ns = counts, memory, now_ns
        self._call_at(self._look, now_ns + LOOK_NS)

    def _look(self) -> None:
        counts, memory, now_ns = self._kernel.pressure(), self._kernel.memory(), self._clock.now_ns()
        with self._lock:
            asked_pages, self._asked_pages = self._asked_pages, 0
            taken_back_pages, self._taken_back_pages = self._taken_back_pages, 0
            elapsed_ns, self._looked_ns = now_ns - self._looked_ns, now_ns
            self._memory = memory
        latency_ns = self._meter.figures.latency_ns
        since = counts.since(self._counts)
        self._counts = counts
        before = self._controller.factor
        self._controller.look(Signs(elapsed_ns, since, memory, asked_pages, taken_back_pages, latency_ns))
        if self._controller.factor != before:
            self._on_factor(self._controller.factor)
        quiet = not asked_pages and self._controller.level is Pressure.NONE and self._controller.factor == 1.0
        self._idle_looks = self._idle_looks + 1 if quiet else 0
        with self._lock:
            self._looking = self._idle_looks < IDLE_LOOKS or bool(self._asked_pages)
            going_on = self._looking
        if going_on:
            self._call_at(self._look, now_ns + LOOK_NS)
