"""What kind of file the bytes are, by content alone, and whether all of it is there as far as its container tells."""

from __future__ import annotations

import enum

from samplecache.audio.bytesource import ByteSource
from samplecache.audio.chunks import AIFF, CAF, W64, WAV, WAV_BIG_ENDIAN, check_au, check_chunks
from samplecache.audio.complaints import undecodable
from samplecache.audio.ogg import check_ogg


class Container(enum.Enum):
    """The containers that are handed to libsndfile; it knows more, which nobody has asked for."""

    WAV = "WAV"
    W64 = "W64"
    AIFF = "AIFF"
    AU = "AU"
    CAF = "CAF"
    FLAC = "FLAC"
    OGG = "OGG"
    MP3 = "MP3"


_W64_ID = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
_MAGIC = {
    b"RIFF": Container.WAV,
    b"RIFX": Container.WAV,
    b"RF64": Container.WAV,
    _W64_ID: Container.W64,
    b"FORM": Container.AIFF,
    b".snd": Container.AU,
    b"dns.": Container.AU,
    b"caff": Container.CAF,
    b"fLaC": Container.FLAC,
    b"OggS": Container.OGG,
}


def identify(source: ByteSource) -> tuple[Container, int]:
    """Return the container and the offset at which it starts, behind an ID3v2 tag if there is one.

    Raises
    ------
    AudioError
        The bytes begin like none of the supported containers.
    """
    start_bytes = _id3_bytes(source)
    head = source.at(start_bytes, len(_W64_ID))
    for magic, container in _MAGIC.items():
        if head.startswith(magic):
            return container, start_bytes
    if len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return Container.MP3, start_bytes
    raise undecodable(source, "is not audio of a supported kind")


def check_complete(source: ByteSource, container: Container, start_bytes: int) -> None:
    """Raise ``AudioError`` (``TRUNCATED_AUDIO``) where the container itself shows that the file was cut.

    FLAC and MP3 say how many frames to expect instead; see :class:`samplecache.audio.reader.Reader`.
    """
    match container:
        case Container.WAV:
            is_big_endian = source.at(start_bytes, 4) == b"RIFX"
            check_chunks(source, start_bytes, WAV_BIG_ENDIAN if is_big_endian else WAV)
        case Container.W64:
            check_chunks(source, start_bytes, W64)
        case Container.AIFF:
            check_chunks(source, start_bytes, AIFF)
        case Container.CAF:
            check_chunks(source, start_bytes, CAF)
        case Container.AU:
            check_au(source, start_bytes)
        case Container.OGG:
            check_ogg(source, start_bytes)
        case Container.FLAC | Container.MP3:
            pass


def _id3_bytes(source: ByteSource) -> int:
    head = source.at(0, 10)
    if len(head) < 10 or not head.startswith(b"ID3"):
        return 0
    footer_bytes = 10 if head[5] & 0x10 else 0
    size = 0
    for octet in head[6:10]:  # "synchsafe": seven bits a byte
        size = size << 7 | octet & 0x7F
    return 10 + size + footer_bytes
