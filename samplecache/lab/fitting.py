"""Turns measured figures into a machine for the simulated kernel."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import Final

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.kernel.machine_files import MachineProfile
from samplecache.lab.calibration import Measured
from samplecache.simulation.blockqueue import REQUEST_BYTES_MAX
from samplecache.simulation.device import QUEUE_REQUESTS, Device, DeviceProfile
from samplecache.simulation.options import ReadaheadMode
from samplecache.simulation.throttle import ReadLimit

POSITIONING_LEAST_NS: Final = NS_PER_MS
"""What takes so long for each request, one after another, has to move something: half a turn at 15 000 a minute is
2 ms, and no device without moving parts needs a tenth of that."""


def fit(
    measured: Measured,
    *,
    name: str,
    source: str,
    page_bytes: int,
    pages: int,
    read_limit: ReadLimit | None = None,
    readahead: ReadaheadMode | None = None,
    page_cluster: int | None = None,
) -> MachineProfile:
    """Return the machine on which the simulated kernel would have measured the same.

    A device that works while its caller goes on has a head that moves, if it is as slow as that; takes a time for each
    request, one after the other, besides a latency; or has a number of servers. Of the last two, that one is taken
    whose times by depth come nearest to those measured: servers, of which any number is tried, only if they halve the
    error.

    Parameters
    ----------
    measured : Measured
        Figures of the device without any limit.
    name, source : str
        For the profile.
    page_bytes, pages : int
        Size of a page, and length of the regions that were read.
    read_limit : ReadLimit or None
        The limit that the device is to be under.
    readahead, page_cluster
        What the kernel reads ahead there. A synchronous device has no say in the former: nothing is read ahead by slot
        there, whatever other swap the kernel has.
    """
    fault_ns, willneed_ns = measured.cached_fault.median, measured.willneed.median
    common = {"fault_ns": round(fault_ns), "page_cluster": page_cluster}
    if measured.synchronous:
        page_ns = max(0.0, measured.cold_read.median - fault_ns)
        device = DeviceProfile(name, source, page_ns=round(page_ns), read_limit=read_limit)
        return MachineProfile(device, submit_ns=round(max(0.0, willneed_ns - page_ns)), **common)  # type: ignore[arg-type]
    request_cpu_ns = max(0.0, measured.willneed_scattered.median - willneed_ns)
    first_ns = min(pages, REQUEST_BYTES_MAX // page_bytes) * willneed_ns + request_cpu_ns
    seen = _Seen(
        {depth: figure.median for depth, figure in measured.latency.items()},
        max(1.0, pages * page_bytes * NS_PER_S / measured.bandwidth.median - first_ns),
        pages,
        page_bytes,
        fault_ns,
        willneed_ns,
        request_cpu_ns,
    )
    device = seen.head() or seen.without_head()
    return MachineProfile(
        replace(device, name=name, source=source, read_limit=read_limit),
        submit_ns=round(willneed_ns),
        request_ns=round(request_cpu_ns),
        readahead=readahead,
        **common,
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What tells kinds of devices apart; times in nanoseconds."""

    times_ns: dict[int, float]
    """Until so many scattered pages have been touched."""
    stream_ns: float
    """From the time when the first request of a stream is handed over until so many pages are in core."""
    pages: int
    page_bytes: int
    fault_ns: float
    willneed_ns: float
    request_cpu_ns: float

    def head(self) -> DeviceProfile | None:
        """Return a device that moves a head for every request that does not follow the last; None if none is so slow.

        A stream moves it once.
        """
        slope_ns, _ = self._line()
        if slope_ns < POSITIONING_LEAST_NS:
            return None
        alone_ns, transfer_ns = self._alone()
        return self._device(1, 0, transfer_ns, positioning_ns=round(alone_ns - transfer_ns))

    def without_head(self) -> DeviceProfile:
        """Return the device without a head whose times by depth come nearest, in case of doubt the simpler one."""
        simple = self.one_by_one()
        parallel = min(map(self.parallel, range(1, max(self.times_ns))), key=self.error)
        return parallel if self.error(parallel) < self.error(simple) / 2 else simple

    def one_by_one(self) -> DeviceProfile:
        """Return a device that takes its time for each request, one after the other, and has a latency besides."""
        slope_ns, once_ns = self._line()
        latency_ns = max(0.0, once_ns - self.fault_ns - self.request_cpu_ns)
        # A stream: the latency once, every page's transfer, and what a request takes for every request.
        requests = -(-self.pages * self.page_bytes // REQUEST_BYTES_MAX)
        transfer_ns = (self.stream_ns - latency_ns - requests * slope_ns) / (self.pages - requests)
        if not 0 < transfer_ns < slope_ns:  # no request has a part of its own
            return self._device(QUEUE_REQUESTS, latency_ns, (self.stream_ns - latency_ns) / self.pages)
        return self._device(QUEUE_REQUESTS, latency_ns, transfer_ns, request_ns=round(slope_ns - transfer_ns))

    def parallel(self, servers: int) -> DeviceProfile:
        """Return a device with so many servers, each of which serves a request at a time."""
        alone_ns, transfer_ns = self._alone()
        return self._device(servers, max(0.0, alone_ns - transfer_ns), transfer_ns)

    def error(self, device: DeviceProfile) -> float:
        """Return how far the times by depth of `device` are off, each as a part of what was measured, added up."""
        return sum(abs(self._time_ns(device, depth) / time_ns - 1) for depth, time_ns in self.times_ns.items())

    def _alone(self) -> tuple[float, float]:
        """Return how long the device takes for a single page, and for the transfer of one.

        What a stream takes more than a page does is transfer.
        """
        alone_ns = self.times_ns[min(self.times_ns)] - self.fault_ns - self.willneed_ns - self.request_cpu_ns
        return alone_ns, (self.stream_ns - alone_ns) / (self.pages - 1)

    def _line(self) -> tuple[float, float]:
        """Return what each of n scattered pages adds to the device's time, and what is left.

        The caller queues n pages first; then the device works while further requests are handed over to it.
        """
        slope_ns, once_ns = statistics.linear_regression(list(self.times_ns), list(self.times_ns.values()))
        return max(0.0, slope_ns - self.willneed_ns), once_ns

    def _time_ns(self, profile: DeviceProfile, depth: int) -> float:
        device, now_ns, done_ns = Device(profile, self.page_bytes), depth * self.willneed_ns, 0
        for number in range(depth):
            now_ns += self.request_cpu_ns
            done_ns = max(done_ns, device.submit(round(now_ns), slot=2 * number + 1, pages=1))
        return done_ns + self.fault_ns

    def _device(
        self, servers: int, latency_ns: float, transfer_ns: float, *, positioning_ns: int = 0, request_ns: int = 0
    ) -> DeviceProfile:
        return DeviceProfile(
            "fitted",
            "measured",
            servers=servers,
            latency_ns=round(latency_ns),
            bandwidth_bytes_per_s=max(1, round(self.page_bytes * NS_PER_S / max(1.0, transfer_ns))),
            positioning_ns=positioning_ns,
            request_ns=request_ns,
        )
