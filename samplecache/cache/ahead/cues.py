"""What is announced: cues, and which are none."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from samplecache.clock import NS_PER_S
from samplecache.errors import InvalidError

MAX_AHEAD_NS: Final = 3600 * NS_PER_S
MAX_PAST_NS: Final = NS_PER_S
"""A request takes a while; a cue further in the past than that is a mistake, or by another clock."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Cue:
    """Something that is going to be played.

    Attributes
    ----------
    cue_id : str
        Its name within the schedule; empty to be given one.
    sample_id : str
        The sample.
    due_ns : int
        When its first frame will be played, on the cache's clock.
    start_frame, frames : int
        What of it; to the end if `frames` is 0.
    strategy : str
        A name, "auto", or empty for no wish.
    sureness : float
        How sure it is to be played, 0 to 1.
    """

    cue_id: str
    sample_id: str
    due_ns: int
    start_frame: int = 0
    frames: int = 0
    strategy: str = ""
    sureness: float = 1.0

    @property
    def work(self) -> tuple[str, int, int, str]:
        """What has to be done for it; when and how surely may change while that goes on."""
        return self.sample_id, self.start_frame, self.frames, self.strategy


def named(cues: Sequence[Cue]) -> list[Cue]:
    """Return the cues, each with a name.

    Raises
    ------
    InvalidError
        Two have the same.
    """
    named = [cue if cue.cue_id else replace(cue, cue_id=str(place)) for place, cue in enumerate(cues, 1)]
    seen: set[str] = set()
    for cue in named:
        if cue.cue_id in seen:
            raise InvalidError(
                f"two cues are called {cue.cue_id[:80]!r}",
                remedy="Give each its own cue_id, or none to any",
                reason="REPEATED_CUE_ID",
            )
        seen.add(cue.cue_id)
    return named


def check_name(what: str, name: str) -> None:
    """Raise unless `name` is one.

    Raises
    ------
    InvalidError
    """
    if not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name[:80]!r} is no {what} id",
            remedy="Use 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'",
            reason=f"INVALID_{what.upper()}_ID",
        )


def check_cue(cue: Cue, now_ns: int) -> None:
    """Raise unless a cue's name, time and sureness are possible.

    Raises
    ------
    InvalidError
    """
    check_name("cue", cue.cue_id)
    if not (math.isfinite(cue.sureness) and 0 <= cue.sureness <= 1):
        raise InvalidError(
            f"cue {cue.cue_id!r} has a sureness of {cue.sureness}",
            remedy="Give 0.0 to 1.0",
            reason="INVALID_SURENESS",
            cue_id=cue.cue_id,
        )
    if not now_ns - MAX_PAST_NS <= cue.due_ns <= now_ns + MAX_AHEAD_NS:
        raise InvalidError(
            f"cue {cue.cue_id!r} is due {(cue.due_ns - now_ns) / NS_PER_S:.3f} s from now",
            remedy=f"Announce what comes within {MAX_AHEAD_NS // NS_PER_S} s; give times from the request on, or say "
            "what your clock shows",
            reason="INVALID_CUE_TIME",
            cue_id=cue.cue_id,
        )
