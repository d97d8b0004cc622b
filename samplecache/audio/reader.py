"""Reads one audio file to its end through libsndfile, in this process: what the decoder's child does."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import soundfile

from samplecache.audio import mpeg
from samplecache.audio.bytesource import ByteSource
from samplecache.audio.complaints import empty, truncated, undecodable
from samplecache.audio.container import Container, check_complete, identify
from samplecache.audio.format import Encoding
from samplecache.audio.pcm import from_float, pack_s24, to_float

_PIECE_BYTES = 1 << 20  # libsndfile is several times faster in large pieces than in a player's blocks
_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's SF_COUNT_MAX
_MALLOC_FAILED = 17  # libsndfile's SFE_MALLOC_FAILED

_TELEPHONE_CODECS = (
    *("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "VOX_ADPCM", "GSM610", "G721_32", "G723_24", "G723_40"),
    *("NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32"),
)

# The encoding that holds each of libsndfile's codecs without loss, and below the type it is read as. What is not here
# is lossy and decodes to floats; the telephone codecs are lossy too, but yield 16-bit values.
_CODECS = {
    "PCM_S8": Encoding.U8,
    "PCM_U8": Encoding.U8,
    "DPCM_8": Encoding.U8,
    "PCM_16": Encoding.S16,
    "ALAC_16": Encoding.S16,
    "DPCM_16": Encoding.S16,
    "DWVW_12": Encoding.S16,
    "DWVW_16": Encoding.S16,
    "PCM_24": Encoding.S24,
    "ALAC_20": Encoding.S24,
    "ALAC_24": Encoding.S24,
    "DWVW_24": Encoding.S24,
    "PCM_32": Encoding.S32,
    "ALAC_32": Encoding.S32,
    "DOUBLE": Encoding.F64,
    **dict.fromkeys(_TELEPHONE_CODECS, Encoding.S16),
}
_READ_TYPES = {
    Encoding.U8: "int16",
    Encoding.S16: "int16",
    Encoding.S24: "int32",
    Encoding.S32: "int32",
    Encoding.F32: "float32",
    Encoding.F64: "float64",
}


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no type information
    """A file that is only read on.

    Where a file can seek, soundfile seeks after each read, which costs FLAC and MP3 more than decoding does and fails
    at the end of a file of unknown length.
    """

    def seekable(self) -> bool:
        return False


class Reader:
    """One file, checked and opened.

    Parameters
    ----------
    source : ByteSource
        The file; its offset is moved.
    store_encoding : Encoding, optional
        What to return values in; by default the narrowest encoding that holds what the codec yields.
    max_decoded_bytes : int
        How far to count where the header does not say how long the file is.

    Attributes
    ----------
    frames : int
        How many frames ``pieces`` will yield; one too many for `max_decoded_bytes` if counting stopped there.
    rate_hz, channels : int
        As the file says, in whatever range.
    container, codec : str
        libsndfile's names for them.

    Raises
    ------
    AudioError
        The file is empty, cut short, damaged or not audio.
    """

    def __init__(self, source: ByteSource, store_encoding: Encoding | None, max_decoded_bytes: int) -> None:
        self._source = source
        if source.size_bytes == 0:
            raise empty(source, "is empty")
        kind, start_bytes = identify(source)
        check_complete(source, kind, start_bytes)
        self._file = self._open()
        self.rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.container: str = self._file.format
        self.codec: str = self._file.subtype
        self._native = _CODECS.get(self.codec, Encoding.F32)
        self.encoding = store_encoding or self._native
        self.frames: int = self._file.frames
        has_estimate = kind is Container.MP3 and not mpeg.has_table_of_contents(source, start_bytes)
        if has_estimate or self.frames == _UNKNOWN_FRAMES:
            self.frames = self._count(max_decoded_bytes)
        if has_estimate:
            self._check_mpeg_length(start_bytes)
        if self.frames <= 0:
            raise empty(source, "has no frames")

    def pieces(self) -> Iterator[bytes]:
        """Yield the whole file's frames in order, each piece whole frames of at most about 1 MiB.

        Raises
        ------
        AudioError
            The file yields fewer frames than announced (``TRUNCATED_AUDIO``), or libsndfile finds damage.
        """
        done = 0
        for values in self._blocks(self.frames):
            done += len(values)
            yield self._encode(values)
        if done < self.frames:
            raise truncated(self._source, f"announces {self.frames} frames and has {done}")

    def _open(self) -> _ForwardFile:
        os.lseek(self._source.fd, 0, os.SEEK_SET)
        try:
            return _ForwardFile(self._source.fd, closefd=False)
        except soundfile.LibsndfileError as error:
            raise self._refusal(error) from error

    def _blocks(self, limit_frames: int) -> Iterator[np.ndarray]:
        """Yield blocks of up to `limit_frames` frames in all; the array is overwritten by the next."""
        item = np.dtype(_READ_TYPES[self._native])
        block_frames = min(limit_frames, max(1, _PIECE_BYTES // (item.itemsize * self.channels)))
        block = np.empty((block_frames, self.channels), item)
        left = limit_frames
        while left > 0:
            # Asking for no more than is left keeps libsndfile off what may follow the audio, such as a tag.
            try:
                got = self._file.buffer_read_into(block[:left], item.name)
            except soundfile.LibsndfileError as error:
                raise self._refusal(error, f" after frame {limit_frames - left}") from error
            if got <= 0:
                return
            left -= got
            yield block[:got]

    def _count(self, max_decoded_bytes: int) -> int:
        limit_frames = max_decoded_bytes // (self.channels * self.encoding.width_bytes) + 1
        frames = sum(len(values) for values in self._blocks(limit_frames))
        self._file.close()
        self._file = self._open()
        return frames

    def _check_mpeg_length(self, start_bytes: int) -> None:
        walk = mpeg.walk_mpeg(self._source, start_bytes)
        if walk.is_cut:
            raise truncated(self._source, "ends inside an MPEG frame")
        if walk.frames is not None and self._file.frames < walk.frames:
            raise undecodable(
                self._source,
                f"is an MP3 of variable bit rate without a Xing header, of which libsndfile would lose "
                f"{walk.frames - self._file.frames} of {walk.frames} frames",
            )

    def _encode(self, values: np.ndarray) -> bytes:
        match self._native:
            case Encoding.U8:
                native = ((values >> 8) + 128).astype("u1").tobytes()
            case Encoding.S24:
                native = pack_s24(values)
            case _:
                native = values.tobytes()
        if self.encoding is self._native:
            return native
        return from_float(to_float(native, self._native), self.encoding)

    def _refusal(self, error: soundfile.LibsndfileError, where: str = "") -> Exception:
        if error.code == _MALLOC_FAILED:
            return MemoryError(error.error_string)
        return undecodable(self._source, f"cannot be decoded{where}: {error.error_string.rstrip('. ')}")
