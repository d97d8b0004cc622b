"""Measures what a machine's swap costs, through the kernel port: the same code on the real kernel and on the simulated.

Nothing here takes the cost of Python for that of paging. Each figure is of one call over many pages, or of a chain of
such calls, less that of the same calls over pages that are mapped. The caller's own fault counts prove what happened: a
repetition with other faults than it should have had, because something else took or brought pages, is made again.
"""

from __future__ import annotations

import functools
import random
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from samplecache.clock import NS_PER_MS, NS_PER_S, Clock
from samplecache.errors import StateError
from samplecache.kernel.port import Advice, FaultCounts, Kernel, Region, Span

DEPTHS: Final = (1, 2, 4, 8, 16, 32)
"""How many scattered pages are asked for at a time."""
REGION_PAGES: Final = 1024
CHAIN: Final = 16
"""How many times in a row, so that the device is as awake as under load."""
POLL_NS: Final = 20_000
"""How often is looked whether all pages are in core, at first; then every half per cent of the time gone by."""
POLLS: Final = 200
CALL_PAGES: Final = 128
"""Half of what the device's queue takes: a call that asks for so many scattered pages does not have to wait."""
EVICT_TIMEOUT_NS: Final = 20 * NS_PER_S
PATIENCE_NS: Final = NS_PER_S
"""Where no further page arrives for so long, something takes pages back: reclaim, or a scheme of DAMON's."""
AT_ONCE_NS: Final = 50 * NS_PER_MS
"""What has arrived by then had not to wait for the next slice of a limit."""
WATCH_NS: Final = NS_PER_S // 2
"""Five slices."""
TRIES: Final = 4
"""How often a repetition is made again, on average, before the machine is held to be too busy."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity.

    Attributes
    ----------
    name : str
        What was measured.
    unit : str
        ``"ns"`` or ``"B/s"``.
    values : tuple of float
        One a repetition.
    """

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the most."""
        return min(self.values), max(self.values)


@dataclass(frozen=True, slots=True)
class Measured:
    """All figures of a device. Those per page are in nanoseconds a page.

    Attributes
    ----------
    synchronous : bool
        Whether a page is out of RAM when the call that pages it out returns: then reading does not wait, either.
    fresh_fault, cached_fault : Figure
        A fault of a page never written, and of one in the swap cache; each less what a mapped page costs.
    pageout, willneed, willneed_scattered : Figure
        The call of the advice, a page; in slots that follow each other, and scattered.
    cold_read : Figure
        Reading cold pages in order, a page, with the readahead there is.
    latency : dict
        Time from asking for so many scattered pages at once until all have been touched, in nanoseconds, by their
        number; empty if the device is synchronous.
    bandwidth, scattered_bandwidth : Figure
        From the call of WILLNEED until all is in core.
    """

    synchronous: bool
    fresh_fault: Figure
    cached_fault: Figure
    pageout: Figure
    willneed: Figure
    willneed_scattered: Figure
    cold_read: Figure
    latency: dict[int, Figure]
    bandwidth: Figure
    scattered_bandwidth: Figure

    @property
    def figures(self) -> list[Figure]:
        """All of them, in the order of the table."""
        return [
            *self.latency.values(),
            self.bandwidth,
            self.scattered_bandwidth,
            self.cold_read,
            self.willneed,
            self.willneed_scattered,
            self.pageout,
            self.cached_fault,
            self.fresh_fault,
        ]


class Calibration:
    """One calibration. Its thread faults and blocks; nothing is locked, and all that is mapped is unmapped again.

    Parameters
    ----------
    kernel : Kernel
        What to measure. It must be able to evict.
    clock : Clock
        The time it is measured on: the kernel's own if that is simulated.
    repetitions : int
        How many values each figure gets.
    pages : int
        Length of the regions that are read, in pages; at least 32 times 16.
    seed : int
        Of what is written and of the order that scatters slots.
    """

    def __init__(
        self, kernel: Kernel, clock: Clock, *, repetitions: int = 7, pages: int = REGION_PAGES, seed: int = 0
    ) -> None:
        self._kernel = kernel
        self._clock = clock
        self._repetitions = repetitions
        self._pages = pages
        self._random = random.Random(seed)  # noqa: S311 -- content and order, no secrets
        self._content = self._random.randbytes(pages * kernel.page_bytes)

    def measure(self) -> Measured:
        """Measure everything. Takes some seconds, more on a slow device.

        Raises
        ------
        NotPermittedError
            There is no swap, or nothing can be paged out.
        StateError
            Something else keeps paging, so that no repetition is as it should be.
        """
        with self._region() as ordered, self._region() as scattered:
            synchronous = self._scatter(scattered)
            self._cold(ordered)
            return Measured(
                synchronous,
                fresh_fault=self._fresh(),
                cached_fault=self._cached(ordered),
                pageout=self._paged_out(),
                willneed=self._willneed(ordered, "in order"),
                willneed_scattered=self._willneed(scattered, "scattered"),
                cold_read=self._cold_read(ordered),
                latency={} if synchronous else {depth: self._latency(scattered, depth) for depth in DEPTHS},
                bandwidth=self._stream(ordered, "in order"),
                scattered_bandwidth=self._stream(scattered, "scattered"),
            )

    def passed(
        self, slow: Callable[[], object], fast: Callable[[], object], *, synchronous: bool = False
    ) -> tuple[int, float]:
        """Return how many pages a limit on reads lets pass at once, and how many a second after that.

        Has a cold region read in order by WILLNEED and watches it arrive for half a second; where the device is
        `synchronous`, so that WILLNEED itself would wait, reads it page by page. `slow` sets the limit when the pages
        are cold, `fast` lifts it again.
        """
        with self._region() as region:
            self._cold(region)
            slow()
            try:
                self._clock.sleep_until(self._clock.now_ns() + WATCH_NS)  # longer than any slice that has begun
                began_ns = self._clock.now_ns()
                arrivals = self._read_alone if synchronous else self._advised
                at_once, in_all = arrivals(region, began_ns + AT_ONCE_NS, began_ns + AT_ONCE_NS + WATCH_NS)
            finally:
                fast()
            return at_once, (in_all - at_once) * NS_PER_S / WATCH_NS

    def _advised(self, region: Region, *times_ns: int) -> list[int]:
        """Have a cold region read by WILLNEED; return how much of it has arrived at each of some times, in pages."""
        self._kernel.advise(region, region.span, Advice.WILLNEED)
        arrived = []
        for time_ns in times_ns:
            self._clock.sleep_until(time_ns)
            arrived.append(self._kernel.residency(region, region.span).in_core)
        return arrived

    def _read_alone(self, region: Region, *times_ns: int) -> list[int]:
        """Read a cold region page by page, each of which waits; return how much has arrived at each of some times."""
        arrived = [0] * len(times_ns)
        for page in region.span:
            self._read(region, Span(page, page + 1))
            now_ns = self._clock.now_ns()
            if now_ns > times_ns[-1]:
                break
            arrived = [count + (now_ns <= time_ns) for count, time_ns in zip(arrived, times_ns, strict=True)]
        return arrived

    # --- regions ---

    @contextmanager
    def _region(self, *, written: bool = True) -> Iterator[Region]:
        region = self._kernel.map(self._pages * self._kernel.page_bytes)
        try:
            if written:
                self._kernel.write(region, 0, self._content)
            yield region
        finally:
            self._kernel.unmap(region)

    def _scatter(self, region: Region) -> bool:
        """Page out so that neighbours in memory are none on the device; return whether the device is synchronous."""
        order = self._random.sample(range(region.pages), region.pages)
        for page in order:
            self._kernel.advise(region, Span(page, page + 1), Advice.PAGEOUT)
        in_core = self._kernel.residency(region, region.span).in_core
        self._cold(region)
        return in_core < region.pages // 2  # some can be in a CPU's batch, where the advice does not find them

    def _cold(self, region: Region) -> None:
        left = self._kernel.evict(region, region.span, EVICT_TIMEOUT_NS)
        if left > region.pages // 100:
            raise StateError(
                f"{left} of {region.pages} pages would not leave RAM",
                remedy="See 'samplecache doctor' for whether swap works here, and end what else uses memory",
            )

    def _arrived(self, region: Region, span: Span) -> bool:
        """Wait until all of `span` is in core; return False if something takes pages back instead."""
        began_ns = grown_ns = self._clock.now_ns()
        in_core = -1
        while not self._kernel.in_core(region, span):
            now_ns = self._clock.now_ns()
            if now_ns - grown_ns > PATIENCE_NS:
                before, in_core = in_core, self._kernel.residency(region, span).in_core
                if in_core <= before:
                    return False
                grown_ns = now_ns
            self._clock.sleep_until(now_ns + max(POLL_NS, (now_ns - began_ns) // POLLS))
        return True

    # --- figures ---

    def _stream(self, region: Region, how: str) -> Figure:
        """Measure WILLNEED of a cold region: the rate until all is in core."""

        def once() -> float | None:
            self._cold(region)
            began_ns = self._clock.now_ns()
            self._kernel.advise(region, region.span, Advice.WILLNEED)
            if not self._arrived(region, region.span):
                return None
            return region.pages * self._kernel.page_bytes * NS_PER_S / max(1, self._clock.now_ns() - began_ns)

        return self._figure(f"WILLNEED until in core, {how}", once, unit="B/s")

    def _willneed(self, region: Region, how: str) -> Figure:
        """Measure the call of WILLNEED, less what it costs where nothing is to be read."""

        def once() -> float | None:
            self._cold(region)
            elapsed_ns = 0
            for span in region.span.chunks(CALL_PAGES):
                advise = functools.partial(self._kernel.advise, region, span, Advice.WILLNEED)
                elapsed_ns += self._timed(advise)
                if not self._arrived(region, span):
                    return None
                elapsed_ns -= self._timed(advise)
            return elapsed_ns / region.pages

        return self._figure(f"WILLNEED, its call, {how}, a page", once)

    def _cached(self, region: Region) -> Figure:
        """Measure the fault of a page in the swap cache."""

        def once() -> float | None:
            self._cold(region)
            self._kernel.advise(region, region.span, Advice.WILLNEED)
            if not self._arrived(region, region.span):
                return None
            return self._faults(lambda: self._read(region, region.span), FaultCounts(minor=region.pages))

        return self._figure("fault of a page in the swap cache", once)

    def _fresh(self) -> Figure:
        """Measure the fault of a page never written; it includes the writing of zeros."""

        def once() -> float | None:
            with self._region(written=False) as region:
                return self._faults(
                    lambda: self._kernel.write(region, 0, self._content), FaultCounts(minor=region.pages)
                )

        return self._figure("fault of a page never written", once)

    def _paged_out(self) -> Figure:
        """Measure PAGEOUT of pages that have no slot yet."""

        def once() -> float | None:
            with self._region() as region:
                return self._timed(lambda: self._kernel.advise(region, region.span, Advice.PAGEOUT)) / region.pages

        return self._figure("PAGEOUT, its call, a page", once)

    def _cold_read(self, region: Region) -> Figure:
        """Measure reading in order what is cold. How many of the faults are major is readahead's affair."""

        def once() -> float | None:
            self._cold(region)
            return self._faults(lambda: self._read(region, region.span), None)

        return self._figure("reading cold pages in order, a page", once)

    def _latency(self, region: Region, depth: int) -> Figure:
        """Measure asking for `depth` scattered pages at once and touching them; a chain of that."""
        spans = list(Span(0, region.pages).chunks(depth))[:CHAIN]

        def chain() -> None:
            for span in spans:
                self._kernel.advise(region, span, Advice.WILLNEED)
                self._read(region, span)

        def once() -> float | None:
            self._cold(region)
            return self._faults(chain, FaultCounts(minor=len(spans) * depth), per=len(spans))

        return self._figure(f"{depth} scattered page{'s' * (depth > 1)} at a time, until touched", once)

    # --- one call ---

    def _read(self, region: Region, span: Span) -> None:
        page_bytes = self._kernel.page_bytes
        self._kernel.read(region, span.start * page_bytes, len(span) * page_bytes)

    def _faults(self, call: Callable[[], object], expected: FaultCounts | None, per: int | None = None) -> float | None:
        """Return the time of `call`, less that of a second one, which finds all pages mapped, by `per` or by the page.

        None if the faults of either were not as expected.
        """
        before = self._kernel.thread_faults()
        cold_ns = self._timed(call)
        between = self._kernel.thread_faults()
        mapped_ns = self._timed(call)
        after = self._kernel.thread_faults()
        if after != between or (expected is not None and between - before != expected):
            return None
        return (cold_ns - mapped_ns) / (per or self._pages)

    def _timed(self, call: Callable[[], object]) -> int:
        began_ns = self._clock.now_ns()
        call()
        return self._clock.now_ns() - began_ns

    def _figure(self, name: str, once: Callable[[], float | None], *, unit: str = "ns") -> Figure:
        values: list[float] = []
        for _ in range(TRIES * self._repetitions):
            value = once()
            if value is not None:
                values.append(value)
            if len(values) == self._repetitions:
                return Figure(name, unit, tuple(values))
        raise StateError(
            f"{name}: {len(values)} of {TRIES * self._repetitions} repetitions found the pages where they should be",
            remedy="End what else pages on this machine, or give the process more memory, and try again",
        )
