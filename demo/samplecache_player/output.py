"""What every output is: a thread that takes periods of frames from a source until that ends."""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS, NS_PER_S, Clock, MonotonicClock
from samplecache.errors import InvalidFormatError, StateError, UnavailableError

from .report import OutputReport

Period = npt.NDArray[np.generic]
"""Frames to play, shape ``(frames, channels)``, in the output's dtype."""

PeriodSource = Callable[[Period], int]
"""Fills a period from its beginning and returns how many frames it filled; fewer than asked for means the end.

Called on the output's thread, for a paced output in real time: it must not wait.
"""

PERIOD_NS = 10 * NS_PER_MS
"""480 frames at 48 kHz, a period that sound cards commonly have."""

_DTYPES: dict[Encoding, np.dtype[np.generic]] = {Encoding.S16: np.dtype("<i2"), Encoding.F32: np.dtype("<f4")}


class OutputUnavailableError(UnavailableError):
    """An output cannot be opened: a library, a device, a server or a file is missing."""

    reason = "OUTPUT_UNAVAILABLE"


class OutputLostError(UnavailableError):
    """The device stopped in the midst of playing."""

    reason = "OUTPUT_LOST"


class Output(abc.ABC):
    """Where sound goes. Plays one source, once.

    Parameters
    ----------
    format : AudioFormat
        S16 or F32 frames.
    period_frames : int, optional
        How many frames to ask the source for at a time; `PERIOD_NS` if not given.
    clock : Clock, optional
        For tests.

    Raises
    ------
    InvalidFormatError
        The encoding is neither S16 nor F32, or the period has no frames.
    """

    paced: bool = True
    """Whether it takes frames in real time. One that does not waits for its source instead of playing silence."""

    latency_ns: int = 0
    """From a frame's being taken from the source until it is heard."""

    def __init__(self, format: AudioFormat, period_frames: int | None = None, clock: Clock | None = None) -> None:
        if format.encoding not in _DTYPES:
            raise InvalidFormatError(
                f"an output cannot play {format.encoding.value} frames",
                remedy="Use s16 or f32 for the output; voices may have any encoding",
                encoding=format.encoding.value,
            )
        self.format = format
        self.dtype = _DTYPES[format.encoding]
        self.period_frames = format.frames_in(PERIOD_NS) if period_frames is None else period_frames
        if self.period_frames < 1:
            raise InvalidFormatError(
                f"a period of {self.period_frames} frames plays nothing", remedy="Give one frame at least"
            )
        self._clock = clock or MonotonicClock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def clock(self) -> Clock:
        """The clock whose time stands in the reports."""
        return self._clock

    def start(self, source: PeriodSource, on_end: Callable[[], None] | None = None) -> None:
        """Play `source` on a thread of its own until it ends or :meth:`stop` is called.

        `on_end` is then called on that thread, after an error too.

        Raises
        ------
        StateError
            It has played, or has been stopped, before.
        """
        if self._thread is not None or self._stopping.is_set():
            raise StateError("this output has been used already", remedy="Open a new one for each player")
        self._thread = threading.Thread(target=self._run, args=(source, on_end), name=type(self).__name__, daemon=True)
        self._thread.start()

    def wait(self, timeout_ns: int | None = None) -> bool:
        """Block until the source has ended and its last frame has been heard, at most `timeout_ns`.

        Returns
        -------
        bool
            Whether that is so; False if the time ran out first.

        Raises
        ------
        OutputUnavailableError
            The device did not start.
        OutputLostError
            It stopped before that. Whatever the source raised is raised here too.
        """
        if self._thread is not None:
            self._thread.join(None if timeout_ns is None else timeout_ns / NS_PER_S)
            if self._thread.is_alive():
                return False
        if self._failure is not None:
            raise self._failure
        return True

    def stop(self) -> None:
        """Stop at once: what has not been heard is lost. Waits for the output's thread; may be called again."""
        self._stopping.set()
        if self._thread is None:
            self._close()
        else:
            self._thread.join()

    @abc.abstractmethod
    def report(self) -> OutputReport:
        """Return what has been played so far; any thread."""

    def _run(self, source: PeriodSource, on_end: Callable[[], None] | None) -> None:
        try:
            self._play(source)
        except BaseException as error:  # told to whoever waits
            self._failure = error
        finally:
            self._close()
            if on_end is not None:
                on_end()

    @abc.abstractmethod
    def _play(self, source: PeriodSource) -> None:
        """Take periods until the source ends or `_stopping` is set; on the output's thread."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Give back what was opened; once, after the last period."""
