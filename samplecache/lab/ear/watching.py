"""What ``/proc`` says of the contender's processes while it plays; looks ten times a second, on a thread of its own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.kernel import procfs
from samplecache.lab.ear.heard import Moment

INTERVAL_NS: Final = 100 * NS_PER_MS
_TICK_NS: Final = NS_PER_S // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process, or several together, have and have used.

    Attributes
    ----------
    rss_bytes, anonymous_bytes, swapped_bytes, locked_bytes : int
        ``VmRSS``, ``RssAnon``, ``VmSwap`` and ``VmLck``; of that no more than is in RAM, for mappings count as a whole.
    major_faults, minor_faults : int
        Of all its threads since it began.
    cpu_ns : int
        User and system time, in steps of the kernel's clock tick.
    read_bytes : int
        What it had read from disks, swap included: ``read_bytes`` of proc(5).
    """

    rss_bytes: int = 0
    anonymous_bytes: int = 0
    swapped_bytes: int = 0
    locked_bytes: int = 0
    major_faults: int = 0
    minor_faults: int = 0
    cpu_ns: int = 0
    read_bytes: int = 0

    @classmethod
    def of(cls, pids: Iterable[int]) -> Usage:
        """Return the sum over `pids`; those that have ended count nothing."""
        total = cls()
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += cls._of(Path(f"/proc/{pid}"))
        return total

    @classmethod
    def _of(cls, directory: Path) -> Usage:
        kib = dict.fromkeys(("VmRSS", "RssAnon", "VmSwap", "VmLck"), 0)
        for line in (directory / "status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in kib:
                kib[key] = int(value.split()[0]) * 1024
        major, minor, cpu_ns = _stat(directory / "stat")
        read = next(line for line in (directory / "io").read_text().splitlines() if line.startswith("read_bytes"))
        return cls(
            rss_bytes=kib["VmRSS"],
            anonymous_bytes=kib["RssAnon"],
            swapped_bytes=kib["VmSwap"],
            locked_bytes=min(kib["VmLck"], kib["VmRSS"]),
            major_faults=major,
            minor_faults=minor,
            cpu_ns=cpu_ns,
            read_bytes=int(read.split()[1]),
        )

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(mine + theirs for mine, theirs in zip(self._values(), other._values(), strict=True)))

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*(mine - theirs for mine, theirs in zip(self._values(), other._values(), strict=True)))

    def _values(self) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


def _stat(file: Path) -> tuple[int, int, int]:
    """Return major faults, minor faults and CPU time from a ``stat`` of proc(5); names may hold blanks and brackets."""
    fields = file.read_text().rpartition(")")[2].split()
    return int(fields[9]), int(fields[7]), (int(fields[11]) + int(fields[12])) * _TICK_NS


def thread_faults(threads: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Return major and minor faults of threads, each a process and a thread id; of those that have ended none."""
    major = minor = 0
    for pid, tid in threads:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            of_thread = _stat(Path(f"/proc/{pid}/task/{tid}/stat"))
            major, minor = major + of_thread[0], minor + of_thread[1]
    return major, minor


def processes_in(group: Path, without: Sequence[int]) -> list[int]:
    """Return the processes in a control group other than `without`."""
    return [pid for pid in map(int, (group / "cgroup.procs").read_text().split()) if pid not in without]


class Watch:
    """Looks at processes from the beginning to the end of a ``with`` block.

    Parameters
    ----------
    pids : callable
        Tells whom to look at.
    start_ns : int
        From when times are counted.

    Attributes
    ----------
    moments : list of Moment
        What was seen.
    """

    def __init__(self, pids: Callable[[], Sequence[int]], start_ns: int) -> None:
        self.moments: list[Moment] = []
        self._pids = pids
        self._start_ns = start_ns
        self._clock = MonotonicClock()
        self._first = Usage.of(pids())
        self._swap = procfs.swap_counts()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Note a moment."""
        usage, swap = Usage.of(self._pids()), procfs.swap_counts()
        self.moments.append(
            Moment(
                self._clock.now_ns() - self._start_ns,
                usage.rss_bytes,
                usage.locked_bytes,
                usage.major_faults - self._first.major_faults,
                swap.pswpin - self._swap.pswpin,
                swap.pswpout - self._swap.pswpout,
            )
        )

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL_NS / NS_PER_S):
            self.look()
