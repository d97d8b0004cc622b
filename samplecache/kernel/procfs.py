"""What ``/proc`` and ``/sys`` say about swap, disks, limits and control groups. Reads only; never blocks for long."""

from __future__ import annotations

import os
import re
import resource
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from samplecache.kernel.port import SwapCounts

PROC = Path("/proc")
SYS = Path("/sys")
ZRAM_CONTROL = SYS / "class" / "zram-control"
"""Where zram devices are added and removed; there where the kernel has zram."""

_SYNCHRONOUS = re.compile(r"(zram|ram|pmem)\d.*")
"""Disks of drivers that set BLK_FEAT_SYNCHRONOUS (Linux 6.18): zram, brd and nvdimm."""

CAP_IPC_LOCK = 14
"""Number of the capability that lifts RLIMIT_MEMLOCK, from ``linux/capability.h``."""


@dataclass(frozen=True, slots=True)
class SwapArea:
    """One line of ``/proc/swaps``.

    Attributes
    ----------
    path : Path
        The swap file or partition.
    kind : str
        ``"file"`` or ``"partition"``.
    size_bytes, used_bytes : int
        Its size and what is used of it, in bytes.
    priority : int
        Areas of a higher one are filled first.
    """

    path: Path
    kind: str
    size_bytes: int
    used_bytes: int
    priority: int


@dataclass(frozen=True, slots=True)
class Disk:
    """A whole block device.

    Attributes
    ----------
    name : str
        Its name under ``/sys/block``.
    numbers : str
        ``"major:minor"``, as control groups want it.
    """

    name: str
    numbers: str

    @property
    def rotational_file(self) -> Path:
        """Where the kernel says, and can be told, whether the disk turns."""
        return SYS / "block" / self.name / "queue" / "rotational"

    @property
    def rotational(self) -> bool:
        """Whether the kernel takes it for a turning disk, and so reads clusters of slots ahead."""
        return self.rotational_file.read_text().strip() == "1"

    @property
    def in_flight(self) -> int:
        """How many requests it has that are not over, those still in the scheduler too (Documentation/block/stat.rst).

        The file ``inflight`` beside it leaves out those that the driver has not got yet.
        """
        return int((SYS / "block" / self.name / "stat").read_text().split()[8])


def swap_areas() -> list[SwapArea]:
    """Return the swap areas in use."""
    areas = []
    with (PROC / "swaps").open("rb") as file:
        lines = file.readlines()[1:]
    for line in lines:
        path, kind, *numbers = line.rsplit(maxsplit=4)
        size_kib, used_kib, priority = map(int, numbers)
        # The kernel escapes blanks and backslashes in paths, as \040, and leaves all other bytes as they are.
        plain = re.sub(rb"\\([0-3][0-7]{2})", lambda escaped: bytes([int(escaped[1], 8)]), path)
        areas.append(SwapArea(Path(os.fsdecode(plain)), kind.decode(), size_kib * 1024, used_kib * 1024, priority))
    return areas


