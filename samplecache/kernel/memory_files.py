"""What ``/proc`` and control groups, of version 1 and 2, say of memory: how much there is, and how scarce. Reads only.

Sources: Documentation/accounting/psi.rst, Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst. Files are
looked for at each call, since a process can be moved to another group. That, and the kernel's adding up for
``memory.stat``, takes a millisecond or two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from samplecache.kernel import procfs
from samplecache.kernel.signals import MemoryState, PressureCounts

_NS_PER_US: Final = 1000


def memory_state() -> MemoryState:
    """Return how much memory there is for this process. Does not block."""
    machine = _fields(procfs.PROC / "meminfo")
    limit_bytes = machine["MemTotal:"] * 1024
    available_bytes = machine.get("MemAvailable:", machine["MemFree:"]) * 1024
    for group in procfs.cgroup_directories("memory"):
        if (own_bytes := _limit_bytes(group)) is None:
            continue
        limit_bytes = min(limit_bytes, own_bytes)
        available_bytes = min(available_bytes, max(0, own_bytes - _used_bytes(group) + _page_cache_bytes(group)))
    return MemoryState(limit_bytes, available_bytes)


def pressure_counts() -> PressureCounts:
    """Return the signs of scarce memory so far. Does not block.

    PSI is that of the process's own control group where there is one of version 2, else the machine's. The limits of
    all groups that it is in count, since each of them can be in the way.
    """
    groups = tuple(procfs.cgroup_directories("memory"))
    some_ns, full_ns = _stalls_ns(groups)
    return PressureCounts(some_ns, full_ns, _sum(map(_limit_events, groups)), _refaults(groups))


def _limit_bytes(group: Path) -> int | None:
    # memory.high is no limit, but whoever is above it is slowed down until it is below again.
    limits = (_number(group / name) for name in ("memory.limit_in_bytes", "memory.max", "memory.high"))
    return min((limit for limit in limits if limit is not None), default=None)


def _used_bytes(group: Path) -> int:
    used = _number(group / "memory.usage_in_bytes")
    return (used if used is not None else _number(group / "memory.current")) or 0


def _page_cache_bytes(group: Path) -> int:
    """Return what of the group's memory can be dropped rather than swapped out.

    ``memory.stat`` of version 1 gives sums over the groups below as ``total_...``; in version 2 all are such sums.
    """
    found = _fields(group / "memory.stat")
    return sum(found.get(f"total_{name}", found.get(name, 0)) for name in ("inactive_file", "active_file"))


def _stalls_ns(groups: Iterable[Path]) -> tuple[int | None, int | None]:
    for file in (*(group / "memory.pressure" for group in groups), procfs.PROC / "pressure" / "memory"):
        lines = dict(line.split(" ", 1) for line in _lines(file))
        if lines:
            return _total_ns(lines.get("some")), _total_ns(lines.get("full"))
    return None, None


def _total_ns(line: str | None) -> int | None:
    if line is None:
        return None
    return int(dict(field.split("=") for field in line.split())["total"]) * _NS_PER_US


def _limit_events(group: Path) -> int | None:
    """Return how often the group's own limit was in the way; those of the groups below it are counted there."""
    if (failures := _number(group / "memory.failcnt")) is not None:
        return failures
    events = _fields(group / "memory.events.local") or _fields(group / "memory.events")
    return events["max"] + events["high"] if events else None


def _refaults(groups: Iterable[Path]) -> int | None:
    for file in (*(group / "memory.stat" for group in groups), procfs.PROC / "vmstat"):
        found = _fields(file)
        for name in ("total_workingset_refault_anon", "workingset_refault_anon"):
            if name in found:
                return found[name]
    return None


def _sum(counts: Iterable[int | None]) -> int | None:
    told = [count for count in counts if count is not None]
    return sum(told) if told else None


def _fields(file: Path) -> dict[str, int]:
    """Return the numbers in a file of lines that begin with a name and a number; none where there is no such file."""
    return {words[0]: int(words[1]) for words in map(str.split, _lines(file))}


def _number(file: Path) -> int | None:
    """Return the number in a control file, None if there is no such file or no limit in it."""
    text = next(_lines(file), "max").strip()
    return None if text == "max" else int(text)


def _lines(file: Path) -> Iterator[str]:
    try:
        # PSI of a kernel booted with psi=0 is there and cannot be read (EOPNOTSUPP).
        yield from file.read_text().splitlines()
    except OSError:
        return
