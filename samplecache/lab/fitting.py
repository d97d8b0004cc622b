"""Turns measured figures into a machine for the simulated kernel."""

from __future__ import annotations

import statistics
from typing import Final

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.kernel.machine_files import MachineProfile
from samplecache.lab.calibration import Measured
from samplecache.simulation.blockqueue import PLUG_FLUSH_BYTES
from samplecache.simulation.device import QUEUE_REQUESTS, DeviceProfile
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

    What the model charges for what was measured is set out line by line in the code. A request that takes
    `POSITIONING_LEAST_NS` moves a head, and is then charged only where the head has to move.

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
        What the kernel reads ahead there.
    """
    fault_ns = measured.cached_fault.median
    willneed_ns = measured.willneed.median
    common = {"fault_ns": round(fault_ns), "readahead": readahead, "page_cluster": page_cluster}
    if measured.synchronous:
        page_ns = max(0.0, measured.cold_read.median - fault_ns)
        device = DeviceProfile(name, source, page_ns=round(page_ns))
        return MachineProfile(device, submit_ns=round(max(0.0, willneed_ns - page_ns)), **common)  # type: ignore[arg-type]
    request_cpu_ns = max(0.0, measured.willneed_scattered.median - willneed_ns)
    # n scattered pages: n times queueing them and the device's serial part, which goes on while further requests are
    # handed over; and once a request handed over, the latency, and the last page's fault.
    depths = list(measured.latency)
    slope_ns, once_ns = statistics.linear_regression(depths, [figure.median for figure in measured.latency.values()])
    serial_ns = max(0.0, slope_ns - willneed_ns)
    latency_ns = max(0.0, once_ns - fault_ns - request_cpu_ns)
    moves = serial_ns >= POSITIONING_LEAST_NS
    if serial_ns <= max(fault_ns, request_cpu_ns):  # then it was the CPU that took so long: the device may be quicker
        serial_ns = min(serial_ns, page_bytes * NS_PER_S / measured.scattered_bandwidth.median)
    # A stream: the latency, or a head moved, once; every page's transfer; and what a request takes for every request.
    stream_ns = pages * page_bytes * NS_PER_S / measured.bandwidth.median
    requests = 1 if moves else -(-pages * page_bytes // PLUG_FLUSH_BYTES)
    transfer_ns = (stream_ns - (0 if moves else latency_ns) - requests * serial_ns) / (pages - requests)
    if transfer_ns <= 0 or transfer_ns >= serial_ns:  # no request has a part of its own
        transfer_ns, serial_ns = (stream_ns - (0 if moves else latency_ns)) / pages, 0
    request_ns = max(0, round(serial_ns - transfer_ns))
    device = DeviceProfile(
        name,
        source,
        servers=1 if moves else QUEUE_REQUESTS,
        latency_ns=0 if moves else round(latency_ns),
        bandwidth_bytes_per_s=round(page_bytes * NS_PER_S / transfer_ns),
        positioning_ns=request_ns if moves else 0,
        request_ns=0 if moves else request_ns,
        read_limit=read_limit,
    )
    return MachineProfile(
        device,
        submit_ns=round(willneed_ns),
        request_ns=round(request_cpu_ns),
        **common,  # type: ignore[arg-type]
    )
