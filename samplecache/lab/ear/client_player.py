"""A player that is a client of samplecache, as a process: a session and a pipe for each sound.

It is told what to do by lines of JSON (see :mod:`samplecache.lab.ear.lines`) and runs outside of the memory limit:
what it writes has come through gRPC and is hot.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import Any

from samplecache.audio.format import Encoding
from samplecache.client import Client, PlayStream
from samplecache.client.failure import ClientError
from samplecache.lab.ear.heard import CARD_FORMAT
from samplecache.lab.ear.lines import Message, serve
from samplecache.lab.ear.pipes import Outlet
from samplecache.v1 import playback_pb2


class ClientPlayer:
    """The process.

    Parameters
    ----------
    client : Client
        Connected to the server.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._threads: list[threading.Thread] = []
        self._reports: dict[int, Message] = {}
        self._prefetches: list[tuple[str, int, int]] = []

    def play(
        self, number: int, sample_id: str, pipe: str, frames: int, seeks: list[tuple[int, int]], options: dict[str, Any]
    ) -> None:
        """Open a session, and start a thread that plays `frames` frames of it."""
        stream = self._client.play(
            sample_id,
            rate_hz=CARD_FORMAT.rate_hz,
            channels=CARD_FORMAT.channels,
            encoding=Encoding.S16,
            **options,
        )
        self._start(self._play, number, _Session(stream, frames, seeks), pipe)

    def hint(self, sample_id: str, **options: Any) -> None:
        """Start a thread that has the sound's pages prefetched."""
        self._start(self._hint, sample_id, options)

    def finish(self) -> Message:
        """Wait for all threads, and report what the server says of the sessions, and how long prefetches took."""
        while self._threads:
            self._threads.pop().join()
        reports, self._reports = self._reports, {}
        prefetches, self._prefetches = self._prefetches, []
        return {"cues": reports, "prefetches": prefetches}

    def _start(self, target: Any, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _hint(self, sample_id: str, options: dict[str, Any]) -> None:
        began_ns = time.monotonic_ns()
        with contextlib.suppress(ClientError):  # a hint that comes to nothing is heard when the sound is played
            self._client.prefetch(sample_id, **options).result()
            self._prefetches.append((sample_id, began_ns, time.monotonic_ns()))

    def _play(self, number: int, session: _Session, pipe: str) -> None:
        error = ""
        try:
            with contextlib.suppress(BrokenPipeError), Outlet(pipe) as outlet:  # a broken pipe: the run is over
                session.play_into(outlet)
        except ClientError as failure:
            error = str(failure)
        self._reports[number] = {
            "strategy": session.strategy,
            "major_faults": session.major_faults,
            "minor_faults": session.minor_faults,
            "error": error,
        }


class _Session:
    """A playback session of which a certain number of frames is taken, with seeks to the frame."""

    def __init__(self, stream: PlayStream, frames: int, seeks: list[tuple[int, int]]) -> None:
        self._stream = stream
        self._left_bytes = CARD_FORMAT.frames_to_bytes(frames)
        self._taken_bytes = 0
        self._seeks = [(CARD_FORMAT.frames_to_bytes(after_frames), frame) for after_frames, frame in seeks]
        self._seeking = False
        self.strategy = ""
        self.major_faults = self.minor_faults = 0

    def play_into(self, outlet: Outlet) -> None:
        """Write what is played; blocks until it is over."""
        with self._stream as stream:
            self._seek_if_due()
            for event in stream:
                match event:
                    case playback_pb2.PlayStarted():
                        self.strategy = event.binding.strategy
                    case playback_pb2.PlaySeeked():
                        self._seeking = False
                        self._seek_if_due()
                    case playback_pb2.PlayBlock() if not self._seeking:
                        outlet.write(self._take(event.pcm))
                    case playback_pb2.PlaySummary():
                        self.major_faults = event.stats.faults.major
                        self.minor_faults = event.stats.faults.minor

    def _take(self, pcm: bytes) -> bytes:
        """Return what of a block is heard: up to the next seek, or the end."""
        most = self._seeks[0][0] - self._taken_bytes if self._seeks else self._left_bytes
        taken = pcm[: min(most, self._left_bytes)]
        self._taken_bytes += len(taken)
        self._left_bytes -= len(taken)
        if not self._left_bytes:
            self._stream.stop()
        else:
            self._seek_if_due()
        return taken

    def _seek_if_due(self) -> None:
        if self._seeks and self._seeks[0][0] == self._taken_bytes:
            self._seeking = True
            self._stream.seek(self._seeks.pop(0)[1])


def main() -> int:
    """Serve until standard input ends."""
    with Client(sys.argv[1]) as client:
        player = ClientPlayer(client)
        serve({"play": player.play, "hint": player.hint, "finish": player.finish})
    return 0


if __name__ == "__main__":
    sys.exit(main())
