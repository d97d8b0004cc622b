"""Marks what needs sound servers."""

from __future__ import annotations

import ctypes.util
import shutil

import pytest


@pytest.fixture
def pulseaudio() -> None:
    """Skip where PulseAudio is missing."""
    needs = {"pulseaudio": shutil.which("pulseaudio"), "pulseaudio-utils": shutil.which("pactl")}
    needs["libpulse0"] = ctypes.util.find_library("pulse")
    if missing := [package for package, found in needs.items() if not found]:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture
def vmtouch() -> None:
    """Skip where vmtouch is missing."""
    if not shutil.which("vmtouch"):
        pytest.skip("needs vmtouch")
