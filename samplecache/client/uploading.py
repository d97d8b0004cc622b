"""Sending a file: whole, verified, and resumed where the connection breaks."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import grpc

from samplecache.client.connection import Connection
from samplecache.client.failure import ClientError
from samplecache.clock import NS_PER_MS, Clock
from samplecache.errors import AudioError
from samplecache.v1 import samplecache_pb2 as pb

Progress = Callable[[int], None]
"""Told how many bytes have been sent; fewer than before where an upload goes on after a break. On gRPC's thread."""

CHUNK_BYTES: Final = 64 << 10
"""The largest message that costs neither end memory; smaller ones cost time."""

MAX_FRUITLESS_TRIES: Final = 6
"""How often an upload is tried again without getting further: with the pauses below, for some 6 s."""

FIRST_PAUSE_NS: Final = 100 * NS_PER_MS
"""Before the first new try; doubled before each further one."""

# A dead backend is any of these, depending on the proxy that tells of it.
_BROKEN: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
# The server has not yet noticed that the stream of before is dead, or still took in some of it after saying how much.
_TOO_EARLY: Final = ("UPLOAD_IN_USE", "UPLOAD_OFFSET_MISMATCH")


class Source:
    """Bytes to upload, read from any thread at any offset.

    Parameters
    ----------
    file : BinaryIO
        Seekable. Read to its end now, from where it stands, to learn size and SHA-256.

    Raises
    ------
    AudioError
        There are no bytes (reason ``EMPTY_AUDIO``).
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._start_bytes = file.tell()
        digest = hashlib.sha256()
        while data := file.read(1 << 20):
            digest.update(data)
        self.sha256 = digest.digest()
        self.size_bytes = file.tell() - self._start_bytes
        self._ended = False
        if not self.size_bytes:
            raise AudioError("the file is empty", remedy="Upload at least one frame", reason="EMPTY_AUDIO")

    def read_at(self, offset_bytes: int) -> bytes:
        """Return at most `CHUNK_BYTES` from `offset_bytes` on; nothing after :meth:`end`."""
        with self._lock:
            if self._ended:
                return b""
            self._file.seek(self._start_bytes + offset_bytes)
            return self._file.read(min(CHUNK_BYTES, self.size_bytes - offset_bytes))

    def end(self) -> None:
        """Read no more: the file is about to be closed, but gRPC's sending thread may still ask."""
        with self._lock:
            self._ended = True


@contextlib.contextmanager
def opened(source: Path | BinaryIO) -> Iterator[Source]:
    """Open `source`; a stream that cannot seek is spooled to a temporary file first.

    Raises
    ------
    OSError
        It cannot be read.
    AudioError
        It is empty.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(source, Path):
            file: BinaryIO = stack.enter_context(source.open("rb"))
        elif source.seekable():
            file = source
        else:
            file = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(source, file)
            file.seek(0)
        readable = Source(file)
        stack.callback(readable.end)
        yield readable


class _Attempt:
    """One stream of messages, from an offset to the finish.

    Attributes
    ----------
    connected : bool
        Whether the server took the first message.
    """

    def __init__(self, start: pb.UploadStart, source: Source, offset_bytes: int, progress: Progress) -> None:
        self._start = start
        self._source = source
        self._offset_bytes = offset_bytes
        self._progress = progress
        self.connected = False

    def messages(self) -> Iterator[pb.PutSampleRequest]:
        """Yield the messages; gRPC asks for each when the one before has left."""
        yield pb.PutSampleRequest(start=self._start)
        self.connected = True
        self._progress(self._offset_bytes)
        while self._offset_bytes < self._source.size_bytes:
            data = self._source.read_at(self._offset_bytes)
            if not data:  # ended, or the file has shrunk: without its finish the server makes no sample of it
                return
            yield pb.PutSampleRequest(chunk=pb.UploadChunk(write_offset=self._offset_bytes, data=data))
            self._offset_bytes += len(data)
            self._progress(self._offset_bytes)
        yield pb.PutSampleRequest(finish=pb.UploadFinish())


def upload(
    connection: Connection, start: pb.UploadStart, source: Source, progress: Progress, clock: Clock
) -> pb.PutSampleResponse:
    """Upload `source` as `start` declares it. Blocks. Goes on after a break if `start` has an upload_id.

    Raises
    ------
    ClientError
        The server refuses, or cannot be reached (any more).
    """
    best_bytes = fruitless = 0
    connected = False
    attempt = _Attempt(start, source, 0, progress)
    while True:
        try:
            return connection.send(connection.stub.PutSample, attempt.messages())
        except ClientError as error:
            connected = connected or attempt.connected
            if not (start.upload_id and connected and _may_resume(error)):
                raise
            failure = error
        committed_bytes: int | None = None
        while committed_bytes is None:
            if fruitless == MAX_FRUITLESS_TRIES:
                raise failure
            clock.sleep_until(clock.now_ns() + (FIRST_PAUSE_NS << fruitless))
            fruitless += 1
            committed_bytes = _committed_bytes(connection, start.upload_id)
        if committed_bytes > best_bytes:
            best_bytes, fruitless = committed_bytes, 0
        attempt = _Attempt(start, source, committed_bytes, progress)


def _committed_bytes(connection: Connection, upload_id: str) -> int | None:
    """Return how much has arrived, None if the server cannot be asked now."""
    try:
        status = connection.call(connection.stub.GetUpload, pb.GetUploadRequest(upload_id=upload_id))
    except ClientError as error:
        if error.code is grpc.StatusCode.NOT_FOUND:  # another server, or the same without its memory
            return 0
        if _may_resume(error):
            return None
        raise
    return status.committed_bytes


def _may_resume(error: ClientError) -> bool:
    return error.code in _BROKEN or error.reason_code in _TOO_EARLY
