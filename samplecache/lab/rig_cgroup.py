"""Control groups that bound a process's memory and its reads from disk, in version 1 and version 2.

Where each controller lives is found out one by one: a machine may have memory in one version and block I/O in another.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from samplecache.errors import NotPermittedError, UnavailableError
from samplecache.kernel import procfs
from samplecache.kernel.procfs import Disk
from samplecache.lab.rig_undo import Journal


@dataclass(frozen=True, slots=True)
class Limits:
    """What the processes in a rig may use; None is no limit.

    Limits on reads bound the rate, not the latency: the kernel counts in slices of about 100 ms, and lets a slice's
    worth of reads pass at once. Nobody waits who needs less than the limit.

    Attributes
    ----------
    memory_bytes : int or None
        Memory, in bytes: what is beyond it goes to swap.
    read_iops : int or None
        Reads from the swap's disks, in operations per second. Each page counts, merged or not.
    read_bytes_per_s : int or None
        Reads from the swap's disks, in bytes per second.
    """

    memory_bytes: int | None = None
    read_iops: int | None = None
    read_bytes_per_s: int | None = None


class MemoryGroup(Protocol):
    """A control group that bounds memory."""

    directory: Path

    @property
    def used_bytes(self) -> int:
        """What is charged to the group now, in bytes."""
        ...

    @property
    def unmapped_cache_bytes(self) -> int:
        """How much of that is clean or dirty pages of files that no process has mapped: what goes first."""
        ...

    def limit(self, memory_bytes: int | None) -> None:
        """Bound the memory, in bytes; None lifts the bound. May block while what is over it is reclaimed."""
        ...

    def reclaim(self) -> None:
        """Have the kernel push out whatever of the group's memory it can. Blocks."""
        ...


class DiskGroup(Protocol):
    """A control group that bounds reads from disks."""

    directory: Path

    def limit(self, disks: Sequence[Disk], read_iops: int | None, read_bytes_per_s: int | None) -> None:
        """Bound reads per second from each of `disks`; None lifts a bound."""
        ...

    def record_lift(self, journal: Journal, disks: Sequence[Disk]) -> None:
        """Have the bounds lifted first when the rig is taken down: a swapoff through them would take for ever."""
        ...


class MemoryGroupV1:
    """``memory.*`` of version 1."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def used_bytes(self) -> int:
        """See :class:`MemoryGroup`."""
        return int((self.directory / "memory.usage_in_bytes").read_text())

    @property
    def unmapped_cache_bytes(self) -> int:
        """See :class:`MemoryGroup`."""
        counts = _counts(self.directory / "memory.stat")
        return max(0, counts["total_cache"] - counts["total_mapped_file"] - counts["total_shmem"])

    def limit(self, memory_bytes: int | None) -> None:
        """See :class:`MemoryGroup`."""
        _write(self.directory / "memory.limit_in_bytes", -1 if memory_bytes is None else memory_bytes)

    def reclaim(self) -> None:
        """See :class:`MemoryGroup`. ``memory.force_empty`` takes all it can, and drains the LRU batches first."""
        _write(self.directory / "memory.force_empty", 0)


class MemoryGroupV2:
    """``memory.*`` of version 2."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def used_bytes(self) -> int:
        """See :class:`MemoryGroup`."""
        return int((self.directory / "memory.current").read_text())

    @property
    def unmapped_cache_bytes(self) -> int:
        """See :class:`MemoryGroup`."""
        counts = _counts(self.directory / "memory.stat")
        return max(0, counts["file"] - counts["file_mapped"] - counts["shmem"])

    def limit(self, memory_bytes: int | None) -> None:
        """See :class:`MemoryGroup`."""
        _write(self.directory / "memory.max", "max" if memory_bytes is None else memory_bytes)

    def reclaim(self) -> None:
        """See :class:`MemoryGroup`."""
        try:
            (self.directory / "memory.reclaim").write_text(str(self.used_bytes))
        except OSError as error:
            if error.errno != errno.EAGAIN:  # less than was asked for, as is to be expected when all is asked for
                raise


