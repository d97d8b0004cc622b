"""A player that is a client of samplecache, as a process: a session and a pipe for each sound.

It is told what to do by lines of JSON (see :mod:`samplecache.lab.ear.lines`) and runs outside of the memory limit:
what it writes has come through gRPC and is hot.
"""

from __future__ import annotations

import sys
import threading
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

    def play(
        self,
        number: int,
        sample_id: str,
        pipe: str,
        frames: int,
        strategy: str,
        block_ns: int,
        lead_ns: int | None,
        options: dict[str, Any],
    ) -> None:
        """Open a session, and start a thread that plays it."""
        stream = self._client.play(
            sample_id,
            frames=frames,
            strategy=strategy,
            rate_hz=CARD_FORMAT.rate_hz,
            channels=CARD_FORMAT.channels,
            encoding=Encoding.S16,
            block_ns=block_ns,
            lead_ns=lead_ns,
            **options,
        )
        self._start(self._play, number, stream, pipe)

    def hint(self, sample_id: str, frames: int, strategy: str, deadline_ns: int) -> None:
        """Start a thread that has the sound's pages prefetched."""
        self._start(self._hint, sample_id, frames, strategy, deadline_ns)

    def finish(self) -> Message:
        """Wait for all threads, and report what the server says of the sessions."""
        while self._threads:
            self._threads.pop().join()
        reports, self._reports = self._reports, {}
        return {"cues": reports}

    def _start(self, target: Any, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _hint(self, sample_id: str, frames: int, strategy: str, deadline_ns: int) -> None:
        self._client.prefetch(sample_id, frames=frames, strategy=strategy, deadline_ns=deadline_ns).result()

    def _play(self, number: int, stream: PlayStream, pipe: str) -> None:
        strategy, major, minor, error = "", 0, 0, ""
        try:
            with Outlet(pipe) as outlet, stream:
                for event in stream:
                    match event:
                        case playback_pb2.PlayStarted():
                            strategy = event.binding.strategy
                        case playback_pb2.PlayBlock():
                            outlet.write(event.pcm)
                        case playback_pb2.PlaySummary():
                            major, minor = event.stats.faults.major, event.stats.faults.minor
        except BrokenPipeError:  # the run is over
            pass
        except ClientError as failure:
            error = str(failure)
        self._reports[number] = {
            "strategy": strategy,
            "major_faults": major,
            "minor_faults": minor,
            "error": error,
        }


def main() -> int:
    """Serve until standard input ends."""
    with Client(sys.argv[1]) as client:
        player = ClientPlayer(client)
        serve({"play": player.play, "hint": player.hint, "finish": player.finish})
    return 0


if __name__ == "__main__":
    sys.exit(main())
