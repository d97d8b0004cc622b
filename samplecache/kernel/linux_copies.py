"""Memory to copy sample memory into, for copies that do not last."""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

APART_BYTES: Final = mmap.PAGESIZE // 2
"""How much further into its page a copy begins than what it is a copy of.

Both the C library's ``memmove`` and the kernel's own copying are ``rep movsb`` where the CPU claims to be good at it.
AMD's are not where both begin almost equally far into their pages (https://sourceware.org/bugzilla/show_bug.cgi?id=30994):
a copy that began 1 to 31 bytes further took five times as long as any other, and the memory of a ``bytearray`` begins
16 bytes into a page. Half a page is as far from that as can be, and an aligned copy of what is aligned.
"""


class CopyRoom:
    """Room for one copy at a time. Its pages have been written to, so that none faults when it is copied into.

    Parameters
    ----------
    length_bytes : int
        How much there is room for.

    Attributes
    ----------
    length_bytes : int
        The same.
    """

    def __init__(self, length_bytes: int) -> None:
        self.length_bytes = length_bytes
        memory = mmap.mmap(-1, length_bytes + mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory[:] = bytes(len(memory))
        self._view = memoryview(memory)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(memory))

    def for_copy(self, source_address: int, length_bytes: int) -> tuple[int, memoryview]:
        """Return the address to copy that many bytes to, and what will be there. Does not fault."""
        begin = (source_address + APART_BYTES) % mmap.PAGESIZE
        return self._address + begin, self._view[begin : begin + length_bytes]
