"""Outputs whose card is a clock: into nothing, and into a WAV file."""

from __future__ import annotations

import abc
from pathlib import Path

import numpy as np
import soundfile

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import Clock
from samplecache.errors import LimitError

from .output import Output, OutputUnavailableError, Period, PeriodSource
from .report import OutputReport

MAX_WAV_BYTES = 2**32 - 2**16
"""RIFF sizes have 32 bits; some are left to the headers."""


class ClockedOutput(Output):
    """An output that takes a period when its clock says so, or, unpaced, as soon as the last one is done.

    Periods are due at absolute times, ``start + frames / rate``, so that lateness never adds up; after a late one the
    next is taken as soon as it is due.
    """

    def __init__(self, format: AudioFormat, period_frames: int | None = None, clock: Clock | None = None) -> None:
        super().__init__(format, period_frames, clock)
        self._frames_played = 0
        self._periods = 0
        self._lateness_max_ns = 0

    def report(self) -> OutputReport:
        """Return what has been played so far; any thread."""
        return OutputReport(self._frames_played, self._periods, lateness_max_ns=self._lateness_max_ns)

    def _play(self, source: PeriodSource) -> None:
        period = np.zeros((self.period_frames, self.format.channels), self.dtype)
        start_ns = self._clock.now_ns()
        filled = len(period)
        while filled == len(period) and not self._stopping.is_set():
            self._wait_until_due(start_ns)
            filled = source(period)
            self._deliver(period[:filled])
            self._frames_played += filled
            self._periods += 1
        if not self._stopping.is_set():
            self._wait_until_due(start_ns)  # the last period has to sound, too

    def _wait_until_due(self, start_ns: int) -> None:
        if self.paced:
            due_ns = start_ns + self.format.duration_ns(self._frames_played)
            self._clock.sleep_until(due_ns)
            self._lateness_max_ns = max(self._lateness_max_ns, self._clock.now_ns() - due_ns)

    @abc.abstractmethod
    def _deliver(self, frames: Period) -> None:
        """Take frames that are due; on the output's thread."""


class NullOutput(ClockedOutput):
    """A sound card that nobody hears. Takes frames in real time and drops them."""

    def _deliver(self, frames: Period) -> None:
        """Drop them."""

    def _close(self) -> None:
        """Nothing was opened."""


class WavOutput(ClockedOutput):
    """A WAV file, 16-bit or float as the format says. An existing file is replaced.

    Parameters
    ----------
    path : path-like
        The file.
    format : AudioFormat
        S16 or F32.
    paced : bool
        False writes as fast as the source gives, and waits for it: the file has no gaps. True takes frames in real
        time as :class:`NullOutput` does, so that what comes too late is silence in the file.

    Raises
    ------
    OutputUnavailableError
        The file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        format: AudioFormat,
        *,
        paced: bool = False,
        period_frames: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(format, period_frames, clock)
        self.paced = paced
        try:
            self._file = soundfile.SoundFile(
                str(path),
                "w",
                samplerate=format.rate_hz,
                channels=format.channels,
                format="WAV",
                subtype="PCM_16" if format.encoding is Encoding.S16 else "FLOAT",
            )
        except (OSError, soundfile.LibsndfileError) as error:
            raise OutputUnavailableError(
                f"{path} cannot be written ({error})", remedy="Name a file in a directory that you may write to"
            ) from error

    def _deliver(self, frames: Period) -> None:
        if (self._frames_played + len(frames)) * self.format.frame_bytes > MAX_WAV_BYTES:
            raise LimitError(
                f"a WAV file holds {MAX_WAV_BYTES} bytes, which is what has been played",
                remedy="Play less into one file; it is complete up to here",
                limit_bytes=MAX_WAV_BYTES,
            )
        self._file.write(frames)

    def _close(self) -> None:
        self._file.close()