class DiskGroupV1:
    """``blkio.throttle.*`` of version 1."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._iops = directory / "blkio.throttle.read_iops_device"
        self._bytes_per_s = directory / "blkio.throttle.read_bps_device"

    def limit(self, disks: Sequence[Disk], read_iops: int | None, read_bytes_per_s: int | None) -> None:
        """See :class:`DiskGroup`."""
        for disk in disks:
            _write(self._iops, f"{disk.numbers} {read_iops or 0}")
            _write(self._bytes_per_s, f"{disk.numbers} {read_bytes_per_s or 0}")

    def record_lift(self, journal: Journal, disks: Sequence[Disk]) -> None:
        """See :class:`DiskGroup`."""
        for disk in disks:
            for file in (self._iops, self._bytes_per_s):
                journal.record(undo="write", path=str(file), text=f"{disk.numbers} 0")


class DiskGroupV2:
    """``io.max`` of version 2."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._max = directory / "io.max"

    def limit(self, disks: Sequence[Disk], read_iops: int | None, read_bytes_per_s: int | None) -> None:
        """See :class:`DiskGroup`."""
        for disk in disks:
            _write(self._max, f"{disk.numbers} rbps={read_bytes_per_s or 'max'} riops={read_iops or 'max'}")

    def record_lift(self, journal: Journal, disks: Sequence[Disk]) -> None:
        """See :class:`DiskGroup`."""
        for disk in disks:
            journal.record(undo="write", path=str(self._max), text=f"{disk.numbers} rbps=max riops=max")


def make_groups(root: Path, journal: Journal) -> tuple[MemoryGroup, DiskGroup]:
    """Make the rig's control groups under `root` and record their removal. In version 2 both are one directory.

    Raises
    ------
    NotPermittedError
        A controller is missing, or may not be given to a new group.
    """
    memory_v1, disk_v1 = root / "memory", root / "blkio"
    memory: MemoryGroup
    disk: DiskGroup
    if (memory_v1 / "cgroup.procs").exists():
        memory = MemoryGroupV1(_make(memory_v1, journal))
    else:
        memory = MemoryGroupV2(_make(_enable(root, "memory", journal), journal))
    if (disk_v1 / "cgroup.procs").exists():
        disk = DiskGroupV1(_make(disk_v1, journal))
    else:
        disk = DiskGroupV2(_make(_enable(root, "io", journal), journal))
    return memory, disk


def home_groups() -> set[Path]:
    """Return the control groups that bound the calling process's memory and block I/O now."""
    homes = (next(procfs.cgroup_directories(controller), None) for controller in ("memory", "blkio", "io"))
    return {home for home in homes if home is not None}


def _make(parent: Path, journal: Journal) -> Path:
    directory = parent / f"samplecache-{journal.name}"
    if not directory.exists():
        journal.record(undo="group", path=str(directory))
        try:
            directory.mkdir()
        except OSError as error:
            raise NotPermittedError(
                f"The control group {directory} could not be made: {error.strerror}",
                remedy="Run on the host, or in a container with a writable cgroup file system",
            ) from error
    return directory


def _enable(root: Path, controller: str, journal: Journal) -> Path:
    """Return the version 2 hierarchy that has `controller`, which its groups may use from now on."""
    for hierarchy in (root, root / "unified"):
        available = hierarchy / "cgroup.controllers"
        if available.exists() and controller in available.read_text().split():
            break
    else:
        raise NotPermittedError(
            f"No control group hierarchy under {root} has the controller {controller}",
            remedy="Mount control groups with memory and block I/O, or use the simulated kernel",
        )
    enabled = hierarchy / "cgroup.subtree_control"
    if controller not in enabled.read_text().split():
        journal.record(undo="enable", path=str(enabled), text=f"-{controller}")
        try:
            enabled.write_text(f"+{controller}")
        except OSError as error:
            raise NotPermittedError(
                f"The controller {controller} cannot be enabled in {hierarchy}: {error.strerror}",
                remedy="Run on the host, outside of any container",
            ) from error
    return hierarchy


def _counts(file: Path) -> dict[str, int]:
    """Return the lines of a ``memory.stat``."""
    return {name: int(count) for name, count in (line.split() for line in file.read_text().splitlines())}


def _write(file: Path, value: int | str) -> None:
    try:
        file.write_text(str(value))
    except OSError as error:
        raise UnavailableError(
            f"Writing {value} to {file} failed: {error.strerror}",
            remedy="Give the processes in the group a larger limit, or end some of them",
        ) from error
