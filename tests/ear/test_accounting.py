"""What a card that takes a period at a time makes of what is there, to the frame."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from samplecache.clock import NS_PER_MS
from samplecache.lab.ear.accounting import PREFILL_FRAMES, CueEar, MixEar, Period, gaps
from samplecache.lab.ear.heard import PERIOD_FRAMES, Glitch, GlitchKind, Heard, HeardCue

PERIOD_NS = 10 * NS_PER_MS


def listen(frames_due: int, arrivals: list[int]) -> CueEar:
    """Play a sound of which `arrivals` frames come before each period."""
    ear, buffered = CueEar(frames_due), 0
    for number, arrived in enumerate(arrivals):
        buffered += arrived
        buffered -= ear.take(number * PERIOD_NS, buffered)
    return ear


def test_a_sound_in_time_has_no_glitch() -> None:
    ear = listen(1000, [960, 40, 0])
    assert ear.complete
    assert ear.periods == [Period(0, 480, 0), Period(PERIOD_NS, 480, 0), Period(2 * PERIOD_NS, 40, 0)]
    assert ear.glitches(0) == ()


def test_a_sound_begins_with_its_prefill_and_not_before() -> None:
    ear = listen(4800, [480, 479, 1])
    assert [period.due_ns for period in ear.periods] == [2 * PERIOD_NS]
    assert PREFILL_FRAMES == 960


def test_a_sound_shorter_than_the_prefill_begins_when_it_is_all_there() -> None:
    ear = listen(100, [99, 1])
    assert ear.periods == [Period(PERIOD_NS, 100, 0)]
    assert ear.complete


def test_what_is_missing_when_due_is_a_gap_at_the_frame_that_was_due() -> None:
    ear = listen(2400, [960, 0, 100, 0, 1340, 0, 0])
    assert ear.complete
    # Two periods, then 100 frames and 380 of silence, a period of silence, and on.
    assert ear.glitches(-7) == (
        Glitch(GlitchKind.GAP, 1060, 380 + 480, 2 * PERIOD_NS + 100 * 1_000_000_000 // 48_000 + 7),
    )


def test_gaps_with_sound_between_them_are_two() -> None:
    ear = listen(2400, [960, 0, 100, 100, 1240, 0, 0, 0])
    assert [(gap.at_frame, gap.length_frames) for gap in ear.glitches(0)] == [(1060, 380), (1160, 380)]


def test_silence_after_the_last_frame_is_no_gap() -> None:
    ear = listen(1200, [960, 0, 240, 0, 0])
    assert ear.complete
    assert ear.glitches(0) == ()


@given(st.integers(1, 5000), st.lists(st.integers(0, 1500), max_size=30))
def test_every_frame_is_heard_once_and_gaps_fill_the_periods(frames_due: int, arrivals: list[int]) -> None:
    enough = [*arrivals, *[frames_due] * 30]
    ear, buffered, sent = CueEar(frames_due), 0, 0
    for number, arrived in enumerate(enough):
        arrived = min(arrived, frames_due - sent)
        sent += arrived
        buffered += arrived
        buffered -= ear.take(number * PERIOD_NS, buffered)
    assert ear.complete
    assert sum(period.frames for period in ear.periods) == frames_due
    # From the first period to the last the card never took more nor less than a period, with silence counted.
    silence = sum(gap.length_frames for gap in ear.glitches(0))
    assert frames_due + silence > PERIOD_FRAMES * (len(ear.periods) - 1)
    assert frames_due + silence <= PERIOD_FRAMES * len(ear.periods)


def test_a_mix_is_due_all_the_time() -> None:
    ear = MixEar()
    assert [ear.take(0, 1024), ear.take(PERIOD_NS, 100)] == [480, 100]
    assert gaps(ear.periods, 0) == (Glitch(GlitchKind.GAP, 580, 380, PERIOD_NS + 2_083_333),)


def test_what_was_heard_sums_up() -> None:
    gap = Glitch(GlitchKind.GAP, 0, 4800, 0)
    cues = (
        HeardCue("a", 0, 5, 10, 10, (gap, Glitch(GlitchKind.FOREIGN, 9, 9600, 0))),
        HeardCue("b", 0, 9, 10, 9),
        HeardCue("c", 0, None, 10, 0),
    )
    heard = Heard("x", "1", "case", cues=cues, pages_needed=10, pswpin=15)
    told = heard.to_json()
    assert (told["glitch_count"], told["longest_stall_ns"], told["unheard"]) == (2, 100 * NS_PER_MS, 2)
    assert (told["first_period_p50_ns"], told["first_period_p99_ns"], told["swap_ins_a_page"]) == (5, 9, 1.5)
    assert Heard("x", "1", "case").first_period_quantile_ns(0.5) is None
