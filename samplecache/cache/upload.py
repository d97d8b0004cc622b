"""Uploads: bytes on their way in, until they are complete and verified.

On grpc.aio an interrupted upload looks like a clean end of stream, so an upload counts as whole only when the declared
size has arrived, its SHA-256 is the declared one, and the client has said that it is finished.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.errors import (
    ChecksumError,
    ConflictError,
    DecodedTooLargeError,
    InvalidError,
    LimitError,
    StateError,
    UploadIncompleteError,
    UploadNotFoundError,
    UploadOffsetError,
)

_UPLOAD_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


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
    """Bytes of one upload, spooled to an unlinked file. Used by one thread at a time.

    Parameters
    ----------
    declaration : Declaration
        What was declared.
    spool : BinaryIO
        Where bytes go; closed with the upload.
    """

    def __init__(self, declaration: Declaration, spool: BinaryIO) -> None:
        self.declaration = declaration
        self.committed_bytes = 0
        self._spool = spool
        self._digest = hashlib.sha256()

    def append(self, offset_bytes: int, data: bytes) -> None:
        """Take in `data`. May block on the disk.

        Raises
        ------
        UploadOffsetError
            `offset_bytes` is not where the upload stands, or `data` goes past the declared size. Nothing was taken in.
        """
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
        self._spool.write(data)
        self._digest.update(data)
        self.committed_bytes += len(data)

    def verify(self) -> int:
        """Return the file descriptor of the spooled bytes, rewound, if all has arrived as declared. It stays ours.

        Raises
        ------
        UploadIncompleteError
            Bytes are missing.
        ChecksumError
            The SHA-256 differs.
        """
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
        self._spool.flush()
        self._spool.seek(0)
        return self._spool.fileno()

    def close(self) -> None:
        """Forget the bytes. Harmless when repeated."""
        self._spool.close()


class UploadDesk:
    """The uploads there are: bounded in number and bytes, resumable by id until they expire.

    All methods may be called from any thread.

    Parameters
    ----------
    max_uploads : int
        The most uploads under way or kept for resumption.
    max_upload_bytes : int
        The largest upload, in bytes.
    ttl_ns : int
        How long an interrupted resumable upload, or the result of a finished one, is kept, in nanoseconds.
    call_later : Callable
        Runs a function after so many nanoseconds.
    spool_dir : str or None
        Directory for spooled bytes; None for the system's temporary one.
    """

    def __init__(
        self,
        max_uploads: int,
        max_upload_bytes: int,
        ttl_ns: int,
        call_later: Callable[[Callable[[], None], int], None],
        spool_dir: str | None = None,
    ) -> None:
        self._max_uploads = max_uploads
        self._max_upload_bytes = max_upload_bytes
        self._ttl_ns = ttl_ns
        self._call_later = call_later
        self._spool_dir = spool_dir
        self._lock = threading.Lock()
        self._active: set[Upload] = set()
        self._suspended: dict[str, Upload] = {}
        self._finished: dict[str, Declaration] = {}

    def __len__(self) -> int:
        return len(self._active) + len(self._suspended)

    def open(self, declaration: Declaration) -> Upload:
        """Begin an upload, or go on with the one of that ``upload_id``. May block on the disk.

        Raises
        ------
        InvalidError
            The declaration is impossible.
        DecodedTooLargeError
            It is larger than an upload may be (reason ``UPLOAD_TOO_LARGE``).
        ConflictError
            The ``upload_id`` is in use by another stream, or was declared otherwise.
        LimitError
            There are as many uploads as there may be.
        """
        self._check(declaration)
        with self._lock:
            if declaration.upload_id:
                if any(upload.declaration.upload_id == declaration.upload_id for upload in self._active):
                    raise ConflictError(
                        f"upload {declaration.upload_id!r} is under way on another stream",
                        remedy="End that stream first, or choose another upload_id",
                        reason="UPLOAD_IN_USE",
                    )
                known = self._suspended.get(declaration.upload_id)
                if known is not None:
                    self._check_same(known.declaration, declaration)
                    self._active.add(self._suspended.pop(declaration.upload_id))
                    return known
            if len(self) >= self._max_uploads:
                raise LimitError(
                    f"{self._max_uploads} uploads are under way, which is the limit",
                    remedy="Try again when one has ended, or raise max_uploads",
                    reason="TOO_MANY_UPLOADS",
                    limit=self._max_uploads,
                )
            upload = Upload(declaration, self._open_spool())
            self._active.add(upload)
        return upload

    def finished(self, declaration: Declaration) -> bool:
        """Return whether that very upload was finished before: then the sample is there and nothing need be sent."""
        known = self._finished.get(declaration.upload_id) if declaration.upload_id else None
        if known is None:
            return False
        self._check_same(known, declaration)
        return True

    def close(self, upload: Upload, *, done: bool) -> None:
        """End a stream: forget the upload if it is done or not resumable, else keep it until it expires."""
        upload_id = upload.declaration.upload_id
        with self._lock:
            self._active.discard(upload)
            if done and upload_id:
                self._finished[upload_id] = upload.declaration
            elif upload_id:
                self._suspended[upload_id] = upload
            if done or not upload_id:
                upload.close()
        if upload_id:
            self._call_later(lambda: self._expire(upload), self._ttl_ns)

    def discard(self, upload: Upload) -> None:
        """Forget an upload that can never succeed, resumable or not."""
        with self._lock:
            self._active.discard(upload)
            upload.close()

    def status(self, upload_id: str) -> tuple[int, int, bool]:
        """Return committed bytes, declared bytes, and whether it is finished.

        Raises
        ------
        UploadNotFoundError
        """
        with self._lock:
            if (declaration := self._finished.get(upload_id)) is not None:
                return declaration.total_bytes, declaration.total_bytes, True
            for upload in (*self._active, *self._suspended.values()):
                if upload.declaration.upload_id == upload_id and upload_id:
                    return upload.committed_bytes, upload.declaration.total_bytes, False
        raise self._not_found(upload_id)

    def cancel(self, upload_id: str) -> None:
        """Forget a suspended upload, or the result of a finished one.

        Raises
        ------
        UploadNotFoundError
        StateError
            A stream is sending it just now.
        """
        with self._lock:
            if (upload := self._suspended.pop(upload_id, None)) is not None:
                upload.close()
                return
            if self._finished.pop(upload_id, None) is not None:
                return
            if any(upload.declaration.upload_id == upload_id for upload in self._active):
                raise StateError(
                    f"upload {upload_id!r} is being sent",
                    remedy="Cancel the stream that sends it first",
                    reason="UPLOAD_IN_USE",
                )
        raise self._not_found(upload_id)

    def clear(self) -> None:
        """Forget everything. Only for the end."""
        with self._lock:
            for upload in (*self._active, *self._suspended.values()):
                upload.close()
            self._active.clear()
            self._suspended.clear()
            self._finished.clear()

    def _expire(self, upload: Upload) -> None:
        upload_id = upload.declaration.upload_id
        with self._lock:
            if self._suspended.get(upload_id) is upload:
                del self._suspended[upload_id]
                upload.close()
            elif self._finished.get(upload_id) is upload.declaration:
                del self._finished[upload_id]

    def _check(self, declaration: Declaration) -> None:
        if declaration.total_bytes < 1 or len(declaration.sha256) != hashlib.sha256().digest_size:
            raise InvalidError(
                "an upload needs its size and its SHA-256",
                remedy="Set UploadStart.total_bytes (at least 1) and UploadStart.sha256 (32 bytes)",
                reason="INVALID_DECLARATION",
            )
        if declaration.upload_id and not _UPLOAD_ID.fullmatch(declaration.upload_id):
            raise InvalidError(
                f"{declaration.upload_id[:80]!r} is no upload id",
                remedy="Use 1 to 64 of letters, digits, '_' and '-'",
                reason="INVALID_UPLOAD_ID",
            )
        if declaration.total_bytes > self._max_upload_bytes:
            raise DecodedTooLargeError(
                f"an upload of {declaration.total_bytes} bytes is larger than {self._max_upload_bytes}",
                remedy="Send less, or raise max_upload_bytes",
                reason="UPLOAD_TOO_LARGE",
                limit_bytes=self._max_upload_bytes,
            )

    def _check_same(self, known: Declaration, declaration: Declaration) -> None:
        if known != declaration:
            raise ConflictError(
                f"upload {declaration.upload_id!r} was declared otherwise before",
                remedy="Resume with the very same UploadStart, or choose another upload_id",
                reason="UPLOAD_DECLARED_OTHERWISE",
            )

    def _not_found(self, upload_id: str) -> UploadNotFoundError:
        return UploadNotFoundError(
            f"there is no upload {upload_id[:80]!r}",
            remedy="Begin anew: it was never begun with that upload_id, was cancelled, or has expired",
        )

    def _open_spool(self) -> BinaryIO:
        try:
            # Unlinked from the start where the system can: a crash leaves nothing behind.
            return tempfile.TemporaryFile(dir=self._spool_dir)
        except OSError as error:
            raise LimitError(
                f"there is no room to spool an upload: {os.strerror(error.errno or 0)}",
                remedy="Free space in the spool directory, or set spool_dir to one with room",
                reason="SPOOL_UNAVAILABLE",
            ) from error
