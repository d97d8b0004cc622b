"""Blocks serialised by hand are what protobuf would have made of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecache.service.wire import block_message, block_messages, passing_bytes
from samplecache.v1 import playback_pb2


def as_protobuf_does(frame_offset: int, pcm: bytes) -> bytes:
    block = playback_pb2.PlayBlock(frame_offset=frame_offset, pcm=pcm)
    return playback_pb2.PlayResponse(block=block).SerializeToString()


@pytest.mark.parametrize(
    "frame_offset", [0, 1, *(edge + off for edge in (1 << 7, 1 << 14, 1 << 21, 1 << 28, 1 << 63) for off in (-1, 0, 1))]
)
@pytest.mark.parametrize("pcm_bytes", [0, 1, 127, 128, 3840, 65_536])
def test_a_block_is_serialised_as_protobuf_does(frame_offset: int, pcm_bytes: int) -> None:
    pcm = bytes(range(256)) * (pcm_bytes // 256 + 1)
    for given_as in (bytes, bytearray, memoryview):
        assert block_message(frame_offset, given_as(pcm[:pcm_bytes])) == as_protobuf_does(frame_offset, pcm[:pcm_bytes])


@given(
    first=st.one_of(st.just(0), st.integers(0, 1 << 40)),
    frames=st.integers(1, 300),
    block_frames=st.integers(1, 100),
    frame_bytes=st.integers(1, 16),
)
def test_blocks_in_one_piece_are_serialised_one_by_one(
    first: int, frames: int, block_frames: int, frame_bytes: int
) -> None:
    pcm = bytes(number % 251 for number in range(frames * frame_bytes))
    step = block_frames * frame_bytes
    assert block_messages(range(first, first + frames), block_frames, frame_bytes, pcm) == [
        as_protobuf_does(first + at // frame_bytes, pcm[at : at + step]) for at in range(0, len(pcm), step)
    ]


def test_what_is_bytes_is_serialised_already() -> None:
    serialise = passing_bytes(playback_pb2.PlayResponse.SerializeToString)
    assert serialise is not None
    assert serialise(b"ready") == b"ready"
    seeked = playback_pb2.PlayResponse(seeked=playback_pb2.PlaySeeked(frame=5))
    assert serialise(seeked) == seeked.SerializeToString()
    assert passing_bytes(None) is None
