"""What a client asks of a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS

DEFAULT_BLOCK_NS: Final = 20 * NS_PER_MS
DEFAULT_LEAD_NS: Final = 100 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """What a client asks of a session.

    Attributes
    ----------
    sample_id : str
        The sample.
    start_frame : int
        First frame to play.
    frames : int
        How many; 0 plays to the end.
    strategy : str
        Strategy, "auto", or empty for no wish.
    rate_hz, channels : int
        Format to deliver; 0 as stored.
    encoding : Encoding or None
        Encoding to deliver; None as stored.
    loop : bool
        Whether to begin again after the last frame.
    gain : float
        Linear gain.
    block_ns : int
        Length of a block.
    lead_ns : int or None
        How long after a block may leave it is due; None for unlimited pace.
    """

    sample_id: str
    start_frame: int = 0
    frames: int = 0
    strategy: str = ""
    rate_hz: int = 0
    channels: int = 0
    encoding: Encoding | None = None
    loop: bool = False
    gain: float = 1.0
    block_ns: int = DEFAULT_BLOCK_NS
    lead_ns: int | None = DEFAULT_LEAD_NS

    def format(self, stored: AudioFormat) -> AudioFormat:
        """Return the format to deliver of a sample that is stored in `stored`.

        Raises
        ------
        InvalidFormatError
            There is no such format.
        """
        wanted = self.rate_hz or stored.rate_hz, self.channels or stored.channels, self.encoding or stored.encoding
        if wanted == (stored.rate_hz, stored.channels, stored.encoding):
            return stored  # as nearly always
        return AudioFormat(*wanted)
