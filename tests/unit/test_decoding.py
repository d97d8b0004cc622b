"""Decoding whole files of every supported kind, against libsndfile in this process as the oracle."""

import io
import os

import numpy as np
import pytest
import soundfile
from audio_files import RATE_HZ, decode, memory_file, noise, written

from samplecache.audio.decode import DecodeLimits, Decoder
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.errors import AudioError, DecodedTooLargeError, InvalidError, LimitError, StateError

FRAMES = 20_000
EXACT = [
    ("WAV", "PCM_U8", Encoding.U8),
    ("WAV", "PCM_16", Encoding.S16),
    ("WAV", "PCM_24", Encoding.S24),
    ("WAV", "PCM_32", Encoding.S32),
    ("WAV", "FLOAT", Encoding.F32),
    ("WAV", "DOUBLE", Encoding.F64),
    ("WAVEX", "PCM_16", Encoding.S16),
    ("RF64", "PCM_24", Encoding.S24),
    ("W64", "PCM_16", Encoding.S16),
    ("AIFF", "PCM_S8", Encoding.U8),
    ("AIFF", "PCM_16", Encoding.S16),
    ("AIFF", "PCM_24", Encoding.S24),
    ("AU", "PCM_16", Encoding.S16),
    ("CAF", "PCM_24", Encoding.S24),
    ("CAF", "ALAC_16", Encoding.S16),
    ("FLAC", "PCM_S8", Encoding.U8),
    ("FLAC", "PCM_16", Encoding.S16),
    ("FLAC", "PCM_24", Encoding.S24),
]
LOSSY = [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]


@pytest.fixture(scope="module")
def decoder():
    with Decoder(DecodeLimits(max_decoded_bytes=8 << 20)) as decoder:
        yield decoder


def oracle(data, encoding):
    """The file's PCM by one call of soundfile, narrowed by plain integer arithmetic."""
    if encoding.is_float:
        dtype = "float32" if encoding is Encoding.F32 else "float64"
        return soundfile.read(io.BytesIO(data), dtype=dtype)[0].tobytes()
    values = soundfile.read(io.BytesIO(data), dtype="int32")[0].reshape(-1)
    shift = 32 - 8 * encoding.width_bytes
    if encoding is Encoding.U8:
        return ((values >> shift) + 128).astype("u1").tobytes()
    return b"".join(int(value >> shift).to_bytes(encoding.width_bytes, "little", signed=True) for value in values)


@pytest.mark.parametrize(("container", "codec", "encoding"), EXACT)
def test_pcm_keeps_its_width_and_every_bit(decoder, container, codec, encoding):
    data = written(container, codec, noise(FRAMES))
    info, pcm = decode(decoder, data)
    assert info.format == AudioFormat(RATE_HZ, 2, encoding)
    assert (info.frames, info.container, info.codec) == (FRAMES, container, codec)
    assert pcm == oracle(data, encoding)


@pytest.mark.parametrize(("container", "codec"), LOSSY)
def test_lossy_codecs_become_floats(decoder, container, codec):
    data = written(container, codec, noise(FRAMES))
    info, pcm = decode(decoder, data)
    assert (info.format.encoding, info.frames, info.codec) == (Encoding.F32, FRAMES, codec)
    assert pcm == oracle(data, Encoding.F32)


@pytest.mark.parametrize("endian", ["BIG", "LITTLE"])
def test_either_byte_order_comes_out_little_endian(decoder, endian):
    data = written("WAV", "PCM_16", noise(FRAMES), endian=endian)
    assert decode(decoder, data)[1] == oracle(data, Encoding.S16)


def test_floats_are_stored_in_the_encoding_asked_for_rounded_and_clipped(decoder):
    steps = np.array([[0.0], [0.5 / 32768], [1.5 / 32768], [1.0], [2.0], [-3.0], [np.nan]])
    data = written("WAV", "FLOAT", steps)
    info, pcm = decode(decoder, data, store_encoding=Encoding.S16)
    assert info.format.encoding is Encoding.S16
    assert np.frombuffer(pcm, "<i2").tolist() == [0, 0, 2, 32767, 32767, -32768, 0]


def test_narrow_pcm_can_be_stored_wide(decoder):
    data = written("FLAC", "PCM_16", noise(FRAMES))
    assert decode(decoder, data, store_encoding=Encoding.F64)[1] == oracle(data, Encoding.F64)


def test_a_file_of_many_pieces_is_seamless(decoder):
    data = written("FLAC", "PCM_16", noise(1_200_000, channels=1))
    assert decode(decoder, data)[1] == oracle(data, Encoding.S16)


@pytest.mark.parametrize("channels", [1, 6, 64])
def test_channels_up_to_the_limit(decoder, channels):
    data = written("WAV", "PCM_16", noise(100, channels))
    info, pcm = decode(decoder, data)
    assert info.format.channels == channels
    assert pcm == oracle(data, Encoding.S16)


