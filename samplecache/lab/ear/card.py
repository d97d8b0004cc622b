"""The virtual sound card, as whoever plays into it sees it: plug pipes in, and read what it took of them."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
from typing import IO, Final

import numpy as np

from samplecache.errors import StateError
from samplecache.lab.ear.accounting import PIPE_BYTES, Period
from samplecache.lab.ear.card_process import DONE, PERIOD_NS, PERIOD_RECORD, TIME_RECORD
from samplecache.lab.ear.heard import CARD_FORMAT
from samplecache.lab.ear.lines import end
from samplecache.lab.ear.unmixing import Pcm

PATIENCE_S: Final = 20.0
"""For an answer, which comes within a period on a machine that does not stall."""


def open_inlet(path: str) -> int:
    """Open the named pipe at `path` for reading, made to hold one page, before its writer does. Never blocks."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return fd


class Recording:
    """What the card took of one pipe. Used by one thread at a time; may be read while the card goes on."""

    def __init__(self) -> None:
        self._pcm_fd = os.memfd_create("samplecache-pcm")
        self._periods_fd = os.memfd_create("samplecache-periods")
        self._periods: list[Period] = []
        self._frames = 0

    @property
    def fds(self) -> tuple[int, int]:
        """The files that the card writes: frames, and periods."""
        return self._pcm_fd, self._periods_fd

    @property
    def periods(self) -> list[Period]:
        """The periods that were taken until now."""
        self._catch_up()
        return self._periods

    @property
    def frames(self) -> int:
        """How many frames they have."""
        self._catch_up()
        return self._frames

    @property
    def pcm(self) -> Pcm:
        """The frames of these periods, shape ``(frames, 2)``."""
        data = os.pread(self._pcm_fd, CARD_FORMAT.frames_to_bytes(self.frames), 0)
        return np.frombuffer(data, "<i2").reshape(-1, CARD_FORMAT.channels)

    def close(self) -> None:
        """Let go of what was taken; once."""
        os.close(self._pcm_fd)
        os.close(self._periods_fd)

    def _catch_up(self) -> None:
        data = _records(self._periods_fd, len(self._periods), PERIOD_RECORD)
        new = [Period(*record) for record in PERIOD_RECORD.iter_unpack(data)]
        self._periods += new
        self._frames += sum(period.frames for period in new)


class Card:
    """Reads pipes in real time in a process of its own, for the length of a ``with`` block. Used by one thread.

    The card never waits for a pipe, and closes what it still has at the end.
    """

    def __init__(self) -> None:
        self._recordings: list[Recording] = []
        self._late_fd = -1
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Card:
        with contextlib.ExitStack() as stack:
            self._late_fd = os.memfd_create("samplecache-late")
            stack.callback(os.close, self._late_fd)
            self._errors: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "samplecache.lab.ear.card_process",
                        str(theirs.fileno()),
                        str(self._late_fd),
                    ],
                    stdin=subprocess.DEVNULL,
                    stderr=self._errors,
                    pass_fds=(theirs.fileno(), self._late_fd),
                    process_group=0,  # an interrupt at the terminal is for whoever takes the card down
                )
            stack.callback(end, self._process)
            stack.enter_context(self._control)
            stack.callback(self._drop)
            self._wait()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        """The card's process."""
        return self._process.pid

    def plug(self, fd: int, frames_due: int | None) -> Recording:
        """Take from `fd`, a non-blocking pipe, from the next period on; it is the card's from now on.

        Parameters
        ----------
        fd : int
            The pipe.
        frames_due : int or None
            The length of the sound that comes from it; None for a mix, which is due all the time.
        """
        recording = Recording()
        self._recordings.append(recording)
        message = json.dumps({"do": "plug", "frames": frames_due}).encode()
        try:
            socket.send_fds(self._control, [message], [fd, *recording.fds])
        except OSError as error:
            raise self._failure() from error
        finally:
            os.close(fd)
        return recording

    def unplug(self) -> None:
        """Close all pipes, whose writers get SIGPIPE or EPIPE; what was taken of them goes."""
        try:
            self._control.send(json.dumps({"do": "unplug"}).encode())
        except OSError as error:
            raise self._failure() from error
        self._wait()
        self._drop()

    def late_between(self, start_ns: int, stop_ns: int) -> int:
        """Return by how much it took a period due in ``[start_ns, stop_ns)`` too late at worst."""
        times = array.array("q", _records(self._late_fd, 0, TIME_RECORD))
        first, last = (max(0, -(-(at_ns - times[0]) // PERIOD_NS)) for at_ns in (start_ns, stop_ns))
        return max(times[1 + first : 1 + last], default=0)

    def check(self) -> None:
        """Raise what ended the card's process, if anything did."""
        if self._process.poll() is not None:
            raise self._failure()

    def _wait(self) -> None:
        """Wait for the card's answer."""
        if not select.select([self._control], [], [], PATIENCE_S)[0] or self._control.recv(len(DONE)) != DONE:
            raise self._failure()

    def _failure(self) -> StateError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        return StateError(
            f"the virtual sound card has failed: {said or f'status {self._process.returncode}'}",
            remedy="See that the machine has memory and processes left",
        )

    def _drop(self) -> None:
        while self._recordings:
            self._recordings.pop().close()


def _records(fd: int, first: int, record: struct.Struct) -> bytes:
    """Return the whole records in a file from the `first`-th on."""
    count = os.fstat(fd).st_size // record.size - first
    return os.pread(fd, count * record.size, first * record.size)
