"""What a contender cannot play, or not without a program that is missing, is said before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from samplecache.errors import NotPermittedError
from samplecache.lab.ear.contender import ContenderFailedError
from samplecache.lab.ear.contenders.registry import contender
from samplecache.lab.workload import Cue, Seek

PLAIN = Cue("pad", 0)
SHORT = {"pad": 48_000}
PROGRAMS = ("pulseaudio", "pactl", "dbus-daemon", "pipewire", "wireplumber", "pipewire-pulse", "vmtouch", "cc")
NAMES = ("samplecache:none", "pulseaudio", "pulseaudio-unadvised", "pipewire", "mlockall", "vmtouch", "disk")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with all programs that are found."""
    for name in PROGRAMS:
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_short_sounds_from_beginning_to_end_are_played_by_all(programs: Path, name: str) -> None:
    contender(name).check([PLAIN], SHORT)


@pytest.mark.parametrize(
    ("name", "program", "package"),
    [
        ("pulseaudio", "pactl", "pulseaudio-utils"),
        ("pulseaudio-unadvised", "cc", "gcc"),
        ("pipewire", "wireplumber", "wireplumber"),
        ("vmtouch", "vmtouch", "vmtouch"),
    ],
)
def test_a_program_that_is_missing_is_named_with_its_package(
    programs: Path, name: str, program: str, package: str
) -> None:
    (programs / program).unlink()
    with pytest.raises(NotPermittedError, match=f"apt-get install {package}"):
        contender(name).check([PLAIN], SHORT)


@pytest.mark.parametrize(
    "cue",
    [
        Cue("pad", 0, start_frame=1),
        Cue("pad", 0, loop=True, plays_ns=1),
        Cue("pad", 0, seeks=(Seek(1, 1),)),
        Cue("pad", 0, plays_ns=1),
        Cue("pad", 0, frames=1),
    ],
)
@pytest.mark.parametrize("name", ["pulseaudio", "pipewire"])
def test_sound_servers_play_whole_samples_only(programs: Path, name: str, cue: Cue) -> None:
    with pytest.raises(ContenderFailedError, match=f"{name} plays samples from beginning to end only"):
        contender(name).check([PLAIN, cue], SHORT)
    contender("disk").check([PLAIN, cue], SHORT)


def test_sound_servers_take_sixteen_mebibytes_as_floats(programs: Path) -> None:
    most_frames = (16 << 20) // 8
    contender("pulseaudio").check([PLAIN], {"pad": most_frames})
    with pytest.raises(ContenderFailedError, match=r"pad has more as it stores it\. Use sounds of up to 43 s"):
        contender("pulseaudio").check([PLAIN], {"pad": most_frames + 1})
