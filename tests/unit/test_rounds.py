"""What is wanted at about the same time is done in one go, never before its time, and late by a sixteenth at most."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecache.cache.tasks.rounds import Rounds
from samplecache.cache.tasks.work import Work
from samplecache.clock import NS_PER_MS, NS_PER_S, VirtualClock

DONE: Iterable[None] = ()


class Alarm:
    """Keeps what is to be done, and when."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.set: list[tuple[int, Work]] = []
        self.rounds = Rounds(self.clock, lambda work, time_ns: self.set.append((time_ns, work)))

    def ring(self) -> None:
        """Do everything in its order."""
        for time_ns, work in sorted(self.set, key=lambda each: each[0]):
            self.clock.sleep_until(time_ns)
            for _ in work() or ():
                pass


def noting(done: list[str], what: str) -> Callable[[], None]:
    return lambda: done.append(what)


@given(st.lists(st.integers(-NS_PER_S, 10 * NS_PER_S), max_size=50))
def test_never_too_soon_and_little_too_late(delays_ns: list[int]) -> None:
    alarm, late_ns = Alarm(), {}

    def note(number: int, time_ns: int) -> None:
        late_ns[number] = alarm.clock.now_ns() - time_ns

    alarm.clock.sleep_until(NS_PER_S)
    for number, delay_ns in enumerate(delays_ns):
        time_ns = NS_PER_S + delay_ns
        alarm.rounds.call_after(lambda number=number, time_ns=time_ns: note(number, time_ns), time_ns)  # type: ignore[misc]
    alarm.ring()
    assert sorted(late_ns) == list(range(len(delays_ns)))
    for number, delay_ns in enumerate(delays_ns):
        if delay_ns >= 0:
            assert 0 <= late_ns[number] <= delay_ns / 16


def test_a_hundred_sessions_a_second_wake_a_worker_some_thirty_times() -> None:
    alarm = Alarm()
    for session in range(100):
        alarm.clock.sleep_until(session * 10 * NS_PER_MS)
        alarm.rounds.call_after(lambda: None, alarm.clock.now_ns() + NS_PER_S)
    assert len(alarm.set) == 31


def test_in_the_order_in_which_they_were_asked_for_and_what_they_wait_for_is_passed_on() -> None:
    alarm, done = Alarm(), []
    alarm.rounds.call_after(lambda: (done.append("first"), DONE)[1], NS_PER_S)  # type: ignore[func-returns-value]
    alarm.rounds.call_after(noting(done, "second"), NS_PER_S - NS_PER_MS)
    alarm.ring()
    assert len(alarm.set) == 1
    assert done == ["first", "second"]


def test_one_that_fails_keeps_no_other_from_its_turn(capsys: pytest.CaptureFixture[str]) -> None:
    alarm, done = Alarm(), list[str]()

    def fail() -> None:
        raise ZeroDivisionError

    alarm.rounds.call_after(fail, NS_PER_S)
    alarm.rounds.call_after(noting(done, "next"), NS_PER_S)
    alarm.ring()
    assert done == ["next"]


def test_what_is_asked_for_in_a_round_is_done_in_a_later_one() -> None:
    alarm, done = Alarm(), list[str]()
    alarm.rounds.call_after(lambda: alarm.rounds.call_after(noting(done, "again"), alarm.clock.now_ns()), NS_PER_S)
    alarm.ring()
    assert done == []
    alarm.set = alarm.set[1:]
    alarm.ring()
    assert done == ["again"]
