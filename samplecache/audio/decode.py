"""Decoding of untrusted audio: each file in a child process with resource limits, its PCM through a pipe.

Whatever a hostile file does to libsndfile, it does to a process that has nothing but the file, a pipe and a socket, may
open nothing else, and dies at its limits. The caller learns the length first, maps memory for it, and reads the pipe
straight into that memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import threading
from types import TracebackType
from typing import Final, Self

from samplecache.audio.decoding import DecodedInfo, DecodeLimits, Decoding
from samplecache.audio.format import Encoding
from samplecache.audio.wire import Request
from samplecache.audio.zygote import Zygote
from samplecache.clock import NS_PER_S
from samplecache.errors import InvalidError, LimitError

__all__ = ["DecodeLimits", "DecodedInfo", "Decoder", "Decoding"]

PIPE_BYTES: Final = 1 << 20
"""How far a child may be ahead: as much as Linux allows (``fs.pipe-max-size``). The usual 64 KiB has the child and who
reads from it wait for each other sixteen times as often."""

_NAME_CHARACTERS = 200


class Decoder:
    """Decodes files in children of one decoder process, which starts with the first file and restarts if it dies.

    May be used from any thread. Close it, or use it as a context manager, to end the process; it ends by itself when
    this process does.

    Parameters
    ----------
    limits : DecodeLimits
        What each decode may cost.
    """

    def __init__(self, limits: DecodeLimits | None = None) -> None:
        self.limits = limits or DecodeLimits()
        self._zygote = Zygote()
        self._slots = threading.BoundedSemaphore(self.limits.max_children)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The decoder process, or None if none was started; children are its children."""
        return self._zygote.pid

    def start(self) -> None:
        """Start the decoder process now, so that the first file need not wait for it (some 0.2 s).

        Raises
        ------
        UnavailableError
            It does not start (reason ``DECODER_UNAVAILABLE``).
        """
        self._zygote.start()

    def close(self) -> None:
        """End the decoder process and every decode under way; returns when they are gone."""
        self._zygote.close()

    def open(self, fd: int, *, name_hint: str = "", store_encoding: Encoding | None = None) -> Decoding:
        """Start decoding a file and return once its header is known; blocks for a few milliseconds as a rule.

        Waits at most ``wall_timeout_ns`` for one of ``max_children`` to be free. MP3 files without a Xing header and
        FLAC files without a length are decoded once before, to count their frames.

        Parameters
        ----------
        fd : int
            A regular file: a memfd or an unlinked file will do. It stays the caller's, its offset where it is, and must
            not be written to meanwhile.
        name_hint : str
            How messages call it. Its extension is not looked at.
        store_encoding : Encoding, optional
            What to decode to, rounded and clipped where it is narrower than the file. By default PCM keeps its width
            and byte values (bytes in the order that :class:`Encoding` says), and lossy codecs become F32.

        Raises
        ------
        AudioError
            ``EMPTY_AUDIO``: no bytes or no frames. ``UNDECODABLE_AUDIO``: not audio, or damaged.
            ``TRUNCATED_AUDIO``: cut short. ``UNSUPPORTED_FORMAT``: audio that :class:`AudioFormat` does not allow.
            ``DECODE_LIMIT_REACHED``: out of CPU time, memory or wall time. ``DECODER_CRASHED``: libsndfile failed.
        DecodedTooLargeError
            It would decode to more than ``max_decoded_bytes``; nothing was decoded.
        LimitError
            It has more than ``max_input_bytes`` (``INPUT_TOO_LARGE``), or no child became free (``LIMIT_REACHED``).
        UnavailableError
            The decoder process does not start, or died just now; it restarts with the next call.
        """
        name = name_hint[:_NAME_CHARACTERS] or "the audio"
        self._check_input(fd, name)
        if not self._slots.acquire(timeout=self.limits.wall_timeout_ns / NS_PER_S):
            raise LimitError(
                f"{self.limits.max_children} files are being decoded already",
                remedy="Try again later, or raise the decoder's max_children",
                max_children=self.limits.max_children,
            )
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._slots.release)
            control, pcm_fd = self._send(fd, name, store_encoding)
            on_failure.pop_all()
        decoding = Decoding(name, self.limits, control, pcm_fd, self._slots.release)
        try:
            decoding.begin()
        except BaseException:
            decoding.close()
            raise
        return decoding

    def _check_input(self, fd: int, name: str) -> None:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidError(
                f"{name} is not a regular file", remedy="Copy it into a memfd or a file first", reason="NOT_A_FILE"
            )
        if status.st_size > self.limits.max_input_bytes:
            raise LimitError(
                f"{name} has {status.st_size} bytes, more than the {self.limits.max_input_bytes} that are accepted",
                remedy="Send shorter or compressed audio, or raise the decoder's max_input_bytes",
                reason="INPUT_TOO_LARGE",
                size_bytes=status.st_size,
                max_input_bytes=self.limits.max_input_bytes,
            )

    def _send(self, fd: int, name: str, store_encoding: Encoding | None) -> tuple[socket.socket, int]:
        request = Request(
            name,
            store_encoding.value if store_encoding else "",
            self.limits.max_decoded_bytes,
            -(-self.limits.max_cpu_ns // NS_PER_S),
            self.limits.max_address_space_bytes,
            self.limits.wall_timeout_ns,
        )
        with contextlib.ExitStack() as on_failure, contextlib.ExitStack() as handed_over:
            # Opened anew: the child gets an offset of its own, and no right to write.
            input_fd = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
            handed_over.callback(os.close, input_fd)
            pcm_fd, child_pcm_fd = os.pipe()
            with contextlib.suppress(OSError):  # a user may only have so much in pipes: then the usual size must do
                fcntl.fcntl(pcm_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            on_failure.callback(os.close, pcm_fd)
            handed_over.callback(os.close, child_pcm_fd)
            control, child_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            on_failure.enter_context(control)
            handed_over.enter_context(child_control)
            self._zygote.send(request, [input_fd, child_pcm_fd, child_control.fileno()])
            on_failure.pop_all()
        return control, pcm_fd
