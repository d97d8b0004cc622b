"""One file being decoded: what it may cost, what is coming, its PCM, and how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.audio.wire import GO, MAX_MESSAGE_BYTES, Answer, Done, Exit, Failure, Header, unpack_answer
from samplecache.clock import NS_PER_S
from samplecache.errors import (
    AudioError,
    DecodedTooLargeError,
    InvalidFormatError,
    SamplecacheError,
    StateError,
    UnavailableError,
)

_GRACE_NS = 5 * NS_PER_S
"""How much later than the decoder process the service gives up on a child by itself."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one decode may cost.

    Attributes
    ----------
    max_input_bytes : int
        Longest file that is accepted.
    max_decoded_bytes : int
        Longest PCM that is accepted; checked against the file's header before anything is decoded.
    max_cpu_ns : int
        CPU time of a child, rounded up to whole seconds as the kernel counts it.
    max_address_space_bytes : int
        ``RLIMIT_AS`` of a child, of which Python, NumPy and libsndfile take some 110 MB before the file is opened.
    wall_timeout_ns : int
        Time from the request to the last frame read; it also bounds the wait for a free child.
    max_children : int
        Files decoded at once.
    """

    max_input_bytes: int = 256 << 20
    max_decoded_bytes: int = 1 << 30
    max_cpu_ns: int = 120 * NS_PER_S
    max_address_space_bytes: int = 512 << 20
    wall_timeout_ns: int = 180 * NS_PER_S
    max_children: int = 4


@dataclass(frozen=True, slots=True)
class DecodedInfo:
    """What a file will decode to.

    Attributes
    ----------
    format : AudioFormat
        Of the PCM.
    frames : int
        How many frames will come: exactly that many, or ``Decoding.finish`` raises.
    container, codec : str
        libsndfile's names, such as ``"OGG"`` and ``"VORBIS"``.
    """

    format: AudioFormat
    frames: int
    container: str
    codec: str

    @property
    def total_bytes(self) -> int:
        """Bytes of PCM that will come through the pipe."""
        return self.format.frames_to_bytes(self.frames)


class Decoding:
    """One file being decoded. Read `pcm_fd` to its end, then call ``finish``; close it in every case.

    For one thread at a time. Made by :meth:`samplecache.audio.decode.Decoder.open`.

    Attributes
    ----------
    info : DecodedInfo
        What is coming.
    """

    info: DecodedInfo

    def __init__(
        self, name: str, limits: DecodeLimits, control: socket.socket, pcm_fd: int, release: Callable[[], None]
    ) -> None:
        self._name = name
        self._limits = limits
        self._control = control
        self._pcm_fd = pcm_fd
        self._release = release
        self._deadline_ns = time.monotonic_ns() + limits.wall_timeout_ns + _GRACE_NS
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def begin(self) -> None:
        """Receive the header, check it, and let the child decode; ``Decoder.open`` calls this, once.

        Raises
        ------
        AudioError, DecodedTooLargeError, UnavailableError
            As :meth:`samplecache.audio.decode.Decoder.open`.
        """
        header = self._receive()
        if not isinstance(header, Header):
            raise self._error_of(header)
        self.info = self._info_of(header)
        if self.info.total_bytes > self._limits.max_decoded_bytes:
            raise DecodedTooLargeError(
                f"{self._name} would decode to more than {self._limits.max_decoded_bytes} bytes",
                remedy="Send shorter audio or a lower rate, or raise the decoder's max_decoded_bytes",
                frames=self.info.frames,
                format=self.info.format,
                max_decoded_bytes=self._limits.max_decoded_bytes,
            )
        with contextlib.suppress(OSError):  # if the child has died already, finish() says of what
            self._control.send(GO)

    @property
    def pcm_fd(self) -> int:
        """The pipe that the PCM comes from, for ``read(2)``: blocks until bytes are there, 0 bytes at the end.

        The end also comes when the child fails or is killed, which happens at the latest at ``wall_timeout_ns``; only
        ``finish`` tells the difference. Never read more than ``info.total_bytes``.
        """
        self._check_open()
        return self._pcm_fd

    def finish(self) -> int:
        """Return how many frames were decoded, ``info.frames``, and close; blocks until the child is gone.

        Raises
        ------
        AudioError
            As :meth:`samplecache.audio.decode.Decoder.open`: damage and missing ends show only while decoding.
        StateError
            PCM was left unread (reason ``PCM_UNREAD``), or the decode was closed before.
        UnavailableError
            The decoder process died (reason ``DECODER_LOST``).
        """
        self._check_open()
        with self:
            if os.read(self._pcm_fd, 1):
                raise StateError(
                    f"the PCM of {self._name} was not read to its end",
                    remedy="Read info.total_bytes bytes from pcm_fd before finish(), or close() to give up",
                    reason="PCM_UNREAD",
                )
            answer = self._receive()
            if not isinstance(answer, Done) or answer.frames != self.info.frames:
                raise self._error_of(answer)
            return answer.frames

    def close(self) -> None:
        """Kill the child if it still runs, and return once it is reaped. May be called again."""
        if self._is_closed:
            return
        self._is_closed = True
        os.close(self._pcm_fd)
        with self._control, contextlib.suppress(OSError):
            # The decoder process takes the half-closed socket for the order to kill, and closes its own end when done.
            self._control.shutdown(socket.SHUT_WR)
            self._control.settimeout(_GRACE_NS / NS_PER_S)
            while self._control.recv(MAX_MESSAGE_BYTES):
                pass
        self._release()

    def _info_of(self, header: Header) -> DecodedInfo:
        try:
            audio_format = AudioFormat(header.rate_hz, header.channels, Encoding(header.encoding))
        except InvalidFormatError as error:
            raise AudioError(
                f"{self._name}: {error.message}", remedy=error.remedy, reason="UNSUPPORTED_FORMAT", **error.details
            ) from error
        except ValueError:
            raise self._crashed(f"it announced the encoding {header.encoding!r}") from None
        if header.frames <= 0:
            raise self._crashed(f"it announced {header.frames} frames")
        return DecodedInfo(audio_format, header.frames, header.container, header.codec)

    def _receive(self) -> Answer | None:
        """Return the next answer, or None if the decoder process has gone without one."""
        left_ns = max(1, self._deadline_ns - time.monotonic_ns())
        self._control.settimeout(left_ns / NS_PER_S)
        try:
            packet = self._control.recv(MAX_MESSAGE_BYTES)
        except TimeoutError:
            raise self._limit_reached("wall time") from None
        except ConnectionResetError:
            return None
        if not packet:
            return None
        try:
            return unpack_answer(packet)
        except ValueError as error:
            raise self._crashed(str(error)) from error

    def _error_of(self, answer: Answer | None) -> SamplecacheError:
        match answer:
            case Failure():
                details: dict[str, object] = {**answer.details}
                return AudioError(answer.message, remedy=answer.remedy, reason=answer.reason, **details)
            case Exit(has_timed_out=True):
                return self._limit_reached("wall time")
            case Exit(status=status) if status == -signal.SIGXCPU:
                return self._limit_reached("CPU time")
            case Exit(status=status) if status < 0:
                return self._crashed(f"it was ended by {signal.Signals(-status).name}")
            case Exit(status=status):
                return self._crashed(f"it ended with status {status}")
            case None:
                return UnavailableError(
                    f"the decoder process died while it decoded {self._name}",
                    remedy="Send the audio again; the decoder restarts by itself",
                    reason="DECODER_LOST",
                )
            case _:
                return self._crashed(f"it said {type(answer).__name__} out of turn")

    def _limit_reached(self, what: str) -> AudioError:
        limit_ns = self._limits.wall_timeout_ns if what == "wall time" else self._limits.max_cpu_ns
        return AudioError(
            f"decoding {self._name} took more than {limit_ns / NS_PER_S:g} s of {what}",
            remedy="Send shorter audio, or raise the decoder's limit",
            reason="DECODE_LIMIT_REACHED",
            limit_ns=limit_ns,
        )

    def _crashed(self, how: str) -> AudioError:
        return AudioError(
            f"the decoder's child failed on {self._name}: {how}",
            remedy="The file is probably damaged or hostile: convert it to WAV or FLAC with a program you trust",
            reason="DECODER_CRASHED",
        )

    def _check_open(self) -> None:
        if self._is_closed:
            raise StateError(
                f"the decode of {self._name} is closed", remedy="Open the file again", reason="DECODE_CLOSED"
            )
