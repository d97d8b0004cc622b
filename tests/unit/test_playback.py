"""When blocks may leave, when they are late, and why."""

from __future__ import annotations

import pytest

from samplecache.cache.accounting.playback import Block, Late, Playback, PlaybackStats, Reading
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import OutOfRangeError
from samplecache.kernel.port import FaultCounts
from samplecache.strategy.events import UnderrunCause

START_NS = 1_000_000
LEAD_NS = 50 * NS_PER_MS
BLOCK_NS = 100 * NS_PER_MS
"""100 frames at 1000 Hz."""

MINOR, MAJOR, NO = FaultCounts(minor=1), FaultCounts(major=1), FaultCounts()


def playback(frames: range = range(1_000), lead_ns: int | None = LEAD_NS, *, loop: bool = False) -> Playback:
    """1000 frames at 1000 Hz in blocks of 100."""
    return Playback(1_000, 1_000, frames, 100, START_NS, lead_ns, loop=loop)


def deliver(
    playing: Playback,
    late_ns: int = -LEAD_NS,
    *,
    took_ns: int = 0,
    faults: FaultCounts = NO,
    witness_ns: int = 0,
    client_ns: int = 0,
) -> Late | None:
    """Deliver the next block so long after it was due, reading it having taken `took_ns`."""
    block = playing.next_block()
    assert block is not None
    ready_ns = late_ns + (block.send_ns + LEAD_NS if block.due_ns is None else block.due_ns)
    return playing.delivered(block, Reading(ready_ns - took_ns, ready_ns, faults, witness_ns, client_ns))


# --- times ---


def test_blocks_may_leave_when_the_ones_before_have_sounded_and_are_due_the_lead_later() -> None:
    playing = playback(range(250, 620))
    blocks = []
    while (block := playing.next_block()) is not None:
        assert playing.next_block() == block
        blocks.append(block)
        assert deliver(playing) is None
    assert blocks == [
        Block(range(start, stop), START_NS + number * BLOCK_NS, START_NS + number * BLOCK_NS + LEAD_NS)
        for number, (start, stop) in enumerate([(250, 350), (350, 450), (450, 550), (550, 620)])
    ]
    assert (playing.next_frame, playing.remaining) == (620, range(620, 620))


def test_what_may_leave_is_told_in_whole_blocks_and_up_to_the_end() -> None:
    playing = playback(range(250, 620))
    assert playing.may_leave_by(START_NS - 1) == 250
    assert playing.may_leave_by(START_NS) == 350
    assert playing.may_leave_by(START_NS + BLOCK_NS - 1) == 350
    assert playing.may_leave_by(START_NS + BLOCK_NS) == 450
    deliver(playing)
    assert playing.may_leave_by(START_NS) == 350
    assert playing.may_leave_by(START_NS + 2 * BLOCK_NS) == 550
    assert playing.may_leave_by(START_NS + 3 * BLOCK_NS) == playing.may_leave_by(START_NS + NS_PER_S) == 620
    assert playback(range(250, 620), None).may_leave_by(START_NS - 1) == 620


def dues(playing: Playback) -> list[tuple[range, int | None]]:
    return list(playing.path)


def test_the_path_is_the_rest_of_this_round_and_of_a_loop_the_next() -> None:
    playing = playback(range(250, 620), loop=True)
    due_ns = START_NS + LEAD_NS
    assert dues(playing) == [(range(250, 620), due_ns), (range(250, 620), due_ns + 370 * NS_PER_MS)]
    for _ in range(3):
        deliver(playing)
    assert dues(playing) == [
        (range(550, 620), due_ns + 3 * BLOCK_NS),
        (range(250, 620), due_ns + 370 * NS_PER_MS),
    ]
    deliver(playing)
    before = playing.next_frame
    assert dues(playing)[0] == (range(250, 620), due_ns + 370 * NS_PER_MS)
    assert (playing.next_frame, playing.played) == (before, range(250, 620))
    playing.loop = False
    assert dues(playing) == [(range(620, 620), None)]


def test_the_path_has_no_hurry_at_unlimited_pace() -> None:
    assert dues(playback(range(10), None, loop=True)) == [(range(10), None), (range(10), None)]


def test_a_block_that_was_in_time_although_it_waited_for_a_page_is_a_near_miss() -> None:
    playing = playback()
    for faults, took_ns in ((MAJOR, 0), (MINOR, NS_PER_MS), (MINOR, NS_PER_MS - 1), (NO, NS_PER_MS)):
        deliver(playing, took_ns=took_ns, faults=faults)
    deliver(playing, 1, faults=MAJOR)
    assert (playing.stats.near_misses, playing.stats.late_blocks) == (2, 1)


