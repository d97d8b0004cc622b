"""What is written to control groups and read from /proc, over directories that stand in for those file systems."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from samplecache.errors import NotPermittedError
from samplecache.kernel import procfs
from samplecache.kernel.linux import LinuxKernel
from samplecache.kernel.port import Operation
from samplecache.kernel.procfs import Disk, SwapArea
from samplecache.lab.rig import Rig
from samplecache.lab.rig_cgroup import make_groups
from samplecache.lab.rig_undo import Journal, undo

DISK = Disk("vda", "254:0")
NO_SWAP = "no swap is configured, so it does nothing for anonymous memory"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cgroup"
    root.mkdir()
    return root


def recorded(journal: Journal) -> list[dict[str, str]]:
    return [json.loads(line) for line in journal.path.read_text().splitlines()[1:]]


def test_version_2_uses_one_group_for_both(root: Path, journal: Journal) -> None:
    (root / "cgroup.controllers").write_text("cpu io memory\n")
    (root / "cgroup.subtree_control").write_text("cpu memory\n")
    memory, disk = make_groups(root, journal)
    disk.record_lift(journal, [DISK])
    group = root / f"samplecache-{journal.name}"
    assert memory.directory == disk.directory == group
    assert (root / "cgroup.subtree_control").read_text() == "+io"
    assert recorded(journal) == [
        {"undo": "group", "path": str(group)},
        {"undo": "enable", "path": str(root / "cgroup.subtree_control"), "text": "-io"},
        {"undo": "write", "path": str(group / "io.max"), "text": "254:0 rbps=max riops=max"},
    ]


def test_version_2_limits(root: Path, journal: Journal) -> None:
    (root / "cgroup.controllers").write_text("io memory")
    (root / "cgroup.subtree_control").write_text("io memory")
    memory, disk = make_groups(root, journal)
    group = memory.directory
    memory.limit(1 << 20)
    disk.limit([DISK], 400, None)
    assert ((group / "memory.max").read_text(), (group / "io.max").read_text()) == (
        "1048576",
        "254:0 rbps=max riops=400",
    )
    memory.limit(None)
    disk.limit([DISK], None, 1 << 20)
    assert ((group / "memory.max").read_text(), (group / "io.max").read_text()) == (
        "max",
        "254:0 rbps=1048576 riops=max",
    )
    (group / "memory.current").write_text("4096\n")
    memory.reclaim()
    assert (group / "memory.reclaim").read_text() == "4096"


def test_version_2_under_a_hybrid_root_supplies_what_version_1_lacks(root: Path, journal: Journal) -> None:
    (root / "memory").mkdir()
    (root / "memory" / "cgroup.procs").write_text("")
    (root / "unified").mkdir()
    (root / "unified" / "cgroup.controllers").write_text("io")
    (root / "unified" / "cgroup.subtree_control").write_text("io")
    memory, disk = make_groups(root, journal)
    assert memory.directory.parent == root / "memory"
    assert disk.directory.parent == root / "unified"


def test_a_missing_controller_is_told(root: Path, journal: Journal) -> None:
    (root / "cgroup.controllers").write_text("cpu memory")
    (root / "cgroup.subtree_control").write_text("cpu memory")
    with pytest.raises(NotPermittedError, match="controller io"):
        make_groups(root, journal)


def test_whether_the_disk_turns_is_put_back_once_its_swap_is_gone(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "rotational"
    flag.write_text("0")
    journal.record(undo="rotational", path=str(flag), text="1", disk="vda")
    seen: list[str] = []
    area = SwapArea(Path("/other.swap"), "file", 1 << 20, 0, -2)

    def areas_on(disk_name: str) -> list[SwapArea]:
        seen.append(flag.read_text())
        return [area] if len(seen) < 3 else []

    monkeypatch.setattr(procfs, "areas_on", areas_on)
    assert undo(journal.path) == []
    assert (seen, flag.read_text()) == (["0", "0", "0"], "1")


def test_a_step_whose_tool_is_missing_does_not_keep_the_others(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = tmp_path / "setting"
    setting.write_text("changed")
    journal.record(undo="write", path=str(setting), text="before")
    journal.record(undo="swapon", path="/a.swap")
    monkeypatch.setattr(procfs, "swap_areas", lambda: [SwapArea(Path("/a.swap"), "file", 1 << 20, 0, -2)])
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    (problem,) = undo(journal.path)
    assert problem.startswith("swapon /a.swap: The tool swapoff is missing")
    assert setting.read_text() == "before"
    assert journal.path.exists()


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(procfs, "PROC", tmp_path)
    return tmp_path


def test_swap_areas_with_any_bytes_in_their_path(proc: Path) -> None:
    (proc / "swaps").write_bytes(
        b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        b"/dev/zram0                              partition\t1024\t\t8\t\t100\n"
        b"/a\\040b                                 file\t\t512\t\t0\t\t-2\n"
        b"/\xc3\xa9\\134\xff                            file\t\t512\t\t0\t\t-3\n"
    )
    assert procfs.swap_areas() == [
        SwapArea(Path("/dev/zram0"), "partition", 1 << 20, 8 << 10, 100),
        SwapArea(Path("/a b"), "file", 512 << 10, 0, -2),
        SwapArea(Path(os.fsdecode(b"/\xc3\xa9\\\xff")), "file", 512 << 10, 0, -3),
    ]


def test_who_gets_into_only_one_group_of_the_rig_goes_home(proc: Path) -> None:
    (proc / "self").mkdir()
    (proc / "self" / "mounts").write_text(f"cgroup2 {proc}/g cgroup2 rw 0 0\n")
    (proc / "self" / "cgroup").write_text("0::/home\n")
    home, entered, missing = proc / "g" / "home", proc / "g" / "a", proc / "g" / "b"
    home.mkdir(parents=True)
    entered.mkdir()

    class HalfRig(Rig):
        @property
        def groups(self) -> list[Path]:
            return [entered, missing]

    with pytest.raises(FileNotFoundError), HalfRig().joined():
        pytest.fail("not in the rig")
    assert (entered / "cgroup.procs").read_text() == (home / "cgroup.procs").read_text() == str(os.getpid())


@pytest.mark.parametrize(
    ("mount", "membership", "files", "ban"),
    [
        ("cgroup2 {}/g cgroup2 rw", "0::/a/b", {"g/a/memory.swap.max": "0\n", "g/a/b/memory.swap.max": "max\n"}, 0),
        ("cgroup2 {}/g cgroup2 rw", "0::/a/b", {"g/a/memory.swap.max": "4096\n"}, None),
    ],
)
def test_the_control_file_that_forbids_swap(
    proc: Path, mount: str, membership: str, files: dict[str, str], ban: int | None
) -> None:
    (proc / "self").mkdir()
    (proc / "self" / "mounts").write_text(f"{mount.format(proc)} 0 0\n")
    (proc / "self" / "cgroup").write_text(f"{membership}\n")
    for name, text in files.items():
        (proc / name).parent.mkdir(parents=True, exist_ok=True)
        (proc / name).write_text(text)
    assert procfs.swap_ban() == (None if ban is None else proc / list(files)[ban])


def test_without_swap_advice_is_permitted_and_useless(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine without swap is told; this one may have some."""
    monkeypatch.setattr(procfs, "swap_areas", list)
    kernel = LinuxKernel()
    capability = kernel.probe().operations[Operation.WILLNEED]
    assert (capability.permitted, capability.useful) == (True, False)
    assert capability.why == f"MADV_WILLNEED is permitted; {NO_SWAP}"
    assert capability.remedy.startswith("Add swap")
    with pytest.raises(NotPermittedError, match="no swap"):
        kernel.evict(kernel.map(4096), kernel.map(4096).span, 0)
    kernel.close()
