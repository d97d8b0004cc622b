"""Opening an output by its name on the command line."""

from __future__ import annotations

from samplecache.audio.format import AudioFormat
from samplecache.clock import Clock
from samplecache.errors import ConfigurationError

from .clocked import NullOutput, WavOutput
from .device import LATENCY_NS, DeviceOutput
from .output import Output, OutputUnavailableError


def open_output(
    spec: str,
    format: AudioFormat,
    *,
    latency_ns: int = LATENCY_NS,
    paced: bool = False,
    strict: bool = False,
    clock: Clock | None = None,
) -> tuple[Output, str | None]:
    """Open the output that `spec` names.

    Parameters
    ----------
    spec : str
        ``device`` (PortAudio's default), ``device:NAME``, ``null`` or ``wav:FILE``.
    format : AudioFormat
        S16 or F32.
    latency_ns : int
        What a device is asked to buffer.
    paced : bool
        Whether a WAV file is written in real time, late frames becoming silence.
    strict : bool
        Whether a device that cannot be opened is an error; otherwise the null output takes its place.
    clock : Clock, optional
        For tests.

    Returns
    -------
    output : Output
        Ready to be started.
    note : str or None
        One line for the user if it is not what `spec` names: why, and what to install or set.

    Raises
    ------
    ConfigurationError
        `spec` has another form.
    OutputUnavailableError
        The file cannot be written, or, if `strict`, the device not be opened.
    """
    kind, _, name = spec.partition(":")
    match kind, name:
        case "null", "":
            return NullOutput(format, clock=clock), None
        case "wav", str() if name:
            return WavOutput(name, format, paced=paced, clock=clock), None
        case "device", _:
            try:
                return DeviceOutput(format, name or None, latency_ns=latency_ns, clock=clock), None
            except OutputUnavailableError as error:
                if strict:
                    raise
                return NullOutput(format, clock=clock), f"Playing into the null output, which nobody hears: {error}"
        case _:
            raise ConfigurationError(
                f"{spec!r} is not an output", remedy="Use device, device:NAME, null or wav:FILE", output=spec
            )
