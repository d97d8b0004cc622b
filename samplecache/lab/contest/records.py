"""What a run came to, as data that goes to a file and comes back. Times are integer nanoseconds."""

from __future__ import annotations

import enum
import itertools
from typing import Final

from pydantic import BaseModel, ConfigDict

SIMULATED: Final = "simulated"
LINUX: Final = "linux"
SAMPLECACHE: Final = "samplecache:"
"""What a strategy's name comes after, where contenders are named; after it may come how samples are stored."""
LOCKED: Final = ":locked"
"""What the name of a contender ends with whose server locks its own memory."""
RESIDENCY_DIGITS: Final = "0123456789"
PARTS: Final = 72
"""Parts that the samples of a timeline are divided into together: as many as a small picture can show."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Case(_Record):
    """A machine.

    Attributes
    ----------
    kernel : str
        ``"simulated"`` or ``"linux"``.
    device : str
        The swap device's name.
    memory : str
        Memory for the samples, as the scenario says it.
    """

    kernel: str
    device: str
    memory: str

    @property
    def measured(self) -> bool:
        """Whether figures of it are measured; they are simulated otherwise."""
        return self.kernel == LINUX

    @property
    def label(self) -> str:
        """How its figures were got."""
        return "MEASURED" if self.measured else "SIMULATED"

    def __str__(self) -> str:
        return f"{self.label}, {self.device}, memory {self.memory}"


class Status(enum.StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    """It could not be played to its end."""
    WARM = "warm"
    """Samples were not really cold, so its figures do not count."""
    NOISY = "noisy"
    """The machine itself stalled for long. Its figures count, and it was repeated."""

    @property
    def counts(self) -> bool:
        """Whether figures of such a run count."""
        return self in (Status.DONE, Status.NOISY)


class Figures(_Record):
    """What was heard and what it took. None is what was not, or cannot be, observed.

    Attributes
    ----------
    periods : int
        Periods of 10 ms that were due.
    glitches : int
        Places at which the sound was broken, for a period was missing when due.
    missing_ns : int
        How long there was silence in these places, together.
    longest_stall_ns : int
        The longest of them.
    first_ns : list of int
        For each cue that was heard, from its being struck to its first period.
    unheard : int
        Cues that were not heard to their end.
    major_faults, minor_faults : int or None
        Of the threads that play.
    swap_in_pages : int or None
        Pages read from swap, whoever asked for them.
    sample_pages : int
        Pages of all samples that sound.
    limit_bytes : int or None
        All the memory that there is for it and the victim; None for no limit.
    rss_bytes, locked_bytes, cpu_ns : int or None
        The contender's: its memory at its largest, what it locks at most, processor time.
    stored_bytes : int
        What it keeps the samples in.
    victim_faults : int or None
        Major faults of a process beside it that touches its own memory.
    victim_p99_ns : int or None
        How long one round of that took, at the 99th percentile.
    """

    periods: int
    glitches: int
    missing_ns: int
    longest_stall_ns: int
    first_ns: list[int]
    sample_pages: int
    stored_bytes: int
    unheard: int = 0
    major_faults: int | None = None
    minor_faults: int | None = None
    swap_in_pages: int | None = None
    limit_bytes: int | None = None
    rss_bytes: int | None = None
    locked_bytes: int | None = None
    cpu_ns: int | None = None
    victim_faults: int | None = None
    victim_p99_ns: int | None = None

    @property
    def swap_ins_a_page(self) -> float | None:
        """Pages read from swap for each page that sounds."""
        return None if self.swap_in_pages is None else self.swap_in_pages / self.sample_pages


class Stall(_Record):
    """A period that was missing.

    Attributes
    ----------
    at_ns : int
        When it was due, from the beginning.
    late_ns : int
        How long it was waited for.
    sample_id : str
        Of which sample.
    place : float
        Where in the sample, 0 to 1.
    cause : str
        Why, where that is known.
    """

    at_ns: int
    late_ns: int
    sample_id: str
    place: float
    cause: str = ""


class Strip(_Record):
    """Where the pages of a sample were over time.

    Attributes
    ----------
    sample_id : str
        Which sample.
    pages : int
        Its length.
    rows : list of str
        One for each time: a digit for each part of the sample, tenths of its pages that are in RAM, 9 for all.
    """

    sample_id: str
    pages: int
    rows: list[str]


class Head(_Record):
    """Where a playhead was.

    Attributes
    ----------
    sample_id : str
        In which sample.
    times_ns : list of int
        When, from the beginning.
    places : list of float
        Where then, 0 to 1.
    """

    sample_id: str
    times_ns: list[int]
    places: list[float]


class Timeline(_Record):
    """What happened when.

    Attributes
    ----------
    times_ns : list of int
        When it was looked, from the beginning.
    strips : list of Strip
        Samples that sound, in the order of their first cue; empty where nobody can look into the contender's memory.
    mapped_only : bool
        Whether strips show pages that are mapped, rather than all that are in RAM.
    heads : list of Head
        Playheads, a cue each.
    hints_ns : list of tuple
        When which sample was announced.
    major_faults : list of int
        Of the playing threads, since the last look.
    pages_in : list of int
        Pages read from swap since the last look.
    prefetches : list of tuple
        Prefetches: sample, from when, until when.
    """

    times_ns: list[int]
    strips: list[Strip] = []
    mapped_only: bool = False
    heads: list[Head] = []
    hints_ns: list[tuple[str, int]] = []
    major_faults: list[int] = []
    pages_in: list[int] = []
    prefetches: list[tuple[str, int, int]] = []


class Run(_Record):
    """One run.

    Attributes
    ----------
    case : Case
        In which machine.
    contender : str
        Who played: ``samplecache:NAME`` for a strategy.
    bound : str
        The strategy that ran, where that is another.
    repetition, seed : int
        Which repetition, and what its schedule was drawn with.
    status : Status
        How it ended.
    why : str
        Why not well.
    machine : dict
        What it ran on: kernel, device, limits, versions.
    version : str
        What exactly the contender is.
    notes : list of str
        What a reader must know of how it played.
    began : str
        When, in ISO 8601.
    witness_ns : int
        How late sleeping threads were at worst.
    figures : Figures or None
        None unless it was played to its end.
    stalls : list of Stall
        The missing periods, in their order.
    timeline : Timeline or None
        What happened when.
    """

    case: Case
    contender: str
    repetition: int
    seed: int
    status: Status
    bound: str = ""
    why: str = ""
    machine: dict[str, str] = {}
    version: str = ""
    notes: list[str] = []
    began: str = ""
    witness_ns: int = 0
    figures: Figures | None = None
    stalls: list[Stall] = []
    timeline: Timeline | None = None

    @property
    def key(self) -> tuple[Case, str, int]:
        """What tells it from all others."""
        return self.case, self.contender, self.repetition


def shares(pages: dict[str, int]) -> dict[str, int]:
    """Return into how many parts each sample of so many pages is divided: by its length, two at least if it has two."""
    total = sum(pages.values())
    return {name: min(own, max(2, PARTS * own // total)) for name, own in pages.items()}


def digits(tiers_in_ram: bytes, parts: int) -> str:
    """Return how much of each of `parts` equal parts is in RAM, a digit each.

    Parameters
    ----------
    tiers_in_ram : bytes
        One byte a page, 1 for what is in RAM and 0 for what is not.
    parts : int
        How many, at most as many as pages.
    """
    pages = len(tiers_in_ram)
    edges = [pages * part // parts for part in range(parts + 1)]
    return "".join(
        RESIDENCY_DIGITS[tiers_in_ram.count(1, start, stop) * 9 // (stop - start)]
        for start, stop in itertools.pairwise(edges)
    )
