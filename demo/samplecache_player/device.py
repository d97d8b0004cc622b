"""A real device, through PortAudio."""

from __future__ import annotations

import threading
import time
from types import ModuleType
from typing import Any

import numpy as np

from samplecache.audio.format import AudioFormat
from samplecache.clock import NS_PER_MS, NS_PER_S, Clock

from .output import Output, OutputLostError, OutputUnavailableError, Period, PeriodSource
from .report import GapLog, OutputReport
from .ring import FrameRing

LATENCY_NS = 250 * NS_PER_MS
"""What PortAudio is asked to buffer. Playing was clean from 32-43 ms on in quiet spells, never below."""

RING_BEYOND_LATENCY_NS = 100 * NS_PER_MS
"""PortAudio asks for its whole latency at once when it starts; the ring holds that and this much more."""

DRAIN_BEYOND_LATENCY_NS = 100 * NS_PER_MS
"""PortAudio's stop loses what its host API still holds (116-379 ms seen), so silence of twice the latency and this
follows the last frame."""

SILENT_DEVICE_NS = 5 * NS_PER_S
"""A device that has asked for nothing for so long has hung."""

CLOSE_NS = 2 * NS_PER_S
"""How long a stream may take to close before it is left to itself."""

CATCH_UP_PERCENT = 10
"""How much faster than real time the source is asked while the ring refills."""

_CLOSE_POLL_NS = 2 * NS_PER_MS

_POLL_NS = 100 * NS_PER_MS


