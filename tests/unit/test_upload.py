"""Uploads arrive whole or not at all, resume where they stood, and leave no file open."""

from __future__ import annotations

import dataclasses
import errno
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cache_parts import declaration, passes

from samplecache.cache.samples.upload import Declaration, Upload
from samplecache.cache.samples.upload_desk import UploadDesk
from samplecache.errors import (
    ChecksumError,
    ConflictError,
    DecodedTooLargeError,
    InvalidError,
    LimitError,
    SamplecacheError,
    StateError,
    UploadIncompleteError,
    UploadNotFoundError,
    UploadOffsetError,
)

DATA = bytes(range(200))
TTL_NS = 1_000


class Later:
    """Time for a desk: what is to be called later is, when the test says so."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.waiting: list[tuple[int, Callable[[], None]]] = []

    def __call__(self, work: Callable[[], None], delay_ns: int) -> None:
        self.waiting.append((self.now_ns + delay_ns, work))

    def advance(self, by_ns: int) -> None:
        self.now_ns += by_ns
        due = [work for time_ns, work in self.waiting if time_ns <= self.now_ns]
        self.waiting = [(time_ns, work) for time_ns, work in self.waiting if time_ns > self.now_ns]
        for work in due:
            work()


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def desk(later: Later, tmp_path: Path) -> Iterator[UploadDesk]:
    desk = UploadDesk(3, 1_000, TTL_NS, later, str(tmp_path))
    yield desk
    desk.clear()


@pytest.fixture(autouse=True)
def no_file_stays_open(tmp_path: Path, desk: UploadDesk) -> Iterator[None]:
    yield
    desk.clear()
    assert spools(tmp_path) == 0


def spools(directory: Path) -> int:
    """How many files in `directory`, unlinked or not, this process has open."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # the listing itself
            continue
    return sum(name.startswith(f"{directory}/") for name in names)


def declared(upload_id: str = "", data: bytes = DATA, **more: Any) -> Declaration:
    return declaration("kick", data, upload_id=upload_id, **more)


def content(upload: Upload) -> bytes:
    with upload.verified() as fd:
        return os.read(fd, 10_000)


# --- bytes ---


def test_what_was_sent_in_pieces_comes_out_whole(desk: UploadDesk) -> None:
    upload = desk.open(declared())
    for start, stop in ((0, 1), (1, 150), (150, 150), (150, 200)):
        upload.append(start, DATA[start:stop])
        assert upload.committed_bytes == stop
    assert content(upload) == DATA
    assert content(upload) == DATA  # rewound each time
    desk.close(upload, done=True)


@pytest.mark.parametrize("offset_bytes", [-1, 0, 99, 101, 1_000])
def test_a_chunk_has_to_begin_where_the_upload_stands(desk: UploadDesk, offset_bytes: int) -> None:
    upload = desk.open(declared())
    upload.append(0, DATA[:100])
    with pytest.raises(UploadOffsetError, match="Go on at byte 100") as caught:
        upload.append(offset_bytes, DATA[100:])
    assert (caught.value.reason_code, upload.committed_bytes) == ("UPLOAD_OFFSET_MISMATCH", 100)
    upload.append(100, DATA[100:])
    assert content(upload) == DATA


def test_no_more_than_declared(desk: UploadDesk) -> None:
    upload = desk.open(declared())
    upload.append(0, DATA[:150])
    with pytest.raises(UploadOffsetError, match="ends at byte 201, past the declared 200") as caught:
        upload.append(150, DATA[150:] + b"!")
    assert (caught.value.reason_code, upload.committed_bytes) == ("UPLOAD_TOO_LONG", 150)
    upload.append(150, DATA[150:])
    assert content(upload) == DATA


def test_no_less_than_declared(desk: UploadDesk) -> None:
    upload = desk.open(declared())
    upload.append(0, DATA[:199])
    with pytest.raises(UploadIncompleteError, match="199 of 200 bytes have arrived"), upload.verified():
        pytest.fail("it is not whole")
    upload.append(199, DATA[199:])
    assert content(upload) == DATA


def test_nothing_else_than_declared(desk: UploadDesk) -> None:
    upload = desk.open(declared())
    upload.append(0, DATA[::-1])
    with pytest.raises(ChecksumError, match="check what computes the SHA-256"), upload.verified():
        pytest.fail("it is something else")


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_no_byte_that_had_arrived(desk: UploadDesk) -> None:
    upload = desk.open(declared())
    upload.append(0, DATA[:100])
    with file_size_limit(150), pytest.raises(LimitError, match="no room to spool") as caught:
        upload.append(100, DATA[100:])
    assert os.strerror(errno.EFBIG) in str(caught.value)
    assert (caught.value.reason_code, upload.committed_bytes) == ("SPOOL_UNAVAILABLE", 100)
    upload.append(100, DATA[100:])
    assert content(upload) == DATA


