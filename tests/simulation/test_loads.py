"""Loads: threads that want memory."""

from __future__ import annotations

from samplecache.clock import NS_PER_S, VirtualClock
from samplecache.lab.loads import Load, Stage
from samplecache.lab.virtual_threads import VirtualKernel
from samplecache.simulation.options import SimulationOptions


def test_time_passes_however_fast_a_load_is() -> None:
    clock = VirtualClock()
    kernel = VirtualKernel(SimulationOptions.for_device("ssd-sata", memory_bytes=64 << 20, swap_bytes=64 << 20), clock)
    times_ns = []
    for time_ns in Load(4096, 10**18, 0, NS_PER_S).run(Stage(kernel, clock, thread=1, began_ns=0)):
        clock.sleep_until(time_ns)
        times_ns.append(clock.now_ns())
        if len(times_ns) == 50:
            break
    assert times_ns[20:] == [times_ns[20] + step for step in range(30)]
