"""PCM bytes to normalised floats and back, for every encoding.

Integers of ``b`` bits stand for ``value / 2**(b - 1)``, so that full scale is [-1, 1). A float64 holds each of them
exactly, hence every widening is exact. Narrowing rounds to nearest, ties to even, without dither, and clips at full
scale: the same bytes come out each time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samplecache.audio.format import Encoding

FLOAT_PEAK = 2.0**31
"""Float values are clipped here, 187 dB over full scale: room for files whose floats carry integers of any width,
and no filter or sum of channels overflows."""

_FLOAT_TYPES: dict[Encoding, np.dtype[np.generic]] = {
    Encoding.F32: np.dtype("<f4"),
    Encoding.F64: np.dtype("<f8"),
}

Values = npt.NDArray[np.float64]


def to_float(block: bytes | bytearray | memoryview, encoding: Encoding) -> Values:
    """Return the values in `block`, shape ``(len(block) // width_bytes,)``, full scale ±1.0.

    A NaN becomes 0; floats beyond `FLOAT_PEAK`, infinities among them, become ±`FLOAT_PEAK`.
    """
    match encoding:
        case Encoding.U8:
            return (np.frombuffer(block, "u1").astype(np.float64) - 128.0) / 2.0**7
        case Encoding.S16:
            return np.frombuffer(block, "<i2") / 2.0**15
        case Encoding.S24:
            return _unpack_s24(block) / 2.0**31
        case Encoding.S32:
            return np.frombuffer(block, "<i4") / 2.0**31
        case Encoding.F32 | Encoding.F64:
            with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
                values = np.frombuffer(block, _FLOAT_TYPES[encoding]).astype(np.float64)
            np.nan_to_num(values, copy=False, nan=0.0)
            return np.clip(values, -FLOAT_PEAK, FLOAT_PEAK, out=values)


def from_float(values: Values, encoding: Encoding) -> bytes:
    """Return finite `values`, full scale ±1.0, in `encoding`: rounded to nearest and clipped where it is an integer."""
    match encoding:
        case Encoding.U8:
            return (_to_integer(values, 8) + 128.0).astype("u1").tobytes()
        case Encoding.S16:
            return _to_integer(values, 16).astype("<i2").tobytes()
        case Encoding.S24:
            return pack_s24(_to_integer(values, 24).astype("<i4") << 8)
        case Encoding.S32:
            return _to_integer(values, 32).astype("<i4").tobytes()
        case Encoding.F32 | Encoding.F64:
            return values.astype(_FLOAT_TYPES[encoding]).tobytes()


def pack_s24(values: npt.NDArray[np.int32]) -> bytes:
    """Return the upper three bytes of each of `values`: S24 as libsndfile hands it out in 32 bits."""
    octets = np.ascontiguousarray(values, "<i4").view("u1").reshape(-1, 4)
    return octets[:, 1:].tobytes()


def _unpack_s24(block: bytes | bytearray | memoryview) -> npt.NDArray[np.int32]:
    octets = np.frombuffer(block, "u1").reshape(-1, 3)
    widened = np.zeros((len(octets), 4), "u1")
    widened[:, 1:] = octets
    return widened.view("<i4").reshape(-1)


def _to_integer(values: Values, bits: int) -> Values:
    full_scale = 2.0 ** (bits - 1)
    scaled = np.rint(values * full_scale)
    return np.clip(scaled, -full_scale, full_scale - 1, out=scaled)
