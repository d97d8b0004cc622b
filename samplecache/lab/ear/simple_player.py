"""A player without a cache, as a process: sounds in its own memory, in a mapped file, or read when they are played.

It is told what to do by lines of JSON (see :mod:`samplecache.lab.ear.lines`) and has a thread a sound, each with a pipe
of its own. A thread copies a period into memory that is hot, which may fault, and then writes that.
"""

from __future__ import annotations

import abc
import argparse
import contextlib
import mmap
import os
import resource
import sys
import threading
from collections.abc import Callable
from typing import Final

import numpy as np
import soundfile

from samplecache.kernel.linux_process import lock_process
from samplecache.lab.ear.heard import CARD_FORMAT, PERIOD_FRAMES
from samplecache.lab.ear.lines import Message, serve
from samplecache.lab.ear.pipes import Outlet
from samplecache.lab.ear.unmixing import Pcm

STACK_BYTES: Final = 256 << 10
"""mlockall has all of every thread's stack in RAM: of the 8 MiB that threads get else, whoever locks asks for less."""
_PERIOD_SHAPE: Final = (PERIOD_FRAMES, CARD_FORMAT.channels)


class Keeping(abc.ABC):
    """How sounds are kept."""

    @abc.abstractmethod
    def load(self, sample_id: str, path: str) -> None:
        """Keep the sound in the file at `path`: raw PCM."""

    @abc.abstractmethod
    def reader(self, sample_id: str) -> Callable[[int, Pcm], int]:
        """Return what copies frames from a position on into hot memory and returns how many; it may block or fault.

        A period has more values than NumPy copies with the GIL held (500).
        """


class InMemory(Keeping):
    """In anonymous private memory."""

    def __init__(self) -> None:
        self._sounds: dict[str, Pcm] = {}

    def load(self, sample_id: str, path: str) -> None:
        """Read the file, past the page cache as far as it minds."""
        size = os.path.getsize(path)
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with open(path, "rb") as file:
            file.readinto(memory)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._sounds[sample_id] = _frames(memory)

    def reader(self, sample_id: str) -> Callable[[int, Pcm], int]:
        """See :class:`Keeping`."""
        return _copier(self._sounds[sample_id])


class Mapped(Keeping):
    """In the page cache, mapped."""

    def __init__(self) -> None:
        self._sounds: dict[str, Pcm] = {}

    def load(self, sample_id: str, path: str) -> None:
        """Map the file."""
        with open(path, "rb") as file:
            self._sounds[sample_id] = _frames(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ))

    def reader(self, sample_id: str) -> Callable[[int, Pcm], int]:
        """See :class:`Keeping`."""
        return _copier(self._sounds[sample_id])


class OnDisk(Keeping):
    """In a file, from which each period is read when it is due."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}

    def load(self, sample_id: str, path: str) -> None:
        """Open the file."""
        self._files[sample_id] = os.open(path, os.O_RDONLY)

    def reader(self, sample_id: str) -> Callable[[int, Pcm], int]:
        """See :class:`Keeping`."""
        fd = self._files[sample_id]

        def read(at_frame: int, period: Pcm) -> int:
            count = os.preadv(fd, [period.data.cast("B")], CARD_FORMAT.frames_to_bytes(at_frame))
            return count // CARD_FORMAT.frame_bytes

        return read


def _frames(memory: mmap.mmap) -> Pcm:
    return np.frombuffer(memory, "<i2").reshape(-1, CARD_FORMAT.channels)


def _copier(sound: Pcm) -> Callable[[int, Pcm], int]:
    def copy(at_frame: int, period: Pcm) -> int:
        part = sound[at_frame : at_frame + len(period)]
        np.copyto(period[: len(part)], part)
        return len(part)

    return copy


class SimplePlayer:
    """The process."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._threads: list[threading.Thread] = []
        self._reports: dict[int, Message] = {}

    def load(self, sample_id: str, path: str) -> Message:
        """Keep a sound."""
        self._keeping.load(sample_id, path)
        return {}

    def play(self, number: int, sample_id: str, pipe: str, spans: list[tuple[int, int]]) -> None:
        """Start a thread that plays `spans` of a sound."""
        thread = threading.Thread(target=self._play, args=(number, sample_id, pipe, spans), daemon=True)
        self._threads.append(thread)
        thread.start()

    def finish(self) -> Message:
        """Wait for all threads, and report their faults."""
        while self._threads:
            self._threads.pop().join()
        reports, self._reports = self._reports, {}
        return {"cues": reports}

    def _play(self, number: int, sample_id: str, pipe: str, spans: list[tuple[int, int]]) -> None:
        read = _Counted(self._keeping.reader(sample_id))
        with contextlib.suppress(BrokenPipeError), Outlet(pipe) as outlet:  # a broken pipe: the run is over
            for start, stop in spans:
                for at_frame in range(start, stop, PERIOD_FRAMES):
                    outlet.write(read(at_frame, min(PERIOD_FRAMES, stop - at_frame)))
        self._reports[number] = {"major_faults": read.major_faults, "minor_faults": read.minor_faults}


class _Counted:
    """A reader that counts the faults of the thread that calls it."""

    def __init__(self, read: Callable[[int, Pcm], int]) -> None:
        self._read = read
        self._period = np.zeros(_PERIOD_SHAPE, "<i2")
        self.major_faults = self.minor_faults = 0
        resource.getrusage(resource.RUSAGE_THREAD)  # the first call faults for itself

    def __call__(self, at_frame: int, frames: int) -> Pcm:
        before = resource.getrusage(resource.RUSAGE_THREAD)
        count = self._read(at_frame, self._period[:frames])
        after = resource.getrusage(resource.RUSAGE_THREAD)
        self.major_faults += after.ru_majflt - before.ru_majflt
        self.minor_faults += after.ru_minflt - before.ru_minflt
        return self._period[:count]


def write_raw(source: str, target: str) -> None:
    """Write the frames of the sound file `source` to `target`, as raw PCM in the card's format."""
    frames, _ = soundfile.read(source, dtype="int16", always_2d=True)
    with open(target, "wb") as file:
        file.write(frames.tobytes())
        file.flush()
        os.fsync(file.fileno())  # dirty pages could not be dropped from the page cache
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


KEEPINGS: Final[dict[str, type[Keeping]]] = {"memory": InMemory, "mapped": Mapped, "disk": OnDisk}


def main() -> int:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("keeping", choices=KEEPINGS)
    parser.add_argument("--lock", action="store_true", help="mlockall, now and for all that comes")
    options = parser.parse_args()
    threading.stack_size(STACK_BYTES)
    player = SimplePlayer(KEEPINGS[options.keeping]())

    def lock() -> Message:
        if options.lock:
            lock_process()
        return {}

    serve({"lock": lock, "load": player.load, "play": player.play, "finish": player.finish})
    return 0


if __name__ == "__main__":
    sys.exit(main())