def test_content_decides_not_the_name(decoder):
    data = written("FLAC", "PCM_16", noise(FRAMES))
    assert decode(decoder, data, name_hint="drums.mp3")[0].container == "FLAC"


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3"])
def test_an_id3_tag_in_front_is_skipped(decoder, container):
    codec = "MPEG_LAYER_III" if container == "MP3" else "PCM_16"
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x10" + bytes(16)
    data = written(container, codec, noise(FRAMES))
    assert decode(decoder, tag + data)[1] == decode(decoder, data)[1]


def test_a_tag_behind_flac_is_no_audio(decoder):
    data = written("FLAC", "PCM_16", noise(FRAMES))
    assert decode(decoder, data + b"TAG" + bytes(125))[1] == decode(decoder, data)[1]


def test_flac_of_unknown_length_is_counted_first(decoder):
    data = bytearray(written("FLAC", "PCM_16", noise(FRAMES)))
    total_frames = slice(21, 26)  # STREAMINFO: 36 bits, after 4 that belong to the width
    data[total_frames] = bytes([data[21] & 0xF0]) + bytes(4)
    info, pcm = decode(decoder, bytes(data))
    assert info.frames == FRAMES
    assert pcm == oracle(written("FLAC", "PCM_16", noise(FRAMES)), Encoding.S16)


def without_first_mpeg_frame(data):
    second = data.index(data[:2], 4)
    return data[second:]


def test_mp3_of_constant_rate_without_table_is_counted_first(decoder):
    data = without_first_mpeg_frame(
        written("MP3", "MPEG_LAYER_III", noise(FRAMES), bitrate_mode="CONSTANT", compression_level=0.5)
    )
    info, _ = decode(decoder, data)
    assert info.frames % 1152 == 0
    assert info.frames >= FRAMES


def test_mp3_that_libsndfile_would_cut_is_refused(decoder):
    data = without_first_mpeg_frame(written("MP3", "MPEG_LAYER_III", noise(FRAMES), bitrate_mode="VARIABLE"))
    assert soundfile.info(io.BytesIO(data)).frames < FRAMES
    with pytest.raises(AudioError, match="variable bit rate without a Xing header") as refusal:
        decode(decoder, data)
    assert refusal.value.reason_code == "UNDECODABLE_AUDIO"


@pytest.fixture(scope="module")
def bomb():
    """Ten minutes of silence: 115 MB from about a hundred kB."""
    return written("FLAC", "PCM_16", np.zeros((600 * RATE_HZ, 2), "i2"))


def test_a_bomb_is_refused_by_its_header(decoder, bomb):
    with pytest.raises(DecodedTooLargeError, match="more than 8388608 bytes") as refusal:
        decode(decoder, bomb, name_hint="bomb.flac")
    assert refusal.value.details["frames"] == str(600 * RATE_HZ)


def test_a_bomb_without_a_length_is_counted_no_further_than_the_limit(decoder, bomb):
    hidden = bytearray(bomb)
    hidden[21:26] = bytes([hidden[21] & 0xF0]) + bytes(4)
    with pytest.raises(DecodedTooLargeError) as refusal:
        decode(decoder, bytes(hidden))
    assert refusal.value.details["frames"] == str((8 << 20) // 4 + 1)


def test_a_long_input_is_refused_unread():
    with Decoder(DecodeLimits(max_input_bytes=1000)) as decoder, memory_file(bytes(1001)) as fd:
        with pytest.raises(LimitError, match="raise the decoder's max_input_bytes") as refusal:
            decoder.open(fd)
        assert refusal.value.reason_code == "INPUT_TOO_LARGE"
        assert decoder.pid is None


def test_a_pipe_is_no_file(decoder):
    read_fd, write_fd = os.pipe()
    try:
        with pytest.raises(InvalidError, match="Copy it into a memfd") as refusal:
            decoder.open(read_fd)
        assert refusal.value.reason_code == "NOT_A_FILE"
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_the_callers_offset_stays_where_it_is(decoder):
    data = written("WAV", "PCM_16", noise(10))
    with memory_file(data) as fd, decoder.open(fd) as decoding:
        while os.read(decoding.pcm_fd, 4096):
            pass
        decoding.finish()
        assert os.lseek(fd, 0, os.SEEK_CUR) == len(data)


def test_finishing_without_reading_is_an_error(decoder):
    with memory_file(written("WAV", "PCM_16", noise(FRAMES))) as fd, decoder.open(fd) as decoding:
        with pytest.raises(StateError) as refusal:
            decoding.finish()
        assert refusal.value.reason_code == "PCM_UNREAD"
        with pytest.raises(StateError, match="Open the file again"):
            decoding.finish()
