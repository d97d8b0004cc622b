"""In what machine a program runs: the same for a rig of this machine and for the simulated one."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from samplecache.clock import VirtualClock
from samplecache.kernel.port import Span
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.lab.rig import RigOptions
from samplecache.lab.tracing.program import Mode, Program, RegionPlan
from samplecache.lab.tracing.running import Recording, run
from samplecache.lab.tracing.steps import AnyStep, Evict, Touch, TouchStride, Unmap
from samplecache.simulation.device import device_profile
from samplecache.simulation.options import ReadaheadMode, SimulationOptions

PAGE_BYTES: Final = 4096
LEAST_SWAP_BYTES: Final = 64 << 20
SWAP_SHARE: Final = 4
"""Swap is so many times what a program maps: the kernel treats swap that is over half full in another way."""
SWAP_PRIORITY: Final = 32767
"""The highest: slots are to come from this area alone, whatever other swap there is."""
SCRATCH_PAGES: Final = 1024
SCATTER_STRIDE: Final = 97
"""Eleven touches, none in the window of another: 32 pages, the largest window, halve to one in five."""
SEQUEL: Final = Span(503, 515)
"""In a fresh swap area these have the slots 504 to 515: the last window begins at 512 and has three hits, which is all
that a fault there has to find for the next window to be as at boot."""

_DEVICES: Final = {Mode.VMA: "ssd-sata", Mode.CLUSTER: "ssd-sata", Mode.ZRAM: "zram-lz4"}
"""Profiles to simulate with. Which one decides about time, not about counts, but for zram, which is synchronous."""
_READAHEAD: Final = {Mode.VMA: ReadaheadMode.VMA, Mode.CLUSTER: ReadaheadMode.CLUSTER, Mode.ZRAM: None}
_ROTATIONAL: Final = {Mode.VMA: False, Mode.CLUSTER: True, Mode.ZRAM: None}


class State(enum.Enum):
    """What cluster readahead, whose state all processes share, is made to remember before a program begins."""

    SCATTERED = "scattered"
    """Faults here and there: no hits, a window of one page. What an idle machine is like."""
    BOOT = "boot"
    """Hits enough for a full window, as a kernel that has just booted claims to have had."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A machine for programs.

    Attributes
    ----------
    mode : Mode
        What the swap is on.
    page_cluster : int
        ``vm.page-cluster``, the binary logarithm of the largest readahead window, in pages.
    state : State
        What the program finds, in cluster mode; otherwise each region begins anew.
    """

    mode: Mode
    page_cluster: int = 3
    state: State = State.SCATTERED

    def __str__(self) -> str:
        state = f", {self.state.value}" if self.mode is Mode.CLUSTER else ""
        return f"{self.mode.value}, page_cluster {self.page_cluster}{state}"

    @property
    def prelude(self) -> Program | None:
        """What has to run before a program so that it finds :attr:`state`; None if it finds it anyway.

        Touches of cold pages whose slots are far apart: none finds a hit, so each halves the window.
        """
        if self.mode is not Mode.CLUSTER:
            return None
        steps: tuple[AnyStep, ...] = (Evict(), TouchStride(stride=SCATTER_STRIDE))
        if self.state is State.BOOT:
            steps += (Touch(span=SEQUEL),)
        scratch = RegionPlan(name="scratch", pages=SCRATCH_PAGES)
        # Its slots are free again before the program gets its own: none of them lies in a window of the program's.
        return Program(title="prelude", regions=(scratch,), steps=(*steps, Unmap()))

    def whole(self, program: Program) -> Program:
        """Return `program` after its prelude."""
        return program if self.prelude is None else program.after(self.prelude)

    def own(self, recording: Recording) -> Recording:
        """Return what is recorded of a program itself, without its prelude."""
        if self.prelude is None:
            return recording
        return tuple(each.without(self.prelude.pages) for each in recording[len(self.prelude.steps) :])

    def rig_options(self, swap_bytes: int) -> RigOptions:
        """Return the rig that is such a machine."""
        return RigOptions(
            swap_bytes=swap_bytes,
            swap_priority=SWAP_PRIORITY,
            rotational=_ROTATIONAL[self.mode],
            zram=self.mode is Mode.ZRAM,
            page_cluster=self.page_cluster,
        )

    def simulate(self, program: Program, *, swap_bytes: int, following: Recording | None = None) -> Recording:
        """Run `program` and its prelude on the simulated kernel; see :func:`.running.run`.

        Slots come from `following`, or else are those of a fresh swap area.
        """
        clock = VirtualClock()
        options = SimulationOptions(
            device=device_profile(_DEVICES[self.mode]),
            memory_pages=2 * swap_bytes // PAGE_BYTES,
            swap_slots=swap_bytes // PAGE_BYTES - 1,
            page_bytes=PAGE_BYTES,
            page_cluster=self.page_cluster,
            readahead=_READAHEAD[self.mode],
            cap_ipc_lock=True,
        )
        kernel = SimulatedKernel(options, clock)
        return run(self.whole(program), kernel, clock, following=following, plan_slots=kernel.plan_slots)


def swap_bytes_for(*programs: Program) -> int:
    """Return how much swap a machine for any of `programs` needs, in bytes."""
    most_pages = max(program.pages for program in programs) + SCRATCH_PAGES
    return max(LEAST_SWAP_BYTES, SWAP_SHARE * most_pages * PAGE_BYTES)
