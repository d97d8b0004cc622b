"""One sound being played: a bounded buffer between the thread that feeds it and the mixer, and its glitches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from samplecache.audio.format import AudioFormat
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import InvalidFormatError, InvalidSpanError, StateError

from .report import GapLog, VoiceReport
from .ring import FrameRing, Frames

Mix = npt.NDArray[np.float32]
"""Shape ``(frames, channels)``, full scale ±1.0."""

_POLL_NS = 100 * NS_PER_MS


class VoiceStoppedError(StateError):
    """The voice plays no more, so it takes no more frames."""

    reason = "VOICE_STOPPED"


class Voice:
    """A sound that :meth:`Player.start_voice` started.

    One thread feeds it (:meth:`feed`, :meth:`end`), the mixer takes from it, any thread may :meth:`stop` it or ask. It
    begins to sound once its start has come and `prefill_frames` are there, and when its lead is over even if none is;
    from then on until its end each frame that is missing is silence and part of a glitch. What comes late is played
    late, not skipped.

    Parameters
    ----------
    format : AudioFormat
        Of the mix.
    offset_frames : int
        The frame of the sample with which it begins.
    length_frames : int or None
        How many frames it has, if that is known: then it ends by itself.
    start_ns : int
        When it starts.
    lead_frames : int
        How long after that its first frame is due.
    buffer_frames, prefill_frames : int
        How many frames it holds at most, and how many it waits for.
    gain : float
        Factor of every value.
    on_change : callable
        Called, never to block, when frames or an end have come.
    """

    def __init__(
        self,
        format: AudioFormat,
        *,
        offset_frames: int,
        length_frames: int | None,
        start_ns: int,
        lead_frames: int,
        buffer_frames: int,
        prefill_frames: int,
        gain: float,
        on_change: Callable[[], None],
    ) -> None:
        self._format = format
        self._offset_frames = offset_frames
        self._end_frames = None if length_frames is None else offset_frames + length_frames
        self._start_ns = start_ns
        self._start_frame = 0
        self._lead_frames = lead_frames
        self._prefill_frames = max(1, min(prefill_frames, buffer_frames))
        self._gain = gain
        self._on_change = on_change
        self._ring = FrameRing(buffer_frames, format.channels, np.float32)
        self._taken = np.zeros((0, format.channels), np.float32)
        self._gaps = GapLog()
        self._first_frame_ns: int | None = None
        self._sounding = False
        self._ended = length_frames == 0
        self._complete = False
        self._finished = threading.Event()

    @property
    def format(self) -> AudioFormat:
        """The mix's format. Any thread."""
        return self._format

    @property
    def position_frames(self) -> int:
        """The frame of the sample that is mixed next; what is heard lies behind by the output's latency. Any thread."""
        return self._offset_frames + self._ring.read_frames

    @property
    def next_offset_frames(self) -> int:
        """The frame of the sample that :meth:`feed` expects next: where to resume a broken stream. Any thread."""
        return self._offset_frames + self._ring.written_frames

    @property
    def finished(self) -> bool:
        """Whether the mixer is done with it: played to the end, or stopped. Any thread."""
        return self._finished.is_set()

    def feed(self, offset_frames: int, frames: Frames) -> None:
        """Append frames, blocking while the buffer is full; the feeding thread.

        Parameters
        ----------
        offset_frames : int
            Where in the sample they lie: at `next_offset_frames`.
        frames : ndarray
            Shape ``(frames, channels)``, or ``(frames, 1)`` for all channels alike. Signed integers, full scale their
            type's; or floats, full scale ±1.0. Read before this returns, then free to be used again.

        Raises
        ------
        VoiceStoppedError
            It has been stopped or has ended, perhaps while this waited. If the output failed, `Player.drain` tells how.
        InvalidSpanError
            The frames do not follow the last ones, or pass the end.
        InvalidFormatError
            The shape or type is another.
        """
        if offset_frames != self.next_offset_frames:
            raise InvalidSpanError(
                f"frames from {offset_frames} were fed where {self.next_offset_frames} comes next",
                remedy=f"Feed in order, from frame {self.next_offset_frames}; to skip, start another voice there",
                offset_frames=offset_frames,
            )
        if self._end_frames is not None and offset_frames + len(frames) > self._end_frames:
            raise InvalidSpanError(
                f"frames up to {offset_frames + len(frames)} were fed to a voice that ends at {self._end_frames}",
                remedy="Feed no more than the length that the voice was started with",
                end_frames=self._end_frames,
            )
        rest = self._normalised(frames)
        while len(rest):
            if self._ended or self._finished.is_set():
                raise VoiceStoppedError("the voice has ended or been stopped", remedy="Start another voice")
            rest = rest[self._ring.write(rest) :]
            self._on_change()
            if len(rest):
                self._ring.wait_for_space(min(len(rest), self._ring.capacity_frames // 2 + 1), _POLL_NS)
        if self.next_offset_frames == self._end_frames:
            self.end()

    def feed_all(self, blocks: Iterable[tuple[int, Frames]]) -> None:
        """Feed each ``(offset_frames, frames)`` of `blocks`, then end; blocks and raises as :meth:`feed` does."""
        for offset_frames, frames in blocks:
            self.feed(offset_frames, frames)
        self.end()

    def end(self) -> None:
        """Say that no more frames come; what is buffered is still played. The feeding thread; never blocks."""
        self._ended = True
        self._on_change()

    def stop(self) -> None:
        """Sound no more from the next period on. Never blocks; any thread."""
        self._finished.set()
        self._ring.wake()
        self._on_change()

    def wait(self, timeout_ns: int | None = None) -> bool:
        """Block until it is finished, at most `timeout_ns`, and return whether it is."""
        return self._finished.wait(None if timeout_ns is None else timeout_ns / NS_PER_S)

    def report(self) -> VoiceReport:
        """Return how it has been played so far; any thread."""
        return VoiceReport(
            frames_played=self._ring.read_frames,
            complete=self._complete,
            first_frame_ns=self._first_frame_ns,
            glitches=self._gaps.count,
            glitch_total_ns=self._format.duration_ns(self._gaps.total_frames),
            glitch_longest_ns=self._format.duration_ns(self._gaps.longest_frames),
            gaps=self._gaps.gaps(),
        )

    def place(self, position: int, now_ns: int) -> None:
        """Fix where in the mix it starts: `position` is the next frame, taken at `now_ns`; the mixer's thread, once."""
        self._start_frame = position + self._format.frames_in(max(0, self._start_ns - now_ns))

    def ready(self, position: int, frames: int) -> bool:
        """Return whether the mix's period of `frames` from `position` would find all it needs; the mixer's thread."""
        return (
            self._ended
            or self._finished.is_set()
            or self._start_frame >= position + frames
            or self._ring.available_frames >= min(frames, self._ring.capacity_frames)
        )

    def mix_into(self, mix: Mix, position: int, now_ns: int) -> int:
        """Add to `mix` what sounds in the period from frame `position` of the mix; the mixer's thread, never blocks.

        Returns
        -------
        int
            Up to where in the period the voice reaches: all of it, unless it ends there.
        """
        if self._finished.is_set():
            return 0
        ended = self._ended  # before the ring is looked at: what was fed before the end is then in it
        begin = self._begin(position, len(mix), ended)
        if begin is None:
            return len(mix)
        wanted = len(mix) - begin
        if len(self._taken) < wanted:
            self._taken = np.zeros((wanted, mix.shape[1]), np.float32)
        taken = self._taken[: self._ring.read_into(self._taken[:wanted])]
        reached = begin + len(taken)
        mix[begin:reached] += taken
        if len(taken) and self._first_frame_ns is None:
            self._first_frame_ns = max(0, now_ns + self._format.duration_ns(begin) - self._start_ns)
        if ended and not self._ring.available_frames:
            self._complete = True
            self._finished.set()
            return reached
        if len(taken) < wanted:
            self._gaps.add(self.position_frames, wanted - len(taken), now_ns + self._format.duration_ns(reached))
        return len(mix)

    def _begin(self, position: int, frames: int, ended: bool) -> int | None:
        """Return from where in the period it sounds, None if not in this one."""
        if self._sounding:
            return 0
        waits = not ended and self._ring.available_frames < self._prefill_frames
        first = self._start_frame + (self._lead_frames if waits else 0)
        if first >= position + frames:
            return None
        self._sounding = True
        return max(0, first - position)

    def _normalised(self, frames: Frames) -> Mix:
        kind = frames.dtype.kind
        if kind not in "if" or frames.ndim != 2 or frames.shape[1] not in (1, self._format.channels):
            raise InvalidFormatError(
                f"a block of shape {frames.shape} and type {frames.dtype} cannot be mixed into {self._format}",
                remedy=f"Feed (frames, {self._format.channels}) or (frames, 1) signed integers or floats",
            )
        full_scale = 1.0 if kind == "f" else 2.0 ** (8 * frames.dtype.itemsize - 1)
        values = np.multiply(frames, np.float32(self._gain / full_scale), dtype=np.float32)
        return np.broadcast_to(values, (len(values), self._format.channels))
