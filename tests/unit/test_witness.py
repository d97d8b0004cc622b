"""The witness tells by how much a sleeping thread woke late, and in which window."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecache.clock import NS_PER_MS
from samplecache.errors import InvalidError, OutOfRangeError, StateError
from samplecache.witness import WakeHistory, Witness, steal_ns

PERIOD_NS = 5 * NS_PER_MS


class ScriptedClock:
    """Wakes its one sleeper late by each figure in turn; after the last it lets it sleep until released."""

    def __init__(self, *lateness_ns: int) -> None:
        self._lateness_ns: Iterator[int] = iter(lateness_ns)
        self.time_ns = 0
        self.exhausted = threading.Event()
        self.released = threading.Event()

    def now_ns(self) -> int:
        return self.time_ns

    def sleep_until(self, wake_ns: int) -> None:
        late_ns = next(self._lateness_ns, None)
        if late_ns is None:
            self.exhausted.set()
            assert self.released.wait(timeout=60)
        else:
            self.time_ns = max(self.time_ns, wake_ns + late_ns)


@pytest.fixture
def watch() -> Iterator[Callable[..., tuple[Witness, ScriptedClock]]]:
    """Start a witness on one CPU whose wakes are late by the given figures, and wait until it has recorded them."""
    started: list[tuple[Witness, ScriptedClock]] = []

    def start(*lateness_ns: int, history_ns: int = 1000 * NS_PER_MS) -> tuple[Witness, ScriptedClock]:
        clock = ScriptedClock(*lateness_ns)
        witness = Witness({0}, period_ns=PERIOD_NS, history_ns=history_ns, clock=clock)
        witness.start()
        started.append((witness, clock))
        assert clock.exhausted.wait(timeout=60)
        return witness, clock

    yield start
    for witness, clock in started:
        clock.released.set()
        witness.stop()


def ms(figure: float) -> int:
    return round(figure * NS_PER_MS)


def test_lateness_is_told_for_the_window_it_reached_into(watch: Callable[..., tuple[Witness, ScriptedClock]]) -> None:
    # due at 5, 10, 15, 20, 25, 30 ms; woken at 5, 13, 15, 32, 32, 32 ms
    witness, clock = watch(0, ms(3), 0, ms(12), 0, 0)
    assert clock.now_ns() == ms(32)
    assert witness.lateness_between(0, ms(10)) == 0
    assert witness.lateness_between(ms(9), ms(10.5)) == ms(3)
    assert witness.lateness_between(ms(12), ms(13)) == ms(3)
    assert witness.lateness_between(ms(13), ms(20)) == 0
    assert witness.lateness_between(ms(31), ms(32)) == ms(12)
    assert witness.lateness_between(0, ms(32)) == ms(12)
    assert witness.worst_ns == ms(12)


def test_a_stall_counts_once_for_each_period_it_swallowed(watch: Callable[..., tuple[Witness, ScriptedClock]]) -> None:
    witness, _ = watch(ms(12), 0, 0, 0)
    report = witness.report()
    # due at 5, 10, 15 and 20 ms; the first three were woken at 17 ms, the last in time
    assert (report.wakes, report.p50_ns, report.p99_ns, report.worst_ns) == (4, ms(2), ms(12), ms(12))


def test_a_wake_that_is_overdue_counts_before_it_comes(watch: Callable[..., tuple[Witness, ScriptedClock]]) -> None:
    witness, clock = watch(0, 0)  # the next is due at 15 ms
    assert witness.lateness_between(ms(1), ms(40)) == 0
    clock.time_ns = ms(40)
    assert witness.lateness_between(ms(1), ms(40)) == ms(25)
    assert witness.lateness_between(ms(1), ms(15)) == 0


def test_a_forgotten_window_is_an_error_not_a_zero(watch: Callable[..., tuple[Witness, ScriptedClock]]) -> None:
    witness, _ = watch(*[0] * 10, history_ns=4 * PERIOD_NS)  # remembers those due at 35, 40, 45 and 50 ms
    assert witness.lateness_between(ms(35), ms(50)) == 0
    with pytest.raises(OutOfRangeError, match="longer history"):
        witness.lateness_between(ms(34), ms(50))


def test_it_does_not_catch_up_on_more_than_it_remembers(watch: Callable[..., tuple[Witness, ScriptedClock]]) -> None:
    witness, _ = watch(ms(3_600_000), 0, 0, history_ns=4 * PERIOD_NS)
    assert witness.report().wakes == 3
    assert witness.worst_ns == ms(3_600_000)


@given(
    lateness_ns=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    capacity=st.integers(1, 80),
    start_ns=st.integers(0, 700),
    length_ns=st.integers(0, 200),
)
def test_windows_agree_with_a_walk_over_all_wakes(
    lateness_ns: list[int], capacity: int, start_ns: int, length_ns: int
) -> None:
    history = WakeHistory(capacity, start_ns=0, due_ns=10)
    wakes: list[tuple[int, int]] = []
    now_ns = 0
    for late_ns in lateness_ns:
        now_ns = max(now_ns, history.due_ns + late_ns)
        wakes.append((history.due_ns, now_ns))
        history.record(now_ns, history.due_ns + 10)
    stop_ns = start_ns + length_ns
    kept = wakes[-capacity:]
    if start_ns < (0 if len(kept) == len(wakes) else kept[0][0]):
        with pytest.raises(OutOfRangeError):
            history.lateness_between(start_ns, stop_ns, now_ns)
        return
    inside = [woke - due for due, woke in kept if due < stop_ns and woke > start_ns]
    overdue_ns = now_ns - history.due_ns if history.due_ns < stop_ns else 0
    assert history.lateness_between(start_ns, stop_ns, now_ns) == max(0, overdue_ns, *inside, 0)


def test_real_threads_wake_on_their_own_cpus() -> None:
    cpus = os.sched_getaffinity(0)
    with Witness() as witness:
        deadline = time.monotonic() + 60
        while witness.report().wakes < 20 * len(cpus) and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        pinned = {
            status.split("Cpus_allowed_list:\t")[1].split("\n")[0]
            for thread in threading.enumerate()
            if thread.name.startswith("witness-")
            for status in [Path(f"/proc/self/task/{thread.native_id}/status").read_text(encoding="ascii")]
        }
    report = witness.report()
    assert pinned == {str(cpu) for cpu in cpus}
    assert report.cpus == len(cpus)
    assert report.wakes >= 20 * len(cpus)
    assert 0 < report.p50_ns <= report.p99_ns <= report.p999_ns <= report.worst_ns == witness.worst_ns
    assert 0 < report.cost_ns < report.wakes * PERIOD_NS
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("witness-")]


def test_steal_time_never_goes_back() -> None:
    first, second = steal_ns(), steal_ns()
    if first is None or second is None:
        pytest.skip("this kernel has no /proc/stat with steal time")
    assert 0 <= first <= second


def test_it_starts_once() -> None:
    with Witness({min(os.sched_getaffinity(0))}) as witness, pytest.raises(StateError, match="Make a new one"):
        witness.start()


def test_it_says_nothing_before_it_started() -> None:
    with pytest.raises(OutOfRangeError, match="Start it before the work"):
        Witness().lateness_between(0, 1)


@pytest.mark.parametrize("wrong", [{"cpus": ()}, {"period_ns": 0}, {"period_ns": 2, "history_ns": 1}])
def test_a_witness_that_could_see_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidError, match="Name one CPU"):
        Witness(**wrong)  # type: ignore[arg-type]
