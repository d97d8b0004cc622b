"""Keys are read one by one from a real pseudo-terminal, which is left as it was."""

from __future__ import annotations

import os
import pty
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import pytest

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache_player import Command, Keys

LONG_NS = 30 * NS_PER_S
SHORT_NS = 20 * NS_PER_MS


@dataclass
class Terminal:
    keyboard: int
    stream: IO[bytes]

    def press(self, keys: bytes) -> None:
        os.write(self.keyboard, keys)

    def modes(self) -> list[object]:
        return list(termios.tcgetattr(self.stream.fileno()))


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    keyboard, screen = pty.openpty()
    with open(screen, "rb", buffering=0) as stream:
        yield Terminal(keyboard, stream)
    os.close(keyboard)


@pytest.mark.parametrize(
    ("pressed", "command"),
    [
        (b" ", Command.TOGGLE_PAUSE),
        (b"q", Command.STOP),
        (b"Q", Command.STOP),
        (b"\x1b[D", Command.SEEK_BACK),
        (b"\x1b[C", Command.SEEK_FORWARD),
        (b"\x1bOD", Command.SEEK_BACK),
        (b"\x1bOC", Command.SEEK_FORWARD),
        (b"x\x1b[A ", Command.TOGGLE_PAUSE),
    ],
)
def test_a_key_is_a_command_without_return(terminal: Terminal, pressed: bytes, command: Command) -> None:
    with Keys(terminal.stream) as keys:
        assert keys.interactive
        terminal.press(pressed)
        assert keys.read(LONG_NS) is command
        assert keys.read(SHORT_NS) is None


def test_keys_pressed_together_are_read_in_order(terminal: Terminal) -> None:
    with Keys(terminal.stream) as keys:
        terminal.press(b" \x1b[D\x1b[Cq")
        commands = [keys.read(LONG_NS) for _ in range(4)]
    assert commands == [Command.TOGGLE_PAUSE, Command.SEEK_BACK, Command.SEEK_FORWARD, Command.STOP]


def test_an_arrow_key_may_come_in_pieces(terminal: Terminal) -> None:
    with Keys(terminal.stream) as keys:
        terminal.press(b"\x1b")
        assert keys.read(LONG_NS) is None
        terminal.press(b"[C")
        assert keys.read(LONG_NS) is Command.SEEK_FORWARD


def test_a_lone_escape_spoils_no_later_key(terminal: Terminal) -> None:
    with Keys(terminal.stream) as keys:
        terminal.press(b"\x1b")
        assert keys.read(LONG_NS) is None
        assert keys.read(SHORT_NS) is None
        terminal.press(b"q")
        assert keys.read(LONG_NS) is Command.STOP


def test_the_terminal_is_as_before_even_after_an_exception(terminal: Terminal) -> None:
    before = terminal.modes()

    def fail_while_reading() -> None:
        with Keys(terminal.stream):
            assert terminal.modes() != before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_while_reading()
    assert terminal.modes() == before


def test_control_c_stays_a_signal(terminal: Terminal) -> None:
    with Keys(terminal.stream):
        local_modes = terminal.modes()[3]
    assert isinstance(local_modes, int)
    assert local_modes & termios.ISIG
    assert not local_modes & (termios.ICANON | termios.ECHO)


def test_without_a_terminal_no_key_is_read_and_the_time_is_waited_out() -> None:
    read, write = os.pipe()
    os.write(write, b"q")
    with open(read, "rb") as stream, Keys(stream) as keys:
        before_ns = time.monotonic_ns()
        assert keys.read(SHORT_NS) is None
        assert time.monotonic_ns() - before_ns >= SHORT_NS
        assert not keys.interactive
    os.close(write)


def test_a_terminal_that_hangs_up_is_no_terminal_any_more() -> None:
    keyboard, screen = pty.openpty()
    with open(screen, "rb", buffering=0) as stream, Keys(stream) as keys:
        os.close(keyboard)
        assert keys.read(LONG_NS) is None
        assert not keys.interactive
