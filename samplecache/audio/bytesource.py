"""The bytes of an uploaded file, read by position."""

from __future__ import annotations

import os


class ByteSource:
    """A regular file that is read without moving its offset. Reads may block on the file system.

    Parameters
    ----------
    fd : int
        A seekable file, a memfd or an unlinked one; it stays the caller's.
    name : str
        How messages call it.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        self.size_bytes = os.fstat(fd).st_size

    def at(self, offset_bytes: int, count_bytes: int) -> bytes:
        """Return up to `count_bytes` bytes from `offset_bytes`; fewer at the end of the file."""
        return os.pread(self.fd, count_bytes, offset_bytes)
