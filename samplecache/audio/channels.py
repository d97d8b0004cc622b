"""How the channels of one layout are heard in another, as a matrix.

Layouts are those of WAVE files (``WAVEFORMATEXTENSIBLE`` channel order). The fold to stereo follows ITU-R BS.775-3,
annex 4: centre and surrounds at -3 dB (1/√2), the low-frequency channel left out; each output is then divided by the
sum of its weights, so that no input can clip it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from samplecache.errors import InvalidFormatError

_MINUS_3_DB = math.sqrt(0.5)

# (left, right) weight of each speaker.
_LEFT = (1.0, 0.0)
_RIGHT = (0.0, 1.0)
_CENTRE = (_MINUS_3_DB, _MINUS_3_DB)
_LOW = (0.0, 0.0)
_BACK_LEFT = (_MINUS_3_DB, 0.0)
_BACK_RIGHT = (0.0, _MINUS_3_DB)
_BACK_CENTRE = (0.5, 0.5)

_STEREO_FOLDS = {
    3: (_LEFT, _RIGHT, _CENTRE),
    4: (_LEFT, _RIGHT, _BACK_LEFT, _BACK_RIGHT),
    5: (_LEFT, _RIGHT, _CENTRE, _BACK_LEFT, _BACK_RIGHT),
    6: (_LEFT, _RIGHT, _CENTRE, _LOW, _BACK_LEFT, _BACK_RIGHT),
    7: (_LEFT, _RIGHT, _CENTRE, _LOW, _BACK_CENTRE, _BACK_LEFT, _BACK_RIGHT),
    8: (_LEFT, _RIGHT, _CENTRE, _LOW, _BACK_LEFT, _BACK_RIGHT, _BACK_LEFT, _BACK_RIGHT),
}


def channel_matrix(source: int, target: int) -> npt.NDArray[np.float64]:
    """Return the weights, shape ``(source, target)``, by which ``frames @ weights`` changes the channel count.

    - mono to more: the one channel in each;
    - two or more to mono: the average of all;
    - two or more to more: the first channels as they are, then silence;
    - three to eight, to stereo: the fold of ITU-R BS.775-3; more than eight, whose layout nobody knows, to stereo: the
      average of channels 1, 3, 5, … to the left, of 2, 4, 6, … to the right.

    Raises
    ------
    InvalidFormatError
        To fewer channels, but more than two: no rule says which are lost (reason ``UNSUPPORTED_CHANNELS``).
    """
    if source == 1:
        return np.ones((1, target))
    if target == 1:
        return np.full((source, 1), 1.0 / source)
    if target >= source:
        return np.eye(source, target)
    if target == 2:
        weights = np.array(_STEREO_FOLDS.get(source) or [(_LEFT, _RIGHT)[index % 2] for index in range(source)])
        return np.asarray(weights / weights.sum(axis=0), np.float64)
    raise InvalidFormatError(
        f"{source} channels cannot be played as {target}",
        remedy=f"Ask for mono, stereo, or {source} channels or more",
        reason="UNSUPPORTED_CHANNELS",
        source_channels=source,
        target_channels=target,
    )
