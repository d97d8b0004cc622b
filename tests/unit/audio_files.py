"""Audio files to decode, and the decoding of one through a `Decoder`."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import soundfile

from samplecache.audio.decode import DecodedInfo, Decoder, Decoding
from samplecache.audio.format import Encoding

RATE_HZ = 48_000


def noise(frames: int, channels: int = 2, seed: int = 1) -> np.ndarray:
    """Swelling noise, shape (frames, channels), within ±0.5: nothing that compresses away or decodes to the same."""
    swell = np.sin(np.arange(frames) / 3000)[:, np.newaxis]
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, channels)) * swell


def written(container: str, codec: str, values: np.ndarray, rate_hz: int = RATE_HZ, **options: object) -> bytes:
    """The file that libsndfile makes of `values`, in small blocks: long Vorbis writes overflow its stack."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate_hz, values.shape[1], format=container, subtype=codec, **options) as output:
        for start in range(0, len(values), 4096):
            output.write(values[start : start + 4096])
    return file.getvalue()


@contextmanager
def memory_file(data: bytes) -> Iterator[int]:
    """A memfd with `data` in it, its offset at the end as after an upload."""
    fd = os.memfd_create("upload")
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        yield fd
    finally:
        os.close(fd)


def read_pcm(decoding: Decoding) -> bytes:
    """All that the pipe has."""
    pieces = []
    while piece := os.read(decoding.pcm_fd, 1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def decode(
    decoder: Decoder, data: bytes, name_hint: str = "", store_encoding: Encoding | None = None
) -> tuple[DecodedInfo, bytes]:
    """The header and PCM of the file `data`; raises what the decoder raises."""
    with (
        memory_file(data) as fd,
        decoder.open(fd, name_hint=name_hint, store_encoding=store_encoding) as decoding,
    ):
        pcm = read_pcm(decoding)
        assert decoding.finish() == decoding.info.frames
        return decoding.info, pcm
