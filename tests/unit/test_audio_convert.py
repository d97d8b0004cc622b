import itertools
import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplecache.audio.convert import MAX_GAIN, Converter
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.audio.pcm import FLOAT_PEAK
from samplecache.errors import InvalidError, InvalidFormatError

INTEGERS = [Encoding.U8, Encoding.S16, Encoding.S24, Encoding.S32]
BITS = {Encoding.U8: 8, Encoding.S16: 16, Encoding.S24: 24, Encoding.S32: 32}
WIDENINGS = [
    *((narrow, wide) for narrow in INTEGERS for wide in INTEGERS if BITS[narrow] < BITS[wide]),
    *((narrow, Encoding.F32) for narrow in INTEGERS[:3]),
    *((narrow, Encoding.F64) for narrow in INTEGERS),
    (Encoding.F32, Encoding.F64),
]
RATES_HZ = [8_000, 11_025, 22_050, 44_100, 48_000, 96_000]


def packed(values, encoding):
    """Signed integers in `encoding`, by the standard library alone."""
    if encoding is Encoding.U8:
        return bytes(value + 128 for value in values)
    return b"".join(int(value).to_bytes(encoding.width_bytes, "little", signed=True) for value in values)


def in_encoding(source, target):
    return Converter(AudioFormat(48_000, 1, source), AudioFormat(48_000, 1, target))


def all_of(converter, block):
    return converter.convert(block) + converter.flush()


def cut(block, frame_bytes, cuts):
    """`block` in pieces, cut before each of the frames `cuts`."""
    edges = [0, *sorted(cut * frame_bytes for cut in cuts), len(block)]
    return [block[start:stop] for start, stop in itertools.pairwise(edges)]


def test_identity_hands_back_the_very_bytes():
    audio_format = AudioFormat(44_100, 2, Encoding.F32)
    converter = Converter(audio_format, audio_format)
    odd_floats = struct.pack("<4f", math.nan, math.inf, -0.0, 1e-45)
    assert converter.is_identity
    assert converter.convert(odd_floats) == odd_floats
    assert converter.flush() == b""


@pytest.mark.parametrize(("narrow", "wide"), WIDENINGS, ids=lambda encoding: encoding.value)
@given(data=st.data())
def test_widening_is_exact_and_comes_back(narrow, wide, data):
    width = narrow.width_bytes
    if narrow is Encoding.F32:
        values = data.draw(st.lists(st.floats(-1e9, 1e9, width=32), max_size=50))
        block = struct.pack(f"<{len(values)}f", *values)
    else:
        block = data.draw(st.binary(max_size=50 * width).map(lambda raw: raw[: len(raw) // width * width]))
    assert in_encoding(wide, narrow).convert(in_encoding(narrow, wide).convert(block)) == block


@pytest.mark.parametrize("narrow", INTEGERS[:3])
@given(value=st.integers(-128, 127))
def test_widening_integers_shifts_them(narrow, value):
    level = value << (BITS[narrow] - 8)
    assert in_encoding(narrow, Encoding.S32).convert(packed([level], narrow)) == packed([value << 24], Encoding.S32)


@pytest.mark.parametrize("target", INTEGERS)
def test_narrowing_rounds_to_even_and_clips(target):
    full_scale = 1 << (BITS[target] - 1)
    steps = [0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 0.51, full_scale, 2.0 * full_scale, -full_scale, -2.0 * full_scale]
    expected = [0, 0, 2, 2, 0, -2, 1, full_scale - 1, full_scale - 1, -full_scale, -full_scale]
    block = struct.pack(f"<{len(steps)}d", *(step / full_scale for step in steps))
    assert in_encoding(Encoding.F64, target).convert(block) == packed(expected, target)


def test_what_is_no_number_is_silence_and_infinity_is_clipped():
    block = struct.pack("<3d", math.nan, math.inf, -math.inf)
    assert in_encoding(Encoding.F64, Encoding.S16).convert(block) == packed([0, 32767, -32768], Encoding.S16)
    assert in_encoding(Encoding.F64, Encoding.F32).convert(block) == struct.pack("<3f", 0.0, FLOAT_PEAK, -FLOAT_PEAK)


@given(st.lists(st.floats(width=64), max_size=40), st.sampled_from(RATES_HZ), st.floats(0, MAX_GAIN))
def test_no_input_makes_a_float_that_is_not_finite(values, rate_hz, gain):
    converter = Converter(AudioFormat(48_000, 1, Encoding.F64), AudioFormat(rate_hz, 2, Encoding.F32), gain)
    out = np.frombuffer(all_of(converter, struct.pack(f"<{len(values)}d", *values)), "<f4")
    assert np.isfinite(out).all()


@pytest.mark.parametrize(
    ("source", "frame", "target", "expected"),
    [
        (1, [0.5], 3, [0.5, 0.5, 0.5]),
        (2, [0.5, -0.25], 1, [0.125]),
        (4, [1.0, 0.0, 0.5, 0.5], 1, [0.5]),
        (2, [0.5, -0.25], 4, [0.5, -0.25, 0.0, 0.0]),
        (10, [0.5, 0.25] * 5, 2, [0.5, 0.25]),
        (6, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0], 2, [0.0, 0.0]),
        (6, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0], 2, [1 / (2 + 2**0.5)] * 2),
        (6, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0], 2, [1 / (1 + 2**0.5), 0.0]),
        (8, [1.0] * 8, 2, [1.0, 1.0]),
    ],
)
def test_channels_are_mapped_by_the_documented_rules(source, frame, target, expected):
    converter = Converter(AudioFormat(48_000, source, Encoding.F64), AudioFormat(48_000, target, Encoding.F64))
    out = struct.unpack(f"<{target}d", converter.convert(struct.pack(f"<{source}d", *frame)))
    assert out == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("source", range(1, 65))
