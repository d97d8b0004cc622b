import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecache.audio.format import AudioFormat, Encoding, check_raw
from samplecache.clock import NS_PER_S
from samplecache.errors import AudioError, InvalidFormatError

formats = st.builds(AudioFormat, st.integers(1_000, 768_000), st.integers(1, 64), st.sampled_from(Encoding))


@pytest.mark.parametrize(
    ("encoding", "width_bytes"),
    [
        (Encoding.U8, 1),
        (Encoding.S16, 2),
        (Encoding.S24, 3),
        (Encoding.S32, 4),
        (Encoding.F32, 4),
        (Encoding.F64, 8),
    ],
)
def test_frame_is_every_channels_width(encoding, width_bytes):
    assert encoding.width_bytes == width_bytes
    assert AudioFormat(48_000, 6, encoding).frame_bytes == 6 * width_bytes


@pytest.mark.parametrize(
    ("audio_format", "text"),
    [
        (AudioFormat(48_000, 2, Encoding.S16), "48000 Hz stereo s16"),
        (AudioFormat(8_000, 1, Encoding.U8), "8000 Hz mono u8"),
        (AudioFormat(96_000, 6, Encoding.F32), "96000 Hz 6 channels f32"),
    ],
)
def test_text_names_all_three_parts(audio_format, text):
    assert str(audio_format) == text


@pytest.mark.parametrize(("rate_hz", "channels"), [(999, 2), (768_001, 2), (-1, 2), (48_000, 0), (48_000, 65)])
def test_impossible_formats_are_refused_with_the_allowed_range(rate_hz, channels):
    with pytest.raises(InvalidFormatError, match=r"out of range\. Give .* 1(000)? to") as refusal:
        AudioFormat(rate_hz, channels, Encoding.S16)
    assert refusal.value.reason_code == "INVALID_FORMAT"


def test_encoding_must_be_one_of_the_known():
    with pytest.raises(InvalidFormatError, match="Give one of u8, s16, s24, s32, f32, f64"):
        AudioFormat(48_000, 2, "s16")  # type: ignore[arg-type]


@given(formats, st.integers(0, 10**9))
def test_bytes_and_time_lead_back_to_the_frame(audio_format, frames):
    assert audio_format.bytes_to_frames(audio_format.frames_to_bytes(frames)) == frames
    assert audio_format.frames_in(audio_format.duration_ns(frames)) == frames


@given(formats)
def test_a_second_has_rate_frames(audio_format):
    assert audio_format.frames_in(NS_PER_S) == audio_format.rate_hz
    assert audio_format.duration_ns(audio_format.rate_hz) == NS_PER_S


def test_raw_audio_must_be_whole_frames():
    stereo = AudioFormat(48_000, 2, Encoding.S24)
    assert check_raw(stereo, 6 * 7) == 7
    with pytest.raises(InvalidFormatError, match="Send 42 or 48 bytes") as refusal:
        check_raw(stereo, 43)
    assert refusal.value.reason_code == "PARTIAL_FRAME"


def test_raw_audio_must_have_a_frame():
    with pytest.raises(AudioError) as refusal:
        check_raw(AudioFormat(48_000, 2, Encoding.S16), 0)
    assert refusal.value.reason_code == "EMPTY_AUDIO"
