"""Workers take the nearest deadline first and are never idle while there is something to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from cache_parts import passes, until

from samplecache.cache.tasks.work import Agenda, WorkQueue
from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock

CLOCK = MonotonicClock()


@pytest.fixture
def done() -> list[str]:
    return []


@pytest.fixture
def held() -> Iterator[tuple[WorkQueue, threading.Event]]:
    """A queue whose one worker waits until the event is set."""
    with WorkQueue(1, CLOCK) as queue:
        busy, gate = threading.Event(), threading.Event()

        def wait() -> None:
            busy.set()
            passes(gate)

        queue.submit(wait, 0)
        passes(busy)
        yield queue, gate
        gate.set()


def note(done: list[str], what: str) -> Callable[[], None]:
    return lambda: done.append(what)


def test_the_nearest_deadline_goes_first_and_equals_in_their_order(
    held: tuple[WorkQueue, threading.Event], done: list[str]
) -> None:
    queue, gate = held
    for deadline_ns, what in ((50, "c"), (10, "a"), (50, "d"), (-5, "overdue"), (10, "b")):
        queue.submit(note(done, what), deadline_ns)
    gate.set()
    until(lambda: len(done) == 5)
    assert done == ["overdue", "a", "b", "c", "d"]


def test_what_is_left_of_a_piece_waits_its_turn(held: tuple[WorkQueue, threading.Event], done: list[str]) -> None:
    queue, gate = held

    def chunk(name: str, number: int, deadline_ns: int) -> Callable[[], None]:
        def do() -> None:
            done.append(f"{name}{number}")
            if number < 3:
                queue.submit(chunk(name, number + 1, deadline_ns + 10), deadline_ns + 10)

        return do

    queue.submit(chunk("a", 1, 10), 10)
    queue.submit(chunk("b", 1, 15), 15)
    gate.set()
    until(lambda: len(done) == 6)
    assert done == ["a1", "b1", "a2", "b2", "a3", "b3"]


def test_work_for_later_is_done_then_and_not_before(done: list[str]) -> None:
    with WorkQueue(2, CLOCK) as queue:
        asked_ns = CLOCK.now_ns()
        times_ns: list[int] = []
        for delay_ns in (40 * NS_PER_MS, 20 * NS_PER_MS):
            queue.call_at(lambda: times_ns.append(CLOCK.now_ns()), asked_ns + delay_ns)
        until(lambda: len(times_ns) == 2)
    assert times_ns[0] - asked_ns >= 20 * NS_PER_MS
    assert times_ns[1] - asked_ns >= 40 * NS_PER_MS


def test_what_has_come_due_goes_ahead_of_deadlines_after_it(
    held: tuple[WorkQueue, threading.Event], done: list[str]
) -> None:
    queue, gate = held
    now_ns = CLOCK.now_ns()
    queue.submit(note(done, "far"), now_ns + 3600 * NS_PER_S)
    queue.submit(note(done, "overdue"), now_ns - NS_PER_S)
    queue.call_at(note(done, "due"), now_ns)
    gate.set()
    until(lambda: len(done) == 3)
    assert done == ["overdue", "due", "far"]


def test_an_earlier_time_is_kept_though_a_later_one_is_waited_for(done: list[str]) -> None:
    with WorkQueue(1, CLOCK) as queue:
        queue.call_at(note(done, "later"), CLOCK.now_ns() + 3600 * NS_PER_S)
        queue.call_at(note(done, "soon"), CLOCK.now_ns() + 10 * NS_PER_MS)
        until(lambda: done)
    assert done == ["soon"]


def test_workers_work_side_by_side() -> None:
    with WorkQueue(3, CLOCK) as queue:
        meet = threading.Barrier(3)
        met: list[int] = []
        for _ in range(3):
            queue.submit(lambda: met.append(meet.wait(20)), 0)
        until(lambda: len(met) == 3)


def test_nothing_waits_while_a_worker_is_idle() -> None:
    """Work and times arrive from many threads at once; all but one worker are kept busy with something long."""
    with WorkQueue(2, CLOCK) as queue:
        for _ in range(50):
            gate, finished = threading.Event(), threading.Semaphore(0)
            now_ns = CLOCK.now_ns()
            queue.call_at(lambda gate=gate: passes(gate), now_ns + NS_PER_MS)  # type: ignore[misc]
            for number in range(4):
                queue.call_at(finished.release, now_ns + number * NS_PER_MS // 2)
                queue.submit(finished.release, now_ns)
            for _ in range(8):
                assert finished.acquire(timeout=20)
            gate.set()


def test_what_a_worker_submits_wakes_nobody_as_long_as_it_can_do_it_itself() -> None:
    """Each that is woken waits for the GIL, which the one that is at work has."""
    with WorkQueue(3, CLOCK) as queue:
        by: list[int] = []
        finished = threading.Event()

        def again() -> None:
            by.append(threading.get_ident())
            if len(by) < 50:
                queue.submit(again, 0)
            else:
                finished.set()

        queue.submit(again, 0)
        passes(finished)
        assert len(set(by)) == 1


def test_what_a_worker_submits_is_done_side_by_side_all_the_same() -> None:
    with WorkQueue(3, CLOCK) as queue:
        meet = threading.Barrier(3)
        met: list[int] = []

        def several() -> None:
            for _ in range(3):
                queue.submit(lambda: met.append(meet.wait(20)), 0)

        queue.submit(several, 0)
        until(lambda: len(met) == 3)


def test_a_piece_that_fails_takes_no_worker_with_it(done: list[str]) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with WorkQueue(1, CLOCK) as queue:
        for _ in range(5):
            queue.submit(fail, 0)
        queue.submit(note(done, "next"), 0)
        until(lambda: done)


def test_what_failed_is_logged_without_looking_at_its_variables(capsys: pytest.CaptureFixture[str]) -> None:
    looked = threading.Event()

    class Busy(set[int]):
        """Something that another thread is changing."""

        def __repr__(self) -> str:
            looked.set()
            raise RuntimeError("Set changed size during iteration")

    def fail() -> None:
        busy = Busy()
        raise ZeroDivisionError(f"{len(busy)} left")

    with WorkQueue(1, CLOCK) as queue:
        failed = threading.Event()
        queue.submit(fail, 0)
        queue.submit(failed.set, 1)
        passes(failed)
    assert "ZeroDivisionError: 0 left" in capsys.readouterr().out
    assert not looked.is_set()


def test_closing_waits_for_what_has_begun_and_forgets_the_rest(done: list[str]) -> None:
    queue = WorkQueue(1, CLOCK)
    busy, gate = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        passes(gate)
        done.append("begun")

    queue.submit(work, 0)
    passes(busy)
    queue.submit(note(done, "waiting"), 0)
    queue.call_at(note(done, "later"), 0)
    closer = threading.Thread(target=queue.close)
    closer.start()
    gate.set()
    closer.join(20)
    assert not closer.is_alive()
    assert done == ["begun"]
    queue.submit(note(done, "too late"), 0)
    queue.call_at(note(done, "too late"), 0)
    queue.close()
    assert done == ["begun"]


def test_what_is_more_urgent_goes_first_whatever_the_deadlines() -> None:
    agenda = Agenda()
    done: list[str] = []

    def work(name: str) -> Callable[[], None]:
        return lambda: done.append(name)

    agenda.submit(work("shed"), 1, urgency=-1)
    agenda.submit(work("far"), 9)
    agenda.call_at(work("timed"), 7)
    agenda.submit(work("near"), 5)
    agenda.submit(work("first"), 10, urgency=1)
    while (piece := agenda.take(8)) is not None:
        piece()
    assert done == ["first", "near", "timed", "far", "shed"]
