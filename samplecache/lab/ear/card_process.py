"""The virtual sound card's own process: on an absolute clock it takes a period from each pipe, whatever is there.

It shares no interpreter with what watches the run, and locks its memory: so it is late only when the machine is. What
it takes and when goes into files in memory, which whoever started it reads whenever they like.
"""

from __future__ import annotations

import array
import contextlib
import dataclasses
import fcntl
import gc
import json
import os
import socket
import struct
import sys
import termios
from typing import Final, Protocol

from samplecache.clock import MonotonicClock
from samplecache.errors import LockLimitError
from samplecache.kernel.linux_process import lock_process
from samplecache.lab.ear.accounting import CueEar, MixEar, Period
from samplecache.lab.ear.heard import CARD_FORMAT, PERIOD_FRAMES

PRIORITY: Final = 50
"""SCHED_FIFO priority, above that of any contender: a sound card is no process that could be kept from the CPU."""

PERIOD_BYTES: Final = CARD_FORMAT.frames_to_bytes(PERIOD_FRAMES)
PERIOD_NS: Final = CARD_FORMAT.duration_ns(PERIOD_FRAMES)
PERIOD_RECORD: Final = struct.Struct("=qii")
"""A :class:`Period` as it is written down."""
TIME_RECORD: Final = struct.Struct("=q")
"""When the first period was due; then by how much each was taken too late. Nanoseconds."""
DONE: Final = b"done"
LONGEST_MESSAGE: Final = 4096
FDS_AN_INLET: Final = 3
"""Of the pipe, and of the files for what is taken and for periods."""


class Ear(Protocol):
    """Decides how much the card takes; see :mod:`samplecache.lab.ear.accounting`.

    Attributes
    ----------
    periods : list of Period
        What was taken.
    """

    periods: list[Period]

    def take(self, due_ns: int, available_frames: int) -> int:
        """Return how many of `available_frames` the card takes in the period due at `due_ns`."""
        ...


@dataclasses.dataclass(slots=True)
class Inlet:
    """A pipe, and the card's own buffer: the period after the one that sounds, fetched as soon as it is there.

    A pipe of one page takes nothing more before it is empty, and writers write pieces of any size. So what is in it is
    fetched twice a period; else a writer of whole pages could never be in time, nor one whose pieces are short.

    Attributes
    ----------
    fd : int
        The pipe, non-blocking.
    taken_fd, periods_fd : int
        Files in memory that what is taken, and the periods of `ear`, are added to.
    ear : Ear
        Decides how much is taken.
    """

    fd: int
    taken_fd: int
    periods_fd: int
    ear: Ear
    _ahead: bytes = b""

    def take(self, due_ns: int) -> None:
        """Take the period that is due; never blocks."""
        before = len(self.ear.periods)
        available = len(self._ahead) + _available_bytes(self.fd)
        wanted = CARD_FORMAT.frames_to_bytes(self.ear.take(due_ns, available // CARD_FORMAT.frame_bytes))
        from_pipe = max(0, wanted - len(self._ahead))
        if from_pipe:
            self._ahead += os.read(self.fd, from_pipe)
        # Frames are there before the period that has them: who reads both sees no period without its frames.
        os.write(self.taken_fd, self._ahead[:wanted])
        self._ahead = self._ahead[wanted:]
        for period in self.ear.periods[before:]:
            os.write(self.periods_fd, PERIOD_RECORD.pack(period.due_ns, period.frames, period.missing_frames))

    def fetch(self) -> None:
        """Fill the card's own buffer as far as there is something; never blocks."""
        fetched = min(_available_bytes(self.fd), PERIOD_BYTES - len(self._ahead))
        if fetched > 0:
            self._ahead += os.read(self.fd, fetched)

    def close(self) -> None:
        """Close the pipe, whose writer gets SIGPIPE or EPIPE, and the files."""
        for fd in (self.fd, self.taken_fd, self.periods_fd):
            os.close(fd)


class CardProcess:
    """The process.

    Parameters
    ----------
    control : socket
        Messages come from it: JSON, with file descriptors. When its other end is closed, the card ends.
    late_fd : int
        File in memory for :data:`TIME_RECORD`.
    """

    def __init__(self, control: socket.socket, late_fd: int) -> None:
        self._control = control
        self._control.setblocking(False)
        self._late_fd = late_fd
        self._clock = MonotonicClock()
        self._inlets: list[Inlet] = []

    def run(self) -> None:
        """Take periods until the control socket's other end is closed."""
        due_ns = self._clock.now_ns() + PERIOD_NS
        os.write(self._late_fd, TIME_RECORD.pack(due_ns))
        self._control.send(DONE)
        while True:
            self._clock.sleep_until(due_ns)
            os.write(self._late_fd, TIME_RECORD.pack(self._clock.now_ns() - due_ns))
            if not self._obey():
                return
            for inlet in self._inlets:
                inlet.take(due_ns)
                inlet.fetch()
            self._clock.sleep_until(due_ns + PERIOD_NS // 2)
            if not self._obey():
                return
            for inlet in self._inlets:
                inlet.fetch()
            due_ns += PERIOD_NS

    def _obey(self) -> bool:
        """Do what was asked for; return whether the other end is still there. Never blocks."""
        while True:
            try:
                message, fds, _, _ = socket.recv_fds(self._control, LONGEST_MESSAGE, FDS_AN_INLET)
            except BlockingIOError:
                return True
            if not message:
                return False
            match json.loads(message):
                case {"do": "plug", "frames": frames}:
                    pipe, taken, periods = fds
                    self._inlets.append(Inlet(pipe, taken, periods, MixEar() if frames is None else CueEar(frames)))
                case {"do": "unplug"}:
                    while self._inlets:
                        self._inlets.pop().close()
                    self._control.send(DONE)


def _available_bytes(fd: int) -> int:
    answer = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, answer)
    return answer[0]


def main() -> int:
    """Be a card until nobody wants one; arguments are the descriptors of socket and file."""
    control_fd, late_fd = map(int, sys.argv[1:])
    # Without the right to any of that, lateness tells what it cost.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    with contextlib.suppress(LockLimitError):
        lock_process()
    gc.disable()  # nothing here is in a cycle
    with socket.socket(fileno=control_fd) as control:
        CardProcess(control, late_fd).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
