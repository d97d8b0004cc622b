"""Between wire and domain."""

from __future__ import annotations

import enum

import pytest
from google.protobuf import duration_pb2
from hypothesis import given
from hypothesis import strategies as st

from samplecache.audio.format import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ, AudioFormat, Encoding
from samplecache.cache.play_options import PlayOptions
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import InvalidError, InvalidFormatError
from samplecache.kernel.port import FaultCounts, Residency, Span, Tier
from samplecache.service import event_wire, translate
from samplecache.strategy import events
from samplecache.strategy.registry import ChosenBy
from samplecache.v1 import audio_pb2, playback_pb2, sample_pb2, schedule_pb2
from samplecache.v1 import samplecache_pb2 as pb

FORMATS = st.builds(
    AudioFormat, st.integers(MIN_RATE_HZ, MAX_RATE_HZ), st.integers(1, MAX_CHANNELS), st.sampled_from(Encoding)
)
SECOND = duration_pb2.Duration(seconds=1)
MAX_DURATION_NS = 315_576_000_000 * NS_PER_S


@given(FORMATS)
def test_a_format_survives_the_wire(audio: AudioFormat) -> None:
    assert translate.complete_format(translate.audio_format(audio)) == audio


@given(st.integers(0, MAX_DURATION_NS))
def test_a_duration_survives_the_wire(nanoseconds: int) -> None:
    assert translate.nanoseconds(translate.duration(nanoseconds), "it") == nanoseconds


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_only_durations_that_are_none_are_refused(seconds: int, nanos: int) -> None:
    message = duration_pb2.Duration(seconds=seconds, nanos=nanos)
    if 0 <= seconds <= 315_576_000_000 and 0 <= nanos < NS_PER_S:
        assert translate.nanoseconds(message, "it") == seconds * NS_PER_S + nanos
    else:
        with pytest.raises(InvalidError, match=r"^it is no duration\. "):
            translate.nanoseconds(message, "it")


@pytest.mark.parametrize(
    ("ours", "theirs", "left_out"),
    [
        (Encoding, audio_pb2.Encoding, "ENCODING_UNSPECIFIED"),
        (ChosenBy, playback_pb2.ChosenBy, "CHOSEN_BY_UNSPECIFIED"),
        (events.UnderrunCause, playback_pb2.UnderrunCause, "UNDERRUN_CAUSE_UNSPECIFIED"),
    ],
)
def test_every_value_has_its_number(ours: type[enum.Enum], theirs: object, left_out: str) -> None:
    prefix = left_out.removesuffix("UNSPECIFIED")
    assert [left_out, *(prefix + value.name for value in ours)] == theirs.keys()  # type: ignore[attr-defined]


def test_causes_stand_at_their_numbers() -> None:
    for cause in events.UnderrunCause:
        counts = translate.causes({cause: 3})
        number = playback_pb2.UnderrunCause.Value(f"UNDERRUN_CAUSE_{cause.name}")
        assert counts == [3 if index == number else 0 for index in range(len(playback_pb2.UnderrunCause.values()))]


def test_a_start_without_wishes_has_the_promised_defaults() -> None:
    options = translate.play_options(playback_pb2.PlayStart(sample_id="a"))
    assert options == PlayOptions("a", gain=1.0, block_ns=20 * NS_PER_MS, lead_ns=100 * NS_PER_MS)


def test_zero_is_a_wish_where_the_contract_says_so() -> None:
    start = playback_pb2.PlayStart(sample_id="a", gain=0.0, lead=duration_pb2.Duration())
    assert (translate.play_options(start).gain, translate.play_options(start).lead_ns) == (0.0, 0)


def test_unlimited_pace_has_no_lead() -> None:
    start = playback_pb2.PlayStart(sample_id="a", pace=playback_pb2.PACE_UNLIMITED, lead=SECOND)
    assert translate.play_options(start).lead_ns is None