def load_sounddevice() -> ModuleType:
    """Import and return sounddevice, which loads PortAudio as it is imported: hence not before it is needed.

    Raises
    ------
    OutputUnavailableError
        The package or the library is not installed.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise OutputUnavailableError(
            "the Python package sounddevice is not installed", remedy="Install it: pip install 'samplecache[player]'"
        ) from error
    except OSError as error:
        raise OutputUnavailableError(
            f"the PortAudio library cannot be loaded ({error})",
            remedy="Install it, on Debian and Ubuntu: apt-get install libportaudio2",
        ) from error
    module: ModuleType = sounddevice
    return module


class DeviceOutput(Output):
    """A PortAudio stream that is fed through a ring.

    A thread takes periods from the source and writes them into the ring; PortAudio's callback copies from it, fills
    up with silence, and counts. PortAudio takes its whole latency at once when it starts, and later several periods at
    a time; neither reaches the source: what is played first is silence, until PortAudio's own buffer and the ring are
    full, and then the source is asked period by period in about real time, as long as the ring is half full.

    Parameters
    ----------
    format : AudioFormat
        S16 or F32.
    device : str or int, optional
        PortAudio's name for it, a part of that, or its number; PortAudio's default if not given.
    latency_ns : int
        What PortAudio is asked to buffer; the granted figure may differ.
    period_frames : int, optional
        How many frames the source is asked for at a time. PortAudio chooses its own.
    clock : Clock, optional
        Times the reports; the device keeps its own time.

    Raises
    ------
    OutputUnavailableError
        PortAudio or a device is missing, or the device refuses the format.
    """

    def __init__(
        self,
        format: AudioFormat,
        device: str | int | None = None,
        *,
        latency_ns: int = LATENCY_NS,
        period_frames: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(format, period_frames, clock)
        sounddevice = load_sounddevice()
        self._stream = self._open(sounddevice, device, latency_ns)
        self._end_of_callbacks: type[Exception] = sounddevice.CallbackAbort
        self._closing = threading.Event()
        self.granted_latency_ns = round(self._stream.latency * NS_PER_S)
        """What PortAudio says that it buffers."""
        granted_frames = format.frames_in(self.granted_latency_ns)
        ring_frames = granted_frames + max(self.period_frames, format.frames_in(RING_BEYOND_LATENCY_NS))
        self._ring = FrameRing(ring_frames, format.channels, self.dtype)
        self.latency_ns = self.granted_latency_ns + format.duration_ns(ring_frames)
        self._lead_in_frames = ring_frames + granted_frames
        self._drain_frames = 2 * granted_frames + format.frames_in(DRAIN_BEYOND_LATENCY_NS)
        self._silence = np.zeros((self.period_frames, format.channels), self.dtype)
        self._source_frames = 0
        self._source_ended = False
        self._stream_ended = threading.Event()
        self._gaps = GapLog()
        self._periods = 0
        self._underflow_flags = 0
        self._asked_ns = 0

    def report(self) -> OutputReport:
        """Return what has been played so far; any thread."""
        return OutputReport(
            frames_played=min(self._source_frames, max(0, self._ring.read_frames - self._lead_in_frames)),
            periods=self._periods,
            underruns=self._gaps.count,
            underrun_frames=self._gaps.total_frames,
            gaps=self._gaps.gaps(),
            underflow_flags=self._underflow_flags,
        )

    def _open(self, sounddevice: ModuleType, device: str | int | None, latency_ns: int) -> Any:
        try:
            return sounddevice.OutputStream(
                samplerate=self.format.rate_hz,
                channels=self.format.channels,
                dtype=self.dtype.name,
                device=device,
                latency=latency_ns / NS_PER_S,
                callback=self._callback,
                finished_callback=self._finished,
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            if not any(known["max_output_channels"] for known in sounddevice.query_devices()):
                raise OutputUnavailableError(
                    "PortAudio finds no output device",
                    remedy="Start a sound server (PulseAudio or PipeWire; check PULSE_SERVER) with its ALSA plugin"
                    " (Debian: libasound2-plugins or pipewire-alsa) and try again, or play into null or wav:FILE",
                ) from error
            names = ", ".join(
                repr(known["name"]) for known in sounddevice.query_devices() if known["max_output_channels"]
            )
            raise OutputUnavailableError(
                f"the device {'' if device is None else repr(device) + ' '}cannot play {self.format} ({error})",
                remedy=f"See that its sound server runs, or choose one of {names}, or another format",
            ) from error

    def stop(self) -> None:
        """Stop at once: what has not been heard is lost. Waits for the output's thread; may be called again."""
        self._stopping.set()
        self._ring.wake()
        super().stop()

    def _play(self, source: PeriodSource) -> None:
        self._write_silence(self._ring.capacity_frames)
        self._start_stream()
        self._write_silence(self._lead_in_frames - self._ring.capacity_frames)
        period = np.zeros_like(self._silence)
        ask_again_ns = self.format.duration_ns(len(period)) * 100 // (100 + CATCH_UP_PERCENT)
        filled = len(period)
        while filled == len(period) and not self._stopping.is_set():
            asked_ns = self._clock.now_ns()
            filled = source(period)
            self._source_frames += filled
            self._write(period[:filled])
            if 2 * self._ring.available_frames >= self._ring.capacity_frames:
                self._clock.sleep_until(asked_ns + ask_again_ns)
        self._source_ended = True
        self._write_silence(self._drain_frames)
        while self._ring.available_frames and not self._stopping.is_set():
            self._ring.wait_for_space(self._ring.capacity_frames, _POLL_NS)
            self._check_device()

    def _start_stream(self) -> None:
        self._asked_ns = self._clock.now_ns()
        try:
            self._stream.start()
        except load_sounddevice().PortAudioError as error:
            raise OutputUnavailableError(
                f"the device does not start ({error})", remedy="See that no other program holds it, and try again"
            ) from error

    def _write_silence(self, frames: int) -> None:
        for start in range(0, frames, len(self._silence)):
            self._write(self._silence[: frames - start])

    def _write(self, frames: Period) -> None:
        """Write into the ring, waiting for room; gives up when the output is being stopped."""
        while not self._ring.wait_for_space(len(frames), _POLL_NS):
            if self._stopping.is_set():
                return
            self._check_device()
        self._ring.write(frames)

    def _check_device(self) -> None:
        silent_ns = self._clock.now_ns() - self._asked_ns
        if self._stopping.is_set() or (not self._stream_ended.is_set() and silent_ns < SILENT_DEVICE_NS):
            return
        raise OutputLostError(
            "the sound server or device has gone away while playing"
            if self._stream_ended.is_set()
            else f"the device has asked for nothing in {silent_ns / NS_PER_S:.1f} s",
            remedy="See that the sound server runs, then start the player again",
            frames_played=self.report().frames_played,
        )

    def _callback(self, out: Period, frames: int, times: Any, status: Any) -> None:
        """Copy, fill up, count: on PortAudio's thread, which must never wait."""
        if self._closing.is_set():
            raise self._end_of_callbacks
        self._asked_ns = self._clock.now_ns()
        self._periods += 1
        if status.output_underflow:
            self._underflow_flags += 1
        copied = self._ring.read_into(out)
        if copied < frames:
            out[copied:].fill(0)
            at_frame = self._ring.read_frames - self._lead_in_frames
            if at_frame >= 0 and not self._source_ended:
                self._gaps.add(at_frame, frames - copied, self._asked_ns)

    def _finished(self) -> None:
        """Note that PortAudio has ended the stream, by itself or at our request; on PortAudio's thread."""
        self._stream_ended.set()
        self._ring.wake()

    def _close(self) -> None:
        self._closing.set()
        # Not a daemon thread: at exit PortAudio's own termination would close the stream under it.
        closing = threading.Thread(target=self._close_stream, name="DeviceOutput-close", daemon=False)
        closing.start()
        closing.join(CLOSE_NS / NS_PER_S)

    def _close_stream(self) -> None:
        """Close once the callback has ended; with a server that is there and does not answer, once that has gone.

        PortAudio cancels the callback's thread if it is told to close, stop or abort before. That thread may be inside
        Python, which then waits for ever for what it held; or inside ALSA's PulseAudio plugin, which crashes.
        """
        while self._stream.active:
            time.sleep(_CLOSE_POLL_NS / NS_PER_S)
        self._stream.close()
