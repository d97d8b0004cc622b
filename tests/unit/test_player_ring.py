"""What goes into the ring comes out of it, once, in order."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecache.clock import NS_PER_S
from samplecache.errors import InvalidError
from samplecache_player import FrameRing, Wake

LONG_NS = 60 * NS_PER_S


def numbered(start: int, stop: int) -> np.ndarray:
    return np.arange(2 * start, 2 * stop, dtype=np.int32).reshape(-1, 2)


@given(
    capacity=st.integers(1, 40),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=60),
)
def test_frames_come_out_once_and_in_order(capacity: int, steps: list[tuple[bool, int]]) -> None:
    ring = FrameRing(capacity, 2, np.int32)
    written = read = 0
    for writes, frames in steps:
        if writes:
            count = ring.write(numbered(written, written + frames))
            assert count == min(frames, capacity - (written - read))
            written += count
        else:
            out = np.full((frames, 2), -1, np.int32)
            count = ring.read_into(out)
            assert count == min(frames, written - read)
            np.testing.assert_array_equal(out[:count], numbered(read, read + count))
            assert (out[count:] == -1).all()
            read += count
        assert (ring.written_frames, ring.read_frames) == (written, read)
        assert (ring.available_frames, ring.free_frames) == (written - read, capacity - written + read)


def test_two_threads_pass_every_frame() -> None:
    total_frames = 200_000
    ring = FrameRing(1009, 2, np.int32)

    def produce() -> None:
        written = 0
        while written < total_frames:
            if ring.wait_for_space(min(480, total_frames - written), LONG_NS):
                written += ring.write(numbered(written, min(written + 480, total_frames)))

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    out = np.zeros((total_frames, 2), np.int32)
    read = 0
    deadline = time.monotonic() + 60
    while read < total_frames and time.monotonic() < deadline:
        read += ring.read_into(out[read : read + 333])
    producer.join(timeout=60)
    np.testing.assert_array_equal(out, numbered(0, total_frames))


def test_the_producer_is_told_of_room_that_came_before_it_waited() -> None:
    ring = FrameRing(4, 2, np.int32)
    ring.write(numbered(0, 4))
    ring.read_into(np.zeros((2, 2), np.int32))
    assert ring.wait_for_space(2, LONG_NS)


def test_a_full_ring_has_no_room_when_the_time_is_over() -> None:
    ring = FrameRing(4, 2, np.int32)
    ring.write(numbered(0, 4))
    assert not ring.wait_for_space(1, 1)


def test_wake_ends_the_wait_without_room() -> None:
    ring = FrameRing(4, 2, np.int32)
    ring.write(numbered(0, 4))
    room: list[bool] = []
    producer = threading.Thread(target=lambda: room.append(ring.wait_for_space(1, LONG_NS)), daemon=True)
    producer.start()
    ring.wake()
    producer.join(timeout=30)
    assert room == [False]


def test_setting_twice_is_setting_once() -> None:
    wake = Wake()
    wake.set()
    wake.set()
    wake.wait(LONG_NS)
    before = time.monotonic()
    wake.wait(NS_PER_S // 50)
    assert time.monotonic() - before >= 0.019


@pytest.mark.parametrize(("frames", "channels"), [(0, 2), (1, 0)])
def test_a_ring_for_nothing_is_refused(frames: int, channels: int) -> None:
    with pytest.raises(InvalidError, match="Give it one frame"):
        FrameRing(frames, channels, np.int16)
