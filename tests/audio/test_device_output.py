"""What PortAudio plays is what was given, to the bit and to the last frame; what is broken is counted or told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from quiet import in_a_quiet_window
from sound_server import HERE, ROOT, SoundServer, missing_packages
from waiting import wait_until

from samplecache.lab.ear.flaws import Frames
from samplecache.lab.ear.numbered import hear

SECOND = 48_000
Take = tuple[dict[str, Any], Frames]


def record(server: SoundServer, *arguments: str) -> Take:
    """Play in a process of its own, and return what it reported and what was recorded."""
    with server.recording() as finish:
        status, told = server.play(*arguments).finish()
        recording = finish()
    assert status == 0, told
    return json.loads(told), recording


@pytest.mark.parametrize("encoding", ["s16", "f32"])
def test_every_frame_is_heard_as_it_was_given(sound_server: SoundServer, encoding: str) -> None:
    frames = 3 * SECOND + 123

    def check(take: Take) -> None:
        report, recording = take
        heard = hear(recording)
        np.testing.assert_array_equal(heard.numbers, np.arange(frames))
        assert heard.gaps == []
        assert report["output"]["frames_played"] == frames
        assert report["output"]["underruns"] == 0
        assert report["voice"]["complete"]
        assert report["voice"]["glitches"] == 0

    in_a_quiet_window(lambda: record(sound_server, "voice", f"--frames={frames}", f"--encoding={encoding}"), check)


@pytest.mark.parametrize("latency_ms", [60, 250])
def test_the_last_frames_are_not_lost(sound_server: SoundServer, latency_ms: int) -> None:
    frames = SECOND // 4

    def check(take: Take) -> None:
        np.testing.assert_array_equal(hear(take[1]).numbers, np.arange(frames))

    in_a_quiet_window(lambda: record(sound_server, "source", f"--frames={frames}", f"--latency-ms={latency_ms}"), check)


def test_a_starved_ring_is_heard_where_its_counters_say(sound_server: SoundServer) -> None:
    stall_at_frame, frames = 3 * SECOND // 4, 3 * SECOND // 2

    def check(take: Take) -> None:
        report, recording = take
        heard = hear(recording)
        np.testing.assert_array_equal(heard.numbers, np.arange(frames))
        output = report["output"]
        assert heard.gaps == [(gap["at_frame"], gap["length_frames"]) for gap in output["gaps"]]
        (gap,) = output["gaps"]
        assert gap["at_frame"] == stall_at_frame
        assert output["underruns"] == 1
        assert output["underrun_frames"] == gap["length_frames"]

    arguments = ("source", f"--frames={frames}", f"--stall-at-frame={stall_at_frame}", "--stall-ms=1200")
    in_a_quiet_window(lambda: record(sound_server, *arguments), check)


def test_a_starved_voice_is_heard_where_its_report_says(sound_server: SoundServer) -> None:
    stall_at_frame, frames = 48_000, 72_000

    def check(take: Take) -> None:
        report, recording = take
        heard = hear(recording)
        np.testing.assert_array_equal(heard.numbers, np.arange(frames))
        assert report["output"]["underruns"] == 0
        (gap,) = report["voice"]["gaps"]
        assert heard.gaps == [(gap["at_frame"], gap["length_frames"])]
        assert gap["at_frame"] == stall_at_frame
        assert report["voice"]["glitches"] == 1

    arguments = ("voice", f"--frames={frames}", f"--stall-at-frame={stall_at_frame}", "--stall-ms=200")
    in_a_quiet_window(lambda: record(sound_server, *arguments), check)


@pytest.mark.parametrize(
    ("blow", "message"),
    [
        (signal.SIGKILL, "the sound server or device has gone away while playing"),
        (signal.SIGSTOP, "the device has asked for nothing"),
    ],
    ids=["killed", "hung"],
)
def test_a_server_that_goes_away_is_an_error_not_a_hang(
    make_sound_server: Callable[[], SoundServer], blow: signal.Signals, message: str
) -> None:
    server = make_sound_server()
    with server.recording():
        player = server.play("voice", f"--frames={120 * SECOND}")
        assert player.process.stdout is not None
        assert player.process.stdout.readline() == "playing\n"
        wait_for_sound(server)
        server.daemon.process.send_signal(blow)
        before = time.monotonic()
        told = json.loads(player.process.stdout.readline())
        assert time.monotonic() - before < 15
        server.daemon.process.send_signal(signal.SIGCONT)
        player.finish()
    assert told["reason"] == "OUTPUT_LOST"
    assert told["error"].startswith(message)
    assert told["error"].endswith("See that the sound server runs, then start the player again.")
    assert player.process.returncode == 1


def wait_for_sound(server: SoundServer) -> None:
    """Wait until the server's recording has a frame of the signal."""
    (path,) = server.directory.glob("recording-*.raw")
    wait_until(lambda: any(path.read_bytes()), "nothing was heard")


OPEN = """
import sys
{before}
from samplecache.audio.format import AudioFormat, Encoding
from samplecache_player import NullOutput, OutputUnavailableError, open_output
assert "sounddevice" not in sys.modules, "sounddevice was imported before it was needed"
format = AudioFormat(48_000, 2, Encoding.S16)
output, note = open_output("device", format)
assert type(output) is NullOutput
print(note)
try:
    open_output("device", format, strict=True)
except OutputUnavailableError as error:
    print(error)
"""

NO_LIBRARY = """
import ctypes.util
ctypes.util.find_library = lambda name: None
"""

NO_PACKAGE = """
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "sounddevice":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (
            NO_LIBRARY,
            "the PortAudio library cannot be loaded (PortAudio library not found). "
            "Install it, on Debian and Ubuntu: apt-get install libportaudio2.",
        ),
        (
            NO_PACKAGE,
            "the Python package sounddevice is not installed. Install it: pip install 'samplecache[player]'.",
        ),
    ],
    ids=["no library", "no package"],
)
def test_without_portaudio_the_null_output_plays_and_the_note_names_the_package(before: str, message: str) -> None:
    if before is NO_LIBRARY and "the Python package sounddevice" in missing_packages():
        pytest.skip("needs the Python package sounddevice")
    opened = subprocess.run(
        [sys.executable, "-c", OPEN.format(before=before)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(path) for path in (ROOT, ROOT / "demo", HERE))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert opened.stdout.splitlines() == [f"Playing into the null output, which nobody hears: {message}", message], (
        opened.stderr
    )


def test_without_a_server_the_note_says_what_is_missing(make_sound_server: Callable[[], SoundServer]) -> None:
    server = make_sound_server()
    server.close()
    opened = subprocess.run(
        [sys.executable, "-c", OPEN.format(before="")],
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    message = (
        "PortAudio finds no output device. Start a sound server (PulseAudio or PipeWire; check PULSE_SERVER) with its "
        "ALSA plugin (Debian: libasound2-plugins or pipewire-alsa) and try again, or play into null or wav:FILE."
    )
    lines = opened.stdout.splitlines()
    if lines and not lines[0].startswith("Playing into"):
        pytest.skip("this machine has a sound card, so PortAudio finds a device without a server")
    assert lines == [f"Playing into the null output, which nobody hears: {message}", message], opened.stderr
