"""Skips what needs programs that this machine has not."""

from __future__ import annotations

import ctypes.util
import shutil

import pytest

from samplecache.lab.ear.sound_server import missing_packages


@pytest.fixture
def pulseaudio() -> None:
    """Skip where PulseAudio is missing."""
    needs = {"pulseaudio": shutil.which("pulseaudio"), "pulseaudio-utils": shutil.which("pactl")}
    needs["libpulse0"] = ctypes.util.find_library("pulse")
    if missing := [package for package, found in needs.items() if not found]:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture
def pipewire(pulseaudio: None) -> None:
    """Skip where PipeWire is missing."""
    needs = {
        "dbus-daemon": shutil.which("dbus-daemon"),
        "pipewire": shutil.which("pipewire"),
        "pipewire-pulse": shutil.which("pipewire-pulse"),
        "wireplumber": shutil.which("wireplumber"),
    }
    if missing := [package for package, found in needs.items() if not found]:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture
def vmtouch() -> None:
    """Skip where vmtouch is missing."""
    if not shutil.which("vmtouch"):
        pytest.skip("needs vmtouch")


@pytest.fixture
def portaudio() -> None:
    """Skip where playing through PortAudio into a sound server is not possible."""
    if missing := missing_packages():
        pytest.skip(f"needs {', '.join(missing)}")
