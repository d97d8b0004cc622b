"""The errors that more than one part of the decoder raises, worded once."""

from __future__ import annotations

from samplecache.audio.bytesource import ByteSource
from samplecache.errors import AudioError

SUPPORTED_CONTAINERS = "WAV, RF64, W64, AIFF, AU, CAF, FLAC, OGG (Vorbis, Opus) and MP3"


def truncated(source: ByteSource, found: str) -> AudioError:
    """Return the error of a file that ends early: `found` completes "<file> …"."""
    return AudioError(
        f"{source.name} is cut short: it {found}",
        remedy="Send the whole file; compare its size and SHA-256 with the original's",
        reason="TRUNCATED_AUDIO",
        size_bytes=source.size_bytes,
    )


def undecodable(source: ByteSource, found: str) -> AudioError:
    """Return the error of a file that is no audio, or damaged: `found` completes "<file> …"."""
    return AudioError(
        f"{source.name} {found}",
        remedy=f"Send one of {SUPPORTED_CONTAINERS}, or raw PCM with its format",
        size_bytes=source.size_bytes,
    )


def empty(source: ByteSource, found: str) -> AudioError:
    """Return the error of a file without sound: `found` completes "<file> …"."""
    return AudioError(
        f"{source.name} {found}",
        remedy="Send a file with at least one frame of audio",
        reason="EMPTY_AUDIO",
        size_bytes=source.size_bytes,
    )
