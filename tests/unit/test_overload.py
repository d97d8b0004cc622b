"""Who is shed, who is kept, and how long a reader of a shed session waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecache.cache.device.overload import KEEP, PATIENCE_NS, Stream, has_room, shed
from samplecache.cache.device.shedding import Place

STREAMS = [Stream(100, opened) for opened in range(1, 6)]


@pytest.mark.parametrize(
    ("capacity", "expected"),
    [
        (None, "....."),
        (10_000, "....."),
        (477, "....."),  # needed is within what is known to a few percent
        (476, "....x"),
        (334, "..xxx" if 334 * KEEP < 300.0 else "...xx"),
        (112, ".xxxx"),
        (1, ".xxxx"),  # the first is always kept
    ],
)
def test_those_that_came_last_are_shed(capacity: int | None, expected: str) -> None:
    assert shed(STREAMS, capacity) == [each == "x" for each in expected]


def test_those_that_are_shed_stay_so_until_there_is_room_and_something_to_spare() -> None:
    streams = [Stream(100, 2), Stream(100, 1, shed=True)]
    assert shed(streams, None) == [False, True]
    assert shed(streams, 223) == [False, True]
    assert shed(streams, 249) == [False, True]
    assert shed(streams, 250) == [False, False]


def test_one_that_plays_clean_although_it_is_shed_comes_back() -> None:
    assert shed([Stream(100, 1), Stream(100, 2, shed=True, recovered=True)], 120) == [False, False]


def test_what_cannot_yield_is_not_shed_and_takes_its_room_first() -> None:
    streams = [Stream(100, 1), Stream(100, 2), Stream(300, 3, can_yield=False)]
    assert shed(streams, 450) == [False, True, False]


def test_who_comes_later_needs_room() -> None:
    streams = [Stream(100, 1), Stream(100, 2, shed=True)]
    assert has_room(streams, 100, None)
    assert has_room(streams, 100, 223)
    assert not has_room(streams, 100, 222)


_streams = st.lists(
    st.builds(Stream, st.integers(1, 1000), st.integers(1, 99), st.booleans(), st.just(False), st.just(True)),
    min_size=1,
)


@given(_streams, st.integers(1, 20_000))
def test_what_is_kept_fits_or_is_only_one(streams: list[Stream], capacity: int) -> None:
    verdicts = shed(streams, capacity)
    kept = [stream.bytes_per_s for stream, verdict in zip(streams, verdicts, strict=True) if not verdict]
    assert len(kept) == 1 or sum(kept) <= capacity * 1.05
    # Who was not shed is not shed to make room for one who was.
    if any(stream.shed and not verdict for stream, verdict in zip(streams, verdicts, strict=True)):
        smallest = min(stream.bytes_per_s for stream in streams if stream.shed)
        worse = [s.bytes_per_s for s, verdict in zip(streams, verdicts, strict=True) if verdict and not s.shed]
        assert all(each > smallest for each in worse)


def test_a_block_of_a_shed_session_waits_but_not_for_ever() -> None:
    place = Place()
    assert place.may_read(0, 0)
    place.shed = True
    waited = [place.may_read(480, now_ns) for now_ns in (5, PATIENCE_NS + 4, PATIENCE_NS + 5, PATIENCE_NS + 6)]
    assert waited == [False, False, True, True]
    assert not place.may_read(960, PATIENCE_NS + 7)
