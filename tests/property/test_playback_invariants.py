"""Whatever happens to a session, its frames follow one another and its figures add up."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from samplecache.cache.accounting.playback import Playback, Reading
from samplecache.clock import NS_PER_S
from samplecache.kernel.port import FaultCounts

SAMPLE_FRAMES = 5_000


@dataclass(frozen=True)
class Step:
    """A block delivered, or a seek before it."""

    began_after_ns: int
    took_ns: int
    faults: FaultCounts
    seek: int | None


steps = st.lists(
    st.builds(
        Step,
        st.integers(0, 300_000_000),
        st.integers(0, 300_000_000),
        st.builds(FaultCounts, st.integers(0, 3), st.integers(0, 3)),
        st.none() | st.none() | st.integers(0, SAMPLE_FRAMES),
    ),
    max_size=40,
)
spans = st.tuples(st.integers(0, SAMPLE_FRAMES), st.integers(0, SAMPLE_FRAMES)).map(lambda ends: range(*sorted(ends)))


@settings(deadline=None)
@given(
    rate_hz=st.sampled_from([8_000, 44_100, 48_000, 96_000]),
    span=spans,
    block_frames=st.integers(1, 2_000),
    lead_ns=st.none() | st.integers(0, 200_000_000),
    loop=st.booleans(),
    steps=steps,
)
def test_a_session_adds_up(
    rate_hz: int, span: range, block_frames: int, lead_ns: int | None, loop: bool, steps: list[Step]
) -> None:
    playing = Playback(rate_hz, SAMPLE_FRAMES, span, block_frames, 0, lead_ns, loop=loop)
    now_ns = gaps_ns = frames = 0
    began_ns = played_frames = 0  # since the start or the last seek
    expected = span.start
    readings, gaps = [], []
    for step in steps:
        if step.seek is not None:
            playing.seek(step.seek, now_ns)
            began_ns, played_frames, gaps_ns, expected = now_ns, 0, 0, step.seek
            assert playing.remaining.start == step.seek
        ended = not playing.remaining
        block = playing.next_block()
        if block is None:
            assert ended
            continue
        assert block.frames.start == expected or (loop and ended)
        assert 1 <= len(block.frames) <= block_frames
        assert 0 <= block.frames.start < block.frames.stop <= SAMPLE_FRAMES
        if lead_ns is None:
            assert (block.send_ns, block.due_ns) == (0, None)
        else:
            # The audio clock: what has sounded, and the gaps.
            assert block.send_ns == began_ns + played_frames * NS_PER_S // rate_hz + gaps_ns
            assert block.due_ns == block.send_ns + lead_ns
        now_ns = max(now_ns, block.send_ns) + step.began_after_ns
        reading = Reading(now_ns, now_ns + step.took_ns, step.faults)
        now_ns = reading.ready_ns
        late = playing.delivered(block, reading)
        assert (late is None) == (block.due_ns is None or reading.ready_ns <= block.due_ns)
        if late is not None:
            assert block.due_ns is not None
            assert (late.offset_frames, late.late_ns) == (block.frames.start, reading.ready_ns - block.due_ns)
            gaps.append(late.late_ns)
            gaps_ns += late.late_ns
        readings.append(reading)
        frames += len(block.frames)
        played_frames += len(block.frames)
        expected = block.frames.stop
        assert playing.next_frame == expected

    stats = playing.stats
    assert (stats.blocks, stats.frames) == (len(readings), frames)
    assert (stats.late_blocks, stats.longest_stall_ns) == (len(gaps), max(gaps, default=0))
    assert sum(stats.late_by_cause.values()) == len(gaps)
    assert stats.faults == sum((reading.faults for reading in readings), FaultCounts())
    assert stats.longest_read_ns == max((reading.ready_ns - reading.began_ns for reading in readings), default=0)
    assert stats.first_block_ns == (readings[0].ready_ns if readings else 0)


@settings(deadline=None)
@given(span=spans, block_frames=st.integers(1, 2_000))
def test_without_seeks_every_frame_is_delivered_once(span: range, block_frames: int) -> None:
    playing = Playback(48_000, SAMPLE_FRAMES, span, block_frames, 0, 0)
    delivered: list[int] = []
    while (block := playing.next_block()) is not None:
        delivered += block.frames
        playing.delivered(block, Reading(0, 0, FaultCounts()))
    assert delivered == list(span)