@pytest.mark.parametrize("target", [1, 2])
def test_no_fold_clips_full_scale(source, target):
    converter = Converter(AudioFormat(48_000, source, Encoding.F64), AudioFormat(48_000, target, Encoding.F64))
    out = struct.unpack(f"<{target}d", converter.convert(struct.pack(f"<{source}d", *[1.0] * source)))
    assert out == pytest.approx([1.0] * target)


def test_channels_are_not_lost_by_guessing():
    with pytest.raises(InvalidFormatError, match="Ask for mono, stereo, or 6 channels or more") as refusal:
        Converter(AudioFormat(48_000, 6, Encoding.S16), AudioFormat(48_000, 4, Encoding.S16))
    assert refusal.value.reason_code == "UNSUPPORTED_CHANNELS"


@pytest.mark.parametrize("gain", [math.nan, math.inf, -math.inf, -0.1, MAX_GAIN + 0.1])
def test_gain_must_be_a_sensible_number(gain):
    audio_format = AudioFormat(48_000, 1, Encoding.S16)
    with pytest.raises(InvalidError, match="Give a number from 0 to 16") as refusal:
        Converter(audio_format, audio_format, gain)
    assert refusal.value.reason_code == "INVALID_GAIN"


@given(st.lists(st.integers(-32768, 32767), max_size=50), st.floats(0, MAX_GAIN))
def test_gain_multiplies_and_clips(values, gain):
    audio_format = AudioFormat(48_000, 1, Encoding.S16)
    expected = [min(32767, max(-32768, round(value * gain))) for value in values]
    assert Converter(audio_format, audio_format, gain).convert(packed(values, Encoding.S16)) == packed(
        expected, Encoding.S16
    )


def test_half_a_frame_is_refused_and_nothing_is_taken():
    converter = Converter(AudioFormat(44_100, 2, Encoding.S16), AudioFormat(48_000, 2, Encoding.S16))
    with pytest.raises(InvalidFormatError) as refusal:
        converter.convert(bytes(7))
    assert refusal.value.reason_code == "PARTIAL_FRAME"
    assert converter.flush() == b""


any_format = st.builds(AudioFormat, st.sampled_from(RATES_HZ), st.sampled_from([1, 2]), st.sampled_from(Encoding))


@settings(deadline=None)
@given(any_format, any_format, st.integers(0, 3000), st.lists(st.integers(0, 3000), max_size=6), st.integers(0, 99))
def test_blocks_and_length_do_not_depend_on_how_the_input_is_cut(source, target, frames, cuts, seed):
    block = np.random.default_rng(seed).bytes(source.frames_to_bytes(frames))
    converter = Converter(source, target, 0.5)
    whole = all_of(converter, block)
    cuts = [min(cut, frames) for cut in cuts]
    pieces = [converter.convert(piece) for piece in cut(block, source.frame_bytes, cuts)]
    assert b"".join(pieces) + converter.flush() == whole
    exact = frames * target.rate_hz / source.rate_hz
    assert len(whole) == target.frames_to_bytes(math.floor(exact + 0.5))
    assert converter.frames_out(frames) == math.floor(exact + 0.5)


def test_reset_forgets_what_went_before():
    source, target = AudioFormat(44_100, 2, Encoding.S16), AudioFormat(48_000, 2, Encoding.S16)
    block = np.random.default_rng(3).bytes(4 * 5000)
    converter = Converter(source, target)
    fresh = all_of(converter, block)
    converter.convert(block[:4000])
    converter.reset()
    assert all_of(converter, block) == fresh


@pytest.mark.parametrize(("source_hz", "target_hz"), [(44_100, 48_000), (48_000, 44_100), (96_000, 48_000)])
def test_resampled_sine_is_the_sine_at_the_other_rate(source_hz, target_hz):
    def sine(rate_hz):
        return 0.5 * np.sin(2 * np.pi * 997 * np.arange(rate_hz) / rate_hz)

    converter = Converter(AudioFormat(source_hz, 1, Encoding.F64), AudioFormat(target_hz, 1, Encoding.F64))
    out = np.frombuffer(all_of(converter, sine(source_hz).tobytes()))
    middle = slice(target_hz // 10, -target_hz // 10)  # both ends meet silence
    error = (out - sine(target_hz))[middle]
    snr_db = 10 * np.log10(np.mean(sine(target_hz)[middle] ** 2) / np.mean(error**2))
    assert snr_db > 110


@pytest.mark.parametrize("block_frames", [100, 882, 5_000])
def test_held_frames_are_those_that_went_in_and_did_not_come_out(block_frames):
    source, target = AudioFormat(44_100, 1, Encoding.S16), AudioFormat(48_000, 1, Encoding.S16)
    converter = Converter(source, target)
    out_frames, most_held = 0, 0
    for number in range(1, 21):
        out_frames += len(converter.convert(bytes(2 * block_frames))) // 2
        most_held = max(most_held, converter.held_frames)
        assert converter.held_frames == max(0, number * block_frames - out_frames * 44_100 // 48_000)
    assert most_held > 0
    converter.reset()
    assert converter.held_frames == 0


def test_nothing_is_held_at_the_same_rate():
    converter = Converter(AudioFormat(8_000, 1, Encoding.S16), AudioFormat(8_000, 2, Encoding.F32))
    converter.convert(bytes(200))
    assert converter.held_frames == 0
