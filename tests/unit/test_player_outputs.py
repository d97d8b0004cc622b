"""Outputs keep time as a card does, write what they are given, and say what they could not open."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS, VirtualClock
from samplecache.errors import ConfigurationError, InvalidFormatError, StateError
from samplecache_player import (
    NullOutput,
    Output,
    OutputReport,
    OutputUnavailableError,
    Period,
    Player,
    VoiceStoppedError,
    WavOutput,
    open_output,
)

S16 = AudioFormat(48_000, 2, Encoding.S16)
F32 = AudioFormat(48_000, 2, Encoding.F32)
LONG_NS = 60_000 * NS_PER_MS


class OversleepingClock(VirtualClock):
    """A virtual clock whose n-th sleep is late by what `lateness_ns` says."""

    def __init__(self, lateness_ns: dict[int, int]) -> None:
        super().__init__()
        self._lateness_ns = lateness_ns
        self._sleeps = 0

    def sleep_until(self, wake_ns: int) -> None:
        super().sleep_until(wake_ns + self._lateness_ns.get(self._sleeps, 0))
        self._sleeps += 1


class Source:
    """Counts up over a number of frames, and notes when it was asked."""

    def __init__(self, clock: VirtualClock, frames: int) -> None:
        self._clock = clock
        self._left = frames
        self.asked_ns: list[int] = []

    def __call__(self, out: Period) -> int:
        self.asked_ns.append(self._clock.now_ns())
        filled = min(len(out), self._left)
        self._left -= filled
        return filled


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.001)


def test_a_null_card_asks_at_absolute_periods() -> None:
    clock = VirtualClock(start_ns=7)
    source = Source(clock, 1000)
    output = NullOutput(S16, clock=clock)
    output.start(source)
    assert output.wait(LONG_NS)
    assert source.asked_ns == [7, 7 + 10 * NS_PER_MS, 7 + 20 * NS_PER_MS]
    assert output.report() == OutputReport(frames_played=1000, periods=3)
    assert clock.now_ns() == 7 + S16.duration_ns(1000)


def test_a_late_null_card_says_so_and_does_not_drift() -> None:
    clock = OversleepingClock({2: 23 * NS_PER_MS})
    source = Source(clock, 6 * 480)
    output = NullOutput(S16, clock=clock)
    output.start(source)
    assert output.wait(LONG_NS)
    assert [asked_ns // NS_PER_MS for asked_ns in source.asked_ns] == [0, 10, 43, 43, 43, 50, 60]
    assert output.report() == OutputReport(frames_played=6 * 480, periods=7, lateness_max_ns=23 * NS_PER_MS)


def test_periods_that_are_no_whole_nanoseconds_do_not_drift() -> None:
    clock = VirtualClock()
    source = Source(clock, 44_100)
    output = NullOutput(AudioFormat(44_100, 2, Encoding.S16), period_frames=441 + 1, clock=clock)
    output.start(source)
    assert output.wait(LONG_NS)
    assert clock.now_ns() == 1_000_000_000


def test_a_real_null_card_keeps_real_time() -> None:
    output = NullOutput(S16)
    before_ns = time.monotonic_ns()
    output.start(Source(VirtualClock(), 4800))
    assert output.wait(LONG_NS)
    assert time.monotonic_ns() - before_ns >= 100 * NS_PER_MS
    assert output.report().frames_played == 4800


def test_stop_ends_a_card_that_would_play_for_ever() -> None:
    output = NullOutput(S16)
    ended = threading.Event()
    output.start(len, ended.set)
    assert not output.wait(1)
    output.stop()
    assert ended.is_set()
    assert output.wait(0)
    output.stop()


def test_an_output_is_used_once() -> None:
    output = NullOutput(S16, clock=VirtualClock())
    output.start(lambda out: 0)
    output.wait(LONG_NS)
    with pytest.raises(StateError, match="Open a new one"):
        output.start(lambda out: 0)


@pytest.mark.parametrize("encoding", [Encoding.U8, Encoding.S24, Encoding.S32, Encoding.F64])
def test_other_encodings_are_refused(encoding: Encoding) -> None:
    with pytest.raises(InvalidFormatError, match="s16 or f32"):
        NullOutput(AudioFormat(48_000, 2, encoding))


def test_a_source_that_fails_stops_the_voices_and_is_told_to_who_waits() -> None:
    class BrokenOutput(NullOutput):
        def _deliver(self, frames: Period) -> None:
            raise OutputUnavailableError("the card caught fire", remedy="Use another")

    player = Player(BrokenOutput(S16))
    voice = player.start_voice()
    player.start()
    with pytest.raises(OutputUnavailableError, match="caught fire"):
        player.drain(LONG_NS)
    assert voice.wait(LONG_NS)
    with pytest.raises(VoiceStoppedError):
        voice.feed(0, np.zeros((1, 2), np.int16))


def play_into(output: Output, *sounds: np.ndarray) -> None:
    """Play `sounds` together, each fed by a thread in small blocks."""
    player = Player(output, buffer_ns=20 * NS_PER_MS)
    for sound in sounds:
        voice = player.start_voice()
        blocks = [(start, sound[start : start + 777]) for start in range(0, len(sound), 777)]
        threading.Thread(target=voice.feed_all, args=(blocks,), daemon=True).start()
    with player:
        assert player.drain(LONG_NS)


def test_a_16_bit_wav_file_is_exact_to_the_byte(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    long, short = (rng.integers(-16000, 16000, (frames, 2)).astype("<i2") for frames in (10_001, 1234))
    play_into(WavOutput(tmp_path / "out.wav", S16), long, short)
    mix = long.copy()
    mix[: len(short)] += short
    body = mix.tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + len(body),
        b"WAVE",
        b"fmt ",
        16,
        1,
        2,
        48_000,
        192_000,
        4,
        16,
        b"data",
        len(body),
    )
    assert (tmp_path / "out.wav").read_bytes() == head + body


def test_a_float_wav_file_is_exact(tmp_path: Path) -> None:
    sound = np.random.default_rng(3).uniform(-2, 2, (5000, 2)).astype(np.float32)
    play_into(WavOutput(tmp_path / "out.wav", F32), sound)
    read, rate_hz = soundfile.read(tmp_path / "out.wav", dtype="float32")
    np.testing.assert_array_equal(read, sound)
    assert rate_hz == 48_000
    assert soundfile.info(tmp_path / "out.wav").subtype == "FLOAT"


def test_an_unpaced_file_waits_for_its_voices_instead_of_recording_silence(tmp_path: Path) -> None:
    sound = np.full((960, 2), 5, np.int16)
    output = WavOutput(tmp_path / "out.wav", S16)
    with Player(output) as player:
        voice = player.start_voice(length_frames=960)
        voice.feed(0, sound[:700])
        wait_until(lambda: voice.position_frames == 480, "the first whole period was not taken")
        player.pause()
        voice.feed(700, sound[700:])
        player.resume()
        assert player.drain(LONG_NS)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out.wav", dtype="int16")[0], sound)
    assert voice.report().glitches == 0


def test_a_paced_file_has_silence_where_frames_came_too_late(tmp_path: Path) -> None:
    sound = np.full((600, 2), 5, np.int16)
    with Player(WavOutput(tmp_path / "out.wav", S16, paced=True, clock=VirtualClock())) as player:
        voice = player.start_voice(lead_ns=LONG_NS)
        voice.feed(0, sound)
        wait_until(lambda: voice.report().glitches == 1, "no glitch was counted")
        voice.feed(600, sound)
        voice.end()
        assert player.drain(LONG_NS)
    read = soundfile.read(tmp_path / "out.wav", dtype="int16")[0][:, 0]
    (gap,) = voice.report().gaps
    first = int(np.argmax(read != 0))
    np.testing.assert_array_equal(read[first:], [5] * 600 + [0] * gap.length_frames + [5] * 600)
    assert gap.at_frame == 600


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputUnavailableError, match="directory that you may write to"):
        WavOutput(tmp_path / "missing" / "out.wav", S16)


def test_outputs_are_opened_by_name(tmp_path: Path) -> None:
    null, null_note = open_output("null", S16)
    wav, wav_note = open_output(f"wav:{tmp_path}/a:b.wav", F32, paced=True)
    assert (type(null), null.format, null.paced, null_note) == (NullOutput, S16, True, None)
    assert (type(wav), wav.format, wav.paced, wav_note) == (WavOutput, F32, True, None)
    wav.stop()
    assert (tmp_path / "a:b.wav").exists()
    assert open_output(f"wav:{tmp_path}/c.wav", S16)[0].paced is False


@pytest.mark.parametrize("spec", ["", "wav", "wav:", "null:x", "speaker", ":device"])
def test_other_names_are_refused(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="device, device:NAME, null or wav:FILE"):
        open_output(spec, S16)
