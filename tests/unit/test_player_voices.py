"""Voices sound when they should, frame for frame, and what is missing is counted where it is missing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS, VirtualClock
from samplecache.errors import InvalidError, InvalidFormatError, InvalidSpanError, LimitError
from samplecache_player import Gap, Output, OutputReport, Period, PeriodSource, Player, Voice, VoiceStoppedError

S16 = AudioFormat(48_000, 2, Encoding.S16)
F32 = AudioFormat(48_000, 2, Encoding.F32)
PERIOD_NS = 10 * NS_PER_MS
LONG_NS = 60_000 * NS_PER_MS


class SteppedOutput(Output):
    """A card whose periods are taken by the test, on its own thread and at virtual times."""

    def __init__(self, format: AudioFormat = S16) -> None:
        super().__init__(format, clock=VirtualClock())
        self._taken: list[np.ndarray] = []

    def start(self, source: PeriodSource, on_end: Callable[[], None] | None = None) -> None:
        self._source = source

    def take(self, periods: int = 1) -> np.ndarray:
        """Return the next frames; fewer where the source has ended."""
        taken = []
        for _ in range(periods):
            period: Period = np.full((self.period_frames, self.format.channels), 77, self.dtype)
            taken.append(period[: self._source(period)])
            self.clock.sleep_until(self.clock.now_ns() + PERIOD_NS)
        return np.concatenate(taken)

    def report(self) -> OutputReport:
        return OutputReport(0, 0)

    def _play(self, source: PeriodSource) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        pass


@dataclass
class Stage:
    output: SteppedOutput
    player: Player

    def take(self, periods: int = 1) -> np.ndarray:
        return self.output.take(periods)


def stage(format: AudioFormat = S16, **options: int) -> Stage:
    output = SteppedOutput(format)
    player = Player(output, **options)
    player.start()
    return Stage(output, player)


def numbered(start: int, stop: int) -> np.ndarray:
    """Frames that carry their own number, none of them silent."""
    n = np.arange(start, stop)
    return np.stack([n & 0x7FFF, n // 0x8000 + 1], axis=1).astype(np.int16)


def silence(frames: int) -> np.ndarray:
    return np.zeros((frames, 2), np.int16)


def test_every_16_bit_value_comes_out_as_it_went_in() -> None:
    values = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16).reshape(-1, 2)
    here = stage(buffer_ns=1000 * NS_PER_MS)
    voice = here.player.start_voice()
    voice.feed(0, values)
    voice.end()
    periods = -(-len(values) // 480)
    out = here.take(periods)
    np.testing.assert_array_equal(out[: len(values)], values)
    assert not out[len(values) :].any()
    assert voice.report().glitches == 0
    assert voice.report().frames_played == len(values)


def test_float_frames_come_out_as_they_went_in() -> None:
    values = np.random.default_rng(1).uniform(-4, 4, (480, 2)).astype(np.float32)
    here = stage(F32)
    voice = here.player.start_voice(length_frames=480)
    voice.feed(0, values)
    np.testing.assert_array_equal(here.take(), values)


def test_voices_add_up_and_are_clipped_at_full_scale() -> None:
    here = stage()
    for level in (20_000, 20_000, -1):
        here.player.start_voice(length_frames=480).feed(0, np.full((480, 2), level, np.int16))
    np.testing.assert_array_equal(here.take(), np.full((480, 2), 32767, np.int16))
    for level in (-20_000, -20_000):
        here.player.start_voice(length_frames=480).feed(0, np.full((480, 2), level, np.int16))
    np.testing.assert_array_equal(here.take(), np.full((480, 2), -32768, np.int16))


@given(levels=st.lists(st.integers(-32768, 32767), min_size=1, max_size=12))
def test_a_mix_is_the_exact_sum(levels: list[int]) -> None:
    here = stage()
    for level in levels:
        here.player.start_voice(length_frames=1).feed(0, np.full((1, 2), level, np.int16))
    expected = max(-32768, min(32767, sum(levels)))
    assert here.take()[0].tolist() == [expected, expected]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (np.full((480, 1), 1234, np.int16), 1234),
        (np.full((480, 2), 1234 << 16, np.int32), 1234),
        (np.full((480, 2), 0.5, np.float32), 16384),
        (np.full((480, 2), 0.5, np.float64), 16384),
        (np.full((480, 2), 2.0, np.float32), 32767),
    ],
    ids=["mono", "s32", "f32", "f64", "over full scale"],
)
def test_other_encodings_are_brought_to_the_outputs(block: np.ndarray, expected: int) -> None:
    here = stage()
    here.player.start_voice(length_frames=480).feed(0, block)
    np.testing.assert_array_equal(here.take(), np.full((480, 2), expected, np.int16))


def test_gain_is_a_factor() -> None:
    here = stage()
    here.player.start_voice(length_frames=480, gain=0.25).feed(0, np.full((480, 2), 1000, np.int16))
    np.testing.assert_array_equal(here.take(), np.full((480, 2), 250, np.int16))


def test_a_starved_voice_is_silent_and_goes_on_where_it_stopped() -> None:
    here = stage()
    voice = here.player.start_voice(offset_frames=5000)
    voice.feed(5000, numbered(0, 700))
    np.testing.assert_array_equal(here.take(3), np.concatenate([numbered(0, 700), silence(740)]))
    assert voice.position_frames == voice.next_offset_frames == 5700
    voice.feed(5700, numbered(700, 1700))
    np.testing.assert_array_equal(here.take(3), np.concatenate([numbered(700, 1700), silence(440)]))
    report = voice.report()
    assert report.gaps == (
        Gap(5700, 740, PERIOD_NS + S16.duration_ns(220)),
        Gap(6700, 440, 5 * PERIOD_NS + S16.duration_ns(40)),
    )
    assert report.glitches == 2
    assert report.glitch_total_ns == S16.duration_ns(740 + 440)
    assert report.glitch_longest_ns == S16.duration_ns(740)
    assert report.frames_played == 1700
    assert not report.complete


@given(fed=st.lists(st.integers(0, 1100), min_size=1, max_size=25))
def test_glitches_are_where_the_recording_has_silence(fed: list[int]) -> None:
    here = stage()
    voice = here.player.start_voice()
    voice.feed(0, numbered(0, 1))
    total_frames = 1
    recorded = []
    for frames in fed:
        frames = min(frames, 24_000 - (total_frames - voice.position_frames))
        voice.feed(total_frames, numbered(total_frames, total_frames + frames))
        total_frames += frames
        recorded.append(here.take())
    out = np.concatenate(recorded)
    sounding = out[:, 1] != 0
    np.testing.assert_array_equal(out[sounding], numbered(0, int(sounding.sum())))
    heard_before = np.cumsum(sounding)[~sounding]
    at_frames, lengths = np.unique(heard_before, return_counts=True)
    gaps = [(gap.at_frame, gap.length_frames) for gap in voice.report().gaps]
    assert gaps == list(zip(at_frames.tolist(), lengths.tolist(), strict=True))


def test_silence_within_the_lead_is_no_glitch_and_after_it_is_one() -> None:
    here = stage()
    voice = here.player.start_voice(lead_ns=25 * NS_PER_MS)
    assert not here.take(3).any()
    assert voice.report().gaps == (Gap(0, 240, 25 * NS_PER_MS),)
    voice.feed(0, numbered(0, 480))
    np.testing.assert_array_equal(here.take(), numbered(0, 480))
    assert voice.report().first_frame_ns == 30 * NS_PER_MS
    assert voice.report().glitches == 1


def test_a_voice_sounds_before_its_lead_is_over_if_it_can() -> None:
    here = stage()
    voice = here.player.start_voice(lead_ns=1000 * NS_PER_MS)
    here.take()
    voice.feed(0, numbered(0, 480))
    np.testing.assert_array_equal(here.take(), numbered(0, 480))
    assert voice.report().first_frame_ns == PERIOD_NS


def test_prefill_holds_a_voice_back_until_enough_is_there() -> None:
    here = stage()
    voice = here.player.start_voice(lead_ns=1000 * NS_PER_MS, prefill_ns=20 * NS_PER_MS)
    voice.feed(0, numbered(0, 959))
    assert not here.take().any()
    voice.feed(959, numbered(959, 960))
    np.testing.assert_array_equal(here.take(2), numbered(0, 960))
    assert voice.report().glitches == 0


def test_prefill_beyond_all_there_is_sounds_when_the_lead_is_over() -> None:
    here = stage()
    voice = here.player.start_voice(lead_ns=15 * NS_PER_MS, prefill_ns=400 * NS_PER_MS)
    voice.feed(0, numbered(0, 480))
    np.testing.assert_array_equal(here.take(2), np.concatenate([silence(720), numbered(0, 240)]))


def test_a_short_sound_does_not_wait_for_prefill_it_will_never_have() -> None:
    here = stage()
    voice = here.player.start_voice(lead_ns=1000 * NS_PER_MS, prefill_ns=400 * NS_PER_MS, length_frames=10)
    voice.feed(0, numbered(0, 10))
    np.testing.assert_array_equal(here.take()[:10], numbered(0, 10))
    assert voice.report().complete


def test_a_voice_starts_at_its_time_to_the_frame() -> None:
    here = stage()
    here.take()  # the next period is taken at 10 ms
    voice = here.player.start_voice(at_ns=10 * NS_PER_MS + S16.duration_ns(700), length_frames=100)
    voice.feed(0, numbered(0, 100))
    out = here.take(2)
    np.testing.assert_array_equal(out, np.concatenate([silence(700), numbered(0, 100), silence(160)]))
    assert voice.report().first_frame_ns == 0
    assert voice.report().glitches == 0


def test_a_voice_ends_without_a_glitch() -> None:
    here = stage()
    voice = here.player.start_voice()
    voice.feed_all([(0, numbered(0, 300)), (300, numbered(300, 500))])
    np.testing.assert_array_equal(here.take(2)[:500], numbered(0, 500))
    assert voice.finished
    assert voice.wait(0)
    assert voice.report().complete
    assert voice.report().glitches == 0
    assert here.player.voices == ()


def test_nothing_moves_while_paused() -> None:
    here = stage()
    voice = here.player.start_voice()
    voice.feed(0, numbered(0, 480))
    here.player.pause()
    assert not here.take(3).any()
    assert voice.position_frames == 0
    here.player.resume()
    np.testing.assert_array_equal(here.take(), numbered(0, 480))
    assert voice.report().glitches == 0


def test_the_last_period_of_a_draining_player_is_cut_at_its_last_frame() -> None:
    here = stage()
    here.player.start_voice(length_frames=500).feed(0, numbered(0, 500))
    here.player.start_voice(length_frames=100).feed(0, numbered(0, 100))
    here.player.drain()
    assert len(here.take(2)) == 500


def test_a_full_voice_holds_its_feeder_until_the_mixer_takes() -> None:
    here = stage(buffer_ns=20 * NS_PER_MS)
    voice = here.player.start_voice(length_frames=2000)
    feeder = threading.Thread(target=voice.feed, args=(0, numbered(0, 2000)), daemon=True)
    feeder.start()
    taken = [here.take()]
    while feeder.is_alive():
        taken.append(here.take())
    taken.append(here.take(3))
    out = np.concatenate(taken)
    np.testing.assert_array_equal(out[out[:, 1] != 0], numbered(0, 2000))


@pytest.mark.parametrize(
    "stop",
    [lambda player, voice: voice.stop(), lambda player, voice: player.stop()],
    ids=["voice", "player"],
)
def test_stopping_frees_a_feeder_that_waits(stop: Callable[[Player, Voice], None]) -> None:
    here = stage(buffer_ns=20 * NS_PER_MS)
    voice = here.player.start_voice()
    voice.feed(0, numbered(0, 960))
    caught: list[BaseException] = []

    def feed() -> None:
        try:
            voice.feed(960, numbered(960, 2000))
        except VoiceStoppedError as error:
            caught.append(error)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    stop(here.player, voice)
    feeder.join(timeout=30)
    assert [type(error) for error in caught] == [VoiceStoppedError]
    assert not voice.report().complete


def test_a_stopped_voice_is_silent_from_the_next_period() -> None:
    here = stage()
    voice = here.player.start_voice()
    voice.feed(0, numbered(0, 960))
    here.take()
    voice.stop()
    assert not here.take().any()
    assert voice.position_frames == 480


def test_frames_out_of_order_are_refused_and_nothing_is_lost() -> None:
    here = stage()
    voice = here.player.start_voice()
    voice.feed(0, numbered(0, 100))
    with pytest.raises(InvalidSpanError, match="from frame 100"):
        voice.feed(101, numbered(101, 102))
    voice.feed(100, numbered(100, 480))
    np.testing.assert_array_equal(here.take(), numbered(0, 480))


def test_frames_past_the_declared_length_are_refused() -> None:
    voice = stage().player.start_voice(offset_frames=10, length_frames=5)
    with pytest.raises(InvalidSpanError, match="no more than the length"):
        voice.feed(10, numbered(0, 6))


@pytest.mark.parametrize(
    "block",
    [np.zeros(4, np.int16), np.zeros((4, 3), np.int16), np.zeros((4, 2), np.uint8), np.zeros((4, 2), np.complex64)],
    ids=["flat", "three channels", "unsigned", "complex"],
)
def test_what_is_not_frames_is_refused(block: np.ndarray) -> None:
    with pytest.raises(InvalidFormatError, match="signed integers or floats"):
        stage().player.start_voice().feed(0, block)


def test_an_ended_voice_takes_no_more() -> None:
    voice = stage().player.start_voice()
    voice.end()
    with pytest.raises(VoiceStoppedError, match="Start another"):
        voice.feed(0, numbered(0, 1))


def test_the_number_of_voices_is_bounded() -> None:
    here = stage(max_voices=2)
    first, _ = here.player.start_voice(), here.player.start_voice()
    with pytest.raises(LimitError, match="max_voices"):
        here.player.start_voice()
    first.stop()
    here.player.start_voice()
    assert len(here.player.voices) == 2


def test_an_ending_player_starts_no_voices() -> None:
    here = stage()
    here.player.drain()
    with pytest.raises(VoiceStoppedError, match="another player"):
        here.player.start_voice()


@pytest.mark.parametrize("figure", ["offset_frames", "length_frames", "lead_ns", "prefill_ns"])
def test_negative_figures_are_refused(figure: str) -> None:
    with pytest.raises(InvalidError, match="0 or more"):
        stage().player.start_voice(**{figure: -1})
