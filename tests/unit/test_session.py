"""Sessions deliver the sample's frames, let their strategy follow, and leave nothing locked or leased behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import pytest
from cache_parts import MONO, PAGE_BYTES, PAGE_FRAMES, GatedKernel, make_cache, passes, pcm, put, put_cold, until
from session_parts import BLOCK_FRAMES, Follows, Records, answered, closed, heard, opened, play, recording

from samplecache.cache import Session
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import OutOfRangeError, StateError
from samplecache.kernel.port import FaultCounts, Span, Tier
from samplecache.simulation.device import device_profile
from samplecache.strategy import Action, Evict, Lock, Recheck, Stretch, Touch, View
from samplecache.strategy.events import Underrun, UnderrunCause

# --- frames ---


@pytest.mark.parametrize("strategy", ["none", "mine"])
def test_what_was_uploaded_is_played(strategy: str) -> None:
    touching = recording(lambda moment, view: [Touch(view.wanted)] if moment == "prepare" else [])
    with make_cache(touching) as cache:
        data = put_cold(cache, "pad", 50)
        session = opened(cache, strategy=strategy)
        assert session.playback.block_frames == BLOCK_FRAMES
        assert play(session) == data
        stats = session.playback.stats
        frames = 50 * PAGE_FRAMES
        assert (stats.blocks, stats.frames, stats.late_blocks) == (-(-frames // BLOCK_FRAMES), frames, 0)
        totals = cache.totals.snapshot()[strategy]
        assert (totals.sessions, totals.blocks, totals.faults) == (1, stats.blocks, stats.faults)
        closed(cache, session)


def test_a_part_is_played_and_a_loop_repeats_it() -> None:
    with make_cache(recording()) as cache:
        data = pcm(10 * PAGE_BYTES)
        put(cache, "pad", data)
        session = opened(cache, start_frame=500, frames=1_000, loop=True)
        assert play(session, 5) == (data[1_000:3_000] * 3)[: 2 * (2 * 1_000 + BLOCK_FRAMES)]
        closed(cache, session)


def test_reading_a_block_again_gives_the_same() -> None:
    with make_cache(recording()) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        session = opened(cache)
        block = session.next_block()
        assert block is not None
        assert session.read(block).pcm == session.read(block).pcm
        closed(cache, session)


def test_a_block_is_resident_when_reading_it_would_not_wait() -> None:
    with make_cache(recording()) as cache:
        put_cold(cache, "pad", 10)
        session = opened(cache)
        block = session.next_block()
        assert block is not None
        assert not session.is_resident(block)
        assert session.read(block).reading.faults == FaultCounts(major=1)
        assert session.is_resident(block)
        assert session.read(block).reading.faults == FaultCounts()
        closed(cache, session)


def test_a_replaced_sample_plays_on_as_it_was() -> None:
    kernel = GatedKernel()
    with make_cache(recording(), kernel=kernel) as cache:
        old, new = pcm(10 * PAGE_BYTES, 1), pcm(10 * PAGE_BYTES, 2)
        put(cache, "pad", old)
        region = cache.store.get("pad").content.region
        session = opened(cache)
        first = play(session, 1)
        put(cache, "pad", new, replace=True)
        assert first + play(session) == old
        assert region in kernel.mapped
        assert cache.store.used_bytes == 20 * PAGE_BYTES
        assert play(opened(cache)) == new
        session.close()
        until(lambda: region not in kernel.mapped)
        assert cache.store.used_bytes == 10 * PAGE_BYTES


# --- who is asked ---


def test_a_strategy_for_what_is_missing_is_not_asked_about_what_is_in_ram() -> None:
    class Missing(Records):
        only_missing = True

    mine = recording(base=Missing)
    with make_cache(mine) as cache:
        put_cold(cache, "pad", 20)
        region = cache.store.get("pad").content.region
        cache.kernel.touch(region, Span(0, 19))
        session = opened(cache)
        assert asked(session, mine) == [Span(0, 20)]
        cache.kernel.touch(region, Span(19, 20))
        session.seek(5 * PAGE_FRAMES)
        assert asked(session, mine) == [Span(0, 20)]
        closed(cache, session)
        session = opened(cache)
        assert asked(session, mine) == [Span(0, 20)]
        cache.kernel.evict(region, Span(10, 20), NS_PER_S)
        session.seek(5 * PAGE_FRAMES)
        assert asked(session, mine) == [Span(0, 20), Span(5, 20)]
        closed(cache, session)


def asked(session: Session, strategy: type[Records]) -> list[Span]:
    answered(session)
    return [span for moment, span in strategy.asked if moment == "prepare"]


# --- underruns ---


def test_a_block_that_waited_for_its_page_is_an_underrun_by_a_major_fault() -> None:
    kernel = GatedKernel(device_profile("unthrottled").throttled(iops=100))  # 10 ms a page
    with make_cache(recording(), kernel=kernel) as cache:
        put_cold(cache, "pad", 10)
        underruns = heard(cache, Underrun)
        session = opened(cache, lead_ns=NS_PER_MS)
        block = session.next_block()
        assert block is not None
        read = session.read(block)
        underrun = session.delivered(read)
        assert underrun is not None
        assert block.due_ns is not None
        late_ns = read.reading.ready_ns - block.due_ns
        assert late_ns > 5 * NS_PER_MS
        faults = FaultCounts(major=1)
        cause = UnderrunCause.MAJOR_FAULT
        assert underrun == Underrun(underrun.time_ns, session.session_id, "pad", "mine", 0, late_ns, cause, faults)
        assert underruns == [underrun]
        totals = cache.totals.snapshot()["mine"]
        assert (totals.late_blocks, totals.longest_stall_ns, totals.faults) == (1, late_ns, faults)
        assert totals.late_by_cause == {cause: 1}
        latency_ns = cache.meter.figures.latency_ns
        assert latency_ns is not None
        assert latency_ns >= 9 * NS_PER_MS
        closed(cache, session)


class Timid:
    """A witness that counts how often it is called."""

    calls = 0

    def lateness_between(self, start_ns: int, stop_ns: int) -> int:
        self.calls += 1
        raise OutOfRangeError("that was before my time", remedy="Ask sooner")


def test_the_witness_is_called_for_late_blocks_only_and_may_know_nothing() -> None:
    with make_cache(recording()) as cache:
        witness = Timid()
        cache.witness = witness  # type: ignore[assignment]
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        calls = []
        for lead_ns in (None, NS_PER_S, 0):
            session = opened(cache, lead_ns=lead_ns)
            play(session, 1)
            calls.append(witness.calls)
            closed(cache, session)
        assert calls == [0, 0, 1]


def test_what_the_client_kept_counts_if_nothing_else_does() -> None:
    with make_cache(recording()) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        session = opened(cache, lead_ns=0)
        block = session.next_block()
        assert block is not None
        underrun = session.delivered(session.read(block, client_ns=3600 * NS_PER_S))
        assert underrun is not None
        assert underrun.cause is UnderrunCause.CLIENT
        closed(cache, session)


# --- the strategy's moments ---


def test_prepare_when_it_starts_and_seeks_and_finish_in_the_end() -> None:
    strategy = recording()
    with make_cache(strategy) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        session = opened(cache, start_frame=PAGE_FRAMES)
        until(lambda: len(strategy.asked) == 1)
        session.seek(5 * PAGE_FRAMES)
        until(lambda: len(strategy.asked) == 2)
        play(session)
        closed(cache, session)
        assert strategy.asked == [("prepare", Span(1, 10)), ("prepare", Span(5, 10)), ("finish", Span(10, 10))]


def test_the_deadline_is_when_the_next_block_is_due() -> None:
    deadlines: list[int | None] = []

    def note(moment: str, view: View) -> Iterable[Action]:
        deadlines.append(view.deadline_ns)
        return ()

    with make_cache(recording(note)) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        session = opened(cache, lead_ns=NS_PER_S)
        block = session.next_block()
        assert block is not None
        until(lambda: deadlines)
        assert deadlines == [block.due_ns]
        closed(cache, session)


def test_a_seek_past_the_end_changes_nothing() -> None:
    strategy = recording()
    with make_cache(strategy) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        session = opened(cache)
        until(lambda: strategy.asked)
        with pytest.raises(OutOfRangeError):
            session.seek(10 * PAGE_FRAMES + 1)
        assert session.playback.next_frame == 0
        closed(cache, session)
        assert [moment for moment, _ in strategy.asked] == ["prepare", "finish"]


def test_a_seek_stops_what_was_being_prepared_for_elsewhere() -> None:
    kernel = GatedKernel()
    strategy = recording(lambda moment, view: [Touch(view.wanted)] if moment == "prepare" else [])
    with make_cache(strategy, kernel=kernel, workers=1) as cache:
        put_cold(cache, "pad", 200)
        kernel.held_up = "touch"
        session = opened(cache)
        passes(kernel.reached)
        session.seek(190 * PAGE_FRAMES)
        kernel.gate.set()
        until(lambda: (200, 190, 200) in kernel.touched)
        closed(cache, session)
        assert kernel.touched == [(200, 0, 64), (200, 190, 200)]


def test_the_view_says_where_the_session_stands_and_what_it_will_read() -> None:
    views: list[View] = []

    def note(moment: str, view: View) -> Iterable[Action]:
        views.append(view)
        return ()

    with make_cache(recording(note)) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        session = opened(cache, start_frame=PAGE_FRAMES, frames=8 * PAGE_FRAMES, lead_ns=NS_PER_S, loop=True)
        block = session.next_block()
        assert block is not None
        assert block.due_ns is not None
        until(lambda: views)
        session.playback.loop = False
        session.seek(4 * PAGE_FRAMES)
        until(lambda: len(views) == 2)
        closed(cache, session)
        first, second, _ = views
        round_ns = 8 * PAGE_FRAMES * NS_PER_S // MONO.rate_hz
        assert first.path == (Stretch(Span(1, 9), block.due_ns), Stretch(Span(1, 9), block.due_ns + round_ns))
        assert (first.playing, first.lead_ns, first.played) == (True, NS_PER_S, Span(1, 1))
        assert (second.path, second.played) == ((Stretch(Span(4, 9), second.deadline_ns),), Span(1, 4))


def test_the_view_counts_near_misses_and_underruns_since_the_strategy_was_asked_last() -> None:
    seen: list[tuple[int, int]] = []

    def note(moment: str, view: View) -> Iterable[Action]:
        seen.append((view.near_misses, view.underruns))
        return ()

    with make_cache(recording(note)) as cache:
        put_cold(cache, "pad", 40)
        session = opened(cache)
        until(lambda: len(seen) == 1)
        play(session, 5)
        misses = session.playback.stats.near_misses
        session.seek(30 * PAGE_FRAMES)
        until(lambda: len(seen) == 2)
        session.seek(0)
        until(lambda: len(seen) == 3)
        closed(cache, session)
        assert misses > 0
        assert seen == [(0, 0), (misses, 0), (0, 0), (0, 0)]


def test_a_strategy_may_evict_what_its_own_session_has_played() -> None:
    def answer(moment: str, view: View) -> Iterable[Action]:
        if moment == "finish":
            return []
        return [Evict(Span(0, view.wanted.start)), Recheck(Span(0, 0), view.now_ns)]

    with make_cache(recording(answer, base=Follows)) as cache:
        put(cache, "pad", pcm(4 * PAGE_BYTES))
        session = opened(cache)
        play(session)
        until(lambda: cache.residency("pad").count(Tier.SWAPPED) == 4)
        closed(cache, session)


# --- the end ---


def test_closing_twice_closes_once() -> None:
    strategy = recording()
    with make_cache(strategy) as cache:
        put(cache, "pad", pcm(PAGE_BYTES))
        content = cache.store.get("pad").content
        session = opened(cache)
        assert (content.playing, cache.session_count) == (1, 1)
        session.close()
        session.close()
        until(lambda: not cache.session_count)
        until(lambda: not content.leases)
        assert (content.playing, [moment for moment, _ in strategy.asked].count("finish")) == (0, 1)


def test_after_the_end_nothing_is_read_or_begun() -> None:
    strategy = recording(base=Follows)
    with make_cache(strategy) as cache:
        put(cache, "pad", pcm(10 * PAGE_BYTES))
        content = cache.store.get("pad").content
        session = opened(cache)
        block = session.next_block()
        assert block is not None
        read = session.read(block)
        closed(cache, session)
        asked = list(strategy.asked)
        with pytest.raises(StateError, match="Open another one") as caught:
            session.read(block)
        assert caught.value.reason_code == "SESSION_ENDED"
        session.delivered(read)
        session.seek(0)
        cache.prefetch("pad", strategy="none").wait(20)  # whatever was begun would have come before
        until(lambda: not content.leases)
        assert (strategy.asked, cache.session_count, content.playing) == (asked, 0, 0)


def failing(moment: str, view: View) -> Iterable[Action]:
    if moment == "finish":
        raise ZeroDivisionError("oops")
    return [Lock(view.wanted)] if moment == "prepare" else []


def failing_later(moment: str, view: View) -> Iterable[Action]:
    if moment == "advance":
        raise ZeroDivisionError("oops")
    return [Lock(view.wanted), Recheck(view.wanted)]  # even while it finishes


@pytest.mark.parametrize("answer", [failing, failing_later])
def test_locks_go_with_the_session_whatever_the_strategy_does(
    answer: Callable[[str, View], Iterable[Action]],
) -> None:
    with make_cache(recording(answer, base=Follows)) as cache:
        data = put_cold(cache, "pad", 100)
        session = opened(cache)
        until(lambda: cache.residency("pad").count(Tier.LOCKED) == 100)
        assert play(session) == data
        closed(cache, session)
        assert (cache.ledger.locked_bytes, cache.ledger.held(session.session_id)) == (0, 0)
        assert cache.residency("pad").count(Tier.LOCKED) == 0
        until(lambda: not cache.store.get("pad").content.leases)


def test_a_lock_being_taken_while_the_session_ends_does_not_outlive_it() -> None:
    kernel = GatedKernel()
    strategy = recording(lambda moment, view: [Lock(view.wanted)] if moment == "prepare" else [])
    with make_cache(strategy, kernel=kernel) as cache:
        put_cold(cache, "pad", 200)
        region = cache.store.get("pad").content.region
        kernel.held_up = "lock"
        session = opened(cache)
        passes(kernel.reached)
        session.close()
        cache.store.remove("pad")
        assert (cache.session_count, kernel.mapped) == (1, {region})
        kernel.gate.set()
        until(lambda: not cache.session_count)
        until(lambda: not kernel.mapped)
        assert (cache.ledger.locked_bytes, cache.store.used_bytes) == (0, 0)
        assert [moment for moment, _ in strategy.asked] == ["prepare", "finish"]


def test_memory_stays_while_a_read_is_under_way() -> None:
    kernel = GatedKernel()
    strategy = recording()
    with make_cache(strategy, kernel=kernel) as cache:
        data = pcm(10 * PAGE_BYTES)
        put(cache, "pad", data)
        region = cache.store.get("pad").content.region
        session = opened(cache)
        block = session.next_block()
        assert block is not None
        kernel.held_up = "read"
        played: list[bytes] = []
        reader = threading.Thread(target=lambda: played.append(session.read(block).pcm))
        reader.start()
        passes(kernel.reached)
        session.close()
        cache.store.remove("pad")
        assert (cache.session_count, kernel.mapped) == (1, {region})
        kernel.gate.set()
        reader.join(20)
        assert played == [data[: MONO.frames_to_bytes(BLOCK_FRAMES)]]
        until(lambda: not cache.session_count)
        until(lambda: not kernel.mapped)
        assert strategy.asked[-1] == ("finish", Span(0, 10))


def test_many_sessions_at_once_leave_nothing_behind() -> None:
    strategy = recording(
        lambda moment, view: [Lock(Span(view.wanted.start, min(view.wanted.start + 2, 20))), Touch(view.wanted)],
        base=Follows,
    )
    kernel = GatedKernel()
    with make_cache(strategy, kernel=kernel, workers=3, lock_budget_bytes=6 * PAGE_BYTES) as cache:
        data = {f"s{number}": put_cold(cache, f"s{number}", 20, number) for number in range(4)}
        wrong: list[str] = []

        def client(number: int) -> None:
            sample_id = f"s{number % 4}"
            for turn in range(5):
                session = opened(cache, sample_id=sample_id)
                played = play(session, 10 * turn)
                if played != data[sample_id][: len(played)]:
                    wrong.append(sample_id)
                session.seek(turn * PAGE_FRAMES)
                play(session, turn)
                session.close()

        clients = [threading.Thread(target=client, args=(number,)) for number in range(6)]
        for each in clients:
            each.start()
        for each in clients:
            each.join(60)
        until(lambda: not cache.session_count)
        assert (wrong, cache.ledger.locked_bytes) == ([], 0)
        for sample_id in data:
            until(lambda sample_id=sample_id: not cache.store.get(sample_id).content.leases)  # type: ignore[misc]
            assert cache.store.get(sample_id).content.playing == 0
            cache.store.remove(sample_id)
        assert (kernel.mapped, cache.store.used_bytes) == (set(), 0)
