"""The card takes what is in real pipes, in real time, and says what was missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from waiting import wait_until

from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.errors import StateError
from samplecache.lab.ear.accounting import PIPE_BYTES, gaps
from samplecache.lab.ear.card import Card, open_inlet
from samplecache.lab.ear.card_process import PERIOD_NS
from samplecache.lab.ear.pipes import Outlet
from samplecache.lab.ear.unmixing import Pcm
from samplecache.witness import Witness

CLOCK = MonotonicClock()


def numbers(start: int, stop: int) -> Pcm:
    """Frames that are all different."""
    return np.arange(2 * start, 2 * stop, dtype=np.int16).reshape(-1, 2)


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has no command line."""
    file = Path(f"/proc/{pid}/cmdline")
    return not file.exists() or not file.read_bytes()


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    return path


def test_writers_of_any_size_are_in_time_with_a_pipe_of_one_page(pipe: str) -> None:
    with Card() as card:
        heard = card.plug(open_inlet(pipe), 9600)
        with Outlet(pipe) as outlet:
            began_ns = CLOCK.now_ns()
            for start, stop in ((0, 1024), (1024, 2048), (2048, 2528), (2528, 9600)):
                outlet.write(numbers(start, stop))
            took_ns = CLOCK.now_ns() - began_ns
        wait_until(lambda: heard.frames == 9600)
        np.testing.assert_array_equal(heard.pcm, numbers(0, 9600))
        periods = heard.periods
    assert took_ns > 100 * NS_PER_MS  # 200 ms of sound, less what a page and a period hold
    assert np.diff([period.due_ns for period in periods]).tolist() == [PERIOD_NS] * (len(periods) - 1)
    # A machine that stalls may make gaps here; that whole pages alone make one each period may not be.
    assert len(gaps(periods, 0)) < 10


def test_a_writer_that_stalls_is_heard_as_one_gap_where_it_stalled(pipe: str) -> None:
    with Card() as card:
        heard = card.plug(open_inlet(pipe), 1500)
        with Outlet(pipe) as outlet:
            outlet.write(numbers(0, 1000))
            wait_until(lambda: heard.frames == 1000 and heard.periods[-1].missing_frames)
            outlet.write(numbers(1000, 1500))
            wait_until(lambda: heard.frames == 1500)
        np.testing.assert_array_equal(heard.pcm, numbers(0, 1500))
        assert 1000 in [gap.at_frame for gap in gaps(heard.periods, 0)]


def test_a_mix_is_due_all_the_time(pipe: str) -> None:
    with Card() as card:
        heard = card.plug(open_inlet(pipe), None)
        wait_until(lambda: len(heard.periods) >= 2)
        with Outlet(pipe) as outlet:
            outlet.write(numbers(0, 480))
            wait_until(lambda: heard.frames == 480)
        assert heard.periods[0].missing_frames == 480


def test_a_card_is_late_by_no_more_than_the_machine(pipe: str) -> None:
    """Nothing that this interpreter does keeps it from its periods; only a machine that stalls does."""
    with Card() as card, Witness() as witness:
        start_ns = CLOCK.now_ns()
        heard = card.plug(open_inlet(pipe), None)
        while CLOCK.now_ns() < start_ns + 200 * NS_PER_MS:
            sum(range(1000))  # holds the GIL
        stop_ns = CLOCK.now_ns()
        wait_until(lambda: heard.periods and heard.periods[-1].due_ns >= stop_ns)
        late_ns = card.late_between(start_ns, stop_ns)
        assert 0 < late_ns <= max(5 * NS_PER_MS, 2 * witness.lateness_between(start_ns, stop_ns))
        assert card.late_between(stop_ns + NS_PER_S, stop_ns + 2 * NS_PER_S) == 0


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
            card.plug(fd, 480 * 8)
            writer.join()


def test_stopping_ends_writers_and_closes_all(pipe: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Card() as card:
        card.plug(open_inlet(pipe), 10_000)
        outlet = Outlet(pipe)
    with pytest.raises(BrokenPipeError), outlet:
        outlet.write(numbers(0, 480))
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_unplugged_is_closed_and_the_card_goes_on(pipe: str) -> None:
    with Card() as card:
        card.plug(open_inlet(pipe), 10_000)
        outlet = Outlet(pipe)
        card.unplug()
        with pytest.raises(BrokenPipeError), outlet:
            outlet.write(numbers(0, 480))
        heard = card.plug(open_inlet(pipe), 480)
        with Outlet(pipe) as outlet:
            outlet.write(numbers(0, 480))
            wait_until(lambda: heard.frames == 480)


def test_a_card_that_has_died_is_told(pipe: str) -> None:
    def failed() -> bool:
        try:
            card.check()
        except StateError:
            return True
        return False

    with Card() as card:
        heard = card.plug(open_inlet(pipe), None)
        wait_until(lambda: heard.periods)
        card.check()
        os.kill(card.pid, signal.SIGKILL)
        wait_until(failed)
        with pytest.raises(StateError, match=r"the virtual sound card has failed: status -9"):
            card.check()
        with pytest.raises(StateError, match="the virtual sound card has failed"):
            card.plug(open_inlet(pipe), None)


def test_a_card_ends_with_whoever_started_it() -> None:
    script = (
        "from samplecache.lab.ear.card import Card\ncard = Card().__enter__()\nprint(card.pid, flush=True)\ninput()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    wait_until(lambda: gone(pid))
