"""What a block of PCM bytes means: rate, channels and encoding, and the arithmetic between frames, bytes and time."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from samplecache.clock import NS_PER_S
from samplecache.errors import AudioError, InvalidFormatError

MIN_RATE_HZ = 1_000
"""Below any rate in use; telephony starts at 8 000."""
MAX_RATE_HZ = 768_000
"""The highest PCM rate that converters are sold with."""
MAX_CHANNELS = 64
"""A MADI link's worth."""

_LAYOUT_NAMES = {1: "mono", 2: "stereo"}


class Encoding(enum.Enum):
    """How one channel's value is stored: little-endian, channels interleaved, no padding between frames."""

    U8 = "u8"
    """Unsigned; silence is 128."""
    S16 = "s16"
    S24 = "s24"
    """Packed into three bytes."""
    S32 = "s32"
    F32 = "f32"
    """IEEE 754; full scale is ±1.0, and values beyond it are allowed."""
    F64 = "f64"

    width_bytes: int
    """Bytes that one channel's value takes."""

    def __init__(self, name: str) -> None:
        self.width_bytes = int(name[1:]) // 8  # the name says bits; worked out once, since every block asks

    @property
    def is_float(self) -> bool:
        """Whether values are floating point."""
        return self in (Encoding.F32, Encoding.F64)


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Rate, channels and encoding of interleaved PCM.

    Parameters
    ----------
    rate_hz : int
        Frames a second, `MIN_RATE_HZ` to `MAX_RATE_HZ`.
    channels : int
        Channels in a frame, 1 to `MAX_CHANNELS`.
    encoding : Encoding
        How each channel's value is stored.

    Raises
    ------
    InvalidFormatError
        The rate or the channel count is out of range, or `encoding` is not an `Encoding`.
    """

    rate_hz: int
    channels: int
    encoding: Encoding

    def __post_init__(self) -> None:
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            raise InvalidFormatError(
                f"a rate of {self.rate_hz} Hz is out of range",
                remedy=f"Give a rate from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz",
                rate_hz=self.rate_hz,
            )
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise InvalidFormatError(
                f"{self.channels} channels are out of range",
                remedy=f"Give from 1 to {MAX_CHANNELS} channels",
                channels=self.channels,
            )
        if not isinstance(self.encoding, Encoding):
            raise InvalidFormatError(
                f"{self.encoding!r} is not an encoding",
                remedy=f"Give one of {', '.join(known.value for known in Encoding)}",
                encoding=self.encoding,
            )

    def __str__(self) -> str:
        layout = _LAYOUT_NAMES.get(self.channels, f"{self.channels} channels")
        return f"{self.rate_hz} Hz {layout} {self.encoding.value}"

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame, all channels together."""
        return self.channels * self.encoding.width_bytes

    def frames_to_bytes(self, frames: int) -> int:
        """Return how many bytes `frames` frames take."""
        return frames * self.frame_bytes

    def bytes_to_frames(self, total_bytes: int) -> int:
        """Return how many frames `total_bytes` hold.

        Raises
        ------
        InvalidFormatError
            `total_bytes` ends inside a frame (reason ``PARTIAL_FRAME``).
        """
        frames, rest_bytes = divmod(total_bytes, self.frame_bytes)
        if rest_bytes:
            raise InvalidFormatError(
                f"{total_bytes} bytes are not a whole number of frames of {self} ({self.frame_bytes} bytes each)",
                remedy=f"Send {self.frames_to_bytes(frames)} or {self.frames_to_bytes(frames + 1)} bytes, "
                "or declare the format that the bytes really have",
                reason="PARTIAL_FRAME",
                total_bytes=total_bytes,
                frame_bytes=self.frame_bytes,
            )
        return frames

    def duration_ns(self, frames: int) -> int:
        """Return how long `frames` frames sound, in nanoseconds, rounded down."""
        return frames * NS_PER_S // self.rate_hz

    def frames_in(self, duration_ns: int) -> int:
        """Return how many frames begin within `duration_ns` nanoseconds, so that ``frames_in(duration_ns(n)) == n``."""
        return -(-duration_ns * self.rate_hz // NS_PER_S)


def check_raw(format: AudioFormat, total_bytes: int) -> int:
    """Return how many frames raw PCM of `total_bytes` bytes holds.

    Raises
    ------
    AudioError
        There are no frames (reason ``EMPTY_AUDIO``).
    InvalidFormatError
        The bytes end inside a frame (reason ``PARTIAL_FRAME``).
    """
    frames = format.bytes_to_frames(total_bytes)
    if frames == 0:
        raise AudioError("the raw audio has no frames", remedy="Send at least one frame", reason="EMPTY_AUDIO")
    return frames
