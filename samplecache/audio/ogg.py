"""OGG pages (RFC 3533): whether all are there and whole.

libsndfile skips a damaged page, stops at a missing end, and plays only the first of several streams chained one after
the other, each without a word. A page carries a checksum and the last one a mark, so all three can be told.
"""

from __future__ import annotations

import zlib

from samplecache.audio.bytesource import ByteSource
from samplecache.audio.complaints import truncated, undecodable

_CAPTURE = b"OggS"
_HEAD_BYTES = 27
_BEGINS_STREAM = 0x02
_ENDS_STREAM = 0x04

_REVERSED_BITS = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))


def check_ogg(source: ByteSource, start_bytes: int) -> None:
    """Raise ``AudioError`` unless the file is one run of whole OGG pages with an end.

    Reason ``TRUNCATED_AUDIO`` where pages are missing at the end, ``UNDECODABLE_AUDIO`` where one is damaged or where a
    second stream follows the first.
    """
    offset = start_bytes
    open_serials: set[bytes] = set()
    past_beginnings = False
    while offset < source.size_bytes:
        head = source.at(offset, _HEAD_BYTES + 255)
        if head[:4] != _CAPTURE[: len(head)]:
            if past_beginnings and not open_serials:
                return  # a tag or padding after the end
            raise undecodable(source, f"is damaged: no OGG page begins at byte {offset}")
        page = source.at(offset, _page_bytes(head))
        if len(head) < _HEAD_BYTES or len(page) < _page_bytes(head):
            raise truncated(source, f"ends inside the OGG page at byte {offset}")
        if _checksum(page) != int.from_bytes(page[22:26], "little"):
            raise undecodable(source, f"is damaged: the OGG page at byte {offset} fails its checksum")
        flags, serial = page[5], page[14:18]
        if flags & _BEGINS_STREAM:
            if past_beginnings:
                raise undecodable(source, f"is a chain: another stream begins at byte {offset}, send each by itself")
            open_serials.add(serial)
        else:
            past_beginnings = True
        if flags & _ENDS_STREAM:
            open_serials.discard(serial)
        offset += len(page)
    if open_serials:
        raise truncated(source, "has no page that ends its stream")


def _page_bytes(head: bytes) -> int:
    if len(head) < _HEAD_BYTES:
        return _HEAD_BYTES
    segments = head[26]
    return _HEAD_BYTES + segments + sum(head[_HEAD_BYTES : _HEAD_BYTES + segments])


def _checksum(page: bytes) -> int:
    """Return the page's CRC: polynomial 0x04c11db7, most significant bit first, from 0, its own field taken as 0.

    That is zlib's CRC with the bits of every byte, and of the result, in the other order.
    """
    zeroed = page[:22] + bytes(4) + page[26:]
    reflected = zlib.crc32(zeroed.translate(_REVERSED_BITS), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED_BITS), "big")
