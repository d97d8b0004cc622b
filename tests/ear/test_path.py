"""Which frames a cue plays: parts, loops and seeks."""

from __future__ import annotations

import pytest

from samplecache.clock import NS_PER_S
from samplecache.errors import InvalidError
from samplecache.lab.ear.path import path
from samplecache.lab.workload import Cue, Seek

SECOND = 48_000


@pytest.mark.parametrize(
    ("cue", "spans"),
    [
        (Cue("a", 0), ((0, 3 * SECOND),)),
        (Cue("a", 0, frames=100), ((0, 100),)),
        (Cue("a", 0, start_frame=50, frames=100), ((50, 150),)),
        (Cue("a", 0, start_frame=SECOND, plays_ns=NS_PER_S), ((SECOND, 2 * SECOND),)),
        (Cue("a", 0, start_frame=10, frames=SECOND // 2, loop=True, plays_ns=NS_PER_S), ((10, 24_010),) * 2),
        (Cue("a", 0, loop=True, plays_ns=4 * NS_PER_S), ((0, 3 * SECOND), (0, SECOND))),
        (Cue("a", 0, seeks=(Seek(NS_PER_S, 2 * SECOND),)), ((0, SECOND), (2 * SECOND, 3 * SECOND))),
        (Cue("a", 0, frames=SECOND, seeks=(Seek(2 * NS_PER_S, 0),)), ((0, SECOND),)),
        (Cue("a", 0, seeks=(Seek(0, SECOND), Seek(NS_PER_S, 7))), ((SECOND, 2 * SECOND), (7, 3 * SECOND))),
    ],
)
def test_path(cue: Cue, spans: tuple[tuple[int, int], ...]) -> None:
    assert path(cue, 3 * SECOND).spans == spans


def test_seeks_come_after_frames_heard_and_those_past_the_end_never() -> None:
    cue = Cue("a", 0, plays_ns=2 * NS_PER_S, seeks=(Seek(NS_PER_S, 5), Seek(3 * NS_PER_S, 9)))
    assert path(cue, 3 * SECOND).seeks == ((SECOND, 5),)


def test_pages_are_counted_once() -> None:
    cue = Cue("a", 0, frames=2048, loop=True, plays_ns=NS_PER_S)
    assert path(cue, 3 * SECOND).pages(4, 4096) == 2
    assert path(Cue("a", 0, start_frame=1023, frames=2), SECOND).pages(4, 4096) == 2


@pytest.mark.parametrize("cue", [Cue("a", 0, start_frame=5), Cue("a", 0, seeks=(Seek(0, 9),))])
def test_frames_that_are_not_there_are_refused(cue: Cue) -> None:
    with pytest.raises(InvalidError, match=r"Stay below frame 5\."):
        path(cue, 5)
