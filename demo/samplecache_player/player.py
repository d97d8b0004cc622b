"""The player: any number of voices into one output."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from samplecache.audio.format import AudioFormat
from samplecache.clock import NS_PER_MS
from samplecache.errors import InvalidError, LimitError

from .mixer import Mixer
from .output import Output, Period
from .report import OutputReport
from .ring import Wake
from .voice import Voice, VoiceStoppedError

BUFFER_NS = 500 * NS_PER_MS
"""How much a voice buffers: five blocks of 100 ms, the size at which the service carries most streams."""

MAX_VOICES = 256
"""As many 16-bit voices as a float32 sums exactly; mixing them takes some 2 ms of each 10 ms period."""

_POLL_NS = 100 * NS_PER_MS


class Player:
    """Plays voices into an output, as a context manager that stops at once when it is left.

    Its timeline is counted in mixed frames and stands still while paused. Voices may be started before the player is;
    for an unpaced output that is how to have them begin together. Methods may be called from any thread.

    Parameters
    ----------
    output : Output
        Where to play; the player starts and stops it.
    buffer_ns : int
        How much each voice buffers.
    max_voices : int
        How many may play at a time.
    """

    def __init__(self, output: Output, *, buffer_ns: int = BUFFER_NS, max_voices: int = MAX_VOICES) -> None:
        self._output = output
        self._clock = output.clock
        self._buffer_frames = max(2 * output.period_frames, output.format.frames_in(buffer_ns))
        self._max_voices = max_voices
        self._mixer = Mixer(output.format)
        self._starting = threading.Lock()
        self._paused = False
        self._draining = False
        self._stopped = False
        self._changed = Wake()

    @property
    def format(self) -> AudioFormat:
        """The output's format; voices must have its rate."""
        return self._output.format

    @property
    def output(self) -> Output:
        """Where it plays."""
        return self._output

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices that are playing or will."""
        return self._mixer.voices

    @property
    def paused(self) -> bool:
        """Whether the voices stand still."""
        return self._paused

    def start(self) -> None:
        """Start the output; raises as :meth:`Output.start` does."""
        self._output.start(self._fill, self._end)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start_voice(
        self,
        *,
        offset_frames: int = 0,
        length_frames: int | None = None,
        at_ns: int | None = None,
        lead_ns: int = 0,
        prefill_ns: int = 0,
        gain: float = 1.0,
    ) -> Voice:
        """Start a voice, to be fed by the caller. Never blocks for long.

        To seek, stop the voice and start another at the new offset.

        Parameters
        ----------
        offset_frames : int
            The frame of the sample with which it begins.
        length_frames : int, optional
            How many frames will be fed; without it the voice ends when :meth:`Voice.end` is called, and frames that
            are lacking until then count as a glitch.
        at_ns : int, optional
            When it starts, on the output's clock; with the next period if not given or past. Heard later by the
            output's latency.
        lead_ns : int
            How long after its start the first frame is due; silence before that is no glitch.
        prefill_ns : int
            How much it waits to have buffered before it sounds, within its lead. With more than the buffer, it
            sounds exactly when the lead is over: a fixed delay against jitter.
        gain : float
            Factor of every value.

        Raises
        ------
        LimitError
            `max_voices` are playing.
        InvalidError
            A figure is negative.
        VoiceStoppedError
            The player has been stopped or is draining.
        """
        if min(offset_frames, length_frames or 0, lead_ns, prefill_ns) < 0:
            raise InvalidError(
                "a voice was to start with a negative offset, length, lead or prefill", remedy="Give 0 or more of each"
            )
        voice = Voice(
            self.format,
            offset_frames=offset_frames,
            length_frames=length_frames,
            start_ns=self._clock.now_ns() if at_ns is None else at_ns,
            lead_frames=self.format.frames_in(lead_ns),
            buffer_frames=self._buffer_frames,
            prefill_frames=self.format.frames_in(prefill_ns),
            gain=gain,
            on_change=self._changed.set,
        )
        with self._starting:  # against other starters only: the mixer takes no lock
            if self._draining or self._stopped:
                raise VoiceStoppedError("the player is ending", remedy="Open another player")
            if len(self.voices) >= self._max_voices:
                raise LimitError(
                    f"{self._max_voices} voices are playing",
                    remedy="Stop one of them or wait for its end, or make the player with a greater max_voices",
                    max_voices=self._max_voices,
                )
            self._mixer.add(voice)
        self._changed.set()
        return voice

    def pause(self) -> None:
        """Let every voice stand still from the next period on; no glitches are counted."""
        self._paused = True

    def resume(self) -> None:
        """Go on where :meth:`pause` stopped."""
        self._paused = False
        self._changed.set()

    def drain(self, timeout_ns: int | None = None) -> bool:
        """Take no more voices and block until the last has ended and been heard, at most `timeout_ns`.

        Returns
        -------
        bool
            Whether all has been heard; False if the time ran out first.

        Raises
        ------
        OutputLostError
            The device has stopped before.
        """
        with self._starting:
            self._draining = True
        self._changed.set()
        return self._output.wait(timeout_ns)

    def stop(self) -> None:
        """Stop at once: every voice, and the output. May be called again."""
        self._end()
        self._output.stop()

    def report(self) -> OutputReport:
        """Return what the output has played; each voice has a report of its own."""
        return self._output.report()

    def _fill(self, out: Period) -> int:
        """Mix the next period, for the output, on its thread."""
        if not self._output.paced:
            self._wait_for_voices(len(out))
        if self._stopped:
            return 0
        if self._paused:
            out.fill(0)
            return len(out)
        draining = self._draining  # before the voices are looked at: none is added after it
        reached = self._mixer.mix_into(out, self._clock.now_ns())
        return len(out) if self.voices or not draining else reached

    def _wait_for_voices(self, frames: int) -> None:
        """Block until an unpaced output's next period can be mixed without silence for want of frames."""
        while not self._stopped and (
            self._paused or not (self.voices or self._draining) or not self._mixer.ready(frames)
        ):
            self._changed.wait(_POLL_NS)

    def _end(self) -> None:
        """Stop the voices, so that nobody waits for a player that plays no more."""
        with self._starting:
            self._stopped = True
        for voice in self.voices:
            voice.stop()
        self._changed.set()
