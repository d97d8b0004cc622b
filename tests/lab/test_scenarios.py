"""Scenario files: what they become, and the one error, with file and line, of each mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import ConfigurationError, InvalidError, NotFoundError
from samplecache.lab.scenarios.reading import Play, library, load, parse
from samplecache.lab.scenarios.tables import LoadTable, SampleTable, Scenario, StreamTable, TriggerTable, parse_memory
from samplecache.lab.toml_file import TomlFile
from samplecache.lab.workload import Cue, Seek, VirtualSample

GOOD = """\
title = "good"
strategies = ["none", "touch"]
hint_ahead_s = 1.0
seed = 7

[[sample]]
name = "pad"
seconds = 4.0

[[sample]]
name = "hit"
count = 3
seconds = [0.2, 0.5]

[[stream]]
samples = "pad"
at_s = 0.5
seconds = 3.0
seeks = [[1.0, 2.0]]

[[trigger]]
samples = "hit-*"
every_s = 0.5
from_s = 2.0
until_s = 3.0
sway_ms = 10

[[load]]
memory = "1MiB"
rate = "2MB"
"""
LAST_LINE = 30


def scenario(text: str, folder: Path = Path()) -> Play:
    return parse(TomlFile(text, "some.toml"), "some", folder)


def test_a_file_becomes_samples_and_cues() -> None:
    play = scenario(GOOD)
    score = play.score()
    stereo = AudioFormat(48_000, 2, Encoding.S16)
    assert score.sounds[0].sample == VirtualSample("pad", stereo, 4 * 48_000)
    assert [sound.sample.sample_id for sound in score.sounds[1:]] == ["hit-000", "hit-001", "hit-002"]
    assert all(0.2 * 48_000 <= sound.sample.frames <= 0.5 * 48_000 for sound in score.sounds[1:])
    pad, *hits = score.cues
    # The pad is announced a second ahead, so it sounds half a second later than the file says, and so does all else.
    shift_ns = NS_PER_S // 2
    assert pad == Cue(
        "pad",
        NS_PER_S,
        hint_ahead_ns=NS_PER_S,
        plays_ns=3 * NS_PER_S,
        seeks=(Seek(NS_PER_S, 2 * 48_000),),
    )
    assert [hit.sample_id for hit in hits] == ["hit-000", "hit-001", "hit-002"]
    for number, hit in enumerate(hits):
        assert abs(hit.at_ns - shift_ns - 2 * NS_PER_S - number * NS_PER_S // 2) <= 10 * NS_PER_MS
    assert (score.loads[0].memory, score.loads[0].rate) == (1 << 20, 2_000_000)


def test_a_repetition_sways_in_its_own_way_with_the_same_samples() -> None:
    play = scenario(GOOD)
    first, again, second = play.score(0), play.score(0), play.score(1)
    assert first == again
    assert first.cues != second.cues
    assert first.sounds == second.sounds
    assert first.sounds[0].pcm() == second.sounds[0].pcm()
    assert play.score(0, seed=8) == second


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ('title = "good"\n', "", 1, "a scenario needs 'title'. Add title"),
        ('title = "good"', 'titel = "good"', 1, "a scenario has no option 'titel'. Did you mean 'title'?"),
        ("seed = 7", "seed = -7", 4, "seed: -7 is less than 0. Give 0 at least"),
        ("seed = 7", "sede = 7", 4, "a scenario has no option 'sede'. Did you mean 'seed'?"),
        ("seed = 7", 'seed = "7"', 4, 'seed: "7" is no whole number. Give a whole number, without quotes'),
        ("seed = 7", 'simulated_device = "tape"', 4, "no simulated device is called 'tape'. Choose from hdd-laptop"),
        ("seed = 7", 'devices = ["floppy"]', 4, "devices: 'floppy' is no device. Give unthrottled, zram, or"),
        ("seed = 7", 'memory = ["0.5"]', 4, "memory: '0.5' is no amount"),
        ("seed = 7", 'memory = ["-1x"]', 4, "memory: '-1x' is no amount of memory. Give ample, a part"),
        ("seed = 7", 'memory = "0.5x"', 4, 'memory: "0.5x" is no array. Put values into brackets'),
        ('["none", "touch"]', '["none", "none"]', 2, "'none' is named twice"),
        ("seconds = 4.0", "", 6, "the sample has neither seconds, file nor folder"),
        ("seconds = 4.0", 'seconds = 4.0\nfile = "x.wav"', 6, "the sample has seconds and file"),
        ("seconds = 4.0", "seconds = 0.0", 8, "seconds: 0.0 is no length"),
        ("seconds = 4.0", 'file = "missing.wav"', 8, "there is no file missing.wav"),
        ("seconds = 4.0", 'folder = "missing"', 8, "missing holds no audio files"),
        ("seconds = 4.0", "second = 4.0", 8, "a sample has no option 'second'. Did you mean 'seconds'?"),
        ("seconds = 4.0", "seconds = 4.0\nrepetitions = 3", 9, "It is the scenario's: move it above the first table"),
        (
            "seconds = 4.0",
            "seconds = 86400.0\ncount = 2",
            6,
            "the samples take 31 GiB together. Keep them within 16 GiB",
        ),
        ("seconds = 4.0", 'seconds = 4.0\nencoding = "f33"', 9, "encoding: \"f33\" is unknown. Did you mean 'f32'?"),
        ('name = "pad"', 'name = "hit"', 11, "two samples are called 'hit'"),
        ('name = "pad"', 'name = "A pad"', 7, 'name: "A pad" is no name. Use small letters'),
        ("seconds = [0.2, 0.5]", "seconds = [0.5, 0.2]", 13, "seconds: [0.5, 0.2] is no length"),
        ("seconds = [0.2, 0.5]", "seconds = [0.5]", 13, "seconds: [0.5] is no length. Give one of up to a day, or two"),
        ('samples = "pad"', 'samples = "bad"', 16, "no sample is called 'bad'. Name one of pad, hit-000"),
        ("seeks = [[1.0, 2.0]]", "seeks = [[1.0, 4.0]]", 19, "4 s is past the end of pad, which lasts 4.000 s"),
        ("seeks = [[1.0, 2.0]]", "seeks = [[1.0]]", 19, "seeks: [1.0] is no jump. Give when it comes and where"),
        ("seconds = 3.0\n", "loop = true\n", 18, "the loop never ends. Say how long with seconds"),
        ("every_s = 0.5", "", 21, "the trigger has neither at_s, every_s nor midi"),
        ("every_s = 0.5", "every_s = 0.5\nat_s = [1.0]", 21, "the trigger has at_s and every_s"),
        ("until_s = 3.0", "", 23, "the strikes never end"),
        ("until_s = 3.0", "until_s = 1.0", 25, "the strikes end before they begin"),
        ("every_s = 0.5", "every_s = 0.00001", 23, "strikes. Ask for 10000 at most"),
        ("every_s = 0.5", 'midi = "missing.mid"', 23, "a MIDI file and its notes need each other"),
        ("every_s = 0.5", 'midi = "missing.mid"\nnotes = {36 = "pad"}', 23, "missing.mid cannot be read: No such file"),
        ("every_s = 0.5", 'midi = "x.mid"\nnotes = {A4 = "pad"}', 24, "'A4' is no MIDI note"),
        ('memory = "1MiB"', 'memory = "lots"', 29, "memory: 'lots' is no size. Give bytes or a text such as '32MiB'"),
        ('rate = "2MB"', "", 28, "a load needs 'rate'"),
        ("[[load]]", "[load]", 28, "load is written [[load]]"),
        ('rate = "2MB"', 'rate = "2MB"\nfrom_s = 2.0\nuntil_s = 1.0', 32, "the load ends before it begins"),
        ("seed = 7", "seed = 7 7", 4, "this is not TOML: "),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, line: int, what: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigurationError) as caught:
        scenario(GOOD.replace(old, new, 1))
    assert f"some.toml:{line}: " in str(caught.value)
    assert what in str(caught.value)
    assert caught.value.remedy


def test_nothing_to_play_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match="nothing is played"):
        scenario(GOOD[: GOOD.index("[[stream]]")])


def test_audio_files_and_folders_are_samples(tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir()
    audio = np.random.default_rng(1).integers(-9000, 9000, (500, 2), np.int16)
    sf.write(tmp_path / "kit" / "Big Kick.wav", audio, 44_100, subtype="PCM_16")
    sf.write(tmp_path / "one.flac", audio, 22_050, subtype="PCM_16")
    text = """
