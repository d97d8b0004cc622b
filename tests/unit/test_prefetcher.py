"""Prefetches bring in what is missing, nearest deadline first, stop when told, and always end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cache_parts import MONO, PAGE_BYTES, PAGE_FRAMES, GatedKernel, make_cache, passes, pcm, put, put_cold, until

from samplecache.cache import PlayOptions, SampleCache
from samplecache.cache.prefetching.prefetch import Prefetch
from samplecache.cache.prefetching.prefetcher import CHUNK_PAGES
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.kernel.port import Region, Residency, Span, Tier
from samplecache.simulation.device import device_profile
from samplecache.strategy import (
    Action,
    Advice,
    Advise,
    Evict,
    Lock,
    Populate,
    PrefetchStrategy,
    SampleView,
    Stretch,
    Touch,
    Unlock,
    View,
)
from samplecache.strategy.events import Degraded, Event, PrefetchDone

PAGE_NS = PAGE_FRAMES * NS_PER_S // MONO.rate_hz
HOUR_NS = 3600 * NS_PER_S


def doing(prepare: Callable[[View], Iterable[Action]], name: str = "mine") -> type[PrefetchStrategy]:
    """A strategy that does in `prepare` what the function says."""
    return type("Mine", (PrefetchStrategy,), {"name": name, "prepare": lambda _, view: prepare(view)})


TOUCH = doing(lambda view: [Touch(view.wanted, view.deadline_ns)])


@contextmanager
def caching(prepare: Callable[[View], Iterable[Action]] | None = None, **settings: Any) -> Iterator[SampleCache]:
    """A cache with the strategy `mine`."""
    with make_cache(TOUCH if prepare is None else doing(prepare), default_strategy="mine", **settings) as cache:
        yield cache


def ended(prefetch: Prefetch) -> Prefetch:
    assert prefetch.wait(20)
    return prefetch


def figures(prefetch: Prefetch) -> tuple[int, int]:
    return prefetch.progress.pages_needed, prefetch.progress.pages_in


def heard(cache: SampleCache, kind: type[Event]) -> list[Any]:
    events: list[Any] = []
    cache.events.listen(lambda event: events.append(event) if isinstance(event, kind) else None)
    return events


def in_core(cache: SampleCache, sample_id: str = "pad") -> list[Span]:
    return list(cache.residency(sample_id).spans_in(Tier.SWAP_CACHE, Tier.MAPPED, Tier.LOCKED))


# --- figures ---


def test_everything_missing_is_needed_and_comes_in() -> None:
    with caching() as cache:
        put_cold(cache, "pad", 200)
        done = heard(cache, PrefetchDone)
        prefetch = ended(cache.prefetch("pad"))
        assert (figures(prefetch), prefetch.notes, prefetch.in_time) == ((200, 200), [], True)
        assert in_core(cache) == [Span(0, 200)]
        elapsed_ns = prefetch.progress.elapsed_ns
        assert elapsed_ns > 0
        time_ns = done[0].time_ns
        assert done == [PrefetchDone(time_ns, "pad", "mine", 200, 200, elapsed_ns, in_time=True, cancelled=False)]
        assert prefetch.progress.elapsed_ns == elapsed_ns
        totals = cache.totals.snapshot()["mine"]
        assert (totals.prefetches, totals.pages_needed, totals.pages_brought_in) == (1, 200, 200)


def test_what_is_in_ram_is_not_needed() -> None:
    with caching() as cache:
        put_cold(cache, "pad", 100)
        ended(cache.prefetch("pad", 0, 40 * PAGE_FRAMES))
        assert figures(ended(cache.prefetch("pad"))) == (60, 60)
        assert figures(ended(cache.prefetch("pad"))) == (0, 0)


def test_the_kernel_is_advised_of_what_is_missing_only() -> None:
    kernel = GatedKernel()
    with caching(lambda view: [Advise(view.wanted, view.deadline_ns)], kernel=kernel) as cache:
        put_cold(cache, "pad", 200)
        cache.kernel.touch(cache.store.get("pad").content.region, Span(0, 140))
        cache.kernel.touch(cache.store.get("pad").content.region, Span(195, 200))
        kernel.advised.clear()
        assert figures(ended(cache.prefetch("pad"))) == (55, 55)
        advised = [span for span, advice in kernel.advised if advice is Advice.WILLNEED]
        chunk = 140 // CHUNK_PAGES * CHUNK_PAGES
        assert [page for span in advised for page in span] == list(range(chunk, 195))
        assert figures(ended(cache.prefetch("pad"))) == (0, 0)
        assert len(kernel.advised) == len(advised)


@pytest.mark.parametrize(
    ("start_frame", "frames", "pages"),
    [
        (0, 1, Span(0, 1)),
        (PAGE_FRAMES - 1, 2, Span(0, 2)),
        (10 * PAGE_FRAMES, 5 * PAGE_FRAMES, Span(10, 15)),
        (90 * PAGE_FRAMES + 1, 0, Span(90, 100)),
    ],
)
def test_only_the_pages_of_the_frames_asked_for(start_frame: int, frames: int, pages: Span) -> None:
    with caching() as cache:
        put_cold(cache, "pad", 100)
        assert figures(ended(cache.prefetch("pad", start_frame, frames))) == (len(pages), len(pages))
        assert in_core(cache) == [pages]


def test_none_does_nothing_and_says_so() -> None:
    with caching() as cache:
        put_cold(cache, "pad", 100)
        assert figures(ended(cache.prefetch("pad", strategy="none"))) == (100, 0)
        assert in_core(cache) == []


def test_pages_that_never_come_are_given_up() -> None:
    with caching(lambda view: [Touch(Span(0, 30)), Advise(view.wanted, None, Advice.COLD)]) as cache:
        put_cold(cache, "pad", 100)
        prefetch = ended(cache.prefetch("pad", deadline_ns=cache.clock.now_ns() + NS_PER_MS))
        assert (figures(prefetch), prefetch.in_time) == ((100, 30), False)


def test_a_slow_device_is_waited_for_and_measured() -> None:
    """128 pages at 200 a second take 640 ms, all of them after WILLNEED has returned."""
    kernel = GatedKernel(device_profile("unthrottled").throttled(iops=200))
    with caching(lambda view: [Advise(view.wanted)], kernel=kernel) as cache:
        put_cold(cache, "pad", 128)
        prefetch = cache.prefetch("pad")
        until(lambda: prefetch.progress.pages_in or prefetch.progress.done)
        assert 0 < prefetch.progress.pages_in < 128
        assert not prefetch.progress.done
        assert figures(ended(prefetch)) == (128, 128)
        assert prefetch.progress.elapsed_ns >= 127 * 5 * NS_PER_MS
        until(lambda: cache.meter.figures.bytes_per_s)
        rate = cache.meter.figures.bytes_per_s
        assert rate is not None
        assert 0.5 * 200 * PAGE_BYTES <= rate <= 1.25 * 200 * PAGE_BYTES


@pytest.mark.parametrize(("deadline_in_ns", "in_time"), [(HOUR_NS, True), (-1, False), (None, True)])
def test_in_time_or_not(deadline_in_ns: int | None, in_time: bool) -> None:
    with caching() as cache:
        put_cold(cache, "pad", 10)
        done = heard(cache, PrefetchDone)
        deadline_ns = None if deadline_in_ns is None else cache.clock.now_ns() + deadline_in_ns
        assert ended(cache.prefetch("pad", deadline_ns=deadline_ns)).in_time is in_time
        assert [event.in_time for event in done] == [in_time]


def test_listeners_hear_of_the_end_once_even_if_they_come_late() -> None:
    kernel = GatedKernel()
    with caching(kernel=kernel) as cache:
        put_cold(cache, "pad", 10)
        kernel.held_up = "touch"
        prefetch = cache.prefetch("pad")
        calls: list[str] = []
        prefetch.when_ended(lambda: calls.append("early"))
        passes(kernel.reached)
        early = (list(calls), prefetch.wait(0), prefetch.in_time)
        kernel.gate.set()
        assert early == ([], False, False)
        until(lambda: calls)
        assert ended(prefetch).progress.done
        prefetch.when_ended(lambda: calls.append("late"))
        assert calls == ["early", "late"]


# --- what a strategy is shown ---


def test_the_view_says_how_things_are() -> None:
    views: list[View] = []

    def look(view: View) -> list[Action]:
        views.append(view)
        return [Lock(Span(4, 6))] if not views[1:] else []

    with caching(look, lock_budget_bytes=5 * PAGE_BYTES) as cache:
        put_cold(cache, "pad", 10, tags=("warm",))
        cache.kernel.touch(cache.store.get("pad").content.region, Span(8, 9))
        deadline_ns = cache.clock.now_ns() + HOUR_NS
        began_ns = cache.clock.now_ns()
        ended(cache.prefetch("pad", 4 * PAGE_FRAMES, 6 * PAGE_FRAMES, deadline_ns=deadline_ns))
        ended(cache.prefetch("pad", 9 * PAGE_FRAMES))
        first, second = views
        assert began_ns <= first.now_ns <= cache.clock.now_ns()
        tiers = bytes([Tier.SWAPPED] * 4 + [Tier.MAPPED, Tier.SWAPPED])
        assert first == View(
            first.now_ns,
            SampleView("pad", 10, PAGE_BYTES, 96_000, ("warm",)),
            Span(4, 10),
            deadline_ns,
            Residency(Span(4, 10), tiers),
            (),
            5 * PAGE_BYTES,
            first.page_in,
            cache.capabilities,
            path=(Stretch(Span(4, 10), deadline_ns),),
            played=Span(4, 4),
        )
        assert (first.page_in.latency_ns, first.page_in.bytes_per_s) == (None, None)
        assert (second.wanted, second.deadline_ns, second.held) == (Span(9, 10), None, ())
        assert second.lock_budget_bytes == 3 * PAGE_BYTES
        assert second.page_in.bytes_per_s is not None


# --- who goes first ---


def test_chunks_are_done_by_deadline_across_prefetches() -> None:
    kernel = GatedKernel()
    with caching(kernel=kernel, workers=1) as cache:
        for pages, sample_id in ((300, "far"), (200, "near")):
            put_cold(cache, sample_id, pages)
        kernel.held_up = "touch"
        now_ns = cache.clock.now_ns() + HOUR_NS
        # The near one is due after the far one's second chunk: from then on they take turns.
        far = cache.prefetch("far", deadline_ns=now_ns)
        passes(kernel.reached)
        near = cache.prefetch("near", deadline_ns=now_ns + int(1.5 * CHUNK_PAGES * PAGE_NS))
        kernel.gate.set()
        ended(far)
        ended(near)
        chunk = CHUNK_PAGES
        assert kernel.touched == [
            (300, 0, chunk),
            (300, chunk, 2 * chunk),
            (200, 0, chunk),
            (300, 2 * chunk, 3 * chunk),
            (200, chunk, 2 * chunk),
            (300, 3 * chunk, 4 * chunk),
            (200, 2 * chunk, 3 * chunk),
            (300, 4 * chunk, 300),
            (200, 3 * chunk, 200),
        ]


def test_a_nearer_deadline_that_comes_later_waits_for_one_chunk_only() -> None:
    kernel = GatedKernel()
    with caching(kernel=kernel, workers=1) as cache:
        for pages, sample_id in ((300, "long"), (10, "urgent")):
            put_cold(cache, sample_id, pages)
        kernel.held_up = "touch"
        long = cache.prefetch("long", deadline_ns=cache.clock.now_ns() + HOUR_NS)
        passes(kernel.reached)
        urgent = cache.prefetch("urgent")
        kernel.gate.set()
        ended(urgent)
        ended(long)
        assert kernel.touched[:3] == [(300, 0, CHUNK_PAGES), (10, 0, 10), (300, CHUNK_PAGES, 2 * CHUNK_PAGES)]


# --- cancelling ---


def test_cancelling_stops_further_chunks_and_waits_for_the_one_under_way() -> None:
    kernel = GatedKernel()
    with caching(kernel=kernel) as cache:
        put_cold(cache, "pad", 300)
        done = heard(cache, PrefetchDone)
        region = cache.store.get("pad").content.region
        kernel.held_up = "touch"
        prefetch = cache.prefetch("pad")
        passes(kernel.reached)
        prefetch.cancel()
        prefetch.cancel()
        cache.store.remove("pad")
        # Its memory is being touched: neither the end nor the unmapping may come before that is over.
        assert (prefetch.cancelled, prefetch.progress.done, done, kernel.mapped) == (True, False, [], {region})
        kernel.gate.set()
        ended(prefetch)
        assert kernel.touched == [(300, 0, CHUNK_PAGES)]
        assert [(event.pages_needed, event.cancelled) for event in done] == [(300, True)]
        until(lambda: not kernel.mapped)
        assert (cache.store.used_bytes, cache.prefetch_count) == (0, 0)


def test_cancelling_what_has_not_begun_ends_it_at_once() -> None:
    kernel = GatedKernel()
    with caching(kernel=kernel, workers=1) as cache:
        put_cold(cache, "pad", 10)
        kernel.held_up = "touch"
        busy = cache.prefetch("pad")
        passes(kernel.reached)
        waiting = cache.prefetch("pad")
        waiting.cancel()
        assert (waiting.progress.done, figures(waiting)) == (True, (0, 0))
        kernel.gate.set()
        ended(busy)
        assert kernel.touched == [(10, 0, 10)]


def test_cancelling_what_has_ended_changes_nothing() -> None:
    with caching() as cache:
        put_cold(cache, "pad", 10)
        prefetch = ended(cache.prefetch("pad"))
        prefetch.cancel()
        assert not prefetch.cancelled


def test_closing_the_cache_ends_prefetches() -> None:
    kernel = GatedKernel()
    with caching(kernel=kernel) as cache:
        put_cold(cache, "pad", 300)
        kernel.held_up = "touch"
        prefetches = [cache.prefetch("pad") for _ in range(4)]
        passes(kernel.reached)
        kernel.gate.set()
    assert [prefetch.progress.done for prefetch in prefetches] == [True] * 4
    assert kernel.mapped == set()


# --- what goes wrong ---


def raising(view: View) -> Iterable[Action]:
    raise ZeroDivisionError("oops")


@pytest.mark.parametrize(
    ("prepare", "note"),
    [
        (raising, "strategy 'mine' raised ZeroDivisionError('oops'). Mend the plugin"),
        (lambda view: [Touch(Span(0, 11))], "no action inside 10 pages"),
        (lambda view: [Touch(Span(0, 1), "soon")], "no action inside 10 pages"),  # type: ignore[arg-type]
        (lambda view: [Touch(Span(0, 1), 1), Touch(Span(1, 2), 0.5)], "no action inside 10 pages"),  # type: ignore[arg-type]
        (lambda view: None, "raised TypeError"),
    ],
)
def test_a_strategy_that_fails_does_nothing_and_harms_nobody(
    prepare: Callable[[View], Iterable[Action]], note: str
) -> None:
    with caching(prepare) as cache:
        put_cold(cache, "pad", 10)
        degraded = heard(cache, Degraded)
        prefetch = ended(cache.prefetch("pad"))
        assert (figures(prefetch), len(prefetch.notes)) == ((10, 0), 1)
        assert note in prefetch.notes[0]
        assert [(event.sample_id, event.strategy, event.wanted, event.why) for event in degraded] == [
            ("pad", "mine", "mine", prefetch.notes[0])
        ]
        until(lambda: not cache.store.get("pad").content.leases)
        assert figures(ended(cache.prefetch("pad", strategy="none"))) == (10, 0)


class BrokenKernel(GatedKernel):
    """A kernel that fails in a way that nobody thought of."""

    def populate(self, region: Region, span: Span) -> None:
        raise OSError(5, "Input/output error")


def test_an_error_that_nobody_thought_of_ends_the_prefetch() -> None:
    with caching(lambda view: [Populate(view.wanted)], kernel=BrokenKernel()) as cache:
        put_cold(cache, "pad", 100)
        prefetch = ended(cache.prefetch("pad"))
        assert figures(prefetch) == (100, 0)
        assert prefetch.notes == [
            "the prefetch failed: OSError(5, 'Input/output error'). Look into the log, and report it."
        ]
        until(lambda: not cache.store.get("pad").content.leases)
        cache.prefetch("pad", strategy="none")


def test_what_the_kernel_refuses_is_noted_and_the_rest_is_done() -> None:
    refused = Advise(Span(0, 200), None, Advice.PAGEOUT)
    with caching(lambda view: [Lock(Span(0, 1)), refused, Touch(Span(100, 200))], workers=1) as cache:
        put_cold(cache, "pad", 200)
        prefetch = ended(cache.prefetch("pad"))
        assert len(prefetch.notes) == 1
        assert "locked" in prefetch.notes[0].lower()
        assert figures(prefetch) == (200, 101)


# --- actions ---


def test_locks_come_short_from_the_tail_and_it_is_said_once() -> None:
    budget_pages = CHUNK_PAGES + 10
    with caching(lambda view: [Lock(view.wanted)], lock_budget_bytes=budget_pages * PAGE_BYTES) as cache:
        put_cold(cache, "pad", 3 * CHUNK_PAGES)
        degraded = heard(cache, Degraded)
        prefetch = ended(cache.prefetch("pad"))
        note = f"The lock budget of {budget_pages * PAGE_BYTES} bytes is used up. Raise it, or hold less."
        assert (prefetch.notes, [event.why for event in degraded]) == ([note], [note])
        assert list(cache.residency("pad").spans_in(Tier.LOCKED)) == [Span(0, budget_pages)]
        assert cache.ledger.held(prefetch.order.holder) == budget_pages


def test_unlocking_gives_up_what_was_locked() -> None:
    with caching(lambda view: [Lock(Span(0, 10), 1), Unlock(Span(2, 4), 2)], workers=1) as cache:
        put_cold(cache, "pad", 10)
        ended(cache.prefetch("pad"))
        assert list(cache.residency("pad").spans_in(Tier.LOCKED)) == [Span(0, 2), Span(4, 10)]


def test_a_strategy_may_evict_what_nobody_plays() -> None:
    with caching(lambda view: [Evict(Span(2, 5))]) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        assert ended(cache.prefetch("pad")).notes == []
        assert in_core(cache) == [Span(0, 2), Span(5, 10)]


def test_a_strategy_may_not_evict_what_another_plays() -> None:
    with caching(lambda view: [Evict(view.wanted)]) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        session = cache.open_session(PlayOptions("pad", strategy="none"))
        prefetch = ended(cache.prefetch("pad"))
        assert prefetch.notes == [
            "Another session is playing the sample, so it was not evicted. Evict it when that has ended."
        ]
        assert in_core(cache) == [Span(0, 10)]
        session.close()


def test_an_empty_span_is_no_trouble() -> None:
    empty = Span(10, 10)
    kinds = (Advise, Populate, Touch, Lock, Unlock, Evict)
    with caching(lambda view: [kind(empty) for kind in kinds]) as cache:
        put_cold(cache, "pad", 10)
        prefetch = ended(cache.prefetch("pad", 10 * PAGE_FRAMES))
        assert (figures(prefetch), prefetch.notes) == ((0, 0), [])


def test_methods_of_one_strategy_are_called_one_at_a_time() -> None:
    inside, gate = threading.Semaphore(0), threading.Event()
    calls: list[str] = []

    class Slow(PrefetchStrategy):
        name = "mine"

        def prepare(self, view: View) -> Iterable[Action]:
            calls.append("began")
            inside.release()
            passes(gate)
            calls.append("ended")
            return ()

    with make_cache(Slow, default_strategy="mine", workers=3) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        session = cache.open_session(PlayOptions("pad", lead_ns=None))
        assert inside.acquire(timeout=20)
        session.seek(0)
        # Another sample's prefetch passes by, on another worker: so the second call has had its chance.
        put(cache, "other", pcm(10 * PAGE_BYTES, 1))
        ended(cache.prefetch("other", strategy="none", deadline_ns=cache.clock.now_ns() + NS_PER_S))
        assert calls == ["began"]
        gate.set()
        until(lambda: len(calls) == 4)
        assert calls == ["began", "ended"] * 2
        session.close()
        until(lambda: not cache.session_count)


def test_what_a_lock_is_refused_is_brought_in_all_the_same() -> None:
    with caching(lambda view: [Lock(view.wanted)], lock_budget_bytes=3 * PAGE_BYTES) as cache:
        put_cold(cache, "pad", 100)
        prefetch = ended(cache.prefetch("pad"))
        assert (prefetch.progress.pages_in, prefetch.pages_locked) == (100, 3)
        assert [note.partition(".")[0] for note in prefetch.notes] == [
            f"The lock budget of {3 * PAGE_BYTES} bytes is used up"
        ]
