"""The path of a cue: which frames of its sound it plays, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from samplecache.errors import InvalidError
from samplecache.lab.ear.heard import CARD_FORMAT
from samplecache.lab.workload import Cue


@dataclass(frozen=True, slots=True)
class Path:
    """What a cue plays.

    Attributes
    ----------
    spans : tuple of (int, int)
        Frames of the sound, half-open, in the order in which they sound.
    seeks : tuple of (int, int)
        For each seek after how many frames it comes, and the frame that it goes to.
    """

    spans: tuple[tuple[int, int], ...]
    seeks: tuple[tuple[int, int], ...]

    @property
    def frames(self) -> int:
        """How many frames sound."""
        return sum(stop - start for start, stop in self.spans)

    def pages(self, frame_bytes: int, page_bytes: int) -> int:
        """Return how many pages of a sound that begins with a page it reads, each counted once."""
        read = {
            page
            for start, stop in set(self.spans)
            for page in range(start * frame_bytes // page_bytes, -(-stop * frame_bytes // page_bytes))
        }
        return len(read)


def path(cue: Cue, sound_frames: int) -> Path:
    """Return the path of `cue` through a sound of `sound_frames` frames.

    A seek comes after its time's worth of frames has been heard, so that it is the same for all however late they are.

    Raises
    ------
    InvalidError
        It begins or goes to where the sound has no frames.
    """
    seeks = [(CARD_FORMAT.frames_in(seek.after_ns), seek.frame) for seek in cue.seeks]
    if not all(0 <= frame < sound_frames for frame in (cue.start_frame, *(frame for _, frame in seeks))):
        raise InvalidError(
            f"a cue plays {cue.sample_id} from where it has no frames", remedy=f"Stay below frame {sound_frames}"
        )
    most = None if cue.plays_ns is None else CARD_FORMAT.frames_in(cue.plays_ns)
    spans: list[tuple[int, int]] = []
    taken: list[tuple[int, int]] = []
    played = 0
    for start, stop, seek in _legs(cue, sound_frames, seeks):
        if most is not None:
            stop = min(stop, start + most - played)
        if stop > start:
            spans.append((start, stop))
            played += stop - start
        if played == most:
            break
        if seek is not None:
            taken.append(seek)
    return Path(tuple(spans), tuple(taken))


def _legs(
    cue: Cue, sound_frames: int, seeks: list[tuple[int, int]]
) -> Iterator[tuple[int, int, tuple[int, int] | None]]:
    """Yield span after span without regard to when the cue ends, each with the seek that cuts it short, if one does."""
    stop = min(sound_frames, cue.start_frame + cue.frames) if cue.frames else sound_frames
    at, played, waiting = cue.start_frame, 0, list(seeks)
    while True:
        if waiting and waiting[0][0] - played <= stop - at:
            seek = waiting.pop(0)
            cut = max(0, seek[0] - played)
            yield at, at + cut, seek
            played += cut
            at, stop = seek[1], sound_frames
            continue
        yield at, stop, None
        played += stop - at
        if not cue.loop:
            return
        at = cue.start_frame
