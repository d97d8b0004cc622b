"""One sample played through a player, with pauses and seeks: the server's session and the player's voice in step."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_S
from samplecache.errors import SamplecacheError
from samplecache.v1.playback_pb2 import PlaybackStats, PlayBlock, PlaySeeked, PlayStarted, PlaySummary
from samplecache_player import Player, Voice, VoiceStoppedError

if TYPE_CHECKING:
    from samplecache.client import PlayEvent, PlayStream

DTYPES: Final[dict[Encoding, np.dtype[Any]]] = {Encoding.S16: np.dtype("<i2"), Encoding.F32: np.dtype("<f4")}
"""Encodings that the player takes as they come."""

STOP_TIMEOUT_S: Final = 5.0
"""How long a stopped session may take to answer with its summary before it is cancelled."""

_BEYOND_ANY_BUFFER_NS: Final = 3600 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Window:
    """What is to be played: frames ``[start, stop)`` of a sample, at its own rate, once or for ever."""

    start: int
    stop: int
    rate_hz: int
    loop: bool

    def clamp(self, frame: int) -> int:
        """Return the frame of the window that is nearest to `frame`."""
        return max(self.start, min(frame, self.stop - 1))

    def after(self, frame: int, heard: int) -> int:
        """Return the frame that comes `heard` frames after `frame`."""
        if not self.loop:
            return min(frame + heard, self.stop)
        return self.start + (frame - self.start + heard) % (self.stop - self.start)


@dataclass(frozen=True, slots=True)
class Glitches:
    """What the listener heard of late blocks, as the player counts it."""

    count: int = 0
    total_ns: int = 0
    longest_ns: int = 0


class Deck:
    """One sample, on its way from the server to the player's output.

    Methods are for one thread; another, of its own, takes blocks from the server and feeds the voice.

    Parameters
    ----------
    open_stream : Callable
        Opens a session over the whole window.
    window : Window
        What is played.
    format : AudioFormat
        What the session delivers: the player's rate and channels, S16 or F32.
    player : Player
        Started. It only plays this.
    lead_ns : int
        How long after its start a session's first frame sounds.
    realtime : bool
        Whether the session is paced; else its frames sound as soon as enough of them have come.
    on_event : Callable
        Told of every event, on the feeding thread.
    """

    def __init__(
        self,
        open_stream: Callable[[], PlayStream],
        window: Window,
        format: AudioFormat,
        player: Player,
        *,
        lead_ns: int,
        realtime: bool,
        on_event: Callable[[PlayEvent], None],
    ) -> None:
        self._open_stream = open_stream
        self._window = window
        self._format = format
        self._player = player
        self._lead_ns = lead_ns if player.output.paced else 0
        # In real time a voice waits out its lead, however much has come: that is its buffer against jitter.
        self._prefill_ns = _BEYOND_ANY_BUFFER_NS if realtime and self._lead_ns else self._lead_ns
        self._on_event = on_event
        self._lock = threading.Lock()
        self._stream: PlayStream | None = None
        self._feeder: threading.Thread | None = None
        self._voices: list[Voice] = []
        self._origin = window.start
        self._seeks_pending = 0
        self._paused_at: int | None = None
        self._failure: SamplecacheError | None = None
        self._ended_by_us = False
        self.stats: list[PlaybackStats] = []
        """Of the sessions that have ended; a pause ends one."""

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self._paused_at is not None

    @property
    def finished(self) -> bool:
        """Whether all has been heard, but for the output's own latency, or the session has failed."""
        if self.paused or self._feeding:
            return False
        return self._failure is not None or all(voice.finished for voice in self._voices)

    @property
    def position_frame(self) -> int:
        """The frame of the sample that sounds next."""
        if self._paused_at is not None:
            return self._paused_at
        with self._lock:
            heard = self._voices[-1].position_frames if self._voices else 0
            return self._window.after(self._origin, heard * self._window.rate_hz // self._format.rate_hz)

    @property
    def glitches(self) -> Glitches:
        """What has been heard of late blocks."""
        reports = [voice.report() for voice in self._voices]
        return Glitches(
            sum(report.glitches for report in reports),
            sum(report.glitch_total_ns for report in reports),
            max((report.glitch_longest_ns for report in reports), default=0),
        )

    def start(self) -> None:
        """Begin to play."""
        self._open(None)

    def toggle_pause(self) -> None:
        """Stand still, or go on. Standing still ends the session, whose blocks would otherwise all be late."""
        if self._paused_at is not None:
            frame, self._paused_at = self._paused_at, None
            self._open(frame)
        elif self._movable:
            frame = self._window.clamp(self.position_frame)
            self._end_session()
            self._paused_at = frame

    def seek_by(self, frames: int) -> None:
        """Go on `frames` frames further on, or back if negative; stays within what is to be played."""
        frame = self._window.clamp(self.position_frame + frames)
        if self._paused_at is not None:
            self._paused_at = frame
        elif self._stream is not None and self._feeding:
            self._seek(self._stream, frame)
        elif self._movable:  # the server has sent all, but the end has yet to sound
            self._open(frame)

    def stop(self) -> None:
        """End the session and the sound, and wait for the session's figures."""
        self._paused_at = None
        self._end_session()

    def close(self) -> None:
        """End everything at once."""
        if self._stream is not None:
            self._stream.close()
        self._silence()
        if self._feeder is not None:
            self._feeder.join()

    def check(self) -> None:
        """Raise what ended the session or the output, if anything did."""
        if self._failure is not None:
            raise self._failure
        self._player.output.wait(0)

    @property
    def _feeding(self) -> bool:
        """Whether the session goes on."""
        return self._feeder is not None and self._feeder.is_alive()

    @property
    def _movable(self) -> bool:
        """Whether it can go on elsewhere: not when an unpaced output, such as a file, has been given the end."""
        return self._feeding or self._player.output.paced

    def _open(self, frame: int | None) -> None:
        self._silence()
        # The session spans the whole window, so that it loops and ends where it should; it is then moved to the frame.
        self._seeks_pending = 0
        self._ended_by_us = False
        self._stream = stream = self._open_stream()
        if frame is not None and frame != self._window.start:
            self._seek(stream, frame)
        self._feeder = threading.Thread(target=self._feed, args=(stream,), name="samplecache-deck", daemon=True)
        self._feeder.start()

    def _seek(self, stream: PlayStream, frame: int) -> None:
        with self._lock:
            self._seeks_pending += 1
            self._origin = frame
        self._silence()
        stream.seek(frame)

    def _end_session(self) -> None:
        self._silence()
        if self._stream is None or self._feeder is None:
            return
        self._ended_by_us = True
        self._stream.stop()
        self._feeder.join(STOP_TIMEOUT_S)
        self._stream.close()
        self._feeder.join()
        self._silence()  # what the feeder started meanwhile

    def _silence(self) -> None:
        with self._lock:
            for voice in self._voices:
                voice.stop()

    # --- on the feeding thread ---

    def _feed(self, stream: PlayStream) -> None:
        voice: Voice | None = None
        fed_frames = 0
        try:
            for event in stream:
                match event:
                    case PlayStarted() if not self._seeks_pending:
                        voice, fed_frames = self._start_voice(self._window.start), 0
                    case PlaySeeked():
                        with self._lock:
                            self._seeks_pending -= 1
                        if not self._seeks_pending:
                            voice, fed_frames = self._start_voice(event.frame), 0
                    case PlayBlock() if voice is not None and not self._seeks_pending:
                        fed_frames += self._feed_block(voice, fed_frames, event.pcm)
                    case PlaySummary():
                        self.stats.append(event.stats)
                self._on_event(event)
        except SamplecacheError as error:
            self._failure = error
        if not self._player.output.paced and not self._ended_by_us:
            self._player.drain(0)  # before the voice ends: what is written then ends with its last frame
        if voice is not None:
            voice.end()

    def _start_voice(self, frame: int) -> Voice:
        self._silence()
        voice = self._player.start_voice(lead_ns=self._lead_ns, prefill_ns=self._prefill_ns)
        with self._lock:
            self._origin = frame
            self._voices.append(voice)
        return voice

    def _feed_block(self, voice: Voice, offset_frames: int, pcm: bytes) -> int:
        """Feed one block and return its frames; waits while the voice's buffer is full, unless the voice is stopped."""
        frames = np.frombuffer(pcm, DTYPES[self._format.encoding]).reshape(-1, self._format.channels)
        # Stopped: a seek or the session's end is on its way, and what comes until then is for nobody. Of a block before
        # this one it may have taken a part only, so that this one would not follow.
        if not voice.finished:
            with contextlib.suppress(VoiceStoppedError):
                voice.feed(offset_frames, frames)
        return len(frames)
