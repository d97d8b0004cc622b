"""What the command line reads and writes, without a server."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path, PurePath

import mido
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cli import app, render
from samplecache.cli.connect import DEFAULT_SERVER
from samplecache.cli.deck import Window
from samplecache.cli.doctoring import check_pressure
from samplecache.cli.document import document, event_document
from samplecache.cli.paging import page_bar
from samplecache.cli.scheduling import midi_cues, parse_cue
from samplecache.cli.serving import KernelChoice
from samplecache.cli.sound_files import SoundFile, find
from samplecache.cli.values import EncodingName, encoding_of, parse_raw_format, parse_size
from samplecache.client import DEFAULT_TARGET, sample_id_of
from samplecache.errors import ConfigurationError, InvalidSampleIdError, SamplecacheError
from samplecache.service.config import DEFAULT_LISTEN, KernelName
from samplecache.v1 import audio_pb2, sample_pb2
from samplecache.v1 import playback_pb2 as playback
from samplecache.v1 import samplecache_pb2 as pb

SAMPLE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


# --- ids ---


@pytest.mark.parametrize(
    ("path", "sample_id"),
    [
        ("kick.wav", "kick"),
        ("Kick (Hard) 01.WAV", "kick-hard-01"),
        ("drums/808/Kick.flac", "drums.808.kick"),
        ("Große Trömmel.ogg", "grosse-trommel"),
        (".hidden.wav", "hidden"),
        ("a" * 80 + ".wav", "a" * 63),
        ("v1.2_final-mix.wav", "v1.2_final-mix"),
    ],
)
def test_sample_id_of_known_names(path: str, sample_id: str) -> None:
    assert sample_id_of(PurePath(path)) == sample_id


@given(st.lists(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), max_size=40), max_size=3))
def test_sample_id_is_always_valid_or_refused(parts: list[str]) -> None:
    with contextlib.suppress(InvalidSampleIdError):
        assert SAMPLE_ID.fullmatch(sample_id_of(PurePath(*parts)))


@pytest.mark.parametrize("name", ["", "音.wav", "---.wav", "..."])
def test_sample_id_of_nothing_usable(name: str) -> None:
    with pytest.raises(InvalidSampleIdError, match="--id"):
        sample_id_of(PurePath(name))


# --- options ---


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("65536", 65_536),
        ("64KiB", 65_536),
        ("64kB", 64_000),
        ("64k", 64_000),
        ("1.5 GiB", 1_610_612_736),
        ("2mib", 2_097_152),
        ("1T", 10**12),
    ],
)
def test_parse_size(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "-1", "64 parsecs", "MiB", "1e6"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="64MiB"):
        parse_size(text)


def test_parse_raw_format() -> None:
    assert parse_raw_format("48000:2:S24") == AudioFormat(48_000, 2, Encoding.S24)


@pytest.mark.parametrize("text", ["48000:2", "48000:2:s17", "fast:2:s16", "48000:2:s16:1", "1:2:s16", "48000:65:s16"])
def test_parse_raw_format_refuses(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_raw_format(text)


def test_names_agree_with_what_they_stand_for() -> None:
    assert [encoding_of(name) for name in EncodingName] == list(Encoding)
    assert encoding_of(None) is None
    assert [name.value for name in KernelChoice] == [name.value for name in KernelName]
    assert DEFAULT_SERVER == DEFAULT_TARGET == DEFAULT_LISTEN


# --- files ---


def test_find_takes_audio_from_folders_and_anything_that_is_named(tmp_path: Path) -> None:
    for name in ("kit/b.WAV", "kit/sub/a.flac", "kit/readme.txt", "alone.xyz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(find([tmp_path / "kit", tmp_path / "alone.xyz"])) == [
        SoundFile(tmp_path / "kit/b.WAV", Path("b.WAV")),
        SoundFile(tmp_path / "kit/sub/a.flac", Path("sub/a.flac")),
        SoundFile(tmp_path / "alone.xyz", Path("alone.xyz")),
    ]


def test_find_tells_of_what_is_missing_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.wav").touch()
    missing, empty, file = find([tmp_path / "nothing", tmp_path / "empty", tmp_path / "a.wav"])
    assert isinstance(missing, SamplecacheError)
    assert missing.reason_code == "NO_SUCH_FILE"
    assert isinstance(empty, SamplecacheError)
    assert empty.reason_code == "NO_AUDIO_FILES"
    assert file == SoundFile(tmp_path / "a.wav", Path("a.wav"))


# --- JSON ---


def test_a_document_has_every_field_with_numbers_units_and_names() -> None:
    sample = sample_pb2.Sample(
        sample_id="kick",
        format=audio_pb2.AudioFormat(rate_hz=48_000, channels=2, encoding=audio_pb2.ENCODING_S16),
        frames=2**60,
        content_sha256=b"\x00\xff",
    )
    sample.create_time.FromJsonString("2026-11-23T07:00:00Z")
    assert document(sample) == {
        "sample_id": "kick",
        "format": {"rate_hz": 48_000, "channels": 2, "encoding": "s16"},
        "frames": 2**60,
        "size_bytes": 0,
        "charged_bytes": 0,
        "content_sha256": "00ff",
        "source": "",
        "tags": [],
        "pinned": False,
        "strategy": "",
        "create_time": "2026-11-23T07:00:00Z",
        "shared_with": 0,
        "playing": 0,
    }


def test_a_document_tells_unset_from_zero() -> None:
    assert document(pb.GetCapabilitiesResponse())["lock_limit_bytes"] is None
    assert document(pb.GetCapabilitiesResponse(lock_limit_bytes=0))["lock_limit_bytes"] == 0
    assert document(pb.PrefetchResult())["elapsed_ns"] is None


def test_events_bear_their_name_and_causes_theirs() -> None:
    stats = playback.PlaybackStats(late_blocks=3, late_by_cause=[0, 2, 0, 1, 0, 0])
    stats.longest_stall.FromNanoseconds(1_500_000_001)
    summary = event_document(playback.PlaySummary(stats=stats, next_frame=7))
    assert list(summary) == ["event", "stats", "next_frame"]
    assert summary["event"] == "summary"
    assert summary["stats"]["longest_stall_ns"] == 1_500_000_001
    assert summary["stats"]["late_by_cause"] == {"major_fault": 2, "scheduling": 1}
    underrun = event_document(playback.Underrun(cause=playback.UNDERRUN_CAUSE_PAGE_WAIT))
    assert (underrun["event"], underrun["cause"]) == ("underrun", "page_wait")
    assert event_document(playback.StrategyBinding(chosen_by=playback.CHOSEN_BY_HOOK)) == {
        "event": "binding",
        "strategy": "",
        "chosen_by": "hook",
        "degraded_from": "",
        "notes": [],
        "why": "",
    }


# --- for people ---


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB"), (5 << 50, "5120.0 TiB")],
)
def test_size(size_bytes: int, text: str) -> None:
    assert render.size(size_bytes) == text


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0 ns"),
        (12_340, "12.3 us"),
        (12_340_000, "12.3 ms"),
        (4_200_000_000, "4.20 s"),
        (62_000_000_000, "1:02"),
        (3_723_000_000_000, "1:02:03"),
    ],
)
def test_duration(duration_ns: int, text: str) -> None:
    assert render.duration(duration_ns) == text


@pytest.mark.parametrize(
    ("permitted", "useful", "text"), [(True, True, "useful"), (True, False, "no effect"), (False, False, "refused")]
)
def test_standing(permitted: bool, useful: bool, text: str) -> None:
    assert render.standing(permitted, useful) == text


@given(st.binary(max_size=200).map(lambda pages: bytes(page % 5 for page in pages)), st.integers(1, 50))
def test_a_bar_is_no_longer_than_the_pages_and_shows_every_cold_one(tiers: bytes, cells: int) -> None:
    bar = page_bar(tiers, cells).plain
    assert len(bar) == min(cells, len(tiers))
    assert ("·" in bar) == (0 in tiers)
    assert ("■" in bar) <= (4 in tiers)


@given(st.integers(0, 100), st.integers(1, 100), st.integers(0, 300), st.booleans())
def test_a_window_is_never_left(start: int, frames: int, heard: int, loop: bool) -> None:
    window = Window(start, start + frames, 48_000, loop)
    after = window.after(start, heard)
    assert after == (start + heard % frames if loop else min(start + heard, start + frames))
    assert window.clamp(start - 1) == start
    assert window.clamp(after + frames) == start + frames - 1


def test_pressure(tmp_path: Path) -> None:
    file = tmp_path / "memory"
    assert not check_pressure(file)["works"]
    file.write_text("some avg10=1.50 avg60=0.20 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    assert check_pressure(file) == {
        "works": True,
        "why": "tasks waited for memory 1.50 % of the last 10 s, 0.20 % of 60 s",
        "remedy": "",
    }


# --- usage ---


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["put"],
        ["put", "a.wav", "b.wav", "--id", "one"],
        ["put", "a.wav", "--raw", "48000"],
        ["put", "a.wav", "--encoding", "s17"],
        ["update", "kick"],
        ["update", "kick", "--tag", "a", "--no-tags"],
        ["play", "kick", "--json", "--output", "-"],
        ["play", "kick", "--gain", "17"],
        ["play", "kick", "--start", "-1"],
        ["serve", "--budget", "lots"],
        ["serve", "--kernel", "hurd"],
        ["watch", "--kind", "rain"],
        ["schedule"],
        ["schedule", "kick"],
        ["schedule", "kick@1.5s"],
        ["schedule", "kick@+1h"],
        ["schedule", "kick@+1s?1.5"],
        ["schedule", "--cancel"],
        ["schedule", "kick@+1s", "--id", "song", "--cancel"],
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "after_ns", "sureness"),
    [
        ("kick@+1.5s", 1_500_000_000, 1.0),
        ("kick@+800ms", 800_000_000, 1.0),
        ("kick@+2?0.25", 2_000_000_000, 0.25),
        (" kick@+0s?1 ", 0, 1.0),
    ],
)
def test_a_cue_says_when_and_how_surely(text: str, after_ns: int, sureness: float) -> None:
    cue = parse_cue(text, "touch")
    assert (cue.sample_id, cue.strategy, cue.sureness) == ("kick", "touch", sureness)
    assert cue.after.ToNanoseconds() == after_ns


def test_notes_of_a_midi_file_are_cues(tmp_path: Path) -> None:
    track = mido.MidiTrack(
        [
            mido.Message("note_on", note=36, velocity=90, time=0),
            mido.Message("note_off", note=36, time=240),
            mido.Message("note_on", note=40, velocity=90, time=0),
            mido.Message("note_on", note=38, velocity=90, time=240),
        ]
    )
    song = mido.MidiFile(ticks_per_beat=480, tracks=[track])  # 120 beats a minute
    song.save(tmp_path / "song.mid")
    cues = midi_cues(tmp_path / "song.mid", ["36=kick", "38=snare"], "touch")
    assert [(cue.sample_id, cue.after.ToNanoseconds(), cue.strategy) for cue in cues] == [
        ("kick", 0, "touch"),
        ("snare", 500_000_000, "touch"),
    ]
    with pytest.raises(ConfigurationError, match="strikes none of the notes that have a sample"):
        midi_cues(tmp_path / "song.mid", ["60=bell"])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        midi_cues(tmp_path / "none.mid", ["36=kick"])
    for wrong in ("kick", "128=kick", "36="):
        with pytest.raises(typer.BadParameter, match="is no note"):
            midi_cues(tmp_path / "song.mid", [wrong])


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, "samplecache 0.1.0\n")


def test_help_loads_neither_grpc_nor_rich_nor_sound() -> None:
    code = (
        "import sys; from samplecache.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: print(sorted({'grpc', 'rich', 'numpy', 'pydantic', 'sounddevice'} & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert finished.stdout.splitlines()[-1] == "[]"
