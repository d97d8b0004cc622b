"""The rig comes down whole: at the end of its block, when setting up fails, and however its owner ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from waiting import wait_until

from samplecache.errors import ExhaustedError, InvalidError, NotPermittedError, StateError
from samplecache.kernel import procfs
from samplecache.lab.rig import Rig, RigOptions
from samplecache.lab.rig_undo import Journal, undo

SWAP_BYTES = 8 << 20
DEADLINE_S = 30
PAGE_CLUSTER = Path("/proc/sys/vm/page-cluster")

OWNER = f"""
import json, os, sys
from pathlib import Path
from samplecache.lab.rig import Limits, Rig, RigOptions
options = RigOptions(swap_bytes={SWAP_BYTES}, directory=Path(sys.argv[1]), page_cluster=5, zram=sys.argv[2] == "zram")
with Rig(options) as rig:
    rig.limit(Limits(memory_bytes=64 << 20, read_iops=100))
    child = rig.popen(["sleep", "600"])
    facts = dict(swap=str(rig.swap_file), groups=[str(path) for path in rig.groups], child=child.pid,
                 guardian=rig._guardian.pid)
    print(json.dumps(facts), flush=True)
    sys.stdin.read()
"""


@dataclass
class Owner:
    """A process that owns a rig with a child in it, and what it made."""

    process: subprocess.Popen[str]
    directory: Path
    page_cluster_before: str
    swap: Path
    groups: list[Path]
    child: int
    guardian: int

    def traces(self) -> list[object]:
        """What is left of the rig."""
        paths = [path for path in (self.swap, *self.groups) if path.exists()]
        areas = [area for area in procfs.swap_areas() if area.path == self.swap]
        journals = list(self.directory.iterdir())
        zram = list(Path("/sys/block").glob(self.swap.name))
        settings = [PAGE_CLUSTER] if PAGE_CLUSTER.read_text() != self.page_cluster_before else []
        return [*paths, *areas, *journals, *zram, *settings, *(["child"] if runs(self.child) else [])]


def runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def members(group: Path) -> list[str]:
    return (group / "cgroup.procs").read_text().split()


@pytest.fixture
def directory(session_rig: Rig, no_rig: None) -> Iterator[Path]:
    """A directory that can hold swap, on a machine where a rig can be made and none is."""
    with tempfile.TemporaryDirectory(dir=session_rig.options.directory.parent) as name:
        yield Path(name)


@pytest.fixture(params=["file", "zram"])
def owner(directory: Path, request: pytest.FixtureRequest) -> Iterator[Owner]:
    page_cluster_before = PAGE_CLUSTER.read_text()
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory), request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    facts = json.loads(process.stdout.readline())
    groups = [*map(Path, facts["groups"])]
    swap, child, guardian = Path(facts["swap"]), facts["child"], facts["guardian"]
    owner = Owner(process, directory, page_cluster_before, swap, groups, child, guardian)
    wait_until(lambda: all(str(owner.child) in members(group) for group in owner.groups))
    yield owner
    process.kill()
    process.communicate()
    wait_until(lambda: not runs(owner.guardian))
    Rig.clean_leftovers(directory)


def test_the_rig_is_there_while_its_owner_lives(owner: Owner) -> None:
    assert [area.size_bytes for area in procfs.swap_areas() if area.path == owner.swap] == [SWAP_BYTES - 4096]
    assert [members(group) for group in owner.groups] == [[str(owner.child)]] * 2
    assert PAGE_CLUSTER.read_text() == "5\n"
    assert Rig.clean_leftovers(owner.directory) == []
    assert runs(owner.child)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_its_owner_is_killed(owner: Owner, number: signal.Signals) -> None:
    os.killpg(owner.process.pid, number)
    wait_until(lambda: owner.traces() == [])
    wait_until(lambda: not runs(owner.guardian))


def test_nothing_is_left_when_its_owner_is_done(owner: Owner) -> None:
    assert owner.process.stdin is not None
    owner.process.stdin.close()
    owner.process.stdin = None
    assert owner.process.wait(DEADLINE_S) == 0
    assert owner.traces() == []


def test_an_owner_whose_guardian_was_killed_cleans_up_itself(owner: Owner) -> None:
    os.kill(owner.guardian, signal.SIGKILL)
    assert owner.process.stdin is not None
    owner.process.stdin.close()
    owner.process.stdin = None
    assert owner.process.wait(DEADLINE_S) == 0
    assert owner.traces() == []


def test_what_even_the_guardian_left_is_cleaned_later(owner: Owner) -> None:
    os.kill(owner.guardian, signal.SIGKILL)
    owner.process.kill()
    wait_until(lambda: not runs(owner.guardian) and not runs(owner.process.pid))
    assert owner.swap.exists()
    assert len(Rig.clean_leftovers(owner.directory)) == 1
    wait_until(lambda: owner.traces() == [])


@pytest.mark.parametrize("zram", [False, True])
def test_a_failure_half_way_leaves_nothing(directory: Path, tmp_path: Path, zram: bool) -> None:
    areas, devices, page_cluster = procfs.swap_areas(), set(Path("/sys/block").iterdir()), PAGE_CLUSTER.read_text()
    options = RigOptions(swap_bytes=SWAP_BYTES, directory=directory, cgroup_root=tmp_path, zram=zram, page_cluster=0)
    with pytest.raises(NotPermittedError, match="controller memory"):
        Rig(options).__enter__()
    assert list(directory.iterdir()) == []
    assert [area.path for area in procfs.swap_areas()] == [area.path for area in areas]
    assert (set(Path("/sys/block").iterdir()), PAGE_CLUSTER.read_text()) == (devices, page_cluster)


def test_a_second_rig_is_refused_by_the_process_that_has_one(owner: Owner, tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        Rig(RigOptions(swap_bytes=SWAP_BYTES, directory=tmp_path, wait_ns=0)).__enter__()
    assert caught.value.message.startswith(f"Process {owner.process.pid} has a rig on this machine")
    assert f"end process {owner.process.pid}" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
    assert PAGE_CLUSTER.read_text() == "5\n"


def test_a_second_rig_waits_until_the_first_is_gone(owner: Owner, capfd: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(Rig(RigOptions(swap_bytes=SWAP_BYTES, directory=owner.directory)).__enter__)
        wait_until(lambda: "waiting until the rig of process" in capfd.readouterr().err)
        assert runs(owner.child)
        owner.process.kill()
        rig = second.result(DEADLINE_S)
    try:
        assert not owner.swap.exists()
        assert rig.swap_file in [area.path for area in procfs.swap_areas()]
    finally:
        rig.close()


def test_a_zram_device_that_another_was_given_is_left_alone(directory: Path) -> None:
    """A journal that stayed names a device by a number that may be another's by the time it is performed."""
    with Rig(RigOptions(swap_bytes=SWAP_BYTES, directory=directory, zram=True)) as other:
        journal = Journal(directory)
        device = f"/sys/block/{other.swap_file.name}"
        for diskseq in ("", "0"):
            journal.record(undo="zram", path=device, diskseq=diskseq)
        assert undo(journal.path) == []
        journal.close()
        assert other.swap_file in [area.path for area in procfs.swap_areas()]
    assert not other.swap_file.exists()


