"""Containers made of chunks, each with its size in front: WAV, RF64, W64, AIFF, CAF, AU.

libsndfile reads a file whose data chunk is longer than the file without a word, and returns what there is. Here the
sizes are compared, so that an upload that was cut is refused instead of stored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from samplecache.audio.bytesource import ByteSource
from samplecache.audio.complaints import truncated


@dataclass(frozen=True, slots=True)
class ChunkLayout:
    """How one container writes its chunks.

    Attributes
    ----------
    first_bytes : int
        Offset of the first chunk from the container's start.
    id_bytes : int
        Length of a chunk's id.
    size_code : str
        ``struct`` code of the size that follows the id.
    data_id : bytes
        Id of the chunk with the audio in it.
    align_bytes : int
        Chunks start at multiples of this from the container's start.
    counts_itself : bool
        Whether the size includes id and size.
    unknown_size : int
        The size that a writer leaves which could not go back and fill it in; -1 if there is none.
    """

    first_bytes: int
    id_bytes: int
    size_code: str
    data_id: bytes
    align_bytes: int = 2
    counts_itself: bool = False
    unknown_size: int = -1


_U32_MAX = 0xFFFF_FFFF
_U64_MAX = 0xFFFF_FFFF_FFFF_FFFF

# The tail of Sony Wave64's chunk GUIDs; the head is the RIFF id in small letters.
_W64_DATA_ID = b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a")

WAV = ChunkLayout(12, 4, "<I", b"data", unknown_size=_U32_MAX)
WAV_BIG_ENDIAN = ChunkLayout(12, 4, ">I", b"data", unknown_size=_U32_MAX)
W64 = ChunkLayout(40, 16, "<Q", _W64_DATA_ID, align_bytes=8, counts_itself=True)
AIFF = ChunkLayout(12, 4, ">I", b"SSND")
CAF = ChunkLayout(8, 4, ">Q", b"data", align_bytes=1, unknown_size=_U64_MAX)


def check_chunks(source: ByteSource, start_bytes: int, layout: ChunkLayout) -> None:
    """Raise ``AudioError`` (``TRUNCATED_AUDIO``) if a chunk up to the audio's reaches past the end of the file.

    A file without an audio chunk passes: it is the decoder that says what is wrong with it.
    """
    size_of = struct.Struct(layout.size_code)
    head_bytes = layout.id_bytes + size_of.size
    data_size_64: int | None = None
    offset = start_bytes + layout.first_bytes
    while len(head := source.at(offset, head_bytes)) == head_bytes:
        chunk_id = head[: layout.id_bytes]
        (size,) = size_of.unpack_from(head, layout.id_bytes)
        if not all(0x20 <= octet < 0x7F for octet in chunk_id[:4]):
            return  # damaged, or a writer forgot to pad: this walk has lost its way, so sizes mean nothing
        is_data = chunk_id == layout.data_id
        if chunk_id == b"ds64" and len(sizes := source.at(offset + head_bytes, 16)) == 16:
            data_size_64 = struct.unpack("<QQ", sizes)[1]  # RF64 (EBU Tech 3306): riff size, data size
        if is_data and size == layout.unknown_size:
            if data_size_64 is None:
                return
            size = data_size_64
        end = offset + size + (0 if layout.counts_itself else head_bytes)
        if end > source.size_bytes:
            raise truncated(source, f"declares {end} bytes and has {source.size_bytes}")
        if is_data or end <= offset:
            return
        offset = end + (start_bytes - end) % layout.align_bytes


def check_au(source: ByteSource, start_bytes: int) -> None:
    """Raise ``AudioError`` (``TRUNCATED_AUDIO``) if an AU file's one data area reaches past the end of the file."""
    head = source.at(start_bytes, 12)
    if len(head) < 12:
        return
    byte_order = ">" if head[:4] == b".snd" else "<"
    data_offset, size = struct.unpack_from(f"{byte_order}II", head, 4)
    end = start_bytes + data_offset + size
    if size != _U32_MAX and end > source.size_bytes:
        raise truncated(source, f"declares {end} bytes and has {source.size_bytes}")
