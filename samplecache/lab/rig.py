"""A machine with swap, memory pressure and a disk as slow as wanted; all of it goes away with the process that made it.

The rig needs root. It makes a fresh swap file (whose slots are handed out in order) or a zram device, may tell the
kernel whether the disk turns (which chooses its kind of readahead) and how far to read ahead, and makes a memory and a
block I/O control group to run processes in.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.errors import ExhaustedError, InvalidError, NotPermittedError, StateError
from samplecache.kernel import procfs
from samplecache.kernel.procfs import Disk
from samplecache.lab import rig_undo
from samplecache.lab.rig_cgroup import Limits, home_groups, make_groups
from samplecache.lab.rig_undo import PAGE_CLUSTER, Journal, tool

__all__ = ["PAGE_CLUSTER", "Limits", "Rig", "RigOptions"]

LARGEST_PAGE_CLUSTER = 31
"""``page_cluster_max`` in mm/swap.c."""
LEAST_SWAP_BYTES = 1 << 20
NS_PER_MINUTE = 60 * NS_PER_S
SPARE_DISK_BYTES = 64 << 20
"""What a swap file leaves free of the disk."""
TEARDOWN_TIMEOUT_S = 120
RECLAIM_ROUNDS = 8
WRITES_NS = NS_PER_S
"""The longest to wait for what is pushed out to be written; others may keep the disk busy for ever."""
WRITES_POLL_NS = NS_PER_MS
DEFAULT_DIRECTORY = Path("/var/lib/samplecache/rig")


@dataclass(frozen=True, slots=True)
class RigOptions:
    """What a rig is made of.

    Attributes
    ----------
    swap_bytes : int
        Size of the swap area, in bytes.
    swap_priority : int
        0 to 32767; areas with a higher priority are used first.
    rotational : bool or None
        Say before ``swapon`` that the disk turns or not; None leaves what the kernel thinks.
    zram : bool
        Swap to a zram device (compressed memory, read synchronously) with the kernel's default compressor, instead of
        to a file.
    page_cluster : int or None
        ``vm.page-cluster`` while the rig is there: readahead of up to ``1 << page_cluster`` pages. 0 to 31; None leaves
        what is set.
    wait_ns : int
        How long to wait for another rig to go, in nanoseconds: swap areas, readahead and limits on a disk are the whole
        machine's, so that two rigs would measure each other.
    directory : Path
        Where the swap file and the undo journal go: on a file system that can hold swap, and that survives a reboot.
    cgroup_root : Path
        Where control groups are mounted.
    """

    swap_bytes: int = 512 << 20
    swap_priority: int = 1000
    rotational: bool | None = None
    zram: bool = False
    page_cluster: int | None = None
    wait_ns: int = NS_PER_MINUTE
    directory: Path = DEFAULT_DIRECTORY
    cgroup_root: Path = Path("/sys/fs/cgroup")


class Rig:
    """Swap, pressure and a slow disk, from ``with`` to its end. One thread at a time, and one rig on a machine.

    Taken down at the end of the block, and by a guardian process when the owner ends in any other way, ``kill -9``
    included. Processes still running in the rig are killed then.

    Parameters
    ----------
    options : RigOptions
        What to make.

    Examples
    --------
    >>> with Rig() as rig:  # doctest: +SKIP
    ...     player = rig.popen(["samplecache", "serve"])
    ...     rig.limit(Limits(memory_bytes=256 << 20, read_iops=400))
    ...     rig.reclaim()
    """

    def __init__(self, options: RigOptions | None = None) -> None:
        self.options = options or RigOptions()
        self._journal: Journal | None = None
        self._directories = itertools.count()

    def __enter__(self) -> Self:
        """Set everything up, or nothing. Cleans what earlier rigs left first. Takes a second or so.

        Raises
        ------
        NotPermittedError
            Not root, or the machine lacks control groups, the swap tools or a file system that can hold swap.
        ExhaustedError
            The disk has not enough space.
        InvalidError
            The options are out of range or contradict each other.
        StateError
            The disk carries swap already and `rotational` would change what the kernel thinks of it; or another rig is
            there and does not go.
        """
        self._check()
        self.options.directory.mkdir(parents=True, exist_ok=True)
        self.clean_leftovers(self.options.directory)
        journal = Journal(self.options.directory)
        try:
            journal.claim_machine(self.options.wait_ns)
            self._guardian = rig_undo.start_guardian(journal)
        except BaseException:
            journal.path.unlink()
            journal.close()
            raise
        self._journal = journal
        try:
            self._set_page_cluster(journal)
            self.swap_file = self._add_zram(journal) if self.options.zram else self._add_file(journal)
            self._memory, self._disk = make_groups(self.options.cgroup_root, journal)
            self._disk.record_lift(journal, self.disks)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take everything down; see :meth:`close`."""
        self.close()

    def close(self) -> None:
        """Take everything down and wait until it is; again does nothing.

        Raises
        ------
        StateError
            Something could not be undone, or takes too long.
        """
        journal, self._journal = self._journal, None
        if journal is None:
            return
        journal.close()
        try:
            self._guardian.communicate("undo\n", timeout=TEARDOWN_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise StateError(
                f"The rig is still being taken down after {TEARDOWN_TIMEOUT_S} s",
                remedy=f"Wait for process {self._guardian.pid} to end",
            ) from error
        if self._guardian.returncode:  # killed, or it could not undo everything: try from here, and say what is wrong
            self.clean_leftovers(self.options.directory)

    @staticmethod
    def clean_leftovers(directory: Path = DEFAULT_DIRECTORY) -> list[Path]:
        """Take down rigs that nobody guards any more; return their journals. Leaves living rigs alone.

        Raises
        ------
        StateError
            Something could not be undone.
        NotPermittedError
            There are journals, living or left over, and the process is not root's.
        """
        return rig_undo.clean_leftovers(directory)

    # --- files ---

    def make_directory(self) -> Path:
        """Make a directory on the disk of a swap file; it goes with all that is in it when the rig is taken down.

        Its path is short enough for sockets (107 bytes) if that of `directory` is.

        Raises
        ------
        StateError
            The rig is not there.
        """
        if self._journal is None:
            raise StateError("A rig that is not there has no directory", remedy="Enter it first")
        path = self.options.directory.resolve() / f"{self._journal.name}.{next(self._directories)}"
        self._journal.record(undo="tree", path=str(path))
        path.mkdir(mode=0o700)
        return path

    # --- processes ---

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return `argv` made to enter the rig before it starts: for any way of starting a process."""
        enter = "".join(f"echo $$ > '{directory}/cgroup.procs' && " for directory in self.groups)
        return ["/bin/sh", "-c", f'{enter}exec "$@"', "sh", *argv]

    def popen(self, argv: Sequence[str], **kwargs: Any) -> subprocess.Popen[Any]:
        """Start `argv` inside the rig; `kwargs` are those of :class:`subprocess.Popen`."""
        return subprocess.Popen(self.command(argv), **kwargs)

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Move the calling process into the rig, and back out at the end of the block.

        What it had mapped before stays charged to where it came from; limits on reads hold at once.
        """
        homes = home_groups()
        try:
            for group in self.groups:
                (group / "cgroup.procs").write_text(str(os.getpid()))
            yield
        finally:
            for home in homes:
                (home / "cgroup.procs").write_text(str(os.getpid()))

    # --- limits ---

    def limit(self, limits: Limits) -> None:
        """Set all limits to `limits`, also under running processes. Blocks while memory over the limit is reclaimed.

        Raises
        ------
        UnavailableError
            The kernel cannot reclaim that much.
        """
        self._disk.limit(self.disks, limits.read_iops, limits.read_bytes_per_s)
        self._memory.limit(limits.memory_bytes)

    def reclaim(self) -> None:
        """Make the memory of the processes in the rig cold: push out whatever the kernel can. Blocks.

        Pages still being written when the kernel comes by stay. So it is asked again, once they have been, until that
        frees nothing more.
        """
        used_bytes = self._memory.used_bytes
        for _ in range(RECLAIM_ROUNDS):
            self._memory.reclaim()
            waited = self._await_writes()
            before_bytes, used_bytes = used_bytes, self._memory.used_bytes
            if used_bytes >= before_bytes and not waited:
                return

    def _await_writes(self) -> bool:
        """Wait until the swap's disks have nothing to do, at most `WRITES_NS`; return whether they had."""
        clock = MonotonicClock()
        disks = self.disks
        began_ns = now_ns = clock.now_ns()
        while any(disk.in_flight for disk in disks) and now_ns < began_ns + WRITES_NS:
            clock.sleep_until(now_ns + WRITES_POLL_NS)
            now_ns = clock.now_ns()
        return now_ns > began_ns

    @property
    def memory_bytes(self) -> int:
        """What is charged to the rig's memory control group now, in bytes."""
        return self._memory.used_bytes

    @property
    def working_bytes(self) -> int:
        """What of :attr:`memory_bytes` is more than pages of files that no process has mapped, in bytes.

        Such as what a start or a readahead left behind; the kernel can take them at once.
        """
        return self._memory.used_bytes - self._memory.unmapped_cache_bytes

    @property
    def disks(self) -> list[Disk]:
        """The disks under all of the machine's swap areas: those that limits on reads apply to."""
        disks = (procfs.disk_under(area.path) for area in procfs.swap_areas())
        return sorted({disk for disk in disks if disk is not None}, key=lambda disk: disk.name)

    @property
    def groups(self) -> list[Path]:
        """The control groups that a process in the rig is in."""
        return sorted({self._memory.directory, self._disk.directory})

    # --- setting up ---

    def _check(self) -> None:
        options = self.options
        if options.swap_bytes < LEAST_SWAP_BYTES or not 0 <= options.swap_priority <= 32767:
            raise InvalidError(
                f"A swap area of {options.swap_bytes} bytes with priority {options.swap_priority} cannot be made",
                remedy=f"Ask for {LEAST_SWAP_BYTES} bytes or more and a priority from 0 to 32767",
            )
        if options.page_cluster is not None and not 0 <= options.page_cluster <= LARGEST_PAGE_CLUSTER:
            raise InvalidError(
                f"vm.page-cluster cannot be {options.page_cluster}",
                remedy=f"Ask for a page_cluster from 0 to {LARGEST_PAGE_CLUSTER}",
            )
        if options.zram and options.rotational is not None:
            raise InvalidError(
                "Swap on zram lies on no disk that could turn",
                remedy="Ask for zram or for rotational, not for both",
            )
        if os.geteuid() != 0:
            raise NotPermittedError(
                "Setting up swap and control groups needs root", remedy="Run as root, or use the simulated kernel"
            )
        for name in ("mkswap", "swapon", "swapoff"):
            tool(name)
        if options.zram:
            if not procfs.ZRAM_CONTROL.exists():
                raise NotPermittedError("The kernel has no zram", remedy="Run modprobe zram, or leave zram out")
            return
        nearest = next(parent for parent in (options.directory, *options.directory.parents) if parent.exists())
        free_bytes = shutil.disk_usage(nearest).free
        if free_bytes < options.swap_bytes + SPARE_DISK_BYTES:
            raise ExhaustedError(
                f"{options.directory} has {free_bytes} bytes free, too few for {options.swap_bytes} bytes of swap",
                remedy="Free disk space, or ask for less swap",
            )

    def _set_rotational(self, journal: Journal, disk: Disk | None) -> None:
        wanted = self.options.rotational
        if wanted is None:
            return
        if disk is None:
            raise NotPermittedError(
                f"{self.options.directory} is not on a disk", remedy="Choose a directory on an ext4 or xfs disk"
            )
        if disk.rotational is wanted:
            return
        if procfs.areas_on(disk.name):
            raise StateError(
                f"The disk {disk.name} carries swap already, so whether it turns cannot be changed",
                remedy="Take that swap off first, or leave rotational as it is",
            )
        file = disk.rotational_file
        journal.record(undo="rotational", path=str(file), text=str(int(disk.rotational)), disk=disk.name)
        file.write_text(str(int(wanted)))

    def _set_page_cluster(self, journal: Journal) -> None:
        if self.options.page_cluster is not None:
            journal.record(undo="write", path=str(PAGE_CLUSTER), text=PAGE_CLUSTER.read_text().strip())
            PAGE_CLUSTER.write_text(str(self.options.page_cluster))

    def _add_file(self, journal: Journal) -> Path:
        disk = procfs.disk_under(self.options.directory)
        path = self.options.directory.resolve() / f"{journal.name}.swap"
        with rig_undo.flag_held(disk.rotational_file) if disk else contextlib.nullcontext():
            self._set_rotational(journal, disk)
            journal.record(undo="create", path=str(path))
            with path.open("xb") as file:
                path.chmod(0o600)
                os.posix_fallocate(file.fileno(), 0, self.options.swap_bytes)
            journal.record(undo="swapon", path=str(path))
            self._swap_on(
                path, remedy="Choose a directory on an ext4 or xfs disk, on the host rather than in a container"
            )
        return path

    def _add_zram(self, journal: Journal) -> Path:
        with rig_undo.zram_held():
            number = next(n for n in itertools.count() if not (procfs.SYS / f"block/zram{n}").exists())
            journal.record(undo="zram", path=f"{procfs.SYS}/block/zram{number}", diskseq="")
            added = int((procfs.ZRAM_CONTROL / "hot_add").read_text())
            device = procfs.SYS / f"block/zram{added}"
            journal.record(undo="zram", path=str(device), diskseq=(device / "diskseq").read_text().strip())
            (device / "disksize").write_text(str(self.options.swap_bytes))
        path = Path("/dev") / device.name
        self._swap_on(path, remedy="Run on the host rather than in a container")
        return path

    def _swap_on(self, path: Path, *, remedy: str) -> None:
        for argv in (["mkswap", str(path)], ["swapon", "-p", str(self.options.swap_priority), str(path)]):
            done = subprocess.run([tool(argv[0]), *argv[1:]], capture_output=True, text=True, check=False)
            if done.returncode:
                raise NotPermittedError(f"{argv[0]} failed: {done.stderr.strip()}", remedy=remedy)
