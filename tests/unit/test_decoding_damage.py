"""Files that are empty, no audio, cut, damaged, or that lie."""

import random
import struct

import numpy as np
import pytest
from audio_files import decode, noise, written

from samplecache.audio.decode import DecodeLimits, Decoder
from samplecache.errors import AudioError, DecodedTooLargeError

FRAMES = 20_000
KINDS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAVEX", "FLOAT"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


@pytest.fixture(scope="module")
def decoder():
    with Decoder(DecodeLimits(max_decoded_bytes=8 << 20)) as decoder:
        yield decoder


def refusal_of(decoder, data):
    with pytest.raises(AudioError) as refusal:
        decode(decoder, data, name_hint="upload.bin")
    return refusal.value


@pytest.mark.parametrize(("container", "codec"), KINDS)
@pytest.mark.parametrize("kept", [0.25, 0.5, 0.9, -1])
def test_a_cut_file_is_refused_as_cut(decoder, container, codec, kept):
    data = written(container, codec, noise(FRAMES))
    cut = data[:kept] if kept < 0 else data[: int(len(data) * kept)]
    error = refusal_of(decoder, cut)
    if container == "FLAC":  # libFLAC cannot tell a frame that is cut from one that is damaged
        assert error.reason_code in ("TRUNCATED_AUDIO", "UNDECODABLE_AUDIO")
    else:
        assert error.reason_code == "TRUNCATED_AUDIO"
        assert "Send the whole file" in str(error)


@pytest.mark.parametrize(("container", "codec"), KINDS)
@pytest.mark.parametrize("kept_bytes", [1, 4, 12, 30])
def test_a_piece_of_a_header_is_refused(decoder, container, codec, kept_bytes):
    error = refusal_of(decoder, written(container, codec, noise(100))[:kept_bytes])
    assert error.reason_code in ("TRUNCATED_AUDIO", "UNDECODABLE_AUDIO", "EMPTY_AUDIO")


def test_ogg_without_its_last_page_is_cut(decoder):
    data = written("OGG", "VORBIS", noise(FRAMES))
    error = refusal_of(decoder, data[: data.rindex(b"OggS")])
    assert (error.reason_code, "no page that ends its stream" in str(error)) == ("TRUNCATED_AUDIO", True)


def test_ogg_streams_in_a_chain_are_refused_rather_than_lost(decoder):
    data = written("OGG", "VORBIS", noise(FRAMES))
    assert "another stream begins" in str(refusal_of(decoder, data + data))


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_a_damaged_ogg_page_is_found(decoder, codec):
    data = bytearray(written("OGG", codec, noise(FRAMES)))
    data[len(data) // 2] ^= 1
    assert "fails its checksum" in str(refusal_of(decoder, bytes(data)))


def test_damaged_flac_is_found(decoder):
    data = bytearray(written("FLAC", "PCM_16", noise(FRAMES)))
    data[len(data) // 2] ^= 0xFF
    assert refusal_of(decoder, bytes(data)).reason_code in ("TRUNCATED_AUDIO", "UNDECODABLE_AUDIO")


def test_flac_that_announces_too_much_is_refused(decoder):
    data = bytearray(written("FLAC", "PCM_16", noise(FRAMES)))
    data[22:26] = struct.pack(">I", FRAMES + 1)
    assert f"announces {FRAMES + 1} frames and has {FRAMES}" in str(refusal_of(decoder, bytes(data)))


def test_wav_written_to_a_pipe_ends_where_the_file_does(decoder):
    data = bytearray(written("WAV", "PCM_16", noise(FRAMES)))
    data[4:8] = data[40:44] = b"\xff" * 4
    assert decode(decoder, bytes(data))[0].frames == FRAMES


def test_a_wav_chunk_without_its_padding_is_damage_not_a_cut(decoder):
    data = written("WAV", "PCM_16", noise(FRAMES))
    odd_chunk = b"note" + struct.pack("<I", 3) + b"abc"
    assert refusal_of(decoder, data[:36] + odd_chunk + data[36:]).reason_code == "UNDECODABLE_AUDIO"


def test_mp3_without_table_that_ends_inside_a_frame_is_cut(decoder):
    data = written("MP3", "MPEG_LAYER_III", noise(FRAMES), bitrate_mode="CONSTANT", compression_level=0.5)
    data = data[data.index(data[:2], 4) :]
    assert "ends inside an MPEG frame" in str(refusal_of(decoder, data[:-50]))


def test_an_empty_file_is_named_so(decoder):
    error = refusal_of(decoder, b"")
    assert (error.reason_code, error.message) == ("EMPTY_AUDIO", "upload.bin is empty")


@pytest.mark.parametrize(
    ("container", "codec"), [("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("AU", "PCM_16")]
)
def test_a_file_without_frames_is_empty(decoder, container, codec):
    assert refusal_of(decoder, written(container, codec, np.zeros((0, 2)))).reason_code == "EMPTY_AUDIO"


@pytest.mark.parametrize(
    "data", [b"hello, world\n" * 100, random.Random(1).randbytes(5000), b"\x89PNG\r\n\x1a\n" + bytes(100)]
)
def test_what_is_no_audio_is_answered_with_what_would_be(decoder, data):
    error = refusal_of(decoder, data)
    assert error.reason_code == "UNDECODABLE_AUDIO"
    assert "WAV, RF64, W64, AIFF, AU, CAF, FLAC, OGG (Vorbis, Opus) and MP3" in error.remedy


@pytest.mark.parametrize(("channels", "rate_hz"), [(65, 48_000), (2, 999)])
def test_audio_beyond_the_formats_is_refused_as_such(decoder, channels, rate_hz):
    error = refusal_of(decoder, written("WAV", "PCM_16", noise(10, channels), rate_hz))
    assert error.reason_code == "UNSUPPORTED_FORMAT"


@pytest.mark.parametrize(("container", "codec"), [*KINDS, ("CAF", "ALAC_16"), ("WAV", "IMA_ADPCM")])
def test_mutated_files_are_decoded_or_refused_and_never_end_the_decoder(decoder, container, codec):
    pristine = written(container, codec, noise(2000))
    decoder.start()
    pid = decoder.pid
    choices = random.Random(f"{container} {codec}")
    for _ in range(16):
        data = bytearray(pristine)
        for _ in range(choices.randint(1, 8)):
            data[choices.randrange(min(len(data), 400))] = choices.choice(
                [0, 1, 0x7F, 0x80, 0xFF, choices.randrange(256)]
            )
        try:
            info, pcm = decode(decoder, bytes(data))
            assert len(pcm) == info.total_bytes
        except (AudioError, DecodedTooLargeError):
            continue
    assert decoder.pid == pid
    assert decode(decoder, pristine)[0].frames > 0
