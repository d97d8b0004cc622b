"""From the format that a sample is stored in to the one a listener asked for, block by block."""

from __future__ import annotations

import math

import numpy as np
import soxr

from samplecache.audio.channels import channel_matrix
from samplecache.audio.format import AudioFormat
from samplecache.audio.pcm import Values, from_float, to_float
from samplecache.errors import InvalidError

MAX_GAIN = 16.0
"""24 dB: enough to lift a quiet recording, too little to make a mistake dangerous."""

_QUALITY = "HQ"  # soxr's 20-bit recipe, its own default: -120 dB of noise at 500 times real time


class Converter:
    """Streams blocks of one format into another: gain, channels, rate and encoding.

    The bytes that come out of ``convert`` and ``flush`` together do not depend on how the input was cut into blocks.
    A resampler holds frames back, so a call may return fewer bytes than it was given, or none. Use it from one thread
    at a time. It never blocks; it reads the caller's block with the GIL held, so a block must be a copy of sample
    memory, never that memory itself.

    Parameters
    ----------
    source, target : AudioFormat
        What goes in and what comes out.
    gain : float
        Linear factor, 0 to `MAX_GAIN`; 1.0 leaves the values alone.

    Raises
    ------
    InvalidError
        The gain is not finite or out of range (reason ``INVALID_GAIN``).
    InvalidFormatError
        No rule turns the source's channels into the target's (reason ``UNSUPPORTED_CHANNELS``).
    """

    def __init__(self, source: AudioFormat, target: AudioFormat, gain: float = 1.0) -> None:
        self.source = source
        self.target = target
        self.gain = gain
        self._same_format = source == target  # asked before every block: comparing formats takes a microsecond
        self._mix = channel_matrix(source.channels, target.channels) if source.channels != target.channels else None
        self._resampler: soxr.ResampleStream | None = None
        if source.rate_hz != target.rate_hz:
            # Mixing is linear, so it may stand on either side; resampling the fewer channels is cheaper.
            channels = min(source.channels, target.channels)
            self._resampler = soxr.ResampleStream(
                source.rate_hz, target.rate_hz, channels, dtype="float64", quality=_QUALITY
            )
        self._frames_in = 0
        self._frames_out = 0

    @property
    def gain(self) -> float:
        """Linear factor; may be set between blocks, and raises :class:`InvalidError` as the constructor does."""
        return self._gain

    @gain.setter
    def gain(self, gain: float) -> None:
        if not (math.isfinite(gain) and 0.0 <= gain <= MAX_GAIN):
            raise InvalidError(
                f"a gain of {gain} is not allowed",
                remedy=f"Give a number from 0 to {MAX_GAIN:g}; 1 leaves the level as it is",
                reason="INVALID_GAIN",
                gain=gain,
            )
        self._gain = gain

    @property
    def is_identity(self) -> bool:
        """Whether blocks pass through untouched."""
        return self._gain == 1.0 and self._same_format

    @property
    def resamples(self) -> bool:
        """Whether it changes the rate, and so holds frames back."""
        return self._resampler is not None

    def frames_out(self, frames: int) -> int:
        """Return how many frames a whole run of `frames` source frames becomes: ``frames * out / in``, half up."""
        source_hz, target_hz = self.source.rate_hz, self.target.rate_hz
        return (2 * frames * target_hz + source_hz) // (2 * source_hz)

    @property
    def held_frames(self) -> int:
        """Source frames that went in and that the resampler holds back; 0 where the rate stays."""
        if self._resampler is None:
            return 0
        return max(0, self._frames_in - self._frames_out * self.source.rate_hz // self.target.rate_hz)

    def convert(self, block: bytes | bytearray | memoryview) -> bytes:
        """Return what is ready after `block`, in the target format.

        Raises
        ------
        InvalidFormatError
            `block` ends inside a frame (reason ``PARTIAL_FRAME``); nothing was taken from it.
        """
        self._frames_in += self.source.bytes_to_frames(memoryview(block).nbytes)
        if self.is_identity:
            return bytes(block)
        frames = to_float(block, self.source.encoding).reshape(-1, self.source.channels)
        return self._finish(self._resample(frames))

    def flush(self) -> bytes:
        """Return what the resampler still held and start afresh.

        All that came out since the start, or since the last ``reset``, is then exactly ``frames_out`` of what went in.
        """
        if self._resampler is None:
            self.reset()
            return b""
        channels = min(self.source.channels, self.target.channels)
        tail = self._resampler.resample_chunk(np.zeros((0, channels)), last=True)
        wanted = self.frames_out(self._frames_in) - self._frames_out
        # libsoxr ends at the same frame on its own; a version that did not must not shift what follows.
        tail = np.concatenate([tail[:wanted], np.zeros((max(0, wanted - len(tail)), channels))])
        self.reset()
        return self._finish(tail)

    def reset(self) -> None:
        """Forget what went in before: to be called after a seek."""
        self._frames_in = 0
        self._frames_out = 0
        if self._resampler is not None:
            self._resampler.clear()

    def _resample(self, frames: Values) -> Values:
        if self._resampler is None:
            return frames
        if self.source.channels > self.target.channels:
            frames = self._mixed(frames)
        resampled: Values = self._resampler.resample_chunk(np.ascontiguousarray(frames))
        self._frames_out += len(resampled)
        return resampled

    def _finish(self, frames: Values) -> bytes:
        if frames.shape[1] != self.target.channels:
            frames = self._mixed(frames)
        if self.gain != 1.0:
            frames = frames * self.gain
        return from_float(frames, self.target.encoding)

    def _mixed(self, frames: Values) -> Values:
        return frames if self._mix is None else frames @ self._mix