title = "files"
strategies = ["none"]
[[sample]]
name = "kit"
folder = "kit"
[[sample]]
name = "one"
file = "one.flac"
[[trigger]]
samples = "kit-*"
at_s = [0.0]
"""
    kick, one = scenario(text, tmp_path).score().sounds
    assert kick.sample == VirtualSample("kit-big-kick", AudioFormat(44_100, 2, Encoding.S16), 500)
    assert one.sample == VirtualSample("one", AudioFormat(22_050, 2, Encoding.S16), 500)
    assert kick.pcm() == one.pcm() == audio.tobytes()
    (tmp_path / "one.flac").write_bytes(b"no audio")
    with pytest.raises(ConfigurationError, match=r"some\.toml:9: .*one\.flac is no audio file"):
        scenario(text, tmp_path)


def test_midi_files_strike_samples(tmp_path: Path) -> None:
    mido = pytest.importorskip("mido", reason="needs mido")
    track = mido.MidiTrack(
        [
            mido.MetaMessage("set_tempo", tempo=500_000),
            mido.Message("note_on", note=36, velocity=90, time=480),
            mido.Message("note_on", note=36, velocity=0, time=240),
            mido.Message("note_on", note=40, velocity=90, time=240),
            mido.Message("note_on", note=38, velocity=90, time=480),
        ]
    )
    file = mido.MidiFile(type=0, ticks_per_beat=480)
    file.tracks.append(track)
    file.save(tmp_path / "beat.mid")
    text = GOOD[: GOOD.index("[[stream]]")] + '[[trigger]]\nmidi = "beat.mid"\nnotes = {36 = "pad", 38 = "hit-001"}\n'
    score = scenario(text, tmp_path).score()
    # note 40 means nothing; all is later by what the first announcement lacks: it would be half a second before 0
    assert [(cue.sample_id, cue.at_ns / NS_PER_S) for cue in score.cues] == [("pad", 1.0), ("hit-001", 2.0)]
    (tmp_path / "beat.mid").write_bytes(b"MThd no midi")
    with pytest.raises(ConfigurationError, match=r"some\.toml:16: .*beat\.mid cannot be read"):
        scenario(text, tmp_path)


@pytest.mark.parametrize("name", library())
def test_what_ships_can_be_played(name: str) -> None:
    score = load(name).score()
    assert score.cues
    assert all((cue.hint_ahead_ns or 0) <= cue.at_ns for cue in score.cues)
    assert score.stop_ns <= 25 * NS_PER_S


def test_the_page_on_scenario_files_has_every_option_and_an_example_that_plays() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text()
    example = page.split("```toml\n")[1].split("```")[0]
    assert len(scenario(example).score().cues) == 4
    for model in (Scenario, SampleTable, StreamTable, TriggerTable, LoadTable):
        for name, field in model.model_fields.items():
            assert f"`{field.alias or name}" in page or f"`[[{field.alias}]]`" in page


def test_an_unknown_scenario_names_those_that_ship() -> None:
    with pytest.raises(NotFoundError, match="radio-jingles"):
        load("radio")
    with pytest.raises(NotFoundError, match="cannot be read"):
        load("missing.toml")


@pytest.mark.parametrize(
    ("text", "expected"), [("ample", None), ("0.5x", 0.5), ("48MiB", 48 << 20), ("1000", 1000), ("2x", 2.0)]
)
def test_memory_is_ample_or_a_part_or_a_size(text: str, expected: float | int | None) -> None:
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["", "0x", "x", "-5", "nanx", "infx", "much", "0"])
def test_other_amounts_of_memory_are_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="no amount of memory"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("cue", "seconds"),
    [
        (Cue("pad", 0), 4.0),
        (Cue("pad", 0, start_frame=48_000), 3.0),
        (Cue("pad", 0, frames=48_000), 1.0),
        (Cue("pad", 0, plays_ns=NS_PER_S), 1.0),
        (Cue("pad", 0, loop=True, plays_ns=9 * NS_PER_S), 9.0),
        (Cue("pad", 0, seeks=(Seek(NS_PER_S, 3 * 48_000),)), 2.0),
        (Cue("pad", 0, seeks=(Seek(9 * NS_PER_S, 0),)), 4.0),
        (Cue("pad", 0, plays_ns=3 * NS_PER_S, seeks=(Seek(2 * NS_PER_S, 0),)), 3.0),
    ],
)
def test_a_cue_knows_how_long_it_sounds(cue: Cue, seconds: float) -> None:
    assert cue.length_ns(VirtualSample("pad", AudioFormat(48_000, 2, Encoding.S16), 4 * 48_000)) == seconds * NS_PER_S
