"""The façade: what is asked is bound, limited, held and told; what fails leaves everything as it was."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from cache_parts import (
    MONO,
    PAGE_BYTES,
    PAGE_FRAMES,
    GatedKernel,
    declaration,
    make_cache,
    passes,
    pcm,
    put,
    put_cold,
    registry_of,
    simulated_kernel,
    until,
)

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache import CacheSettings, PlayOptions, SampleCache
from samplecache.cache.reading import MAX_BLOCK_BYTES
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import (
    ChecksumError,
    ConflictError,
    InvalidError,
    InvalidFormatError,
    InvalidSampleIdError,
    InvalidSpanError,
    LimitError,
    OutOfRangeError,
    SamplecacheError,
    SampleNotFoundError,
    StateError,
    StoreFullError,
    UnknownStrategyError,
)
from samplecache.kernel.port import Operation, Region, Span, Tier
from samplecache.strategy import Action, Lock, PrefetchStrategy, View, hookimpl
from samplecache.strategy.events import Degraded, Event, Evicted, PrefetchDone
from samplecache.strategy.registry import ChosenBy

HOUR_NS = 3600 * NS_PER_S


class LockAll(PrefetchStrategy):
    """Locks what is wanted."""

    name = "lock-all"
    requires = frozenset({Operation.LOCK})

    def prepare(self, view: View) -> Iterable[Action]:
        return [Lock(view.wanted)]


def heard(cache: SampleCache, kind: type[Event]) -> list[Any]:
    events: list[Any] = []
    cache.events.listen(lambda event: events.append(event) if isinstance(event, kind) else None)
    return events


def locked(cache: SampleCache, sample_id: str = "pad") -> list[Span]:
    return list(cache.residency(sample_id).spans_in(Tier.LOCKED))


def leases(cache: SampleCache, sample_id: str = "pad") -> int:
    return cache.store.get(sample_id).content.leases


def close_session(cache: SampleCache, session: Any) -> None:
    left = cache.session_count - 1
    session.close()
    until(lambda: cache.session_count == left)


# --- making one ---


def test_an_unknown_default_strategy_is_refused_before_any_thread_starts() -> None:
    before = threading.active_count()
    with pytest.raises(UnknownStrategyError, match="no strategy is called 'turbo'"):
        make_cache(default_strategy="turbo")
    assert threading.active_count() == before


@pytest.mark.parametrize("budget_bytes", [-1, -PAGE_BYTES])
def test_an_impossible_lock_budget_is_refused_before_any_thread_starts(budget_bytes: int) -> None:
    before = threading.active_count()
    with pytest.raises(InvalidError):
        make_cache(lock_budget_bytes=budget_bytes)
    assert threading.active_count() == before


def test_closing_gives_everything_back() -> None:
    kernel = GatedKernel()
    before = threading.active_count()
    with make_cache(LockAll, kernel=kernel) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        upload = cache.open_upload(declaration("other", bytes(100), upload_id="id"))
        upload.append(0, bytes(50))
        cache.uploads.close(upload, done=False)
        cache.prefetch("pad", strategy="lock-all", hold_ns=HOUR_NS).wait(20)
        cache.open_session(PlayOptions("pad")).close()
    assert (threading.active_count(), kernel.mapped, len(cache.uploads), len(cache.store)) == (before, set(), 0, 0)
    with pytest.raises(StateError):
        upload.append(50, bytes(50))


# --- uploads ---


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"strategy": "turbo"}, UnknownStrategyError),
        ({"tags": ("",)}, InvalidError),
        ({"sample_id": "A"}, InvalidSampleIdError),
        ({"sample_id": "pad"}, ConflictError),
        ({"total_bytes": 2001}, InvalidFormatError),
        ({"total_bytes": (8 << 20) + 2}, StoreFullError),
        ({"sha256": b""}, InvalidError),
        ({"total_bytes": 0}, InvalidError),
    ],
)
def test_what_could_not_be_stored_is_refused_before_a_byte_is_sent(
    change: dict[str, Any], error: type[SamplecacheError]
) -> None:
    with make_cache() as cache:
        put(cache, "pad", pcm(PAGE_BYTES), pinned=True)
        with pytest.raises(error) as caught:
            cache.open_upload(dataclasses.replace(declaration("new", bytes(2000)), **change))
        assert type(caught.value) is error
        assert (len(cache.uploads), len(cache.store)) == (0, 1)


def test_uploading_tells_of_what_was_evicted() -> None:
    with make_cache(budget_bytes=10 * PAGE_BYTES) as cache:
        evicted = heard(cache, Evicted)
        put(cache, "a", pcm(4 * PAGE_BYTES, 1))
        put(cache, "b", pcm(4 * PAGE_BYTES, 1))
        put(cache, "c", pcm(4 * PAGE_BYTES, 2))
        publication = put(cache, "d", pcm(7 * PAGE_BYTES, 3))
        assert publication.evicted == (("a", 0), ("b", 4 * PAGE_BYTES), ("c", 4 * PAGE_BYTES))
        assert tuple((event.sample_id, event.freed_bytes) for event in evicted) == publication.evicted


def test_a_finished_upload_is_done_even_if_nobody_waited_for_it() -> None:
    """A call that is cancelled while its upload is being finished leaves the thread at work behind."""
    kernel = GatedKernel()
    with make_cache(kernel=kernel) as cache:
        data = pcm(PAGE_BYTES)
        declared = declaration("pad", data, upload_id="id")
        upload = cache.open_upload(declared)
        upload.append(0, data)
        kernel.held_up = "read"  # hashing what came in
        finisher = threading.Thread(target=cache.finish_upload, args=(upload,))
        finisher.start()
        passes(kernel.reached)
        cache.uploads.close(upload, done=False)
        assert not cache.uploads.finished(declared)
        kernel.gate.set()
        finisher.join(20)
        assert cache.uploads.finished(declared)
        assert cache.store.get("pad").content.size_bytes == PAGE_BYTES
        assert len(cache.uploads) == 0


def test_an_upload_that_fails_in_the_end_can_be_resumed_or_given_up(tmp_path: Path) -> None:
    with make_cache(spool_dir=str(tmp_path)) as cache:
        declared = dataclasses.replace(declaration("pad", bytes(100), upload_id="id"), sha256=bytes(32))
        upload = cache.open_upload(declared)
        upload.append(0, bytes(100))
        with pytest.raises(ChecksumError):
            cache.finish_upload(upload)
        assert cache.uploads.status("id") == (100, 100, False)
        cache.uploads.discard(upload)
        assert (len(cache.uploads), len(cache.store)) == (0, 0)


# --- binding ---


def test_the_choice_of_request_sample_and_server() -> None:
    with make_cache(LockAll, default_strategy="lock-all") as cache:
        put(cache, "plain", pcm(PAGE_BYTES, 1))
        put(cache, "own", pcm(PAGE_BYTES, 2), strategy="none")

        def bound(sample_id: str, strategy: str) -> tuple[str, ChosenBy]:
            binding = cache.prefetch(sample_id, strategy=strategy).order.binding
            return binding.strategy.name, binding.chosen_by

        assert bound("plain", "") == ("lock-all", ChosenBy.SERVER)
        assert bound("own", "") == ("none", ChosenBy.SAMPLE)
        assert bound("own", "lock-all") == ("lock-all", ChosenBy.REQUEST)
        cache.update("own", strategy="")
        assert bound("own", "") == ("lock-all", ChosenBy.SERVER)


def test_a_strategy_that_is_not_permitted_is_degraded_and_told() -> None:
    with make_cache(LockAll, kernel=simulated_kernel(lock_limit_bytes=0)) as cache:
        put(cache, "pad", pcm(PAGE_BYTES))
        degraded = heard(cache, Degraded)
        session = cache.open_session(PlayOptions("pad", strategy="lock-all"))
        why = (
            "lock-all: RLIMIT_MEMLOCK is less than a page and CAP_IPC_LOCK is missing. Raise the lock limit of the "
            "simulated machine, or give it CAP_IPC_LOCK."
        )
        binding = session.binding
        assert (binding.strategy.name, binding.degraded_from, binding.notes) == ("none", "lock-all", (why,))
        assert [(event.sample_id, event.strategy, event.wanted, event.why) for event in degraded] == [
            ("pad", "none", "lock-all", why)
        ]
        close_session(cache, session)


def test_plugins_are_told_of_events_and_their_failures_stay_theirs() -> None:
    events: list[Event] = []

    class Observes:
        @hookimpl
        def samplecache_observe(self, event: Event) -> None:
            events.append(event)
            raise ZeroDivisionError

    with make_cache(plugins=[Observes()]) as cache:
        put(cache, "pad", pcm(PAGE_BYTES))
        cache.prefetch("pad").wait(20)
        assert [type(event) for event in events] == [PrefetchDone]


# --- limits and refusals ---


def test_sessions_are_limited() -> None:
    with make_cache(max_sessions=2) as cache:
        put(cache, "pad", pcm(PAGE_BYTES))
        sessions = [cache.open_session(PlayOptions("pad")) for _ in range(2)]
        until(lambda: leases(cache) == 2)  # what they prepared is over
        with pytest.raises(LimitError, match=r"there are 2 sessions already.* raise max_sessions") as caught:
            cache.open_session(PlayOptions("pad"))
        assert (caught.value.reason_code, leases(cache), cache.session_count) == ("TOO_MANY_SESSIONS", 2, 2)
        close_session(cache, sessions[0])
        close_session(cache, cache.open_session(PlayOptions("pad")))
        close_session(cache, sessions[1])


def test_prefetches_are_limited_those_that_hold_locks_included() -> None:
    with make_cache(LockAll, max_prefetches=2) as cache:
        put(cache, "pad", pcm(PAGE_BYTES))
        held = [cache.prefetch("pad", strategy="lock-all", hold_ns=HOUR_NS) for _ in range(2)]
        for prefetch in held:
            assert prefetch.wait(20)
        assert (cache.prefetch_count, leases(cache)) == (0, 2)
        with pytest.raises(LimitError, match=r"there are 2 prefetches already.* raise max_prefetches") as caught:
            cache.prefetch("pad")
        assert (caught.value.reason_code, leases(cache)) == ("TOO_MANY_PREFETCHES", 2)
        # A session takes them over.
        session = cache.open_session(PlayOptions("pad"))
        assert cache.prefetch("pad").wait(20)
        close_session(cache, session)


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda cache: cache.prefetch("gone"), SampleNotFoundError),
        (lambda cache: cache.prefetch("pad", strategy="turbo"), UnknownStrategyError),
        (lambda cache: cache.prefetch("pad", 0, 10 * PAGE_FRAMES + 1), OutOfRangeError),
        (lambda cache: cache.prefetch("pad", hold_ns=-1), InvalidError),
        (lambda cache: cache.prefetch("pad", hold_ns=HOUR_NS + 1), InvalidError),
        (lambda cache: cache.open_session(PlayOptions("gone")), SampleNotFoundError),
        (lambda cache: cache.open_session(PlayOptions("pad", strategy="turbo")), UnknownStrategyError),
        (lambda cache: cache.open_session(PlayOptions("pad", 10 * PAGE_FRAMES + 1)), OutOfRangeError),
        (lambda cache: cache.open_session(PlayOptions("pad", rate_hz=1)), InvalidFormatError),
        (lambda cache: cache.open_session(PlayOptions("pad", gain=float("nan"))), InvalidError),
        (lambda cache: cache.open_session(PlayOptions("pad", block_ns=NS_PER_MS - 1)), InvalidError),
        (lambda cache: cache.open_session(PlayOptions("pad", block_ns=NS_PER_S + 1)), InvalidError),
        (lambda cache: cache.open_session(PlayOptions("pad", lead_ns=-1)), InvalidError),
        (lambda cache: cache.open_session(PlayOptions("pad", lead_ns=30 * NS_PER_S + 1)), InvalidError),
        (lambda cache: cache.residency("pad", -1), OutOfRangeError),
        (lambda cache: cache.residency("gone"), SampleNotFoundError),
        (lambda cache: cache.evict("gone", 1), SampleNotFoundError),
        (lambda cache: cache.update("pad", strategy="turbo"), UnknownStrategyError),
        (lambda cache: cache.update("pad", tags=("",)), InvalidError),
        (lambda cache: cache.update("gone", pinned=True), SampleNotFoundError),
    ],
)
def test_what_is_refused_leaves_everything_as_it_was(
    ask: Callable[[SampleCache], object], error: type[SamplecacheError]
) -> None:
    with make_cache() as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        sample = cache.store.get("pad")
        with pytest.raises(error) as caught:
            ask(cache)
        assert type(caught.value) is error
        assert (cache.store.get("pad"), leases(cache), cache.session_count, cache.prefetch_count) == (sample, 0, 0, 0)
        assert sample.content.playing == 0


@pytest.mark.parametrize(
    ("stored", "options", "block_frames"),
    [
        (MONO, {}, 960),
        (MONO, {"block_ns": NS_PER_MS}, 48),
        (AudioFormat(1_000, 1, Encoding.S16), {"block_ns": NS_PER_MS}, 1),
        (AudioFormat(44_100, 1, Encoding.S16), {}, 882),
        # 256 KiB at the most, half of it where a resampler may give out what it held back.
        (AudioFormat(48_000, 2, Encoding.F64), {"block_ns": NS_PER_S}, 16_384),
        (AudioFormat(48_000, 1, Encoding.S16), {"block_ns": NS_PER_S, "encoding": Encoding.F64}, 32_768),
        (AudioFormat(48_000, 1, Encoding.S16), {"block_ns": NS_PER_S, "rate_hz": 96_000}, 32_768),
    ],
)
def test_blocks_are_as_long_as_asked_for_but_not_too_large(
    stored: AudioFormat, options: dict[str, Any], block_frames: int
) -> None:
    with make_cache() as cache:
        put(cache, "pad", bytes(48_000 * 16), raw_format=stored)
        session = cache.open_session(PlayOptions("pad", **options))
        assert session.playback.block_frames == block_frames
        block = session.next_block()
        assert block is not None
        assert len(session.read(block).pcm) <= MAX_BLOCK_BYTES
        close_session(cache, session)


# --- holds ---


def test_a_prefetch_that_locked_nothing_lets_the_sample_go_at_once() -> None:
    with make_cache(budget_bytes=10 * PAGE_BYTES) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES, 1))
        assert cache.prefetch("pad", hold_ns=HOUR_NS).wait(20)
        until(lambda: not leases(cache))
        assert put(cache, "new", pcm(10 * PAGE_BYTES, 2)).evicted == (("pad", 10 * PAGE_BYTES),)


@pytest.mark.parametrize("hold_ns", [0, 1, 30 * NS_PER_MS])
def test_locks_are_held_for_a_while(hold_ns: int) -> None:
    with make_cache(LockAll) as cache:
        put_cold(cache, "pad", 10)
        began_ns = cache.clock.now_ns()
        prefetch = cache.prefetch("pad", strategy="lock-all", hold_ns=hold_ns)
        assert prefetch.wait(20)
        until(lambda: not leases(cache))
        assert cache.clock.now_ns() - began_ns >= hold_ns
        assert (locked(cache), cache.ledger.locked_bytes, cache.ledger.held(prefetch.order.holder)) == ([], 0, 0)


def test_locks_are_held_no_longer_after_cancelling() -> None:
    kernel = GatedKernel()
    with make_cache(LockAll, kernel=kernel) as cache:
        put_cold(cache, "pad", 100)
        kernel.held_up = "lock"
        prefetch = cache.prefetch("pad", strategy="lock-all", hold_ns=HOUR_NS)
        passes(kernel.reached)
        prefetch.cancel()
        kernel.gate.set()
        assert prefetch.wait(20)
        until(lambda: not leases(cache))
        assert (locked(cache), cache.ledger.locked_bytes) == ([], 0)


def test_a_session_takes_over_what_is_held_and_gives_it_up_in_the_end() -> None:
    hold_ns = 1_500 * NS_PER_MS
    with make_cache(LockAll) as cache:
        put_cold(cache, "pad", 10)
        put_cold(cache, "other", 10, 1)
        prefetches = [
            cache.prefetch("pad", 0, 4 * PAGE_FRAMES, "lock-all", hold_ns=hold_ns),
            cache.prefetch("pad", 6 * PAGE_FRAMES, 0, "lock-all", hold_ns=hold_ns),
            cache.prefetch("other", 0, 0, "lock-all", hold_ns=hold_ns),
        ]
        for prefetch in prefetches:
            assert prefetch.wait(20)
        session = cache.open_session(PlayOptions("pad", strategy="none"))
        # Their time passes: it ends the hold that nobody took over, and no other.
        until(lambda: not locked(cache, "other"))
        assert locked(cache) == [Span(0, 4), Span(6, 10)]
        # A second session takes nothing from the first.
        close_session(cache, cache.open_session(PlayOptions("pad", strategy="none")))
        assert locked(cache) == [Span(0, 4), Span(6, 10)]
        close_session(cache, session)
        until(lambda: not leases(cache))
        assert (locked(cache), cache.ledger.locked_bytes) == ([], 0)


def test_a_session_takes_over_what_is_held_of_its_own_content_only() -> None:
    kernel = GatedKernel()
    with make_cache(LockAll, kernel=kernel) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES, 1))
        region = cache.store.get("pad").content.region
        prefetch = cache.prefetch("pad", strategy="lock-all", hold_ns=HOUR_NS)
        assert prefetch.wait(20)
        put(cache, "pad", pcm(5 * PAGE_BYTES, 2), replace=True)
        close_session(cache, cache.open_session(PlayOptions("pad")))
        assert region in kernel.mapped
        assert cache.ledger.locked_bytes == 10 * PAGE_BYTES


class CannotUnlock(GatedKernel):
    """A kernel that fails once at giving up locks."""

    failures = 1

    def unlock(self, region: Region, span: Span) -> None:
        if self.failures:
            self.failures -= 1
            raise InvalidSpanError("munlock failed", remedy="Try again")
        super().unlock(region, span)


def test_a_session_ends_even_if_a_lock_cannot_be_given_up() -> None:
    kernel = CannotUnlock()
    with make_cache(LockAll, kernel=kernel) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        assert cache.prefetch("pad", 0, PAGE_FRAMES, "lock-all", hold_ns=HOUR_NS).wait(20)
        assert cache.prefetch("pad", PAGE_FRAMES, PAGE_FRAMES, "lock-all", hold_ns=HOUR_NS).wait(20)
        close_session(cache, cache.open_session(PlayOptions("pad", strategy="none")))
        until(lambda: not leases(cache))
        assert cache.ledger.locked_bytes == 0
        cache.store.remove("pad")
        assert kernel.mapped == set()


# --- where things are ---


def test_residency_and_eviction_of_a_sample() -> None:
    with make_cache() as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        assert cache.residency("pad").count(Tier.MAPPED) == 10
        assert cache.residency("pad", PAGE_FRAMES, 2 * PAGE_FRAMES).span == Span(1, 3)
        assert cache.evict("pad", 20 * NS_PER_S) == (10, 0)
        assert cache.residency("pad").count(Tier.SWAPPED) == 10
        assert leases(cache) == 0


def test_eviction_leaves_what_is_locked() -> None:
    with make_cache(LockAll) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        assert cache.prefetch("pad", 0, 3 * PAGE_FRAMES, "lock-all", hold_ns=HOUR_NS).wait(20)
        assert cache.evict("pad", 20 * NS_PER_S) == (10, 0)
        assert (locked(cache), cache.residency("pad").count(Tier.SWAPPED)) == ([Span(0, 3)], 7)


def test_the_default_lock_budget_leaves_a_reserve() -> None:
    kernel = simulated_kernel(lock_limit_bytes=100 * PAGE_BYTES)
    with SampleCache(kernel, CacheSettings(workers=1), registry_of()) as cache:
        assert cache.ledger.budget_bytes == 75 * PAGE_BYTES


def test_listeners_are_told_until_they_stop_and_one_that_fails_harms_nobody() -> None:
    with make_cache() as cache:
        put(cache, "pad", pcm(PAGE_BYTES))
        first: list[Event] = []

        def fails(event: Event) -> None:
            raise ZeroDivisionError

        stops = [cache.events.listen(listener) for listener in (fails, first.append)]
        assert cache.prefetch("pad").wait(20)
        assert len(first) == 1
        for stop in stops:
            stop()
            stop()
        assert cache.prefetch("pad").wait(20)
        assert len(first) == 1
