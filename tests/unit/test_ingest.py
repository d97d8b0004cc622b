"""What comes in becomes a sample whole, or leaves no trace."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from audio_files import memory_file, noise, written
from cache_parts import MONO, PAGE_BYTES, GatedKernel, declaration, passes, pcm

from samplecache.audio.decode import DecodeLimits, Decoder
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.samples.ingest import Ingest
from samplecache.cache.samples.store import Publication, Store
from samplecache.errors import (
    AudioError,
    ChecksumError,
    ConflictError,
    DecodedTooLargeError,
    InvalidError,
    InvalidFormatError,
    MappingError,
    SamplecacheError,
    StoreFullError,
)

BUDGET_BYTES = 64 * PAGE_BYTES
MAX_DECODED_BYTES = 80 * PAGE_BYTES
STEREO = AudioFormat(48_000, 2, Encoding.S16)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(DecodeLimits(max_decoded_bytes=MAX_DECODED_BYTES)) as decoder:
        decoder.start()
        yield decoder


@pytest.fixture
def kernel() -> GatedKernel:
    return GatedKernel(address_space_bytes=200 * PAGE_BYTES)


@pytest.fixture
def store(kernel: GatedKernel) -> Store:
    return Store(kernel, BUDGET_BYTES, 10)


@pytest.fixture
def ingest(kernel: GatedKernel, store: Store, decoder: Decoder) -> Ingest:
    return Ingest(kernel, store, decoder, MAX_DECODED_BYTES)


def take(ingest: Ingest, data: bytes, sample_id: str = "new", **declared: Any) -> Publication:
    with memory_file(data) as fd:
        os.lseek(fd, 0, os.SEEK_SET)
        return ingest.ingest(declaration(sample_id, data, **declared), fd)


def wav(frames: int, codec: str = "PCM_16") -> bytes:
    return written("WAV", codec, noise(frames))


def memory(kernel: GatedKernel, publication: Publication) -> bytes:
    content = publication.sample.content
    return bytes(kernel.read(content.region, 0, content.size_bytes))


# --- what succeeds ---


@pytest.mark.parametrize("length_bytes", [2, PAGE_BYTES, 5_000, 40 * PAGE_BYTES])
def test_raw_pcm_is_stored_as_it_came(ingest: Ingest, kernel: GatedKernel, store: Store, length_bytes: int) -> None:
    data = pcm(length_bytes)
    publication = take(ingest, data, tags=("a",), pinned=True, strategy="touch")
    sample = publication.sample
    assert memory(kernel, publication) == data
    assert (sample.tags, sample.pinned, sample.strategy) == (("a",), True, "touch")
    assert (sample.content.format, sample.content.frames, sample.content.source) == (MONO, length_bytes // 2, "raw")
    assert sample.content.sha256 == hashlib.sha256(data).digest()
    assert store.used_bytes == -(-length_bytes // PAGE_BYTES) * PAGE_BYTES


def test_a_file_is_stored_as_its_pcm(ingest: Ingest, kernel: GatedKernel) -> None:
    data = wav(3_000)
    publication = take(ingest, data, raw_format=None)
    content = publication.sample.content
    assert memory(kernel, publication) == data[-3_000 * 4 :]
    assert (content.format, content.frames, content.source) == (STEREO, 3_000, "WAV PCM_16")
    assert content.sha256 == hashlib.sha256(data[-3_000 * 4 :]).digest()


def test_a_file_is_stored_in_the_encoding_asked_for(ingest: Ingest) -> None:
    content = take(ingest, wav(100), raw_format=None, store_encoding=Encoding.F32).sample.content
    assert (content.format.encoding, content.size_bytes) == (Encoding.F32, 100 * 2 * 4)


def test_a_file_and_its_raw_pcm_are_one_content(ingest: Ingest, kernel: GatedKernel, store: Store) -> None:
    data = wav(3_000)
    first = take(ingest, data, "file", raw_format=None)
    second = take(ingest, data[-3_000 * 4 :], "raw", raw_format=STEREO)
    assert (first.deduplicated, second.deduplicated) == (False, True)
    assert first.sample.content is second.sample.content
    assert kernel.mapped == {first.sample.content.region}
    assert store.used_bytes == 3 * PAGE_BYTES


# --- what fails ---


@pytest.fixture
def full(ingest: Ingest, kernel: GatedKernel, store: Store) -> Iterator[None]:
    """A store with a pinned sample and one that may be evicted; nothing of it may have changed in the end."""
    take(ingest, pcm(20 * PAGE_BYTES, 1), "pinned", pinned=True)
    take(ingest, pcm(40 * PAGE_BYTES, 2), "loose")

    def state() -> tuple[object, ...]:
        fds = sorted(os.listdir("/proc/self/fd"))
        return store.page("", 9, frozenset()), store.used_bytes, store.evictions, set(kernel.mapped), fds

    before = state()
    yield
    assert state() == before
    # What holds all that the budget has left can still come in.
    assert take(ingest, pcm(44 * PAGE_BYTES, 3), "last").evicted == (("loose", 40 * PAGE_BYTES),)


WAV = wav(20_000)
FLAC = written("FLAC", "PCM_16", noise(20_000))


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (b"", AudioError, "EMPTY_AUDIO"),
        (b"\0", AudioError, "UNDECODABLE_AUDIO"),
        (pcm(10_000), AudioError, "UNDECODABLE_AUDIO"),
        (wav(0), AudioError, "EMPTY_AUDIO"),
        (WAV[:-10_000], AudioError, "TRUNCATED_AUDIO"),
        (FLAC[:-10_000], AudioError, "UNDECODABLE_AUDIO"),
        (FLAC[:20_000] + bytes(1_000) + FLAC[21_000:], AudioError, "UNDECODABLE_AUDIO"),
        (wav(MAX_DECODED_BYTES // 4 + 1), DecodedTooLargeError, "DECODED_TOO_LARGE"),
        (wav(45 * PAGE_BYTES // 4), StoreFullError, "STORE_FULL"),
    ],
    ids=["no bytes", "a byte", "noise", "no frames", "cut WAV", "cut FLAC", "damaged FLAC", "too large", "no room"],
)
def test_a_file_that_cannot_become_a_sample(
    ingest: Ingest, data: bytes, error: type[SamplecacheError], reason: str
) -> None:
    with pytest.raises(error) as caught:
        take(ingest, data, raw_format=None)
    assert (type(caught.value), caught.value.reason_code) == (error, reason)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("data", "declared", "error", "reason"),
    [
        (b"", {}, AudioError, "EMPTY_AUDIO"),
        (bytes(3), {}, InvalidFormatError, "PARTIAL_FRAME"),
        (pcm(45 * PAGE_BYTES), {}, StoreFullError, "STORE_FULL"),
        (pcm(MAX_DECODED_BYTES + 2), {}, DecodedTooLargeError, "DECODED_TOO_LARGE"),
        (pcm(PAGE_BYTES), {"sample_id": "loose"}, ConflictError, "SAMPLE_EXISTS"),
        (pcm(PAGE_BYTES), {"sample_id": "A"}, InvalidError, "INVALID_SAMPLE_ID"),
        (pcm(PAGE_BYTES), {"tags": ("",)}, InvalidError, "INVALID_TAG"),
    ],
)
def test_raw_pcm_that_cannot_become_a_sample(
    ingest: Ingest, data: bytes, declared: dict[str, Any], error: type[SamplecacheError], reason: str
) -> None:
    with pytest.raises(error) as caught:
        take(ingest, data, **declared)
    assert caught.value.reason_code == reason


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("length_bytes", [0, 5_000, 2 * PAGE_BYTES - 2])
def test_bytes_that_the_spool_has_lost_are_missed(ingest: Ingest, length_bytes: int) -> None:
    data = pcm(2 * PAGE_BYTES)
    with memory_file(data[:length_bytes]) as fd:
        os.lseek(fd, 0, os.SEEK_SET)
        with pytest.raises(ChecksumError, match="check the disk"):
            ingest.ingest(declaration("new", data), fd)


@pytest.mark.usefixtures("full")
def test_bytes_that_the_spool_has_changed_are_noticed(ingest: Ingest) -> None:
    data = pcm(PAGE_BYTES)
    with memory_file(data) as fd:
        os.pwrite(fd, bytes([data[100] ^ 1]), 100)
        os.lseek(fd, 0, os.SEEK_SET)
        with pytest.raises(ChecksumError, match="the SHA-256"):
            ingest.ingest(declaration("new", data), fd)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(("data", "raw_format"), [(WAV, None), (pcm(20 * PAGE_BYTES), MONO)])
def test_memory_that_cannot_be_mapped(
    ingest: Ingest, kernel: GatedKernel, data: bytes, raw_format: AudioFormat | None
) -> None:
    taken = kernel.map(139 * PAGE_BYTES)  # of 200, 60 being stored
    with pytest.raises(MappingError):
        take(ingest, data, raw_format=raw_format)
    kernel.unmap(taken)


@pytest.mark.usefixtures("full")
def test_a_spool_that_cannot_be_read(ingest: Ingest, tmp_path: Any) -> None:
    data = pcm(PAGE_BYTES)
    fd = os.open(tmp_path / "spool", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            ingest.ingest(declaration("new", data), fd)
    finally:
        os.close(fd)


@pytest.mark.usefixtures("full")
def test_an_id_that_is_taken_while_the_file_is_decoded(ingest: Ingest, store: Store, kernel: GatedKernel) -> None:
    """Room is checked before decoding, and again when the sample is whole."""
    kernel.held_up = "read"  # hashing what was received
    rival = dataclasses.replace(declaration("new", WAV), raw_format=None)
    failures: list[BaseException] = []

    def late() -> None:
        with memory_file(WAV) as fd, pytest.raises(ConflictError) as caught:
            ingest.ingest(rival, fd)
        failures.append(caught.value)

    thread = threading.Thread(target=late)
    thread.start()
    passes(kernel.reached)
    region = kernel.map(PAGE_BYTES)
    store.publish("new", region, MONO, 10, b"rival")
    kernel.gate.set()
    thread.join(20)
    assert [type(failure) for failure in failures] == [ConflictError]
    store.remove("new")
