"""MPEG audio frames (ISO/IEC 11172-3, 13818-3): how long an MP3 file without a table of contents is.

A Xing, Info or VBRI frame says how many frames follow, and libsndfile relies on it. Without one it estimates from the
first frame's bit rate, and where the rate varies it loses the end of the file without a word. Walking the frame headers
tells.
"""

from __future__ import annotations

from dataclasses import dataclass

from samplecache.audio.bytesource import ByteSource

_TABLE_OF_CONTENTS_IDS = (b"Xing", b"Info", b"VBRI")
_TAG_IDS = (b"TAG", b"APE", b"ID3", b"LYR")

_VERSION_1 = 3
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBPS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_WALK_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class MpegWalk:
    """What the headers of an MPEG audio file say.

    Attributes
    ----------
    frames : int or None
        PCM frames that its whole MPEG frames hold; None where the walk lost its way.
    is_cut : bool
        Whether the last MPEG frame reaches past the end of the file.
    """

    frames: int | None
    is_cut: bool = False


def has_table_of_contents(source: ByteSource, start_bytes: int) -> bool:
    """Return whether the first MPEG frame says how many follow."""
    first = source.at(start_bytes, 256)
    return any(marker in first for marker in _TABLE_OF_CONTENTS_IDS)


def walk_mpeg(source: ByteSource, start_bytes: int) -> MpegWalk:
    """Add up the frames from header to header."""
    offset = start_bytes
    frames = 0
    window, window_offset = b"", 0
    while offset < source.size_bytes:
        if not window_offset <= offset <= window_offset + len(window) - 4:
            window, window_offset = source.at(offset, _WALK_READ_BYTES), offset
        head = window[offset - window_offset :][:4]
        if head.startswith(_TAG_IDS):
            break
        lengths = _frame_lengths(head)
        if lengths is None:
            return MpegWalk(None)
        frame_bytes, pcm_frames = lengths
        if offset + frame_bytes > source.size_bytes:
            return MpegWalk(frames, is_cut=True)
        offset += frame_bytes
        frames += pcm_frames
    return MpegWalk(frames)


def _frame_lengths(head: bytes) -> tuple[int, int] | None:
    """Return a frame's bytes and PCM frames, or None if `head` is not an MPEG frame's header."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_index, bit_rate_index, padding = head[2] >> 2 & 3, head[2] >> 4, head[2] >> 1 & 1
    if version not in _RATES_HZ or layer == 4 or rate_index == 3 or bit_rate_index in (0, 15):
        return None  # reserved values, and "free format", whose frames do not tell their length
    is_version_1 = version == _VERSION_1
    rate_hz = _RATES_HZ[version][rate_index]
    bit_rate = 1000 * _KBPS[is_version_1, layer][bit_rate_index - 1]
    if layer == 1:
        return (12 * bit_rate // rate_hz + padding) * 4, 384
    pcm_frames = 576 if layer == 3 and not is_version_1 else 1152
    return pcm_frames // 8 * bit_rate // rate_hz + padding, pcm_frames
