"""The service's hold on its decoder process: starts it, hands it requests, starts it again if it has died."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from samplecache.audio.wire import READY, Request, pack
from samplecache.errors import UnavailableError

_START_TIMEOUT_S = 30.0
_SEND_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 5.0


class Zygote:
    """One decoder process. Methods may be called from any thread; they may block while the process starts.

    It runs in a session of its own, so that Ctrl-C in the terminal reaches only the service.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The decoder process, or None before the first start and after ``close``."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process unless it runs; return once it is ready.

        Raises
        ------
        UnavailableError
            It does not start (reason ``DECODER_UNAVAILABLE``).
        """
        with self._lock:
            self._ensure_running()

    def send(self, request: Request, fds: Sequence[int]) -> None:
        """Hand over one request with its descriptors, of which the caller keeps its own copies.

        Raises
        ------
        UnavailableError
            The process does not start, or takes no request (reason ``DECODER_UNAVAILABLE``).
        """
        packet = pack(request)
        with self._lock:
            for _ in range(2):  # it may have died since the last request; a fresh one has no excuse
                try:
                    socket.send_fds(self._ensure_running(), [packet], fds)
                    return
                except OSError:
                    self._stop()
        raise _unavailable("takes no requests")

    def close(self) -> None:
        """End the process and its children; return once it is gone. It starts again if it is needed again."""
        with self._lock:
            self._stop()

    def _ensure_running(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._stop()
        if self._requests is None:
            self._launch()
        assert self._requests is not None  # noqa: S101  # _launch set it or raised
        return self._requests

    def _launch(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._requests = ours
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "samplecache.audio.decoder_child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=_environment(),
            )
        ours.settimeout(_START_TIMEOUT_S)
        try:
            is_ready = ours.recv(len(READY)) == READY
        except OSError:
            is_ready = False
        if not is_ready:
            self._stop()
            raise _unavailable("did not start")
        ours.settimeout(_SEND_TIMEOUT_S)

    def _stop(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._process is not None:
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def _environment() -> dict[str, str]:
    """Return this process's environment with its own import path, and NumPy's thread pool left out.

    The pool's threads would not survive a fork, and their stacks would count against each child's address space.
    """
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}


def _unavailable(what: str) -> UnavailableError:
    return UnavailableError(
        f"the decoder process {what}",
        remedy="Look at the server's standard error; check that libsndfile is installed and processes can be started",
        reason="DECODER_UNAVAILABLE",
    )
