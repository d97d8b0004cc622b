"""Taking a rig down: a journal of undo steps on disk, and the guardian process that performs them.

The owner writes each undo step *before* it does what the step undoes. A guardian, a child in a session of its own,
waits until the owner asks for the undoing or dies, by ``kill -9`` too, and performs the steps last first. Every step
may be performed again, or without its deed having been done. A journal that nobody holds (owner and guardian were both
killed, or the machine lost power) is performed by :func:`clean_leftovers`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.errors import NotPermittedError, SamplecacheError, StateError
from samplecache.kernel import procfs

SUFFIX = ".undo.jsonl"
EMPTYING_TIMEOUT_NS = 30 * NS_PER_S
OTHER_SWAP_TIMEOUT_NS = 60 * NS_PER_S
POLL_NS = 5 * NS_PER_MS
WAIT_POLL_NS = 50 * NS_PER_MS
PAGE_CLUSTER = procfs.PROC / "sys/vm/page-cluster"

Step = Mapping[str, str]


class Journal:
    """The undo steps of one rig, one JSON object a line. Locked for as long as its owner or its guardian lives.

    Parameters
    ----------
    directory : Path
        Where to make it.
    """

    def __init__(self, directory: Path) -> None:
        for number in itertools.count():
            self.path = directory / f"rig-{os.getpid()}-{number}{SUFFIX}"
            with contextlib.suppress(FileExistsError):
                self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
                break
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        self.fds = [self.fd]
        self.record(undo="header", owner=str(os.getpid()), boot=_boot_id())

    @property
    def name(self) -> str:
        """A name that no other rig on this machine has now."""
        return self.path.name.removesuffix(SUFFIX)

    def record(self, **step: str) -> None:
        """Append a step and have it on disk."""
        os.write(self.fd, json.dumps(step).encode() + b"\n")
        os.fsync(self.fd)

    def claim_machine(self, wait_ns: int) -> None:
        """Keep other rigs from this machine until owner and guardian are both gone; wait for one that is there.

        To be called before the guardian starts, which inherits the claim. The lock is that of a file of the kernel's,
        so that it holds whatever directories rigs are in.

        Parameters
        ----------
        wait_ns : int
            How long at the most, in nanoseconds.

        Raises
        ------
        StateError
            Another rig is there all the time.
        """
        fd = os.open(PAGE_CLUSTER, os.O_RDONLY | os.O_CLOEXEC)
        self.fds.append(fd)
        clock, told = MonotonicClock(), False
        deadline_ns = clock.now_ns() + wait_ns
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                owner = _flock_owner(fd)
            if clock.now_ns() >= deadline_ns:
                raise StateError(
                    f"Process {owner} has a rig on this machine, and two would measure each other",
                    remedy=f"Wait until it is gone, or end process {owner}: its rig goes with it",
                )
            if not told:
                told = True
                print(f"waiting until the rig of process {owner} is gone", file=sys.stderr, flush=True)
            clock.sleep_until(clock.now_ns() + WAIT_POLL_NS)

    def close(self) -> None:
        """Let go of the file and of what was claimed; the guardian keeps them locked for as long as it works."""
        while self.fds:
            os.close(self.fds.pop())


def _flock_owner(fd: int) -> str:
    """Return the process that took the advisory lock of the file `fd` is open on; a question mark if it is gone."""
    inode = os.fstat(fd).st_ino
    for line in (procfs.PROC / "locks").read_text().splitlines():
        fields = line.split()  # 1: FLOCK ADVISORY WRITE 996 00:15:1234 0 EOF
        if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            return fields[4]
    return "?"


def start_guardian(journal: Journal) -> subprocess.Popen[str]:
    """Start the process that undoes `journal` once a line comes on its standard input, or this process is gone.

    It fails if something could not be undone.
    """
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(journal.path), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=journal.fds,
        start_new_session=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd="/",
    )


def clean_leftovers(directory: Path) -> list[Path]:
    """Undo every journal in `directory` whose owner and guardian are gone. Return the journals undone.

    Raises
    ------
    StateError
        Something could not be undone; its journal stays.
    NotPermittedError
        There are journals, living or left over, and the process is not root's.
    """
    undone = []
    journals = sorted(directory.glob(f"*{SUFFIX}"))
    if journals and os.geteuid() != 0:
        raise NotPermittedError(f"{directory} may hold what is left of a rig", remedy="Look and clean as root")
    for path in journals:
        with contextlib.suppress(FileNotFoundError), path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            problems = undo(path)
            if problems:
                raise StateError(
                    f"A rig could not be taken down: {'; '.join(problems)}",
                    remedy=f"Undo by hand what {path} lists, last line first, and delete it",
                )
            undone.append(path)
    return undone


def undo(path: Path) -> list[str]:
    """Perform the steps of the journal at `path`, last first, and delete it. Return what went wrong.

    One failed step does not keep the others from being performed; the journal then stays for another try.
    """
    steps: list[dict[str, str]] = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a last line cut short: what it undoes was not done
            steps.append(json.loads(line))
    header = steps[0] if steps else {}
    same_boot = header.get("boot") == _boot_id()
    problems = []
    for step in reversed(steps[1:]):
        if step["undo"] in _SURVIVES_REBOOT or same_boot:
            try:
                _UNDO[step["undo"]](step | {"owner": header["owner"]})
            except (OSError, subprocess.SubprocessError, SamplecacheError) as error:
                problems.append(f"{step['undo']} {step['path']}: {error}")
    if not problems:
        path.unlink()
    return problems


def tool(name: str) -> str:
    """Return the path of a system tool.

    Raises
    ------
    NotPermittedError
        It is not installed.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise NotPermittedError(f"The tool {name} is missing", remedy="Install the package util-linux")
    return found


