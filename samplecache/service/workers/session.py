"""A session as a worker streams it: read from the owner's memory, its books kept by the owner."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from samplecache.audio.convert import Converter
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.accounting.accounts import Account
from samplecache.cache.accounting.playback import Block, Playback
from samplecache.cache.device.shedding import Place
from samplecache.cache.reading import BlockReader, ReadBatch, ReadBlock, ReaderFloor
from samplecache.cache.samples.sample import Content
from samplecache.kernel.linux_remote import RemoteRegion
from samplecache.service.workers.books import IN_TIME, LOOP, READ, SEEK
from samplecache.service.workers.link import Message, pack_reading
from samplecache.strategy.events import Underrun
from samplecache.v1 import playback_pb2


class RemoteSession:
    """See :class:`samplecache.cache.session.Session`, whose part in streaming this is. Nothing here blocks but reads.

    Parameters
    ----------
    opened : dict
        What the owner says of it.
    floor : ReaderFloor
        What it stands on.
    on_closed : Callable
        Called once, when it is closed.

    Attributes
    ----------
    happened : list
        What the owner has not been told yet.
    """

    def __init__(self, opened: Message, floor: ReaderFloor, on_closed: Callable[[RemoteSession], None]) -> None:
        stored = _audio(opened["stored"])
        content = Content(
            RemoteRegion(opened["address"], opened["pages"]), stored, opened["frames"], b"", "", charged_bytes=0
        )
        self.session_id: str = opened["session"]
        self.started = playback_pb2.PlayResponse.FromString(base64.b64decode(opened["started"]))
        self.happened: list[list[Any]] = []
        self.place = Place()  # only the owner's sessions are told to yield
        self.converter = Converter(stored, _audio(opened["delivered"]), opened["gain"])
        self.playback = Playback(
            stored.rate_hz,
            content.frames,
            range(*opened["remaining"]),
            opened["block_frames"],
            opened["opened_ns"],
            opened["lead_ns"],
            loop=opened["loop"],
        )
        self._strategy: str = opened["strategy"]
        self._sample_id: str = opened["sample"]
        self._clock = floor.clock
        # What was brought in ahead is the owner's to account for, so this account stays empty.
        account = Account(self._strategy, content.region.pages)
        self._reader = BlockReader(content, self.playback, self.converter, account, floor)
        self._memory, self._content = floor.kernel, content
        self._on_closed = on_closed
        self._loop = self.playback.loop
        self._closed = False

    def start(self) -> None:
        """Do nothing: the owner has had the strategy prepare."""

    def next_block(self) -> Block | None:
        """Return the block to read next, or None at the end."""
        return self.playback.next_block()

    def is_resident(self, block: Block) -> bool:
        """Return whether the block's pages are mapped at the owner's."""
        content = self._content
        return self._memory.in_core(content.region, content.pages_of(block.frames, self._memory.page_bytes))

    def may_read(self, block: Block) -> bool:
        """Return True: who yields is not known here."""
        return True

    def read(self, block: Block, client_ns: int = 0) -> ReadBlock:
        """Copy the block out of the owner's memory and convert it. May fault, with the GIL released."""
        return self._reader.read(block, client_ns)

    def read_resident(self, block: Block, client_ns: int = 0, *, alone: bool = False) -> ReadBatch | None:
        """Read the block, and what follows it, if it needs no device; see :meth:`Session.read_resident`."""
        return self._reader.read_resident(block, client_ns, alone=alone)

    def delivered(self, read: ReadBlock) -> Underrun | None:
        """Account for a block that was read, and return its underrun, which the owner publishes."""
        self._tell_loop()
        self.happened.append([READ, *pack_reading(read.reading)])
        late = self.playback.delivered(read.block, read.reading)
        if late is None:
            return None
        now_ns = self._clock.now_ns()
        return Underrun(
            now_ns,
            self.session_id,
            self._sample_id,
            self._strategy,
            late.offset_frames,
            late.late_ns,
            late.cause,
            late.faults,
        )

    def delivered_in_time(self, frames: range) -> None:
        """Account for blocks that were read with one before them, and were ready when they were due."""
        self._tell_loop()
        blocks = -(-len(frames) // self.playback.block_frames)
        if self.happened and self.happened[-1][0] == IN_TIME:
            self.happened[-1][1] += blocks
        else:
            self.happened.append([IN_TIME, blocks])
        self.playback.delivered_in_time(frames)

    def _tell_loop(self) -> None:
        if self.playback.loop != self._loop:
            self._loop = self.playback.loop
            self.happened.append([LOOP, self._loop])

    def seek(self, frame: int) -> None:
        """Go on at `frame`.

        Raises
        ------
        OutOfRangeError
            There is no such frame.
        """
        now_ns = self._clock.now_ns()
        self._tell_loop()
        self.playback.seek(frame, now_ns)
        self.converter.reset()
        self._reader.seeked()
        self.happened.append([SEEK, frame, now_ns])

    def close(self) -> None:
        """End the session; reads under way must have ended."""
        if not self._closed:
            self._closed = True
            self._on_closed(self)


def _audio(values: list[Any]) -> AudioFormat:
    rate_hz, channels, encoding = values
    return AudioFormat(rate_hz, channels, Encoding(encoding))
