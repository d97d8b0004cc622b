"""The card takes what is in real pipes, in real time, and says what was missing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from waiting import wait_until

from samplecache.clock import NS_PER_MS, MonotonicClock
from samplecache.errors import StateError
from samplecache.lab.ear.accounting import PIPE_BYTES, CueEar
from samplecache.lab.ear.card import Card, open_inlet
from samplecache.lab.ear.pipes import Outlet
from samplecache.lab.ear.unmixing import Pcm

CLOCK = MonotonicClock()


def numbers(start: int, stop: int) -> Pcm:
    """Frames that are all different."""
    return np.arange(2 * start, 2 * stop, dtype=np.int16).reshape(-1, 2)


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    return path


def test_writers_of_any_size_are_in_time_with_a_pipe_of_one_page(pipe: str) -> None:
    with Card() as card:
        fd, ear = open_inlet(pipe), CueEar(9600)
        card.plug(fd, ear)
        with Outlet(pipe) as outlet:
            began_ns = CLOCK.now_ns()
            for start, stop in ((0, 1024), (1024, 2048), (2048, 2528), (2528, 9600)):
                outlet.write(numbers(start, stop))
            took_ns = CLOCK.now_ns() - began_ns
        wait_until(lambda: ear.complete)
        np.testing.assert_array_equal(card.recording(fd), numbers(0, 9600))
    assert took_ns > 100 * NS_PER_MS  # 200 ms of sound, less what a page and a period hold
    # A machine that stalls may make gaps here; that whole pages alone make one each period may not be.
    assert len(ear.glitches(0)) < 10


def test_a_writer_that_stalls_is_heard_as_one_gap_where_it_stalled(pipe: str) -> None:
    with Card() as card:
        fd, ear = open_inlet(pipe), CueEar(1500)
        card.plug(fd, ear)
        with Outlet(pipe) as outlet:
            outlet.write(numbers(0, 1000))
            wait_until(lambda: ear.heard_frames == 1000 and ear.periods[-1].missing_frames)
            outlet.write(numbers(1000, 1500))
            wait_until(lambda: ear.complete)
        np.testing.assert_array_equal(card.recording(fd), numbers(0, 1500))
    assert 1000 in [gap.at_frame for gap in ear.glitches(0)]


def test_a_writer_never_gets_further_ahead_than_a_page_and_a_period(pipe: str) -> None:
    fd = open_inlet(pipe)
    with Outlet(pipe) as outlet:
        written: list[int] = []

        def write() -> None:
            for number in range(8):
                outlet.write(numbers(480 * number, 480 * (number + 1)))
                written.append(number)

        writer = threading.Thread(target=write)
        writer.start()
        wait_until(lambda: len(written) * 1920 > PIPE_BYTES - 1920)
        assert len(written) == 2
        with Card() as card:
            card.plug(fd, CueEar(480 * 8))
            writer.join()


def test_stopping_ends_writers_and_closes_all(pipe: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Card() as card:
        card.plug(open_inlet(pipe), CueEar(10_000))
        outlet = Outlet(pipe)
    with pytest.raises(BrokenPipeError), outlet:
        outlet.write(numbers(0, 480))
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_ends_the_cards_thread_is_told(pipe: str) -> None:
    class Broken:
        def take(self, due_ns: int, available_frames: int) -> int:
            raise ValueError("broken")

    def failed() -> bool:
        try:
            card.check()
        except StateError:
            return True
        return False

    with Card() as card:
        card.plug(open_inlet(pipe), Broken())
        wait_until(failed)
        with pytest.raises(StateError) as raised:
            card.check()
    assert isinstance(raised.value.__cause__, ValueError)
