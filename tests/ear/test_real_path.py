"""Through gRPC, the mixer, PortAudio and a sound server: the player's own counters say what the recording says."""

from __future__ import annotations

import pytest
from quiet import in_a_quiet_window

from samplecache.lab.ear.flaws import Flaw, Found
from samplecache.lab.ear.heard import GlitchKind
from samplecache.lab.ear.numbered import hear, numbered_frames
from samplecache.lab.ear.real_path import STOPPED_S, RealPath, Take

FRAMES = 3 * 48_000


@pytest.mark.sound
def test_counters_agree_with_the_recording(portaudio: None) -> None:
    def check(take: Take) -> None:
        # A sound server that was kept from running breaks sound of which no player knows.
        assert take.agrees
        assert (take.found.first_frame, take.found.stop_frame) == (0, FRAMES)
        # The server was stopped for far longer than the player's lead.
        assert max(length for _, length in take.recorded_gaps) > 48_000 * STOPPED_S / 3

    with RealPath(numbered_frames(0, FRAMES), lambda recording: hear(recording).found) as path:
        in_a_quiet_window(lambda: path.take(stops=1), check)


def take_of(flaws: tuple[Flaw, ...], voice: tuple[tuple[int, int], ...], output: tuple[tuple[int, int], ...]) -> Take:
    """A take with these findings."""
    return Take(Found(0, FRAMES, 0, flaws), voice, output, 0, 0, 0)


def test_what_agrees_and_what_does_not() -> None:
    gap = Flaw(GlitchKind.GAP, 480, 480, 100)
    assert take_of((), (), ()).agrees
    assert take_of((gap,), ((480, 100),), ()).agrees
    assert take_of((gap,), (), ((480, 100),)).agrees
    assert take_of((gap,), ((0, 960), (480, 100)), ()).agrees  # a late start is no gap in a recording
    assert not take_of((gap,), (), ()).agrees
    assert not take_of((), ((480, 100),), ()).agrees
    assert not take_of((gap,), ((480, 101),), ()).agrees
    assert not take_of((gap,), ((960, 100),), ()).agrees
    assert not take_of((gap, Flaw(GlitchKind.JUMP, 480, 480, 7)), ((480, 100),), ()).agrees
