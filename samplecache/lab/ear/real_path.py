"""The real way of sound: server, gRPC, player, PortAudio, sound server, recorded monitor; and whether counters agree.

So that there is something to be heard, the server is stopped for a moment now and then, which starves the player as a
server does that waits for pages. What it waits for makes no difference here.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import soundfile

from samplecache.client import Client
from samplecache.errors import NotPermittedError, UnavailableError
from samplecache.lab.ear.flaws import Flaw, Found, Frames
from samplecache.lab.ear.heard import CARD_FORMAT, GlitchKind
from samplecache.lab.ear.injecting import Detector
from samplecache.lab.ear.lines import end
from samplecache.lab.ear.sound_server import SoundServer, missing_packages
from samplecache.witness import Witness

SAMPLE: Final = "signal"
PLAY_TIMEOUT_S: Final = 180
STOPPED_S: Final = 0.15
"""Five times the player's lead."""


@dataclass(frozen=True, slots=True)
class Take:
    """One sample, played for real.

    Attributes
    ----------
    found : Found
        What the recording says.
    voice_gaps, output_gaps : tuple of (int, int)
        What the player says: frame that was due and frames of silence; of the voice, whose frames had not come, and of
        the ring between player and PortAudio.
    underflow_flags : int
        How often PortAudio raised a flag; no count of glitches.
    late_blocks : int
        What the server says.
    witness_ns : int
        How late the witness was at worst.
    """

    found: Found
    voice_gaps: tuple[tuple[int, int], ...]
    output_gaps: tuple[tuple[int, int], ...]
    underflow_flags: int
    late_blocks: int
    witness_ns: int

    @property
    def recorded_gaps(self) -> tuple[tuple[int, int], ...]:
        """The gaps in the recording, as the player tells its own."""
        return tuple((flaw.at_frame, flaw.length_frames) for flaw in self.found.flaws if flaw.kind is GlitchKind.GAP)

    @property
    def other_flaws(self) -> tuple[Flaw, ...]:
        """What is broken in the recording and no gap: the sound server's own, of which a player knows nothing."""
        return tuple(flaw for flaw in self.found.flaws if flaw.kind is not GlitchKind.GAP)

    @property
    def agrees(self) -> bool:
        """Whether the player's counters and the recording tell the same gaps, to the frame, and nothing else is.

        A gap before the first frame is heard as a later start, so no recording has it.
        """
        counted = sorted(gap for gap in self.voice_gaps + self.output_gaps if gap[0] > self.found.first_frame)
        return counted == sorted(self.recorded_gaps) and not self.other_flaws


class RealPath:
    """A server with one sample, and a sound server to play it into; a context manager, which ends both.

    Parameters
    ----------
    sample : ndarray of int16
        The sample.
    detector : callable
        Finds what is broken in a recording of it.
    """

    def __init__(self, sample: Frames, detector: Detector) -> None:
        self._sample = sample
        self._detector = detector

    def __enter__(self) -> RealPath:
        """Start all.

        Raises
        ------
        NotPermittedError
            A program or library is missing; the remedy names the packages.
        """
        if missing := missing_packages():
            raise NotPermittedError(
                f"Playing through a sound server needs {', '.join(missing)}",
                remedy="Install it, on Debian and Ubuntu with apt-get install",
            )
        with contextlib.ExitStack() as stack:
            # A short path: a socket's has 107 bytes.
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ear-")))
            self._sound_server = SoundServer(directory)
            stack.callback(self._sound_server.close)
            self._target = f"unix:{directory / 'server.sock'}"
            self._server = stack.enter_context(self._serving())
            self._client = stack.enter_context(Client(self._target))
            self._client.wait_ready()
            self._sound_server.daemon.wait_ready()
            path = directory / "signal.wav"
            soundfile.write(path, self._sample, CARD_FORMAT.rate_hz, "PCM_16")
            self._client.put_file(path, SAMPLE)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def take(self, stops: int = 0) -> Take:
        """Play the sample once, and compare. Blocks for as long as it sounds and some seconds more.

        Parameters
        ----------
        stops : int
            How often the server is stopped for `STOPPED_S`, evenly spread over the sample.

        Raises
        ------
        UnavailableError
            The player failed.
        """
        with Witness() as witness, self._sound_server.recording() as finish:
            told = self._play(stops)
            recording = finish()
        return Take(
            found=self._detector(recording),
            voice_gaps=_gaps(told["voice"]),
            output_gaps=_gaps(told["output"]),
            underflow_flags=told["output"]["underflow_flags"],
            late_blocks=told["late_blocks"],
            witness_ns=witness.worst_ns,
        )

    def _play(self, stops: int) -> dict[str, Any]:
        """Run the player, stop the server meanwhile, and return what the player tells."""
        player = subprocess.Popen(
            [sys.executable, "-m", "samplecache.lab.ear.real_player", self._target, SAMPLE],
            env=self._sound_server.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            player.stdout.readline()  # type: ignore[union-attr]  # it has begun
            for _ in range(stops):
                time.sleep(len(self._sample) / CARD_FORMAT.rate_hz / (stops + 1))
                self._server.send_signal(signal.SIGSTOP)
                try:
                    time.sleep(STOPPED_S)
                finally:
                    self._server.send_signal(signal.SIGCONT)
            told, complaints = player.communicate(timeout=PLAY_TIMEOUT_S)
        finally:
            end(player)
        if player.returncode:
            why = complaints.strip().rpartition("\n")[2]
            raise UnavailableError(f"The player failed: {why}", remedy="See what it says")
        answer: dict[str, Any] = json.loads(told)
        return answer

    @contextlib.contextmanager
    def _serving(self) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "samplecache", "serve", "--listen", self._target],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            end(process)


def _gaps(report: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    return tuple((gap["at_frame"], gap["length_frames"]) for gap in report["gaps"])