def test_a_spool_directory_that_is_not_there(later: Later, tmp_path: Path) -> None:
    desk = UploadDesk(3, 1_000, TTL_NS, later, str(tmp_path / "nowhere"))
    with pytest.raises(LimitError, match="set spool_dir") as caught:
        desk.open(declared())
    assert (caught.value.reason_code, len(desk)) == ("SPOOL_UNAVAILABLE", 0)


# --- declarations ---


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        ({"total_bytes": 0}, InvalidError, "INVALID_DECLARATION"),
        ({"total_bytes": -5}, InvalidError, "INVALID_DECLARATION"),
        ({"sha256": b""}, InvalidError, "INVALID_DECLARATION"),
        ({"sha256": bytes(31)}, InvalidError, "INVALID_DECLARATION"),
        ({"upload_id": "a/b"}, InvalidError, "INVALID_UPLOAD_ID"),
        ({"upload_id": "a" * 65}, InvalidError, "INVALID_UPLOAD_ID"),
        ({"upload_id": "a\n"}, InvalidError, "INVALID_UPLOAD_ID"),
        ({"total_bytes": 1_001}, DecodedTooLargeError, "UPLOAD_TOO_LARGE"),
    ],
)
def test_impossible_declarations(
    desk: UploadDesk, wrong: dict[str, Any], error: type[SamplecacheError], reason: str
) -> None:
    with pytest.raises(error) as caught:
        desk.open(dataclasses.replace(declared(), **wrong))
    assert (type(caught.value), caught.value.reason_code, len(desk)) == (error, reason, 0)


def test_the_number_of_uploads_is_limited(desk: UploadDesk) -> None:
    first, second = desk.open(declared()), desk.open(declared("kept"))
    desk.close(second, done=False)
    desk.open(declared())
    assert len(desk) == 3
    with pytest.raises(LimitError, match=r"3 uploads are under way.* raise max_uploads") as caught:
        desk.open(declared())
    assert (caught.value.reason_code, len(desk)) == ("TOO_MANY_UPLOADS", 3)
    assert desk.open(declared("kept")) is second  # it counts already
    desk.close(first, done=False)
    desk.open(declared())
    assert len(desk) == 3


# --- resuming ---


def test_an_interrupted_upload_goes_on_where_it_stood(desk: UploadDesk, tmp_path: Path) -> None:
    upload = desk.open(declared("id"))
    upload.append(0, DATA[:100])
    assert desk.status("id") == (100, 200, False)
    desk.close(upload, done=False)
    assert (desk.status("id"), len(desk), spools(tmp_path)) == ((100, 200, False), 1, 1)
    assert desk.open(declared("id")) is upload
    upload.append(100, DATA[100:])
    assert content(upload) == DATA
    desk.close(upload, done=True)
    assert (desk.status("id"), len(desk), spools(tmp_path)) == ((200, 200, True), 0, 0)


def test_an_upload_without_an_id_is_forgotten(desk: UploadDesk, later: Later, tmp_path: Path) -> None:
    upload = desk.open(declared())
    desk.close(upload, done=False)
    assert (len(desk), spools(tmp_path), later.waiting) == (0, 0, [])
    with pytest.raises(UploadNotFoundError):
        desk.status("")
    with pytest.raises(StateError, match="begin at byte 0"):
        upload.append(0, DATA)


def test_one_stream_at_a_time(desk: UploadDesk) -> None:
    upload = desk.open(declared("id"))
    with pytest.raises(ConflictError, match="under way on another stream") as caught:
        desk.open(declared("id"))
    assert (caught.value.reason_code, len(desk)) == ("UPLOAD_IN_USE", 1)
    upload.append(0, DATA)


@pytest.mark.parametrize("change", [{"tags": ("a",)}, {"sample_id": "snare"}, {"replace": True}, {"total_bytes": 199}])
def test_resuming_needs_the_same_declaration(desk: UploadDesk, change: dict[str, Any]) -> None:
    other = dataclasses.replace(declared("id"), **change)
    upload = desk.open(declared("id"))
    desk.close(upload, done=False)
    with pytest.raises(ConflictError, match="declared otherwise") as caught:
        desk.open(other)
    assert caught.value.reason_code == "UPLOAD_DECLARED_OTHERWISE"
    assert desk.open(declared("id")) is upload
    desk.close(upload, done=True)
    with pytest.raises(ConflictError, match="declared otherwise"):
        desk.finished(other)


def test_a_suspended_upload_expires(desk: UploadDesk, later: Later, tmp_path: Path) -> None:
    desk.close(desk.open(declared("id")), done=False)
    later.advance(TTL_NS - 1)
    assert desk.status("id") == (0, 200, False)
    later.advance(1)
    with pytest.raises(UploadNotFoundError, match="Begin anew"):
        desk.status("id")
    assert (len(desk), spools(tmp_path)) == (0, 0)


