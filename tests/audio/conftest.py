"""Fixtures that start sound servers, for tests that play through PortAudio."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sound_server import SoundServer, missing_packages
from waiting import wait_until


@pytest.fixture
def make_sound_server() -> Iterator[Callable[[], SoundServer]]:
    """Return what starts a PulseAudio daemon; each is ended after the test."""
    if missing := missing_packages():
        pytest.skip(f"needs {', '.join(missing)}")
    with contextlib.ExitStack() as stack:

        def make() -> SoundServer:
            # Not tmp_path: a socket's path has 107 bytes.
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pulse-")))
            server = SoundServer(directory)
            stack.callback(server.close)
            wait_until(server.answers, "PulseAudio has not answered")
            return server

        yield make


@pytest.fixture
def sound_server(make_sound_server: Callable[[], SoundServer]) -> SoundServer:
    """A PulseAudio daemon that answers."""
    return make_sound_server()
