"""What the owner of the samples and a worker say to each other: JSON, one message a line, over a socket pair.

Both are processes of one server, started together from the same code; nothing else can reach the socket.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias

from samplecache import errors
from samplecache.cache.accounting.playback import Reading
from samplecache.kernel.port import FaultCounts

Message: TypeAlias = dict[str, Any]

MAX_MESSAGE_BYTES: Final = 16 << 20
"""Far above what the most sessions have to tell at a time."""


class Link:
    """One end of the socket. For one event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Link:
        """Return the link over a connected socket, which it closes in the end."""
        return cls(*await asyncio.open_connection(sock=end, limit=MAX_MESSAGE_BYTES))

    def send(self, **message: Any) -> None:
        """Send a message; never blocks. It is lost if the other end has gone, which :meth:`messages` tells."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what the other end says, until it goes."""
        while True:
            try:
                line = await self._reader.readline()
            except ConnectionError:
                return
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def pack_error(error: errors.SamplecacheError) -> Message:
    """Return an error as data."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "remedy": error.remedy,
        "reason": error.reason_code,
        "details": error.details,
    }


def unpack_error(message: Message) -> errors.SamplecacheError:
    """Return the error that was packed: to a client it is the same."""
    kind: type[errors.SamplecacheError] = getattr(errors, message["kind"], errors.SamplecacheError)
    error = kind(message["message"], remedy=message["remedy"], reason=message["reason"])
    error.details = message["details"]
    return error


def pack_reading(reading: Reading) -> list[int]:
    """Return how a block was read as data."""
    began_ns, ready_ns, faults, witness_ns, client_ns, held_frames = reading
    return [began_ns, ready_ns, faults.minor, faults.major, witness_ns, client_ns, held_frames]


def unpack_reading(values: list[int]) -> Reading:
    """Return what :func:`pack_reading` was given."""
    began_ns, ready_ns, minor, major, witness_ns, client_ns, held_frames = values
    return Reading(began_ns, ready_ns, FaultCounts(minor, major), witness_ns, client_ns, held_frames)
