"""The server's session and the player's voice stay in step, also when playing is stopped between two blocks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cli.deck import Deck, Window
from samplecache.v1.playback_pb2 import PlayBlock, PlayStarted, PlaySummary
from samplecache_player import VoiceStoppedError

MONO = AudioFormat(48_000, 1, Encoding.S16)
BLOCK = bytes(2 * 160)


class StoppedWhileFed:
    """A voice that is stopped while its first block is being fed, of which it has taken nothing."""

    def __init__(self) -> None:
        self.finished = False
        self.fed: list[int] = []

    def feed(self, offset_frames: int, frames: Any) -> None:
        self.fed.append(offset_frames)
        self.finished = True
        raise VoiceStoppedError("stopped", remedy="Start another voice")

    def stop(self) -> None:
        self.finished = True

    def end(self) -> None:
        pass


def test_blocks_that_come_after_a_stop_are_for_nobody() -> None:
    voice, told = StoppedWhileFed(), []
    player: Any = SimpleNamespace(
        output=SimpleNamespace(paced=True, wait=lambda timeout_ns: None), start_voice=lambda **options: voice
    )
    events = [PlayStarted(), PlayBlock(pcm=BLOCK), PlayBlock(frame_offset=160, pcm=BLOCK), PlaySummary()]
    stream: Any = events
    deck = Deck(
        lambda: stream,
        Window(0, 48_000, 48_000, loop=False),
        MONO,
        player,
        lead_ns=0,
        realtime=True,
        on_event=told.append,
    )
    deck.start()
    assert deck._feeder is not None
    deck._feeder.join(20)
    deck.check()
    assert (voice.fed, told, len(deck.stats)) == ([0], events, 1)
