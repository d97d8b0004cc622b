"""Blocks of PCM as messages that are serialised already: what is sent thousands of times a second.

The generated classes copy PCM three times on its way into a message's bytes. Here it goes there at once. The encoding
is protobuf's own (https://protobuf.dev/programming-guides/encoding): a field is its number and wire type, its length,
its bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from samplecache.v1 import playback_pb2

_LENGTH_DELIMITED: Final = 2
_VARINT: Final = 0


def _tag(descriptor: Any, field: str, wire_type: int) -> bytes:
    return bytes([descriptor.fields_by_name[field].number << 3 | wire_type])


_BLOCK: Final = _tag(playback_pb2.PlayResponse.DESCRIPTOR, "block", _LENGTH_DELIMITED)
_FRAME_OFFSET: Final = _tag(playback_pb2.PlayBlock.DESCRIPTOR, "frame_offset", _VARINT)
_PCM: Final = _tag(playback_pb2.PlayBlock.DESCRIPTOR, "pcm", _LENGTH_DELIMITED)


def block_message(frame_offset: int, pcm: bytes | bytearray | memoryview) -> bytes:
    """Return ``PlayResponse(block=PlayBlock(frame_offset=frame_offset, pcm=pcm))``, serialised. Copies `pcm` once."""
    pcm_bytes = len(pcm)
    head = _PCM + _length(pcm_bytes) if pcm_bytes else b""
    if frame_offset:  # as protobuf does, what is 0 or empty is left out
        head = _FRAME_OFFSET + _varint(frame_offset) + head
    return b"".join((_BLOCK, _length(len(head) + pcm_bytes), head, pcm))


def block_messages(
    frames: range, block_frames: int, frame_bytes: int, pcm: bytes | bytearray | memoryview
) -> list[bytes]:
    """Return what :func:`block_message` does of each block of `block_frames` in `pcm`, which holds `frames`."""
    step, first, view = block_frames * frame_bytes, frames.start, memoryview(pcm)
    tail = _PCM + _length(step)
    join, varint, length = b"".join, _varint, _length
    messages = []
    whole = len(frames) // block_frames
    for number in range(whole):
        head = _FRAME_OFFSET + varint(first + number * block_frames) + tail
        messages.append(join((_BLOCK, length(len(head) + step), head, view[number * step : (number + 1) * step])))
    if whole and not first:
        messages[:1] = [block_message(0, view[:step])]  # what is 0 is left out
    if whole * step < len(pcm):
        messages.append(block_message(first + whole * block_frames, view[whole * step :]))
    return messages


def _varint(value: int) -> bytes:
    """Return `value`, at least 0, seven bits a byte, the least first; all but the last have their top bit set."""
    if value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7)) if value >= 1 << 7 else bytes((value,))
    if value < 1 << 21:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80)) + _varint(value >> 14)


_length = lru_cache(256)(_varint)
"""Lengths are few, and the same again and again."""


def passing_bytes(serialise: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """Return a serialiser that leaves alone what is bytes already."""
    if serialise is None:
        return None
    return lambda message: message if type(message) is bytes else serialise(message)