def _boot_id() -> str:
    return (procfs.PROC / "sys/kernel/random/boot_id").read_text().strip()


def _undo_swapon(step: Step) -> None:
    if any(area.path == Path(step["path"]) for area in procfs.swap_areas()):
        subprocess.run([tool("swapoff"), step["path"]], check=True, capture_output=True)


def _undo_create(step: Step) -> None:
    Path(step["path"]).unlink(missing_ok=True)


def _undo_tree(step: Step) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(step["path"])


def _undo_write(step: Step) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(step["path"]).write_text(step["text"])


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the advisory lock of `path`, a file or directory, for the length of the block."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def zram_held() -> contextlib.AbstractContextManager[None]:
    """Keep other rigs from adding and removing zram devices for the length of the block.

    A rig looks for a free number, adds the device of that number and sets its size with nobody in between: undo steps
    tell devices by their number until the journal knows more.
    """
    return _held(procfs.ZRAM_CONTROL)


def _undo_zram(step: Step) -> None:
    """Remove a zram device; leave it alone if it is another's that was given the same number.

    The first of the two steps that a rig records has no ``diskseq`` (a number the kernel never gives twice), since the
    device did not exist. If one exists now and is idle, it is what the rig added before it could say more.
    """
    device, clock = Path(step["path"]), MonotonicClock()
    with zram_held():
        if not device.exists():
            return
        if (device / "diskseq").read_text().strip() == step["diskseq"]:
            _undo_swapon({"path": f"/dev/{device.name}"})
        elif step["diskseq"] or (device / "initstate").read_text().strip() == "1":
            return
        deadline_ns = clock.now_ns() + EMPTYING_TIMEOUT_NS
        while True:
            try:
                (device / "reset").write_text("1")
                (procfs.ZRAM_CONTROL / "hot_remove").write_text(device.name.removeprefix("zram"))
                return
            except OSError as error:  # busy: something that watches devices is looking at it
                if error.errno != errno.EBUSY or clock.now_ns() >= deadline_ns:
                    raise
            clock.sleep_until(clock.now_ns() + POLL_NS)


def flag_held(rotational_file: Path) -> contextlib.AbstractContextManager[None]:
    """Keep other rigs from adding swap to a disk, or changing whether it turns, for the length of the block.

    ``swapon`` counts the swap areas on turning disks up, and ``swapoff`` of many kernels looks at the flag again before
    it counts down (``nr_rotate_swap`` in mm/swapfile.c). Had the flag changed in between, readahead would go by
    clusters until the next boot. So the flag may only change while no swap lies on the disk.
    """
    return _held(rotational_file)


def _undo_rotational(step: Step) -> None:
    """Put the flag back once nobody's swap lies on the disk; other rigs may be there for a while."""
    file, clock = Path(step["path"]), MonotonicClock()
    deadline_ns = clock.now_ns() + OTHER_SWAP_TIMEOUT_NS
    while True:
        with flag_held(file):
            others = procfs.areas_on(step["disk"])
            if not others:
                file.write_text(step["text"])
                return
        if clock.now_ns() >= deadline_ns:
            raise OSError(errno.EBUSY, f"swap is in use on {step['disk']}: {others[0].path}")
        clock.sleep_until(clock.now_ns() + POLL_NS)


def _undo_enable(step: Step) -> None:
    try:
        Path(step["path"]).write_text(step["text"])
    except OSError as error:
        if error.errno != errno.EBUSY:  # busy: someone else has come to rely on the controller
            raise


def _undo_group(step: Step) -> None:
    """Empty and remove a control group: its owner moves up, whatever else runs in it is killed."""
    group, owner = Path(step["path"]), int(step["owner"])
    clock = MonotonicClock()
    deadline_ns = clock.now_ns() + EMPTYING_TIMEOUT_NS
    while group.exists():
        for pid in map(int, (group / "cgroup.procs").read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                if pid == owner:
                    (group.parent / "cgroup.procs").write_text(str(pid))
                else:
                    os.kill(pid, signal.SIGKILL)
        try:
            group.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or clock.now_ns() >= deadline_ns:
                raise
            clock.sleep_until(clock.now_ns() + POLL_NS)


_UNDO: dict[str, Callable[[Step], None]] = {
    "swapon": _undo_swapon,
    "zram": _undo_zram,
    "create": _undo_create,
    "tree": _undo_tree,
    "write": _undo_write,
    "rotational": _undo_rotational,
    "enable": _undo_enable,
    "group": _undo_group,
}
_SURVIVES_REBOOT = {"create", "tree"}


def _guard(journal: Path, owner: int) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # The pipe alone would not do: children that the owner forked keep its other end open.
    with contextlib.suppress(ProcessLookupError):
        select.select([sys.stdin, os.pidfd_open(owner)], [], [])
    return bool(undo(journal))


if __name__ == "__main__":
    sys.exit(_guard(Path(sys.argv[1]), int(sys.argv[2])))