def test_times_do_not_drift_at_rates_that_divide_badly() -> None:
    playing = Playback(44_100, 10**6, range(10**6), 441 * 2 + 1, 0, 0)
    for number in range(1_000):
        block = playing.next_block()
        assert block is not None
        assert block.send_ns == number * 883 * NS_PER_S // 44_100
        playing.delivered(block, Reading(block.send_ns, block.send_ns, NO))


def test_what_a_resampler_holds_back_is_made_up_for_at_once() -> None:
    playing = playback()
    times = []
    for held_frames in (100, 130, 130, 0):
        block = playing.next_block()
        assert block is not None
        assert block.due_ns == block.send_ns + LEAD_NS
        times.append((block.send_ns - START_NS) // NS_PER_MS)
        playing.delivered(block, Reading(block.send_ns, block.send_ns, NO, held_frames=held_frames))
    # The client has nothing after the first block, 70 ms after the second, 170 ms after the third.
    assert times == [0, 0, 70, 170]
    playing.seek(500, START_NS)
    assert playing.next_block() == Block(range(500, 600), START_NS, START_NS + LEAD_NS)


def test_an_empty_span_ends_at_once_even_in_a_loop() -> None:
    assert playback(range(1_000, 1_000)).next_block() is None
    assert playback(range(5, 5), loop=True).next_block() is None


def test_at_unlimited_pace_everything_may_leave_and_nothing_is_late() -> None:
    playing = playback(lead_ns=None)
    for number in range(10):
        block = playing.next_block()
        assert block == Block(range(100 * number, 100 * number + 100), START_NS, None)
        assert playing.delivered(block, Reading(10**12, 10**13, MAJOR)) is None
    assert playing.next_block() is None
    assert playing.stats.late_blocks == 0
    assert playing.stats.faults == FaultCounts(major=10)


# --- lateness ---


def test_ready_when_due_is_in_time_and_a_nanosecond_later_is_late() -> None:
    playing = playback()
    assert deliver(playing, 0) is None
    assert deliver(playing, 1) == Late(100, 1, UnderrunCause.SERVICE, NO)


def test_a_gap_moves_everything_after_it() -> None:
    playing = playback()
    deliver(playing)
    deliver(playing, 7 * NS_PER_MS)
    assert playing.next_block() == Block(
        range(200, 300),
        START_NS + 2 * BLOCK_NS + 7 * NS_PER_MS,
        START_NS + 2 * BLOCK_NS + 7 * NS_PER_MS + LEAD_NS,
    )
    assert deliver(playing, 3 * NS_PER_MS) is not None
    block = playing.next_block()
    assert block is not None
    assert block.send_ns == START_NS + 3 * BLOCK_NS + 10 * NS_PER_MS


def test_stats_say_what_happened() -> None:
    playing = playback()
    deliver(playing, -LEAD_NS + 2, took_ns=2, faults=MINOR)
    deliver(playing, 30, took_ns=200, faults=MAJOR)
    deliver(playing, 20, took_ns=100, faults=MAJOR + MINOR)
    deliver(playing, 40, client_ns=20)
    assert playing.stats == PlaybackStats(
        blocks=4,
        frames=400,
        late_blocks=3,
        longest_stall_ns=40,
        longest_read_ns=200,
        first_block_ns=2,
        faults=FaultCounts(minor=2, major=2),
        late_by_cause={UnderrunCause.MAJOR_FAULT: 2, UnderrunCause.CLIENT: 1},  # type: ignore[arg-type]
    )


# --- causes ---


@pytest.mark.parametrize(
    ("faults", "took_ns", "witness_ns", "client_ns", "cause"),
    [
        (MAJOR, 1, 100, 100, UnderrunCause.MAJOR_FAULT),
        (MAJOR + MINOR, 0, 0, 0, UnderrunCause.MAJOR_FAULT),
        (MINOR, 100, 50, 100, UnderrunCause.SCHEDULING),
        (NO, 0, 50, 100, UnderrunCause.SCHEDULING),
        (MINOR, 100, 49, 100, UnderrunCause.PAGE_WAIT),
        (MINOR, 99, 49, 50, UnderrunCause.CLIENT),
        (NO, 100, 49, 50, UnderrunCause.CLIENT),
        (NO, 100, 49, 49, UnderrunCause.SERVICE),
        (MINOR, 99, 0, 0, UnderrunCause.SERVICE),
        (NO, 0, 0, 0, UnderrunCause.SERVICE),
    ],
)
def test_why_a_block_was_late(
    faults: FaultCounts, took_ns: int, witness_ns: int, client_ns: int, cause: UnderrunCause
) -> None:
    late = deliver(playback(), 100, took_ns=took_ns, faults=faults, witness_ns=witness_ns, client_ns=client_ns)
    assert late == Late(0, 100, cause, faults)


def test_a_read_that_was_behind_shares_the_blame_with_those_before_it() -> None:
    playing = playback()
    # The first read faults and takes all but 1 ns of the lead and the next block's time; the second has none left.
    assert deliver(playing, -1, took_ns=LEAD_NS - 1, faults=MAJOR) is None
    late = deliver(playing, 1, took_ns=1, faults=MINOR)
    assert late == Late(100, 1, UnderrunCause.MAJOR_FAULT, MAJOR + MINOR)


@pytest.mark.parametrize(("began_late_ns", "shares"), [(NS_PER_MS - 1, False), (NS_PER_MS, True)])
def test_a_read_that_began_in_time_answers_for_itself(began_late_ns: int, shares: bool) -> None:
    playing = playback()
    deliver(playing, -1, took_ns=LEAD_NS - 1, faults=MAJOR)
    late = deliver(playing, 1, took_ns=LEAD_NS + 1 - began_late_ns)
    assert late == Late(
        100,
        1,
        UnderrunCause.MAJOR_FAULT if shares else UnderrunCause.SERVICE,
        MAJOR if shares else NO,
    )


def test_faults_count_towards_one_gap_only() -> None:
    playing = playback()
    first = deliver(playing, 10, took_ns=10, faults=MAJOR)
    second = deliver(playing, 10, took_ns=1)
    assert [late.cause for late in (first, second) if late] == [UnderrunCause.MAJOR_FAULT, UnderrunCause.SERVICE]


# --- loops and seeks ---


def test_a_loop_begins_again_where_playing_began() -> None:
    playing = playback(range(750, 1_000), loop=True)
    starts = []
    for _ in range(7):
        block = playing.next_block()
        assert block is not None
        starts.append((block.frames, block.send_ns - START_NS))
        deliver(playing)
    assert starts == [
        (range(750, 850), 0),
        (range(850, 950), 100 * NS_PER_MS),
        (range(950, 1_000), 200 * NS_PER_MS),
        (range(750, 850), 250 * NS_PER_MS),
        (range(850, 950), 350 * NS_PER_MS),
        (range(950, 1_000), 450 * NS_PER_MS),
        (range(750, 850), 500 * NS_PER_MS),
    ]


def test_looping_can_be_switched_off_and_on() -> None:
    playing = playback(range(950, 1_000), loop=True)
    deliver(playing)
    playing.loop = False
    assert playing.next_block() is None
    playing.loop = True
    assert playing.next_block() is not None


@pytest.mark.parametrize(("frame", "left"), [(0, 10), (250, 8), (999, 1), (1_000, 0)])
def test_a_seek_starts_the_clock_anew_and_keeps_the_stats(frame: int, left: int) -> None:
    playing = playback()
    deliver(playing, 5)
    playing.seek(frame, 77)
    assert (playing.next_frame, playing.remaining, playing.stats.blocks) == (frame, range(frame, 1_000), 1)
    blocks = []
    while (block := playing.next_block()) is not None:
        blocks.append(block)
        deliver(playing)
    assert len(blocks) == left
    if blocks:
        assert (blocks[0].send_ns, blocks[0].due_ns) == (77, 77 + LEAD_NS)


def test_a_seek_forgets_what_was_to_blame_before() -> None:
    playing = playback()
    deliver(playing, -1, took_ns=LEAD_NS - 1, faults=MAJOR)
    playing.seek(500, 10**9)
    assert deliver(playing, 1, took_ns=1) == Late(500, 1, UnderrunCause.SERVICE, NO)


@pytest.mark.parametrize(
    ("frame", "remaining"),
    [
        (250, range(250, 300)),
        (300, range(300, 300)),
        (100, range(100, 1_000)),
        (301, range(301, 1_000)),
        (1_000, range(1_000, 1_000)),
    ],
)
def test_a_seek_out_of_what_was_to_be_played_plays_to_the_end(frame: int, remaining: range) -> None:
    playing = playback(range(200, 300))
    playing.seek(frame, 0)
    assert playing.remaining == remaining


@pytest.mark.parametrize("frame", [-1, 1_001, 10**12])
def test_a_seek_past_the_sample_changes_nothing(frame: int) -> None:
    playing = playback()
    deliver(playing)
    before = playing.next_block()
    with pytest.raises(OutOfRangeError, match=r"Seek to a frame inside \[0, 1000\]") as caught:
        playing.seek(frame, 0)
    assert caught.value.reason_code == "SEEK_OUT_OF_RANGE"
    assert (playing.next_block(), playing.next_frame) == (before, 100)