@pytest.mark.parametrize("number", [7, 99, -1])
def test_an_encoding_of_another_version_is_refused(number: int) -> None:
    with pytest.raises(InvalidFormatError):
        translate.encoding(number)  # type: ignore[arg-type]  # an open enum may bring any number


@given(st.lists(st.sampled_from(Tier), max_size=50))
def test_residency_counts_every_page_once(tiers: list[Tier]) -> None:
    message = translate.residency(Residency(Span(0, len(tiers)), bytes(tiers)), 4096, with_map=True)
    counts = [message.absent, message.swapped, message.swap_cache, message.mapped, message.locked]
    assert counts == [tiers.count(tier) for tier in Tier]
    assert message.map == bytes(tiers)


EVENTS = [
    events.Underrun(0, "session-1", "a", "none", 5, 6, events.UnderrunCause.CLIENT, FaultCounts(1, 2)),
    events.PrefetchDone(0, "a", "touch", 5, 3, 7, True, False),
    events.Degraded(0, "a", "touch", "mlock", "Because. Mend it."),
    events.Evicted(0, "a", 4096),
    events.CueSettled(
        0, "song", "1", "a", "touch", events.CueState.GAVE_WAY, 5, 0.5, 3, 2, None, "No room. Announce less."
    ),
    events.SessionEnded(0, "session-1", "a", "touch", 9, 2, 40, 10, 6, 1, 3),
    events.Overloaded(0, "session-1", "a", "touch", shed=True, needed_bytes_per_s=200, device_bytes_per_s=150),
]


def test_every_event_has_its_kind() -> None:
    # By name: a class with slots is made twice, and the first one lives on.
    assert {type(event).__name__ for event in EVENTS} == {kind.__name__ for kind in events.Event.__subclasses__()}
    kinds = [event_wire.event(event, 0)[0] for event in EVENTS]
    assert sorted(kinds) == [kind for kind in pb.EventKind.values() if kind]


def test_events_keep_what_they_say() -> None:
    underrun, done, degraded, evicted, cue, ended, overloaded = (event_wire.event(event, 0)[1] for event in EVENTS)
    assert underrun.underrun == pb.UnderrunEvent(
        session_id="session-1",
        sample_id="a",
        strategy="none",
        underrun=playback_pb2.Underrun(
            frame_offset=5,
            late=duration_pb2.Duration(nanos=6),
            cause=playback_pb2.UNDERRUN_CAUSE_CLIENT,
            faults=sample_pb2.FaultCounts(minor=1, major=2),
        ),
    )
    assert done.prefetch_done.result == pb.PrefetchResult(
        pages_needed=5, pages_brought_in=3, pages_failed=2, elapsed=duration_pb2.Duration(nanos=7), in_time=True
    )
    assert degraded.degraded == pb.DegradedEvent(
        sample_id="a", strategy="touch", wanted="mlock", why="Because. Mend it."
    )
    assert evicted.evicted == pb.EvictedEvent(sample_id="a", freed_bytes=4096)
    settled = cue.cue_settled
    assert (settled.schedule_id, settled.cue.cue_id, settled.cue.why) == ("song", "1", "No room. Announce less.")
    assert (settled.cue.state, settled.cue.HasField("margin")) == (schedule_pb2.CUE_STATE_GAVE_WAY, False)
    assert (settled.cue.pages_needed, settled.cue.pages_brought_in, settled.cue.sureness) == (3, 2, 0.5)
    assert ended.session_ended == pb.SessionEndedEvent(
        session_id="session-1",
        sample_id="a",
        strategy="touch",
        blocks=9,
        late_blocks=2,
        prefetched=playback_pb2.PrefetchedPages(asked=10, useful=6, late=1, wasted=3),
        played_pages=40,
    )
    assert overloaded.overloaded == pb.OverloadedEvent(
        session_id="session-1",
        sample_id="a",
        strategy="touch",
        overload=playback_pb2.Overload(shed=True, needed_bytes_per_s=200, device_bytes_per_s=150),
    )
