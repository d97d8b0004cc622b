"""Keys pressed while something plays: pause, seek, stop."""

from __future__ import annotations

import contextlib
import enum
import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import IO, Any, Self

from samplecache.clock import NS_PER_S

SEEK_STEP_NS = 5 * NS_PER_S
"""How far one press of an arrow key is meant to move."""


class Command(enum.Enum):
    """What a key asks for."""

    TOGGLE_PAUSE = "space"
    SEEK_BACK = "left"
    SEEK_FORWARD = "right"
    STOP = "q"


_COMMANDS = {
    b" ": Command.TOGGLE_PAUSE,
    b"q": Command.STOP,
    b"Q": Command.STOP,
    # Cursor keys in normal and in application mode (ECMA-48, xterm's ctlseqs).
    b"\x1b[D": Command.SEEK_BACK,
    b"\x1bOD": Command.SEEK_BACK,
    b"\x1b[C": Command.SEEK_FORWARD,
    b"\x1bOC": Command.SEEK_FORWARD,
}
_LONGEST = max(map(len, _COMMANDS))


class Keys:
    """A terminal read key by key, as a context manager; the terminal is as before when it ends, however it ends.

    Where `stream` is no terminal, or is one that another job has in its foreground, no key is ever read and nothing is
    changed. Ctrl-C, Ctrl-Z and Ctrl-backslash keep their meaning. One thread uses it.

    Parameters
    ----------
    stream : text or binary stream, optional
        What to read; standard input if not given.
    """

    def __init__(self, stream: IO[Any] | None = None) -> None:
        self._fd = _terminal_of(sys.stdin if stream is None else stream)
        self._saved: list[Any] | None = None
        self._pressed = b""

    @property
    def interactive(self) -> bool:
        """Whether there is a terminal to read: False once it has hung up."""
        return self._fd is not None

    def __enter__(self) -> Self:
        if self._fd is not None:
            self._saved = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None and self._saved is not None:
            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)

    def read(self, timeout_ns: int) -> Command | None:
        """Block until a key asks for something, `timeout_ns` at most, and return what; None for any other key.

        Without a terminal it returns None after `timeout_ns`, so that a loop around it need not know.
        """
        command = self._next()
        if command is not None:
            return command
        watched = [] if self._fd is None else [self._fd]
        readable, _, _ = select.select(watched, [], [], timeout_ns / NS_PER_S)
        if not readable:
            self._pressed = b""  # the beginning of an arrow key that never came: a lone Escape
            return None
        pressed = b""
        with contextlib.suppress(OSError):  # EIO: the other side hung up
            pressed = os.read(readable[0], 64)
        if not pressed:
            self._fd = None
        self._pressed += pressed
        return self._next()

    def _next(self) -> Command | None:
        """Take the first command out of what has been pressed, and whatever stands before it."""
        while self._pressed:
            for length in range(1, _LONGEST + 1):
                command = _COMMANDS.get(self._pressed[:length])
                if command is not None:
                    self._pressed = self._pressed[length:]
                    return command
            if any(known.startswith(self._pressed) for known in _COMMANDS):
                return None  # the rest of an arrow key is still to come
            self._pressed = self._pressed[1:]
        return None


def _terminal_of(stream: IO[Any]) -> int | None:
    """Return the descriptor of `stream` if it is a terminal that this process may change."""
    try:
        fd = stream.fileno()
    except (OSError, ValueError):  # it has no descriptor, or is closed
        return None
    if not os.isatty(fd):
        return None
    with contextlib.suppress(OSError):  # a terminal, but not the one that controls us: no job has its foreground
        if os.tcgetpgrp(fd) != os.getpgrp():
            return None
    return fd
