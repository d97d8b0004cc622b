"""What is looked at regularly is looked at as long as there is reason to, whatever a look comes to."""

from __future__ import annotations

from collections.abc import Callable

from samplecache.cache.tasks.looks import RETRY_NS, Looks
from samplecache.clock import VirtualClock


class Bench:
    """Looks that return, or raise, what a test has set for each."""

    def __init__(self, *answers: int | Exception | None) -> None:
        self.clock = VirtualClock()
        self.answers = list(answers)
        self.agenda: list[tuple[int, Callable[[], None]]] = []
        self.looked_ns: list[int] = []
        self.during: Callable[[], None] = lambda: None
        self.looks = Looks(self.clock, lambda work, time_ns: self.agenda.append((time_ns, work)), self.look)

    def look(self) -> int | None:
        self.looked_ns.append(self.clock.now_ns())
        self.during()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(self) -> list[int]:
        while self.agenda:
            time_ns, work = self.agenda.pop(0)
            self.clock.sleep_until(max(time_ns, self.clock.now_ns()))
            work()
        return self.looked_ns


def test_looks_go_on_until_there_is_no_reason_and_begin_anew() -> None:
    bench = Bench(20, 30, None, None)
    bench.looks.begin(10)
    assert bench.run() == [10, 20, 30]
    bench.looks.begin(40)
    assert bench.run() == [10, 20, 30, 40]


def test_there_is_one_look_at_a_time_however_often_it_is_begun() -> None:
    bench = Bench(20, None)
    for _ in range(3):
        bench.looks.begin(10)
    assert len(bench.agenda) == 1
    assert bench.run() == [10, 20]


def test_what_begins_during_the_last_look_is_looked_at() -> None:
    bench = Bench(None, None)
    bench.looks.begin(10)

    def begin_once() -> None:
        bench.during = lambda: None
        bench.looks.begin(15)

    bench.during = begin_once
    assert bench.run() == [10, 15]


def test_a_look_that_fails_is_taken_again() -> None:
    bench = Bench(ValueError("nobody thought of it"), 5 + RETRY_NS + 1, None)
    bench.looks.begin(5)
    assert bench.run() == [5, 5 + RETRY_NS, 5 + RETRY_NS + 1]
