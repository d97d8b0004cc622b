"""Sounds are found in a process's memory by what they are, and their pages looked at from outside."""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from samplecache.lab.ear.sound_pages import FULL_SCALE, SoundPages
from samplecache.lab.ear.unmixing import Pcm

FRAMES = 6000
OFFSET = 16
KEEPER = f"""
import mmap, os, sys
with open(sys.argv[1], "rb", buffering=0) as file:
    if sys.argv[2] == "mapped":
        memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        memory[::mmap.PAGESIZE]
    else:
        # Straight into place: what is copied and freed is still in the process's memory, for who looks for it.
        length = os.fstat(file.fileno()).st_size
        memory = mmap.mmap(-1, {OFFSET} + length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        assert file.readinto(memoryview(memory)[{OFFSET}:]) == length
print("ready", flush=True)
input()
memory.madvise(mmap.MADV_DONTNEED, 2 * mmap.PAGESIZE, mmap.PAGESIZE)
print("dropped", flush=True)
input()
"""


@pytest.fixture
def pcm() -> Pcm:
    return np.random.default_rng(5).integers(-9000, 9000, (FRAMES, 2), np.int16)


@contextmanager
def keeper(file: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """A process that keeps what is in `file`."""
    argv = [sys.executable, "-c", KEEPER, str(file), how]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("dtype", "scale"), [("<f4", FULL_SCALE), ("<i2", 1)], ids=["floats", "integers"])
def test_a_sound_is_found_as_it_is_stored_and_its_pages_are_told_apart(
    pcm: Pcm, tmp_path: Path, dtype: str, scale: int
) -> None:
    file = tmp_path / "stored"
    file.write_bytes((pcm / scale).astype(dtype).tobytes())
    with keeper(file, "private") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        pages = SoundPages(process.pid, {"sound": pcm, "nowhere": pcm + np.int16(1)}, tmp_path)
        count = -(-(file.stat().st_size + OFFSET) // mmap.PAGESIZE)
        assert pages.look() == {"sound": b"\1" * count}
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "dropped\n"
        assert pages.look() == {"sound": b"\1\1\0" + b"\1" * (count - 3)}


def test_a_sound_is_found_in_a_mapped_file_of_the_directory(tmp_path: Path, pcm: Pcm) -> None:
    file = tmp_path / "sound.raw"
    file.write_bytes(pcm.tobytes())
    with keeper(file, "mapped") as process:
        count = -(-file.stat().st_size // mmap.PAGESIZE)
        assert SoundPages(process.pid, {"sound": pcm}, tmp_path).look() == {"sound": b"\1" * count}
        assert SoundPages(process.pid, {"sound": pcm}, tmp_path / "elsewhere").look() == {}


def test_nobody_looks_into_a_process_that_has_ended(tmp_path: Path, pcm: Pcm) -> None:
    file = tmp_path / "stored"
    file.write_bytes(pcm.tobytes())
    with keeper(file, "private") as process:
        pages = SoundPages(process.pid, {"sound": pcm}, tmp_path)
    with pytest.raises(OSError, match=str(process.pid)):
        pages.look()
