"""The uploads under way: how many there may be, and those that wait to be resumed."""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from collections.abc import Callable
from typing import BinaryIO, Final

from samplecache.cache.samples.upload import Declaration, Upload, spool_error
from samplecache.errors import (
    ConflictError,
    DecodedTooLargeError,
    InvalidError,
    LimitError,
    StateError,
    UploadNotFoundError,
)

_UPLOAD_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


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
                    known.streams += 1
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
        """End a stream: forget the upload if it is done or not resumable, else keep it until it expires.

        An upload that was discarded or done meanwhile stays so, and one is done even if its stream was cut off while it
        was being finished: whoever tries again hears that it is there.
        """
        upload_id, streams = upload.declaration.upload_id, upload.streams
        with self._lock:
            if upload in self._active:
                self._active.remove(upload)
            elif done and self._suspended.get(upload_id) is upload:
                del self._suspended[upload_id]
            else:
                return
            if done and upload_id:
                self._finished[upload_id] = upload.declaration
            elif upload_id:
                self._suspended[upload_id] = upload
            if done or not upload_id:
                upload.close()
        if upload_id:
            self._call_later(lambda: self._expire(upload, streams), self._ttl_ns)

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

    def _expire(self, upload: Upload, streams: int) -> None:
        upload_id = upload.declaration.upload_id
        with self._lock:
            # Resumed and suspended again since, it has a time of its own.
            if self._suspended.get(upload_id) is upload and upload.streams == streams:
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
                remedy="Send less, or raise max_upload",
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
            raise spool_error(error) from error