@pytest.fixture
def others_swap(directory: Path) -> Iterator[None]:
    """Swap on the disk that is no rig's."""
    with tempfile.NamedTemporaryFile(dir=directory.parent) as file:
        os.posix_fallocate(file.fileno(), 0, SWAP_BYTES)
        subprocess.run(["mkswap", file.name], check=True, capture_output=True)
        subprocess.run(["swapon", file.name], check=True)
        try:
            yield
        finally:
            subprocess.run(["swapoff", file.name], check=True)


def test_a_disk_that_carries_swap_is_not_said_to_turn_otherwise(directory: Path, others_swap: None) -> None:
    disk = procfs.disk_under(directory)
    assert disk is not None
    before = disk.rotational
    with pytest.raises(StateError, match="carries swap already"):
        Rig(RigOptions(swap_bytes=SWAP_BYTES, directory=directory, rotational=not before)).__enter__()
    assert disk.rotational is before
    assert list(directory.iterdir()) == []


def test_a_disk_too_small_is_told(directory: Path) -> None:
    with pytest.raises(ExhaustedError, match="Free disk space"):
        Rig(RigOptions(swap_bytes=1 << 60, directory=directory)).__enter__()


@pytest.mark.parametrize(
    "options",
    [
        RigOptions(swap_bytes=0),
        RigOptions(swap_priority=-1),
        RigOptions(page_cluster=32),
        RigOptions(zram=True, rotational=False),
    ],
)
def test_impossible_options_are_told(options: RigOptions) -> None:
    with pytest.raises(InvalidError):
        Rig(options).__enter__()


def test_pages_of_files_that_nobody_maps_are_no_working_memory(no_rig: None) -> None:
    with Rig(RigOptions(swap_bytes=SWAP_BYTES)) as rig:
        file = rig.make_directory() / "file"
        with file.open("wb") as opened:
            opened.write(os.urandom(8 << 20))
            opened.flush()
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = rig.memory_bytes, rig.working_bytes
        assert rig.popen(["cat", str(file)], stdout=subprocess.DEVNULL).wait() == 0
        after = rig.memory_bytes, rig.working_bytes
    assert after[0] - before[0] >= 8 << 20
    assert after[1] - before[1] < 4 << 20


def test_its_directories_go_with_it_and_all_that_is_in_them(no_rig: None) -> None:
    with Rig(RigOptions(swap_bytes=SWAP_BYTES)) as rig:
        first, second = rig.make_directory(), rig.make_directory()
        assert first != second
        (first / "sub").mkdir()
        (first / "sub" / "file").write_text("")
        os.mkfifo(second / "pipe")
    assert not first.exists()
    assert not second.exists()
    with pytest.raises(StateError, match="Enter it first"):
        rig.make_directory()
