"""What happened between two looks at a server: rates from counters, and bars from page maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.text import Text

from samplecache.clock import NS_PER_S
from samplecache.kernel.port import Tier
from samplecache.v1 import samplecache_pb2 as pb

BAR: Final = 36
LEAST_BAR: Final = 12
MOST_BAR: Final = 72
HEAD: Final = "│"
TIERS: Final = (
    (Tier.LOCKED, "█", "dark_goldenrod"),
    (Tier.MAPPED, "█", "dark_cyan"),
    (Tier.SWAP_CACHE, "▓", "steel_blue"),
    (Tier.SWAPPED, "░", "grey42"),
    (Tier.ABSENT, " ", "grey42"),
)
"""How pages of each tier are shown."""
_MARK: Final = {tier: (sign, colour) for tier, sign, colour in TIERS}


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as it is shown; rates are of the time since the last look.

    Attributes
    ----------
    session_id, sample_id, strategy : str
        Which session.
    seconds, length_s : float
        Where it stands in its sample, and how long that is.
    major_rate, minor_rate, late_rate : float
        Faults of its readers and late blocks, a second.
    late_blocks, blocks : int
        Since it was opened.
    prefetched : tuple of int
        Pages brought in ahead: useful, late, wasted.
    bar : Text
        Where the pages of its sample are, with the playhead.
    in_ram : float
        How much of it is in RAM, 0 to 1.
    """

    session_id: str
    sample_id: str
    strategy: str
    seconds: float
    length_s: float
    major_rate: float
    minor_rate: float
    late_rate: float
    late_blocks: int
    blocks: int
    prefetched: tuple[int, int, int]
    bar: Text
    in_ram: float


@dataclass(slots=True)
class Looks:
    """Turns what a server says now into what happened since the last look."""

    _at_ns: int = 0
    _before: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    _swap: tuple[int, int] | None = None

    def rows(self, sessions: Sequence[pb.SessionInfo], now_ns: int, width: int = BAR) -> list[SessionRow]:
        """Return the sessions as rows, in their order, with bars of `width`; the first look at one has rates of 0."""
        elapsed_s = max(1e-9, (now_ns - self._at_ns) / NS_PER_S)
        self._at_ns = now_ns
        now: dict[str, tuple[int, int, int]] = {}
        rows = []
        for info in sessions:
            stats = info.stats
            counts = (stats.faults.major, stats.faults.minor, stats.late_blocks)
            before = self._before.get(info.session_id, counts)
            now[info.session_id] = counts
            major, minor, late = ((new - old) / elapsed_s for new, old in zip(counts, before, strict=True))
            rate_hz = max(1, info.sample.format.rate_hz)
            pages = info.residency.map
            rows.append(
                SessionRow(
                    info.session_id,
                    info.sample.sample_id,
                    info.binding.strategy,
                    info.frame / rate_hz,
                    info.sample.frames / rate_hz,
                    major,
                    minor,
                    late,
                    stats.late_blocks,
                    stats.blocks,
                    (stats.prefetched.useful, stats.prefetched.late, stats.prefetched.wasted),
                    bar(pages, info.frame / max(1, info.sample.frames), width),
                    sum(page >= Tier.SWAP_CACHE for page in pages) / len(pages) if pages else 0.0,
                )
            )
        self._before = now
        return rows

    def swap_rates(self, stats: pb.GetStatsResponse, elapsed_s: float) -> tuple[float, float]:
        """Return pages a second that the machine read from and wrote to swap since the last call."""
        now = (stats.swap_in_pages, stats.swap_out_pages)
        before, self._swap = self._swap or now, now
        return ((now[0] - before[0]) / elapsed_s, (now[1] - before[1]) / elapsed_s)


def shortened(name: str, width: int) -> str:
    """Return a name in `width` cells at most: what is left out lies in its middle, for ends tell names apart."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"


def bar(pages: bytes, place: float, width: int = BAR) -> Text:
    """Return where pages are as a bar: each cell shows the tier that most of its pages are in.

    Parameters
    ----------
    pages : bytes
        One :class:`~samplecache.kernel.port.Tier` a page.
    place : float
        Where the playhead is, 0 to 1.
    width : int
        Cells; fewer if there are fewer pages.
    """
    cells = min(width, len(pages))
    text = Text()
    head = min(cells - 1, int(place * cells))
    for cell in range(cells):
        part = pages[len(pages) * cell // cells : len(pages) * (cell + 1) // cells]
        tier = Tier(max(set(part), key=part.count))
        sign, colour = _MARK[tier]
        text.append(*((HEAD, "bold white on dark_red") if cell == head else (sign, colour)))
    return text
