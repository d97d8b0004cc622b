"""From verified bytes to a sample: decoded in a child or taken as they are, straight into the region to be played."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from samplecache.audio.decode import Decoder
from samplecache.audio.format import AudioFormat, check_raw
from samplecache.cache.samples.store import Publication, Store
from samplecache.cache.samples.upload import Declaration
from samplecache.errors import ChecksumError, DecodedTooLargeError
from samplecache.kernel.port import Kernel, Region

_PIECE_BYTES: Final = 1 << 20
"""Read at a time, in bytes: a pipe gives 64 KiB at most anyway, and a raw file is hashed while it is in the cache."""


class Ingest:
    """Turns verified uploads into samples. Any thread; blocks on the decoder, and may fault.

    Parameters
    ----------
    kernel : Kernel
        Where regions come from.
    store : Store
        Where samples go.
    decoder : Decoder
        What decodes files.
    max_decoded_bytes : int
        The largest sample, in bytes.
    """

    def __init__(self, kernel: Kernel, store: Store, decoder: Decoder, max_decoded_bytes: int) -> None:
        self._kernel = kernel
        self._store = store
        self._decoder = decoder
        self._max_decoded_bytes = max_decoded_bytes

    def ingest(self, declaration: Declaration, fd: int) -> Publication:
        """Make a sample of the bytes of `fd`, as declared. On any error the store is as it was.

        Room in the store is checked before decoding and made only when the sample is whole: an upload that fails evicts
        nothing.

        Raises
        ------
        AudioError, DecodedTooLargeError, InvalidFormatError, StoreFullError, ConflictError, MappingError, ...
        ChecksumError
            Raw PCM arrived in memory otherwise than it was declared.
        """
        if declaration.raw_format is not None:
            return self._ingest_raw(declaration, declaration.raw_format, fd)
        with self._decoder.open(
            fd, name_hint=declaration.sample_id, store_encoding=declaration.store_encoding
        ) as coming:
            info = coming.info
            with self._region(declaration, info.total_bytes) as region:
                sha256 = self._receive(region, coming.pcm_fd, info.total_bytes)
                frames = coming.finish()
                return self._publish(declaration, region, info.format, frames, sha256, f"{info.container} {info.codec}")

    def _ingest_raw(self, declaration: Declaration, audio: AudioFormat, fd: int) -> Publication:
        frames = check_raw(audio, declaration.total_bytes)
        with self._region(declaration, declaration.total_bytes) as region:
            sha256 = self._receive(region, fd, declaration.total_bytes)
            if sha256 != declaration.sha256:
                raise ChecksumError(
                    f"what came back from the spool has the SHA-256 {sha256.hex()}, declared was "
                    f"{declaration.sha256.hex()}",
                    remedy="Upload again, and check the disk that spool_dir is on",
                )
            return self._publish(declaration, region, audio, frames, sha256, "raw")

    def _publish(
        self, declaration: Declaration, region: Region, audio: AudioFormat, frames: int, sha256: bytes, source: str
    ) -> Publication:
        return self._store.publish(
            declaration.sample_id,
            region,
            audio,
            frames,
            sha256,
            source=source,
            tags=declaration.tags,
            pinned=declaration.pinned,
            strategy=declaration.strategy,
            replace=declaration.replace,
            created_unix_ns=time.time_ns(),
        )

    @contextmanager
    def _region(self, declaration: Declaration, length_bytes: int) -> Iterator[Region]:
        """Map room for a sample; unmap it again if no sample comes of it."""
        if length_bytes > self._max_decoded_bytes:
            raise DecodedTooLargeError(
                f"the sample would take {length_bytes} bytes, more than {self._max_decoded_bytes}",
                remedy="Send a shorter one, or raise max_decoded",
                limit_bytes=self._max_decoded_bytes,
            )
        self._store.check_room(declaration.sample_id, length_bytes, replace=declaration.replace)
        region = self._kernel.map(length_bytes, packed=True)
        try:
            yield region
        except BaseException:
            self._kernel.unmap(region)
            raise

    def _receive(self, region: Region, fd: int, total_bytes: int) -> bytes:
        """Read `total_bytes` from `fd` straight into `region` and return their SHA-256."""
        digest = hashlib.sha256()
        offset_bytes = 0
        while offset_bytes < total_bytes:
            got_bytes = self._kernel.receive(region, offset_bytes, fd, min(_PIECE_BYTES, total_bytes - offset_bytes))
            if got_bytes == 0:
                break
            # Hashed from the region rather than on its way in: that is what will be played.
            digest.update(self._kernel.read(region, offset_bytes, got_bytes))
            offset_bytes += got_bytes
        return digest.digest()
