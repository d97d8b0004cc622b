"""What a simulated machine is like. One seed and one of these give one trace."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from samplecache.errors import ConfigurationError
from samplecache.simulation.device import DeviceProfile, device_profile


class ReadaheadMode(enum.Enum):
    """Which neighbours of a missing page the kernel reads with it."""

    VMA = "vma"
    """Neighbours in virtual memory (Linux 4.14), where no swap device is rotational."""
    CLUSTER = "cluster"
    """Neighbours on the swap device, where one is."""


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
    readahead : ReadaheadMode or None
        None takes what the device leads to.
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
    shuffle_slots : bool
        Hand slots out in an order shuffled by the seed, as on a fragmented swap area.
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
    shuffle_slots: bool = False
    seed: int = 0
    log_events: int = 0

    def __post_init__(self) -> None:
        for wrong, what, remedy in self._contradictions():
            if wrong:
                raise ConfigurationError(f"A simulated machine cannot have {what}", remedy=remedy)

    def _contradictions(self) -> list[tuple[bool, str, str]]:
        cluster = self.readahead is ReadaheadMode.CLUSTER
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
                cluster and self.device.synchronous,
                "cluster readahead on a synchronous device",
                "Leave readahead to the device, or choose one that rotates",
            ),
            (
                self.shuffle_slots and self.swap_slots == 0,
                "shuffled slots without swap",
                "Give it swap slots, or do not shuffle",
            ),
        ]

    @property
    def readahead_mode(self) -> ReadaheadMode:
        """The readahead in use: one rotational swap device switches VMA readahead off everywhere."""
        if self.readahead is not None:
            return self.readahead
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
