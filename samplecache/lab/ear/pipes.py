"""The writing end of a pipe to the card."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from samplecache.lab.ear.unmixing import Pcm


class Outlet:
    """A named pipe opened for writing; its reader has opened it before. Closed at the end of a ``with`` block.

    Only writes what is in RAM: a write takes the pipe's mutex before it copies, so a fault in the midst of it would
    stop the card too, and with it everybody else's sound.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def write(self, pcm: Pcm | bytes) -> None:
        """Write all of `pcm`; blocks while the pipe is full, with the GIL released.

        Raises
        ------
        BrokenPipeError
            The card has ended.
        """
        rest = memoryview(pcm if isinstance(pcm, bytes) else pcm.data).cast("B")
        while rest:
            rest = rest[os.write(self._fd, rest) :]
