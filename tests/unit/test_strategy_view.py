"""What a strategy is shown."""

from __future__ import annotations

from cache_parts import capabilities

from samplecache.cache.prefetching.orders import Moment
from samplecache.kernel.port import Residency, Span
from samplecache.strategy import PageInFigures, PrefetchStrategy, SampleView, View
from samplecache.strategy.base import NoStrategy


def view(now_ns: int, deadline_ns: int | None, wanted: Span) -> View:
    # 48 kHz stereo of 16 bits: a page of 1024 frames.
    sample = SampleView("kick", 20, 4096, 192_000)
    residency = Residency(wanted, bytes(len(wanted)))
    return View(now_ns, sample, wanted, deadline_ns, residency, (), 0, PageInFigures(), capabilities())


def test_a_page_sounds_as_long_as_its_frames() -> None:
    assert SampleView("kick", 20, 4096, 192_000).page_ns == 1024 * 1_000_000_000 // 48_000


def test_the_first_wanted_page_is_due_at_the_deadline_and_each_other_a_page_later() -> None:
    at = view(7, 1_000, Span(4, 9))
    assert [at.deadline_of(page) for page in range(4, 9)] == [1_000 + 21_333_333 * number for number in range(5)]


def test_without_a_deadline_the_first_page_is_due_now() -> None:
    assert view(7, None, Span(4, 9)).deadline_of(5) == 7 + 21_333_333


def test_none_does_nothing_at_any_moment() -> None:
    at = view(0, 0, Span(0, 4))
    none = NoStrategy()
    assert [tuple(decide(at)) for decide in (none.prepare, none.advance, none.finish)] == [(), (), ()]


def test_a_moment_knows_who_has_something_to_say() -> None:
    class Follows(PrefetchStrategy):
        name = "follows"

        def advance(self, view: View) -> tuple[()]:
            return ()

    class FollowsToo(Follows):
        name = "follows-too"

    assert [moment.overridden_by(FollowsToo()) for moment in Moment] == [False, True, False]
    assert [moment.overridden_by(NoStrategy()) for moment in Moment] == [False, False, False]
