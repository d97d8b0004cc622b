"""The detectors' own error rate: 200 flaws of each kind, all found, each within a period, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from samplecache.lab.ear.flaws import Flaw, Found, Frames
from samplecache.lab.ear.heard import PERIOD_FRAMES, GlitchKind
from samplecache.lab.ear.injecting import LEAD_FRAMES, ErrorRate, Injection, error_rate, inject, music
from samplecache.lab.ear.numbered import hear, numbered_frames
from samplecache.lab.ear.walking import Walk

COUNT = 200
LENGTH = 40 * 48_000


@cache
def signals() -> dict[str, tuple[Frames, Callable[[Frames], Found]]]:
    """Each signal with its detector."""
    tune = music(LENGTH, seed=6)
    return {
        "numbered": (numbered_frames(0, LENGTH), lambda recording: hear(recording).found),
        "music": (tune, Walk(tune).along),
    }


@pytest.mark.parametrize("injection", Injection)
@pytest.mark.parametrize("signal", ["numbered", "music"])
def test_all_flaws_are_found_and_no_others(signal: str, injection: Injection) -> None:
    frames, detector = signals()[signal]
    rate = error_rate(detector, frames, injection, COUNT, seed=2008)
    assert rate == ErrorRate(injection, COUNT, COUNT, 0, rate.worst_frames)
    assert rate.worst_frames <= PERIOD_FRAMES


@pytest.mark.parametrize("signal", ["numbered", "music"])
def test_a_sound_recording_has_no_flaws(signal: str) -> None:
    frames, detector = signals()[signal]
    silence = np.zeros((777, 2), np.int16)
    found = detector(np.concatenate([silence, frames, silence]))
    assert found.flaws == ()
    sounding = np.flatnonzero(frames.any(axis=1))
    assert found.begins_frame - found.first_frame == 777
    assert found.first_frame <= sounding[0]
    assert found.stop_frame > sounding[-1]


@pytest.mark.parametrize("signal", ["numbered", "music"])
def test_a_recording_that_was_cut_off_says_where(signal: str) -> None:
    frames, detector = signals()[signal]
    found = detector(frames[:100_000])
    assert found.flaws == ()
    assert found.stop_frame == 100_000


@pytest.mark.parametrize("signal", ["numbered", "music"])
def test_silence_alone_is_nothing(signal: str) -> None:
    found = signals()[signal][1](np.zeros((5000, 2), np.int16))
    assert (found.flaws, found.stop_frame) == ((), 0)


def test_what_is_neither_signal_nor_silence_is_foreign() -> None:
    tune, walk = signals()["music"]
    noise = np.random.default_rng(1).integers(1, 99, (300, 2), np.int16)
    found = walk(np.concatenate([tune[:50_000], noise, tune[50_100:90_000]]))
    assert found.flaws == (
        Flaw(GlitchKind.FOREIGN, 50_000, 50_000, 300),
        Flaw(GlitchKind.JUMP, 50_000, 50_000, 100),
    )


def test_injected_flaws_are_what_they_say() -> None:
    signal = numbered_frames(0, 20_000)
    recording, (flaw,) = inject(signal, Injection.REPEAT, 1, seed=3)
    at, stop = flaw.recorded_frame, flaw.recorded_frame + flaw.length_frames
    np.testing.assert_array_equal(recording[at:stop], recording[at - flaw.length_frames : at])
    assert at == LEAD_FRAMES + flaw.at_frame
    assert len(recording) == 2 * LEAD_FRAMES + len(signal) + flaw.length_frames


def test_a_detector_that_hears_nothing_has_a_bad_rate() -> None:
    rate = error_rate(lambda _: Found(0, 0, 0, ()), numbered_frames(0, LENGTH), Injection.GAP, 10, seed=1)
    assert (rate.found, rate.perfect) == (0, False)


def test_more_flaws_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(ValueError, match="too short for 100 flaws"):
        inject(numbered_frames(0, 48_000), Injection.GAP, 100, seed=1)


def test_numbers_are_read_to_the_frame() -> None:
    frames = numbered_frames(65_000, 66_000)
    silence = np.zeros((50, 2), np.int16)
    heard = hear(np.concatenate([silence, frames[:600], silence[:7], frames[600:700], frames[710:], silence]))
    assert heard.gaps == [(65_600, 7)]
    np.testing.assert_array_equal(heard.numbers, [*range(65_000, 65_700), *range(65_710, 66_000)])
