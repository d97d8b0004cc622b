"""Uploads: bytes on their way in, until they are complete and verified.

On grpc.aio an interrupted upload looks like a clean end of stream, so an upload counts as whole only when the declared
size has arrived, its SHA-256 is the declared one, and the client has said that it is finished.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.errors import ChecksumError, LimitError, StateError, UploadIncompleteError, UploadOffsetError


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a client says of an upload before it sends the first byte.

    Attributes
    ----------
    sample_id : str
        Id for the sample.
    total_bytes : int
        Size of what is sent, in bytes.
    sha256 : bytes
        SHA-256 of what is sent.
    raw_format : AudioFormat or None
        Format of raw PCM; None for a file.
    store_encoding : Encoding or None
        Encoding to store a file in; None for its own.
    tags : tuple of str
        Words to find the sample by.
    pinned : bool
        Exempt from eviction by the store.
    strategy : str
        Strategy for requests that name none.
    replace : bool
        Whether an id that is taken is replaced.
    upload_id : str
        Makes the upload resumable; empty if it is not.
    """

    sample_id: str
    total_bytes: int
    sha256: bytes
    raw_format: AudioFormat | None = None
    store_encoding: Encoding | None = None
    tags: tuple[str, ...] = ()
    pinned: bool = False
    strategy: str = ""
    replace: bool = False
    upload_id: str = ""


class Upload:
    """Bytes of one upload, spooled to an unlinked file. Any thread; one waits for the other.

    A call that was cancelled may leave a thread at work on it, so the spool stays open until that has finished.

    Parameters
    ----------
    declaration : Declaration
        What was declared.
    spool : BinaryIO
        Where bytes go; closed with the upload.

    Attributes
    ----------
    committed_bytes : int
        How many bytes have arrived.
    streams : int
        How many streams have sent it so far.
    """

    def __init__(self, declaration: Declaration, spool: BinaryIO) -> None:
        self.declaration = declaration
        self.committed_bytes = 0
        self.streams = 1
        self._spool = spool
        self._digest = hashlib.sha256()
        self._using = threading.Lock()
        self._closed = False

    def append(self, offset_bytes: int, data: bytes) -> None:
        """Take in `data`. May block on the disk.

        Raises
        ------
        UploadOffsetError
            `offset_bytes` is not where the upload stands, or `data` goes past the declared size. Nothing was taken in.
        LimitError
            There is no room to spool it (reason ``SPOOL_UNAVAILABLE``). Nothing was taken in.
        StateError
            The upload was closed.
        """
        with self._use() as fd:
            self._check_chunk(offset_bytes, data)
            _write_at(fd, offset_bytes, data)
            self._digest.update(data)
            self.committed_bytes += len(data)

    def _check_chunk(self, offset_bytes: int, data: bytes) -> None:
        if offset_bytes != self.committed_bytes:
            raise UploadOffsetError(
                f"a chunk begins at byte {offset_bytes}, but the upload stands at {self.committed_bytes}",
                remedy=f"Go on at byte {self.committed_bytes}",
                offset_bytes=offset_bytes,
                committed_bytes=self.committed_bytes,
            )
        if offset_bytes + len(data) > self.declaration.total_bytes:
            raise UploadOffsetError(
                f"a chunk ends at byte {offset_bytes + len(data)}, past the declared {self.declaration.total_bytes}",
                remedy="Declare the true size in UploadStart.total_bytes",
                reason="UPLOAD_TOO_LONG",
                total_bytes=self.declaration.total_bytes,
            )

    @contextmanager
    def verified(self) -> Iterator[int]:
        """Give the file descriptor of the spooled bytes, rewound, if all has arrived as declared.

        It stays open until the end of the block, and nobody else uses the upload meanwhile.

        Raises
        ------
        UploadIncompleteError
            Bytes are missing.
        ChecksumError
            The SHA-256 differs.
        StateError
            The upload was closed.
        """
        with self._use() as fd:
            self._check_whole()
            os.lseek(fd, 0, os.SEEK_SET)
            yield fd

    def _check_whole(self) -> None:
        declared = self.declaration
        if self.committed_bytes != declared.total_bytes:
            raise UploadIncompleteError(
                f"{self.committed_bytes} of {declared.total_bytes} bytes have arrived",
                remedy="Send all bytes, then UploadFinish; give an upload_id to be able to resume",
                committed_bytes=self.committed_bytes,
                total_bytes=declared.total_bytes,
            )
        if self._digest.digest() != declared.sha256:
            raise ChecksumError(
                f"the SHA-256 of what arrived is {self._digest.hexdigest()}, declared was {declared.sha256.hex()}",
                remedy="Upload again, and check what computes the SHA-256",
            )

    def close(self) -> None:
        """Forget the bytes, as soon as nobody uses them. Harmless when repeated. Never blocks."""
        self._closed = True
        self._close_if_unused()

    @contextmanager
    def _use(self) -> Iterator[int]:
        """Keep others off and the spool open; close it in the end if that was asked for meanwhile."""
        try:
            with self._using:
                if self._closed:
                    raise StateError(
                        "the upload was closed", remedy="Open it anew and begin at byte 0", reason="UPLOAD_CLOSED"
                    )
                yield self._spool.fileno()
        finally:
            if self._closed:
                self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._using.acquire(blocking=False):
            try:
                self._spool.close()
            finally:
                self._using.release()


def _write_at(fd: int, offset_bytes: int, data: bytes) -> None:
    """Write all of `data` at an offset, where a repetition after a failure puts it again."""
    left = memoryview(data)
    try:
        while left:
            written_bytes = os.pwrite(fd, left, offset_bytes)
            offset_bytes, left = offset_bytes + written_bytes, left[written_bytes:]
    except OSError as error:
        raise spool_error(error) from error


def spool_error(error: OSError) -> LimitError:
    """Return what to tell a client of `error`, which came of spooling its bytes."""
    return LimitError(
        f"there is no room to spool an upload: {os.strerror(error.errno or 0)}",
        remedy="Free space in the spool directory, or set spool_dir to one with room",
        reason="SPOOL_UNAVAILABLE",
    )
