"""Contenders on the running kernel, in a rig: each is heard whole, to the bit, and nothing of it stays behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from samplecache.errors import ConfigurationError
from samplecache.lab.ear.contender import Case, Cue, Sound
from samplecache.lab.ear.contenders.registry import contender
from samplecache.lab.ear.heard import CARD_FORMAT, GlitchKind, Heard
from samplecache.lab.ear.listening import listen
from samplecache.lab.rig import Rig

FRAMES = 24_000
PCM_PAGES = FRAMES * 4 // 4096 + 1


@pytest.fixture
def sounds(tmp_path: Path) -> tuple[Sound, ...]:
    """Two sounds of half a second, of noise, which do not clip together."""
    made = []
    for number in range(2):
        path = tmp_path / f"noise-{number}.wav"
        noise = np.random.default_rng(number).integers(-9000, 9000, (FRAMES, 2), np.int16)
        soundfile.write(path, noise, CARD_FORMAT.rate_hz, "PCM_16")
        made.append(Sound(f"noise-{number}", path, FRAMES))
    return tuple(made)


@pytest.fixture
def play(rig: Rig, sounds: tuple[Sound, ...]) -> Callable[..., Heard]:
    """Have a contender play both sounds, overlapping, and see that nothing stays behind."""

    def run(name: str, **options: object) -> Heard:
        cues = tuple(Cue(sound.sample_id, 100_000_000 * n, hint_ahead_ns=None) for n, sound in enumerate(sounds))
        heard = listen(contender(name), Case("test", sounds, cues, **options), rig)  # type: ignore[arg-type]
        assert [group for group in rig.groups if (group / "cgroup.procs").read_text().split()] == []
        return heard

    return run


def all_is_heard(heard: Heard) -> None:
    """Every frame was heard as it was given; how punctually, a test cannot say of a busy machine."""
    assert heard.failed == ""
    assert [(cue.sample_id, cue.frames_heard) for cue in heard.cues] == [("noise-0", FRAMES), ("noise-1", FRAMES)]
    assert {glitch.kind for glitch in heard.glitches} <= {GlitchKind.GAP}
    assert heard.base_bytes > 1 << 20
    assert heard.rss_bytes > 1 << 20
    assert heard.victim is not None
    assert heard.victim.rounds > 10
    assert heard.version
    assert len(heard.timeline) > 3


def test_samplecache_is_heard_cold(play: Callable[..., Heard]) -> None:
    heard = play("samplecache:none")
    all_is_heard(heard)
    assert {cue.strategy for cue in heard.cues} == {"none"}
    assert heard.pages_needed == 2 * PCM_PAGES
    assert heard.pswpin >= 0.9 * heard.pages_needed
    assert heard.major_faults > 0


def test_pulseaudio_is_heard_cold_and_stores_floats(play: Callable[..., Heard], pulseaudio: None) -> None:
    heard = play("pulseaudio-unadvised")
    all_is_heard(heard)
    assert heard.pages_needed > 2 * PCM_PAGES
    assert heard.stored_bytes > 1.9 * heard.sound_bytes
    assert heard.pswpin >= 0.9 * heard.pages_needed
    assert heard.major_faults > 0


def test_pipewire_plays_cold_and_stores_floats(play: Callable[..., Heard], pipewire: None) -> None:
    heard = play("pipewire")
    # Its graph drops frames when it is late, so that on a busy machine not even its end may be heard.
    assert heard.failed == ""
    assert len(heard.cues) == 2
    assert heard.version.startswith("pipewire ")
    assert heard.stored_bytes > 1.5 * heard.sound_bytes  # it uses what it had freed again
    assert heard.pswpin >= 0.9 * heard.pages_needed
    assert heard.major_faults > 0


def test_all_locked_is_never_cold(play: Callable[..., Heard]) -> None:
    heard = play("mlockall")
    all_is_heard(heard)
    assert heard.major_faults == 0
    assert heard.locked_bytes > heard.sound_bytes


def test_what_is_read_from_disk_comes_from_there(play: Callable[..., Heard]) -> None:
    heard = play("disk")
    all_is_heard(heard)
    assert heard.read_bytes >= heard.sound_bytes


def test_what_vmtouch_locked_is_not_read_again(play: Callable[..., Heard], vmtouch: None) -> None:
    heard = play("vmtouch")
    all_is_heard(heard)
    assert heard.version.startswith("vmtouch v")
    assert heard.locked_bytes >= heard.sound_bytes
    assert heard.major_faults < PCM_PAGES


def test_what_is_locked_and_does_not_fit_has_failed(play: Callable[..., Heard]) -> None:
    heard = play("mlockall", memory_bytes=8 << 20)
    assert "cannot be swapped out, and the limit is 8388608" in heard.failed
    assert heard.cues == ()


def test_what_is_no_contender_is_told_so() -> None:
    for name in ("nobody", "samplecache", "samplecache:", "samplecache:none:s24", "disk:fast"):
        with pytest.raises(ConfigurationError, match=r"is no contender\. Name samplecache:STRATEGY"):
            contender(name)
