"""What a simulated machine is like. One seed and one of these give one trace."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

from samplecache.errors import ConfigurationError
from samplecache.simulation.device import DeviceProfile, device_profile


class KernelModel(enum.Enum):
    """Whose fault path the machine has."""

    LINUX_6_18 = "linux-6.18"
    LINUX_2_6_24 = "linux-2.6.24"
    """Of January 2008; see :mod:`.rules` for what differs."""


def kernel_model(name: str) -> KernelModel:
    """Return the kernel called `name`.

    Raises
    ------
    ConfigurationError
        There is none.
    """
    names = [kernel.value for kernel in KernelModel]
    if name not in names:
        raise ConfigurationError(f"No simulated kernel is called {name!r}", remedy=f"Choose from {', '.join(names)}")
    return KernelModel(name)


class ReadaheadMode(enum.Enum):
    """Which neighbours of a missing page the kernel reads with it."""

    VMA = "vma"
    """Neighbours in virtual memory (Linux 4.14), where no swap device is rotational."""
    CLUSTER = "cluster"
    """Neighbours on the swap device, where one is; as many as hits suggest (Linux 3.14)."""
    FIXED = "fixed"
    """The aligned block of ``1 << page_cluster`` slots as far as its first free one (Linux 2.6.24)."""
    CHUNK = "chunk"
    """The aligned block of ``chunk_pages`` slots (proposed by Andi Kleen, 2008)."""
    ADAPTIVE = "adaptive"
    """A block that grows up to ``chunk_pages`` while what it brings gets used (proposed by Rik van Riel, 2008)."""


SLOT_NEIGHBOURS: Final = frozenset(ReadaheadMode) - {ReadaheadMode.VMA}
"""The ways to read ahead that look at the swap device."""


class SlotOrder(enum.Enum):
    """Which swap slot an outgoing page gets."""

    CLUSTERS = "clusters"
    """The next of the current cluster (Linux 6.18)."""
    SHUFFLED = "shuffled"
    """Clusters over slots in an order that the seed tells, as on a fragmented swap area."""
    SCAN = "scan"
    """The next of the first free run of 256 slots (Linux 2.6.24): pages lie in the order of their eviction."""
    VIRTUAL = "virtual"
    """By virtual address (tried by Andrew Morton before 2008)."""
    CHUNKS = "chunks"
    """Aligned chunks of ``chunk_pages`` slots, each for one aligned chunk of virtual pages (proposed by Andi Kleen,
    2008). Wastes slots."""


class WillneedMode(enum.Enum):
    """What ``MADV_WILLNEED`` does of anonymous memory."""

    LINUX = "linux-6.18"
    """Reads all that is swapped."""
    PATCH_2008 = "patch-2008"
    """Reads in batches of 32 page-table entries, and silently no more than half of the memory that is free or inactive
    (the patch to 2.6.24)."""
    ABSENT = "absent"
    """EBADF, as before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOptions:
    """A simulated machine. Figures are Linux 6.18's on x86-64 unless their line says otherwise.

    Attributes
    ----------
    device : DeviceProfile
        The swap device.
    memory_pages : int
        Memory for anonymous pages and the swap cache, in pages: a memory control group's limit.
    swap_slots : int
        Size of the swap area, in pages, its header left out; 0 for no swap.
    page_bytes : int
        Size of a page, in bytes.
    page_cluster : int
        ``vm.page-cluster``, the binary logarithm of the readahead window, in pages. Default: ``swap_setup()``.
    kernel : KernelModel
        Whose fault path it has. Readahead, slots and WILLNEED are chosen apart from it.
    readahead : ReadaheadMode or None
        None takes what the kernel and the device lead to.
    willneed : WillneedMode
        What ``MADV_WILLNEED`` does.
    lock_limit_bytes : int or None
        RLIMIT_MEMLOCK, in bytes; None is unlimited. Default: 8 MiB, ``MLOCK_LIMIT``.
    cap_ipc_lock : bool
        Whether the process has CAP_IPC_LOCK, which lifts the limit.
    address_space_bytes : int or None
        RLIMIT_AS, in bytes, as far as regions go; None is unlimited.
    fault_ns : int
        CPU time of a fault, whatever else it waits for, in nanoseconds. Source: 1-2 us for a hit in the swap cache.
    submit_ns : int
        CPU time to allocate a page and queue its read or write, in nanoseconds. Assumed; WILLNEED of 64 MiB was seen to
        return after 60 ms, 3.7 us a page with its waits.
    request_ns : int
        CPU time to hand one request to the device, in nanoseconds, on top of that. 0 on bare metal, where it is little;
        in a virtual machine it can mean to leave the guest.
    cluster_hits, cluster_window_pages : int
        What earlier faults left in the state that cluster readahead shares between all processes. Defaults: at boot.
    chunk_pages : int
        Size of the blocks that CHUNK and, at most, ADAPTIVE read, and of those that CHUNKS hands out, in pages.
        Default: 1 MiB, as proposed.
    slot_order : SlotOrder
        Which slots outgoing pages get.
    seed : int
        Seed of all that is random.
    log_events : int
        How many of the last events the log keeps; 0 for no log.
    """

    device: DeviceProfile
    memory_pages: int
    swap_slots: int
    page_bytes: int = 4096
    page_cluster: int = 3
    kernel: KernelModel = KernelModel.LINUX_6_18
    readahead: ReadaheadMode | None = None
    willneed: WillneedMode = WillneedMode.LINUX
    lock_limit_bytes: int | None = 8 << 20
    cap_ipc_lock: bool = False
    address_space_bytes: int | None = None
    fault_ns: int = 1_500
    submit_ns: int = 1_000
    request_ns: int = 0
    cluster_hits: int = 4
    cluster_window_pages: int = 0
    chunk_pages: int = 256
    slot_order: SlotOrder = SlotOrder.CLUSTERS
    seed: int = 0
    log_events: int = 0

    def __post_init__(self) -> None:
        for wrong, what, remedy in self._contradictions():
            if wrong:
                raise ConfigurationError(f"A simulated machine cannot have {what}", remedy=remedy)

    def _contradictions(self) -> list[tuple[bool, str, str]]:
        by_slot = self.readahead in SLOT_NEIGHBOURS
        old = self.kernel is KernelModel.LINUX_2_6_24
        return [
            (self.memory_pages < 1, f"{self.memory_pages} pages of memory", "Give it one page at least"),
            (not 0 <= self.swap_slots < 1 << 31, f"{self.swap_slots} swap slots", "Give from 0 to 2^31 - 1"),
            (
                self.page_bytes < 1 or self.page_bytes & (self.page_bytes - 1) != 0,
                f"pages of {self.page_bytes} bytes",
                "Give a power of two",
            ),
            (
                not 0 <= self.page_cluster <= 31,
                f"page_cluster {self.page_cluster}",
                "Give from 0 to 31, as sysctl does",
            ),
            (
                self.lock_limit_bytes is not None and self.lock_limit_bytes < 0,
                f"a lock limit of {self.lock_limit_bytes} bytes",
                "Give 0 or more, or None for no limit",
            ),
            (
                self.address_space_bytes is not None and self.address_space_bytes < 0,
                f"an address space of {self.address_space_bytes} bytes",
                "Give 0 or more, or None for no limit",
            ),
            (
                min(self.fault_ns, self.submit_ns, self.request_ns) < 0,
                "negative CPU times",
                "Give 0 or more nanoseconds",
            ),
            (
                min(self.cluster_hits, self.cluster_window_pages) < 0,
                "a negative readahead state",
                "Give 0 or more hits and pages",
            ),
            (self.log_events < 0, f"a log of {self.log_events} events", "Give 0 for no log, or more"),
            (
                old and self.device.synchronous,
                "Linux 2.6.24 with a synchronous swap device",
                "Choose a disk or an SSD; zram came with Linux 3.14",
            ),
            (
                by_slot and self.device.synchronous,
                f"{self.readahead.value if self.readahead else ''} readahead on a synchronous device",
                "Leave readahead to the device, or choose one that rotates",
            ),
            (
                self.slot_order is not SlotOrder.CLUSTERS and self.swap_slots == 0,
                f"an order of slots ({self.slot_order.value}) without swap",
                "Give it swap slots, or leave the order of slots alone",
            ),
            (
                self.chunk_pages < 1 or self.chunk_pages & (self.chunk_pages - 1) != 0,
                f"chunks of {self.chunk_pages} pages",
                "Give a power of two",
            ),
            (
                self.slot_order is SlotOrder.CHUNKS and self.swap_slots + 1 < 2 * self.chunk_pages,
                f"chunks of {self.chunk_pages} slots in a swap area of {self.swap_slots}",
                "Give it two chunks of swap at least: the first has the header and is not used",
            ),
            (
                self.readahead is ReadaheadMode.ADAPTIVE and self.chunk_pages < 1 << self.page_cluster,
                f"adaptive readahead from {1 << self.page_cluster} up to {self.chunk_pages} pages",
                "Give larger chunks or a smaller page_cluster",
            ),
        ]

    @property
    def readahead_mode(self) -> ReadaheadMode:
        """The readahead in use: one rotational swap device switches VMA readahead off everywhere."""
        if self.readahead is not None:
            return self.readahead
        if self.kernel is KernelModel.LINUX_2_6_24:
            return ReadaheadMode.FIXED
        return ReadaheadMode.CLUSTER if self.device.rotational else ReadaheadMode.VMA

    @property
    def lock_limit_pages(self) -> int | None:
        """How many pages may be locked; None if there is no limit."""
        if self.lock_limit_bytes is None or self.cap_ipc_lock:
            return None
        return self.lock_limit_bytes // self.page_bytes

    @classmethod
    def for_device(
        cls, name: str, *, memory_bytes: int, swap_bytes: int, seed: int = 0, page_bytes: int = 4096
    ) -> SimulationOptions:
        """Return a machine with the device called `name`; use :func:`dataclasses.replace` for whatever else differs.

        Raises
        ------
        ConfigurationError
            No device has that name, or a size is impossible.
        """
        return cls(
            device=device_profile(name),
            memory_pages=memory_bytes // page_bytes,
            swap_slots=swap_bytes // page_bytes,
            page_bytes=page_bytes,
            seed=seed,
        )

    @classmethod
    def linux_2_6_24(
        cls, device_name: str, *, memory_bytes: int, swap_bytes: int, patched: bool, seed: int = 0
    ) -> SimulationOptions:
        """Return the machine that the 2008 thread was about, with the device called `device_name`.

        Its fault path, fixed readahead, slots in the order of eviction and RLIMIT_MEMLOCK of 32 KiB (``MLOCK_LIMIT``)
        are that kernel's. WILLNEED of anonymous memory is refused (EBADF) unless it is `patched`.

        Raises
        ------
        ConfigurationError
            No device has that name, it is synchronous, or a size is impossible.
        """
        options = cls.for_device(device_name, memory_bytes=memory_bytes, swap_bytes=swap_bytes, seed=seed)
        return options.as_linux_2_6_24(patched=patched)

    def as_linux_2_6_24(self, *, patched: bool) -> SimulationOptions:
        """Return this machine with the kernel of :meth:`linux_2_6_24`.

        Raises
        ------
        ConfigurationError
            Its device is synchronous.
        """
        return replace(
            self,
            kernel=KernelModel.LINUX_2_6_24,
            readahead=ReadaheadMode.FIXED,
            slot_order=SlotOrder.SCAN,
            willneed=WillneedMode.PATCH_2008 if patched else WillneedMode.ABSENT,
            lock_limit_bytes=32 << 10,
        )