def test_an_upload_does_not_expire_while_it_is_sent(desk: UploadDesk, later: Later) -> None:
    upload = desk.open(declared("id"))
    desk.close(upload, done=False)
    desk.open(declared("id"))
    later.advance(TTL_NS)
    upload.append(0, DATA)
    assert content(upload) == DATA


def test_an_upload_suspended_again_has_all_its_time_again(desk: UploadDesk, later: Later) -> None:
    upload = desk.open(declared("id"))
    desk.close(upload, done=False)
    later.advance(TTL_NS - 1)
    desk.open(declared("id"))
    desk.close(upload, done=False)
    later.advance(TTL_NS - 1)
    assert desk.open(declared("id")) is upload
    desk.close(upload, done=False)
    later.advance(TTL_NS)
    assert len(desk) == 0


def test_a_finished_upload_is_remembered_for_a_while(desk: UploadDesk, later: Later) -> None:
    assert not desk.finished(declared("id"))
    assert not desk.finished(declared())
    upload = desk.open(declared("id"))
    assert not desk.finished(declared("id"))
    desk.close(upload, done=True)
    desk.close(upload, done=True)
    assert desk.finished(declared("id"))
    later.advance(TTL_NS)
    assert not desk.finished(declared("id"))
    assert later.waiting == []


def test_a_finished_upload_may_be_begun_anew(desk: UploadDesk, later: Later) -> None:
    desk.close(desk.open(declared("id")), done=True)
    later.advance(TTL_NS // 2)
    desk.close(desk.open(declared("id")), done=True)
    later.advance(TTL_NS // 2)
    assert desk.finished(declared("id"))  # the time of the first one does not end that of the second
    later.advance(TTL_NS // 2)
    assert not desk.finished(declared("id"))


def test_an_upload_that_is_finished_after_its_stream_was_cut_off_is_done(desk: UploadDesk, later: Later) -> None:
    upload = desk.open(declared("id"))
    upload.append(0, DATA)
    desk.close(upload, done=False)
    desk.close(upload, done=True)
    assert (desk.status("id"), len(desk)) == ((200, 200, True), 0)
    later.advance(TTL_NS)
    assert not desk.finished(declared("id"))


def test_a_discarded_upload_does_not_come_back(desk: UploadDesk, later: Later, tmp_path: Path) -> None:
    upload = desk.open(declared("id"))
    upload.append(0, DATA)
    desk.discard(upload)
    desk.close(upload, done=False)
    assert (len(desk), spools(tmp_path), later.waiting) == (0, 0, [])
    fresh = desk.open(declared("id"))
    assert fresh is not upload
    assert fresh.committed_bytes == 0


# --- cancelling ---


def test_cancelling(desk: UploadDesk, tmp_path: Path) -> None:
    upload = desk.open(declared("id"))
    with pytest.raises(StateError, match="Cancel the stream") as caught:
        desk.cancel("id")
    assert caught.value.reason_code == "UPLOAD_IN_USE"
    desk.close(upload, done=False)
    desk.cancel("id")
    assert (len(desk), spools(tmp_path)) == (0, 0)
    with pytest.raises(UploadNotFoundError):
        desk.cancel("id")
    desk.close(desk.open(declared("id")), done=True)
    desk.cancel("id")
    assert not desk.finished(declared("id"))
    for nobody in ("", "id", "x" * 1_000_000):
        with pytest.raises(UploadNotFoundError) as not_found:
            desk.cancel(nobody)
        assert len(str(not_found.value)) < 300


# --- threads that were left at work ---


def test_a_spool_stays_open_until_the_thread_that_reads_it_is_done(desk: UploadDesk, tmp_path: Path) -> None:
    upload = desk.open(declared())
    upload.append(0, DATA)
    reading, gate = threading.Event(), threading.Event()
    got: list[bytes] = []

    def ingest() -> None:
        with upload.verified() as fd:
            reading.set()
            passes(gate)
            got.append(os.read(fd, 1_000))

    thread = threading.Thread(target=ingest)
    thread.start()
    passes(reading)
    desk.close(upload, done=False)  # the call was cancelled; it does not wait
    assert (len(desk), spools(tmp_path)) == (0, 1)
    gate.set()
    thread.join(20)
    assert (got, spools(tmp_path)) == ([DATA], 0)


def test_two_threads_that_send_the_same_chunk_add_it_once(desk: UploadDesk) -> None:
    upload = desk.open(declared("id"))
    outcomes: list[str] = []
    start = threading.Barrier(2)

    def send() -> None:
        start.wait(20)
        for offset in range(0, 200, 10):
            try:
                upload.append(offset, DATA[offset : offset + 10])
            except UploadOffsetError:
                continue
            outcomes.append("taken")

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(outcomes), upload.committed_bytes) == (20, 200)
    assert content(upload) == DATA
