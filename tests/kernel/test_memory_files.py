"""What is read of memory and its scarcity, over directories that stand in for /proc and control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from samplecache.kernel import memory_files, procfs
from samplecache.kernel.procfs import SwapArea
from samplecache.kernel.signals import MemoryState, PressureCounts

MIB = 1 << 20
UNLIMITED = 9223372036854771712
"""What version 1 shows where nothing is set."""

PSI = "some avg10=0.56 avg60=0.14 avg300=0.03 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={}\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 1 GiB, 512 MiB of it available, without control groups."""
    monkeypatch.setattr(procfs, "PROC", tmp_path)
    write(
        tmp_path,
        {
            "meminfo": "MemTotal:  1048576 kB\nMemFree:  262144 kB\nMemAvailable:  524288 kB\nHugePages_Total:  0\n",
            "self/mounts": "",
            "self/cgroup": "",
        },
    )
    return tmp_path


def write(root: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(text))


def grouped(root: Path, version: int, files: dict[str, object]) -> None:
    """Put the process into group a/b."""
    kind, options, membership = (
        ("cgroup", "rw,memory", "4:memory:/a/b") if version == 1 else ("cgroup2", "rw", "0::/a/b")
    )
    write(root, {"self/mounts": f"{kind} {root}/g {kind} {options} 0 0\n", "self/cgroup": f"{membership}\n"})
    (root / "g" / "a" / "b").mkdir(parents=True)
    write(root, files)


def test_without_groups_memory_is_the_machines(machine: Path) -> None:
    assert memory_files.memory_state() == MemoryState(1024 * MIB, 512 * MIB)


def test_before_linux_3_14_only_what_is_free_is_known_to_be_available(machine: Path) -> None:
    write(machine, {"meminfo": "MemTotal:  1048576 kB\nMemFree:  262144 kB\n"})
    assert memory_files.memory_state() == MemoryState(1024 * MIB, 256 * MIB)


def test_version_1_the_tightest_group_counts_and_its_page_cache_is_available(machine: Path) -> None:
    files = {
        "g/a/memory.limit_in_bytes": UNLIMITED,
        "g/a/memory.usage_in_bytes": 900 * MIB,
        "g/a/b/memory.limit_in_bytes": 64 * MIB,
        "g/a/b/memory.usage_in_bytes": 60 * MIB,
        "g/a/b/memory.stat": f"inactive_file 7\ntotal_inactive_file {5 * MIB}\ntotal_active_file {MIB}\n",
    }
    grouped(machine, 1, files)
    assert memory_files.memory_state() == MemoryState(64 * MIB, 10 * MIB)


def test_version_2_memory_high_is_as_good_as_a_limit(machine: Path) -> None:
    files = {
        "g/a/memory.max": 256 * MIB,
        "g/a/memory.high": "max",
        "g/a/memory.current": 250 * MIB,
        "g/a/memory.stat": f"anon 5\ninactive_file {2 * MIB}\nactive_file 0\n",
        "g/a/b/memory.max": "max",
        "g/a/b/memory.high": 128 * MIB,
        "g/a/b/memory.current": 130 * MIB,
    }
    grouped(machine, 2, files)
    assert memory_files.memory_state() == MemoryState(128 * MIB, 0)


def test_stalls_are_those_of_the_own_group_where_it_tells(machine: Path) -> None:
    grouped(machine, 2, {"pressure/memory": PSI.format(7, 3)})
    assert memory_files.pressure_counts() == PressureCounts(some_ns=7000, full_ns=3000)
    write(machine, {"g/a/b/memory.pressure": PSI.format(5, 1)})
    assert memory_files.pressure_counts() == PressureCounts(some_ns=5000, full_ns=1000)


def test_a_kernel_without_psi_tells_none(machine: Path) -> None:
    write(machine, {"vmstat": "nr_free_pages 1\nworkingset_refault_anon 31942\nworkingset_refault_file 9\n"})
    assert memory_files.pressure_counts() == PressureCounts(refaults=31942)


def test_version_1_counts_how_often_the_limit_of_any_group_was_in_the_way(machine: Path) -> None:
    files = {
        "g/memory.failcnt": 0,
        "g/a/memory.failcnt": 3,
        "g/a/b/memory.failcnt": 40,
        "g/a/b/memory.stat": "workingset_refault_anon 1\ntotal_workingset_refault_anon 12\n",
        "vmstat": "workingset_refault_anon 31942\n",
    }
    grouped(machine, 1, files)
    assert memory_files.pressure_counts() == PressureCounts(limit_events=43, refaults=12)


def test_version_2_counts_each_groups_own_limit_once(machine: Path) -> None:
    files = {
        "g/a/memory.events": "low 0\nhigh 9\nmax 9\noom 0\n",
        "g/a/memory.events.local": "low 0\nhigh 1\nmax 2\noom 0\n",
        "g/a/b/memory.events": "low 7\nhigh 20\nmax 30\noom 5\n",
        "g/a/b/memory.stat": "workingset_refault_anon 77\n",
    }
    grouped(machine, 2, files)
    assert memory_files.pressure_counts() == PressureCounts(limit_events=53, refaults=77)


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        (PressureCounts(5, 1, 2, 7), PressureCounts(15, 1, 3, 9), PressureCounts(10, 0, 1, 2)),
        (PressureCounts(some_ns=5), PressureCounts(some_ns=4, refaults=3), PressureCounts(some_ns=0)),
    ],
)
def test_only_differences_say_anything(
    earlier: PressureCounts, later: PressureCounts, expected: PressureCounts
) -> None:
    assert later.since(earlier) == expected


@pytest.mark.parametrize(
    ("disks", "synchronous"),
    [
        ({}, False),
        ({"zram0": (100, 0)}, True),
        ({"pmem0s": (5, 0), "ram1": (5, 0)}, True),
        ({"vda": (-2, 0)}, False),
        ({"zram0": (100, 0), "vda": (-2, 0)}, True),
        ({"zram0": (100, MIB), "vda": (-2, 0)}, False),
        ({"zram0": (1, 0), "vda": (1, 0)}, False),
        ({"ramdisk": (1, 0)}, False),
    ],
)
def test_swap_is_synchronous_where_what_is_filled_first_is_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disks: dict[str, tuple[int, int]], synchronous: bool
) -> None:
    monkeypatch.setattr(procfs, "disk_under", lambda path: procfs.Disk(path.name, "0:0"))
    areas = [SwapArea(tmp_path / name, "partition", MIB, used, priority) for name, (priority, used) in disks.items()]
    assert procfs.swaps_synchronously(areas) is synchronous
