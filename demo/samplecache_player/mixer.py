"""The sum of the voices, period by period."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from samplecache.audio.format import AudioFormat

from .output import Period
from .voice import Voice


class Mixer:
    """Adds up voices in float32 and turns the sum into the output's frames.

    A float32 holds every 16-bit value, and every sum of up to 256 of them, exactly; so one 16-bit voice comes out bit
    for bit. A sum beyond full scale is clipped.

    Parameters
    ----------
    format : AudioFormat
        Of the output, S16 or F32.
    """

    def __init__(self, format: AudioFormat) -> None:
        self._starting: deque[Voice] = deque()
        self._voices: list[Voice] = []
        self._mix = np.zeros((0, format.channels), np.float32)
        self.position_frames = 0
        """How many frames were mixed; the voices' start frames count in these."""

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices that are playing or will; any thread."""
        return tuple(voice for voice in (*self._voices, *self._starting) if not voice.finished)

    def add(self, voice: Voice) -> None:
        """Take `voice` in from the next period on. Never blocks; any thread."""
        self._starting.append(voice)

    def ready(self, frames: int) -> bool:
        """Return whether every voice has what the next `frames` frames need; the mixer's thread."""
        return all(voice.ready(self.position_frames, frames) for voice in self.voices)

    def mix_into(self, out: Period, now_ns: int) -> int:
        """Fill `out` with the next frames; the mixer's thread, never blocks.

        Returns
        -------
        int
            Up to where in `out` any voice reaches: 0 if there is none.
        """
        while self._starting:
            voice = self._starting.popleft()
            voice.place(self.position_frames, now_ns)
            self._voices.append(voice)
        if len(self._mix) < len(out):
            self._mix = np.zeros((len(out), out.shape[1]), np.float32)
        mix = self._mix[: len(out)]
        mix.fill(0)
        reached = max((voice.mix_into(mix, self.position_frames, now_ns) for voice in self._voices), default=0)
        self._voices = [voice for voice in self._voices if not voice.finished]
        self.position_frames += len(out)
        _encode(mix, out)
        return reached


def _encode(mix: npt.NDArray[np.float32], out: Period) -> None:
    """Write `mix`, full scale ±1.0, into int16 or float32 frames; `mix` is used up."""
    if out.dtype.kind == "i":
        full_scale = np.float32(2.0 ** (8 * out.dtype.itemsize - 1))
        np.multiply(mix, full_scale, out=mix)
        np.rint(mix, out=mix)
        np.clip(mix, -full_scale, full_scale - 1, out=mix)
    np.copyto(out, mix, casting="unsafe")
