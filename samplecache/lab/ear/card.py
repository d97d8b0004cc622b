"""The virtual sound card: takes a period from each of its inlets when its clock says so, whatever is there."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import termios
import threading
from typing import Final, Protocol

import numpy as np

from samplecache.clock import MonotonicClock
from samplecache.errors import StateError
from samplecache.lab.ear.accounting import PIPE_BYTES
from samplecache.lab.ear.heard import CARD_FORMAT, PERIOD_FRAMES
from samplecache.lab.ear.unmixing import Pcm

PRIORITY: Final = 50
"""SCHED_FIFO priority, above that of any contender: a sound card is no process that could be kept from the CPU."""

PERIOD_BYTES: Final = CARD_FORMAT.frames_to_bytes(PERIOD_FRAMES)
PERIOD_NS: Final = CARD_FORMAT.duration_ns(PERIOD_FRAMES)


class Ear(Protocol):
    """Decides how much the card takes; see :mod:`samplecache.lab.ear.accounting`."""

    def take(self, due_ns: int, available_frames: int) -> int:
        """Return how many of `available_frames` the card takes in the period due at `due_ns`."""
        ...


def open_inlet(path: str) -> int:
    """Open the named pipe at `path` for reading, made to hold one page, before its writer does. Never blocks."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return fd


class Card:
    """Reads pipes in real time on a thread of its own, from :meth:`start` to :meth:`stop`; a context manager.

    Any thread may plug pipes in and out. The card never waits for a pipe, and closes what it still has at the end.
    """

    def __init__(self) -> None:
        self._clock = MonotonicClock()
        self._inlets: dict[int, _Inlet] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="card", daemon=True)
        self._failure: BaseException | None = None
        self._late_ns = array.array("q")
        self._start_ns = 0

    def __enter__(self) -> Card:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def plug(self, fd: int, ear: Ear) -> None:
        """Take from `fd`, a non-blocking pipe, from the next period on; the card closes it."""
        with self._lock:
            self._inlets[fd] = _Inlet(fd, ear)

    def recording(self, fd: int) -> Pcm:
        """Return what was taken from `fd`, shape ``(frames, 2)``."""
        with self._lock:
            taken = bytes(self._inlets[fd].taken)
        return np.frombuffer(taken, "<i2").reshape(-1, CARD_FORMAT.channels)

    def late_between(self, start_ns: int, stop_ns: int) -> int:
        """Return by how much it took a period due in ``[start_ns, stop_ns)`` too late at worst."""
        first, last = (max(0, -(-(at_ns - self._start_ns) // PERIOD_NS)) for at_ns in (start_ns, stop_ns))
        return max(self._late_ns[first:last], default=0)

    def check(self) -> None:
        """Raise what ended the card's thread, if anything did."""
        if self._failure is not None:
            raise StateError("the virtual sound card has failed", remedy="See the cause") from self._failure

    def stop(self) -> None:
        """End the thread and close all pipes; may be called again. A writer gets SIGPIPE or EPIPE."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            for fd in self._inlets:
                os.close(fd)
            self._inlets.clear()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # without the right to it the witness tells how late that makes the card
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))  # 0 is the calling thread
        try:
            self._start_ns = self._clock.now_ns()
            while not self._stopping.is_set():
                due_ns = self._start_ns + len(self._late_ns) * PERIOD_NS
                self._clock.sleep_until(due_ns)
                self._late_ns.append(self._clock.now_ns() - due_ns)
                with self._lock:
                    for inlet in self._inlets.values():
                        inlet.take(due_ns)
                        inlet.fetch()
                self._clock.sleep_until(due_ns + PERIOD_NS // 2)
                with self._lock:
                    for inlet in self._inlets.values():
                        inlet.fetch()
        except BaseException as error:  # told to whoever asks
            self._failure = error


class _Inlet:
    """A pipe, and the card's own buffer: the period after the one that sounds, fetched as soon as it is there.

    A pipe of one page takes nothing more before it is empty, and writers write pieces of any size. So what is in it is
    fetched twice a period; else a writer of whole pages could never be in time, nor one whose pieces are short.
    """

    def __init__(self, fd: int, ear: Ear) -> None:
        self.fd = fd
        self.taken = bytearray()
        self._ear = ear
        self._ahead = b""

    def take(self, due_ns: int) -> None:
        """Take the period that is due; never blocks."""
        available = len(self._ahead) + _available_bytes(self.fd)
        wanted = CARD_FORMAT.frames_to_bytes(self._ear.take(due_ns, available // CARD_FORMAT.frame_bytes))
        from_pipe = max(0, wanted - len(self._ahead))
        if from_pipe:
            self._ahead += os.read(self.fd, from_pipe)
        self.taken += self._ahead[:wanted]
        self._ahead = self._ahead[wanted:]

    def fetch(self) -> None:
        """Fill the card's own buffer as far as there is something; never blocks."""
        fetched = min(_available_bytes(self.fd), PERIOD_BYTES - len(self._ahead))
        if fetched > 0:
            self._ahead += os.read(self.fd, fetched)


def _available_bytes(fd: int) -> int:
    answer = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, answer)
    return answer[0]
