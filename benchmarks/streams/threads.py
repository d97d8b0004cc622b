"""What the threads of another process do while pages are on their way: whether one that others wait for, waits."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SAMPLE_S: Final = 0.005
DUMP_S: Final = 0.1
WAITING_FOR_DISK: Final = "D"
"""A thread's state in proc(5) while it sleeps in a page fault, among others."""


@dataclass(slots=True)
class States:
    """How often the threads of a process were seen, and how many of them asleep in the kernel for a device.

    Attributes
    ----------
    looks : int
        How often it was looked at.
    faulting : int
        Of those, how often a thread other than the first was asleep for a device.
    first_faulting : int
        How often the first one was, which runs the event loop.
    most_faulting : int
        The most threads that were at a time.
    """

    looks: int = 0
    faulting: int = 0
    first_faulting: int = 0
    most_faulting: int = 0


@contextmanager
def states_of(pid: int) -> Iterator[States]:
    """Look at the threads of a process some 200 times a second for the length of the block."""
    states, over = States(), threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE_S):
            asleep = [thread for thread, state in _states(pid) if state == WAITING_FOR_DISK]
            states.looks += 1
            states.first_faulting += pid in asleep
            states.faulting += any(thread != pid for thread in asleep)
            states.most_faulting = max(states.most_faulting, len(asleep))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield states
    finally:
        over.set()
        looker.join()


def _states(pid: int) -> Iterator[tuple[int, str]]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            yield int(task.name), (task / "stat").read_text().rpartition(")")[2].split()[0]


@dataclass(slots=True)
class Stacks:
    """What dumps of a process's Python stacks showed.

    Attributes
    ----------
    dumps : int
        How many there were.
    reading : int
        In how many of them a reader thread was inside a read of sample memory.
    reading_with_gil : int
        In how many a thread that was, had the GIL: copying as such does not, so each is one too many.
    readers : int
        The most reader threads that there were.
    example : str
        One of the dumps in which a reader was, for people.
    """

    dumps: int = 0
    reading: int = 0
    reading_with_gil: int = 0
    readers: int = 0
    example: str = ""


def py_spy() -> str | None:
    """Return the path of py-spy, if it is installed."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def stacks_of(pid: int, stop: threading.Event) -> Stacks:
    """Dump the stacks of a process until `stop` is set. It stands still for each, so no lateness counts meanwhile."""
    tool, stacks = py_spy(), Stacks()
    while tool is not None and not stop.wait(DUMP_S):
        found = subprocess.run([tool, "dump", "--json", "--pid", str(pid)], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            take(stacks, json.loads(found.stdout))
    return stacks


def take(stacks: Stacks, dump: list[dict[str, Any]]) -> None:
    """Take in one dump, as py-spy gives it: a thread each, with its frames from the innermost out."""
    readers = [thread for thread in dump if (thread["thread_name"] or "").startswith("samplecache-reader")]
    reading = [thread for thread in readers if _in_read(thread)]
    stacks.dumps += 1
    stacks.readers = max(stacks.readers, len(readers))
    stacks.reading += bool(reading)
    stacks.reading_with_gil += any(thread["owns_gil"] for thread in reading)
    if reading and not stacks.example:
        stacks.example = "\n".join(_line(thread) for thread in (*reading, *(t for t in dump if t not in readers)))


def _in_read(thread: dict[str, Any]) -> bool:
    """Return whether the innermost Python frame is the one that copies sample memory."""
    frames = thread["frames"]
    return bool(frames) and frames[0]["name"].rpartition(".")[2] == "read" and "kernel/linux" in frames[0]["filename"]


def _line(thread: dict[str, Any]) -> str:
    innermost = thread["frames"][0] if thread["frames"] else {"name": "-", "line": 0}
    gil = "has the GIL" if thread["owns_gil"] else "no GIL"
    return f"{thread['thread_name']}: {innermost['name']}:{innermost['line']}, {gil}"
