"""What can be streamed: a session of this process's cache, or what a worker has in its place."""

from __future__ import annotations

from typing import Protocol

from samplecache.audio.convert import Converter
from samplecache.cache.accounting.playback import Block, Playback
from samplecache.cache.device.shedding import Place
from samplecache.cache.reading import ReadBatch, ReadBlock
from samplecache.strategy.events import Underrun


class StreamedSession(Protocol):
    """That part of :class:`~samplecache.cache.session.Session` which streaming uses; see there.

    Attributes
    ----------
    playback : Playback
        Cursor and deadlines.
    converter : Converter
        From the stored format to the delivered one.
    place : Place
        Where it stands while the device is overloaded.
    """

    playback: Playback
    converter: Converter
    place: Place

    def start(self) -> None:
        """Have the strategy prepare, unless it has been already."""

    def next_block(self) -> Block | None:
        """Return the block to read next, or None at the end."""

    def is_resident(self, block: Block) -> bool:
        """Return whether reading the block would not wait for a device, as far as can be known."""

    def may_read(self, block: Block) -> bool:
        """Return whether the block may be read now even if its pages are not all in RAM."""

    def read(self, block: Block, client_ns: int = 0) -> ReadBlock:
        """Copy the block out of sample memory and convert it. May fault."""

    def read_resident(self, block: Block, client_ns: int = 0, *, alone: bool = False) -> ReadBatch | None:
        """Read the block and, unless `alone`, what follows it if they need no device; return None if it might."""

    def delivered(self, read: ReadBlock) -> Underrun | None:
        """Account for a block that was read, and return its underrun."""

    def delivered_in_time(self, frames: range) -> None:
        """Account for blocks that were read with one before them, and were ready when they were due."""

    def seek(self, frame: int) -> None:
        """Go on at `frame`."""

    def close(self) -> None:
        """End the session."""