def disk_under(path: Path) -> Disk | None:
    """Return the whole disk that `path` (a file, directory or block device) lies on, None if it lies on none or is out
    of this process's sight.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    device = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
    entry = SYS / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}"
    if not entry.exists():
        return None
    directory = entry.resolve()
    if (directory / "partition").exists():
        directory = directory.parent
    return Disk(directory.name, (directory / "dev").read_text().strip())


def areas_on(disk_name: str) -> list[SwapArea]:
    """Return the swap areas in use on the disk of that name."""
    return [area for area in swap_areas() if (disk := disk_under(area.path)) is not None and disk.name == disk_name]


def swaps_synchronously(areas: Sequence[SwapArea]) -> bool:
    """Return whether pages go to swap in memory, of which reads are copies: the areas that are filled first, with room.

    Where they are full, later pages go elsewhere; that is not looked at again. The kernel keeps the fact itself
    (``SWP_SYNCHRONOUS_IO``, from ``BLK_FEAT_SYNCHRONOUS``) to itself: it is known of drivers, by their disks' names.
    """
    first = [area for area in areas if area.used_bytes < area.size_bytes]
    highest = max((area.priority for area in first), default=0)
    disks = [_disk_or_none(area.path) for area in first if area.priority == highest]
    return bool(disks) and all(disk is not None and _SYNCHRONOUS.fullmatch(disk.name) for disk in disks)


def _disk_or_none(path: Path) -> Disk | None:
    try:
        return disk_under(path)
    except OSError:
        return None


def page_cluster() -> int:
    """Return ``vm.page-cluster``: readahead is of up to ``1 << page_cluster`` pages."""
    return int((PROC / "sys/vm/page-cluster").read_text())


def describe_swap(areas: Sequence[SwapArea]) -> str:
    """Return what is under the swap and how far the kernel reads ahead on it, for people."""
    if not areas:
        return "none"
    readahead_pages = 1 << page_cluster()
    return f"{', '.join(map(_describe_area, areas))}; readahead of {readahead_pages} pages"


def _describe_area(area: SwapArea) -> str:
    try:
        disk = disk_under(area.path)
        if disk is None:
            return f"{area.kind} {area.path}"
        turning = "rotational" if disk.rotational else "not rotational"
    except OSError:
        return f"{area.kind} {area.path} (out of sight)"
    if area.kind == "partition" and area.path.name == disk.name:
        return f"{disk.name} ({turning})"
    return f"{area.kind} {area.path} on {disk.name} ({turning})"


def swap_counts() -> SwapCounts:
    """Return the machine's swap traffic since it began, in pages, from ``/proc/vmstat``."""
    wanted = set(SwapCounts.__slots__)
    found = {}
    for line in (PROC / "vmstat").read_text().splitlines():
        name, _, count = line.partition(" ")
        if name in wanted:
            found[name] = int(count)
    return SwapCounts(**found)


def status_field(name: str) -> str:
    """Return a field of the calling thread's ``status``, without its unit.

    Raises
    ------
    KeyError
        This kernel has no such field.
    """
    for line in (PROC / "thread-self" / "status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.split()[0]
    raise KeyError(name)


def has_capability(number: int) -> bool:
    """Return whether the calling thread has capability `number` in effect."""
    return bool(int(status_field("CapEff"), 16) >> number & 1)


def locked_bytes() -> int:
    """Return how much memory the process has locked, in bytes; other libraries' locks count too."""
    return int(status_field("VmLck")) * 1024


def mapping_count() -> int:
    """Return how many parts this process's address space has; takes some 0.1 s where there are tens of thousands."""
    return Path("/proc/self/maps").read_bytes().count(b"\n")


def mapping_limit() -> int:
    """Return ``vm.max_map_count``."""
    return int(Path("/proc/sys/vm/max_map_count").read_text())


def lock_limit_bytes() -> int | None:
    """Return RLIMIT_MEMLOCK in bytes, None if it does not bind the calling thread."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return None if soft == resource.RLIM_INFINITY or has_capability(CAP_IPC_LOCK) else soft


def cgroup_directories(controller: str) -> Iterator[Path]:
    """Yield the process's control groups for `controller`, innermost first, on whichever hierarchy has it mounted."""
    mounts = {}
    for line in (PROC / "self" / "mounts").read_text().splitlines():
        _, where, kind, options = line.split()[:4]
        if kind == "cgroup2":
            mounts[""] = Path(where)
        elif kind == "cgroup":
            mounts.update(dict.fromkeys(options.split(","), Path(where)))
    for line in (PROC / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        mount = mounts.get(names[0])
        if mount is None or (controller not in names and names != [""]):
            continue
        inside = Path(path.lstrip("/"))
        yield from (mount / directory for directory in (inside, *inside.parents))


def swap_ban() -> Path | None:
    """Return the control file that forbids this process any swap, None if none does.

    Version 1 has no such file: ``memory.memsw.limit_in_bytes`` bounds memory and swap together, and paging out changes
    nothing in their sum.
    """
    for directory in cgroup_directories("memory"):
        swap_max = directory / "memory.swap.max"
        if swap_max.exists() and swap_max.read_text().strip() == "0":
            return swap_max
    return None
