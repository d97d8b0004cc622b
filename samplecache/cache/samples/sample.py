"""Samples and their contents: what the store holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from samplecache.audio.format import AudioFormat
from samplecache.errors import InvalidError, InvalidSampleIdError, OutOfRangeError
from samplecache.kernel.port import Region, Span
from samplecache.strategy.view import SampleView

_SAMPLE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MAX_TAGS = 16
MAX_TAG_LENGTH = 64


def check_sample_id(sample_id: str) -> None:
    """Raise unless `sample_id` is one.

    Raises
    ------
    InvalidSampleIdError
        It is empty, too long, or has other characters (so no path can be meant by it).
    """
    if not _SAMPLE_ID.fullmatch(sample_id):
        raise InvalidSampleIdError(
            f"{sample_id[:80]!r} is no sample id",
            remedy="Use 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
            sample_id=sample_id[:80],
        )


def check_tags(tags: tuple[str, ...]) -> None:
    """Raise unless there are at most 16 tags of 1 to 64 printable characters.

    Raises
    ------
    InvalidError
        With the reason ``INVALID_TAG``.
    """
    bad = [tag for tag in tags if not (1 <= len(tag) <= MAX_TAG_LENGTH and tag.isprintable())]
    if bad or len(tags) > MAX_TAGS:
        raise InvalidError(
            f"{bad[0][:80]!r} is no tag" if bad else f"{len(tags)} tags are too many",
            remedy=f"Give at most {MAX_TAGS} tags of 1 to {MAX_TAG_LENGTH} printable characters",
            reason="INVALID_TAG",
        )


@dataclass(slots=True, eq=False)
class Content:
    """PCM in a region. Samples with equal PCM and format share one.

    Attributes
    ----------
    region : Region
        The memory.
    format : AudioFormat
        Format of the PCM.
    frames : int
        Its length in frames.
    sha256 : bytes
        SHA-256 of the PCM.
    source : str
        Container and codec that it came from, for people.
    charged_bytes : int
        Whole pages, in bytes: what it takes of the budget.
    sample_ids : set of str
        Ids under which it is stored. Empty once it is replaced or removed.
    leases : int
        Uses under way; while there are any it stays mapped.
    pins : int
        How many of its samples are pinned.
    players : frozenset of str
        Ids of the sessions that are playing it.
    last_use : int
        A number that rises with each use of any content.
    """

    region: Region
    format: AudioFormat
    frames: int
    sha256: bytes
    source: str
    charged_bytes: int
    sample_ids: set[str] = field(default_factory=set)
    leases: int = 0
    pins: int = 0
    players: frozenset[str] = frozenset()
    last_use: int = 0

    @property
    def evictable(self) -> bool:
        """Whether it may be evicted to make room: it is stored, and nobody uses it or has pinned it."""
        return not self.leases and not self.pins and bool(self.sample_ids)

    @property
    def playing(self) -> int:
        """How many sessions are playing it."""
        return len(self.players)

    @property
    def size_bytes(self) -> int:
        """Length of the PCM, in bytes."""
        return self.format.frames_to_bytes(self.frames)

    @property
    def bytes_per_s(self) -> int:
        """How many of its bytes one second of playing reads."""
        return self.format.rate_hz * self.format.frame_bytes

    def check_frames(self, start_frame: int, frames: int) -> range:
        """Return frames ``[start_frame, start_frame + frames)``, to the end if `frames` is 0.

        Raises
        ------
        OutOfRangeError
            They reach past the end. The reason is ``SPAN_OUT_OF_RANGE``.
        """
        stop_frame = start_frame + frames if frames else self.frames
        if not 0 <= start_frame <= stop_frame <= self.frames:
            raise OutOfRangeError(
                f"frames [{start_frame}, {stop_frame}) reach past a sample of {self.frames} frames",
                remedy=f"Ask for frames inside [0, {self.frames}]",
                reason="SPAN_OUT_OF_RANGE",
                frames=self.frames,
            )
        return range(start_frame, stop_frame)

    def pages_of(self, frames: range, page_bytes: int) -> Span:
        """Return the pages that `frames` lie in."""
        frame_bytes = self.format.frame_bytes
        start_bytes, stop_bytes = frames.start * frame_bytes, frames.stop * frame_bytes
        if start_bytes == stop_bytes:
            page = min(start_bytes // page_bytes, self.region.pages)
            return Span(page, page)
        return Span.of_bytes(start_bytes, stop_bytes, page_bytes)


@dataclass(frozen=True, slots=True)
class Sample:
    """A cached sound: a content under an id, with what its owner says of it.

    Attributes
    ----------
    sample_id : str
        Its id.
    content : Content
        Its PCM.
    tags : tuple of str
        Words to find it by.
    pinned : bool
        Exempt from eviction by the store.
    strategy : str
        Strategy for requests that name none; empty for the server's.
    created_unix_ns : int
        When it became visible, wall clock, nanoseconds since 1970.
    """

    sample_id: str
    content: Content
    tags: tuple[str, ...] = ()
    pinned: bool = False
    strategy: str = ""
    created_unix_ns: int = 0

    def view(self, page_bytes: int) -> SampleView:
        """Return what a strategy may know of it."""
        content = self.content
        return SampleView(self.sample_id, content.region.pages, page_bytes, content.bytes_per_s, self.tags)
