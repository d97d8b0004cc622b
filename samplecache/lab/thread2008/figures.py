"""Figures of many runs: kept as a document, and summed up over seeds."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from samplecache.errors import InvalidError
from samplecache.lab.thread2008.experiment import Figures, Scale
from samplecache.lab.thread2008.lone import Cap, LoneRead


@dataclass(frozen=True)
class Results:
    """All that the page is made of.

    Attributes
    ----------
    scale : Scale
        How large and long the runs were.
    devices : tuple of str
        On which devices.
    seeds : tuple of int
        With which seeds.
    runs : tuple of Figures
        One for each row, device and seed.
    lone_reads : tuple of LoneRead
        What bringing one sound in costs, by itself.
    caps : tuple of Cap
        What one call of the patch's WILLNEED brings in.
    """

    scale: Scale
    devices: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[Figures, ...]
    lone_reads: tuple[LoneRead, ...]
    caps: tuple[Cap, ...]

    @cached_property
    def _by_row(self) -> Mapping[tuple[str, str], tuple[Figures, ...]]:
        found: dict[tuple[str, str], tuple[Figures, ...]] = {}
        for one in sorted(self.runs, key=lambda figures: figures.seed):
            found[one.row, one.device] = (*found.get((one.row, one.device), ()), one)
        return found

    def of(self, row: str, device: str) -> tuple[Figures, ...]:
        """Return the runs of a row on a device, by seed; none if its kernel does not know the device."""
        return self._by_row.get((row, device), ())

    @property
    def foremost(self) -> str:
        """The device that is shown where only one is: the first that 2.6.24 knows, or the first."""
        return next((device for device in self.devices if self.of("stock", device)), self.devices[0])

    def to_json(self) -> str:
        """Return the document: a line for each run."""
        names = [field.name for field in dataclasses.fields(Figures)]
        lines = ",\n".join(json.dumps([getattr(one, name) for name in names]) for one in self.runs)
        reads = ",\n".join(json.dumps(dataclasses.asdict(one)) for one in self.lone_reads)
        head = {
            "how": "simulated",
            "scale": dataclasses.asdict(self.scale),
            "devices": self.devices,
            "seeds": self.seeds,
            "columns": names,
        }
        caps = ",\n".join(json.dumps(dataclasses.asdict(one)) for one in self.caps)
        return (
            f'{json.dumps(head)[:-1]},\n"runs": [\n{lines}\n],\n"lone_reads": [\n{reads}\n],\n"caps": [\n{caps}\n]}}\n'
        )

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Return what :meth:`to_json` wrote.

        Raises
        ------
        InvalidError
            It did not write that.
        """
        try:
            document: dict[str, Any] = json.loads(text)
            columns = document["columns"]
            return cls(
                Scale(**document["scale"]),
                tuple(document["devices"]),
                tuple(document["seeds"]),
                tuple(Figures(**dict(zip(columns, run, strict=True))) for run in document["runs"]),
                tuple(LoneRead(**read) for read in document["lone_reads"]),
                tuple(Cap(**cap) for cap in document["caps"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidError(
                f"These are not figures of this experiment: {error!r}", remedy="Give the results.json that it wrote"
            ) from error


@dataclass(frozen=True, slots=True)
class Measure:
    """Something to compare rows by.

    Attributes
    ----------
    name : str
        What tables call it, with its unit.
    value : Callable
        What one run says of it.
    floor : float
        A difference of less than that is none.
    more_is_better : bool
        Whether the larger value is the better one.
    ceiling : float
        What it cannot be better than, where more is better.
    digits : int
        Digits after the point.
    """

    name: str
    value: Callable[[Figures], float]
    floor: float
    more_is_better: bool = False
    ceiling: float = math.inf
    digits: int = 0

    def as_good_as_can_be(self, value: float) -> bool:
        """Return whether nothing that counts is left to gain."""
        return value > self.ceiling - self.floor if self.more_is_better else value < self.floor

    def summary(self, runs: Iterable[Figures]) -> Summary:
        """Return the median and the spread over `runs`, of which there is one at least."""
        values = [self.value(one) for one in runs]
        return Summary(statistics.median(values), min(values), max(values), self.digits)


@dataclass(frozen=True, slots=True)
class Summary:
    """A measure over seeds."""

    median: float
    least: float
    most: float
    digits: int

    def __str__(self) -> str:
        median, least, most = (f"{value:.{self.digits}f}" for value in (self.median, self.least, self.most))
        return median if least == most else f"{median} ({least}\u2013{most})"


def _share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


LATE: Final = Measure("late blocks", lambda one: one.late_blocks, 5)
LATE_ANNOUNCED: Final = Measure("late blocks of announced sounds", lambda one: one.late_announced_blocks, 3)
LATE_MUSIC: Final = Measure("late blocks of the music", lambda one: one.late_music_blocks, 5)
STALL: Final = Measure("longest stall, ms", lambda one: one.longest_stall_ns / 1e6, 10)
ANNOUNCED: Final = Measure(
    "announced sounds that started in time, %",
    lambda one: _share(one.announced_in_time, one.announced),
    5,
    more_is_better=True,
    ceiling=100,
)
UNANNOUNCED: Final = Measure(
    "unannounced sounds that started in time, %",
    lambda one: _share(one.unannounced_in_time, one.unannounced),
    5,
    more_is_better=True,
    ceiling=100,
)
MAJOR: Final = Measure("major faults of the audio threads", lambda one: one.audio_major_faults, 5)
PREFETCH: Final = Measure("announced until in RAM, ms", lambda one: one.prefetch_ns / 1e6, 10, digits=1)
PER_ACTION: Final = Measure(
    "desktop waits per action, ms", lambda one: one.wait_ns / 1e6 / one.actions if one.actions else 0.0, 1, digits=1
)
SLOW: Final = Measure("slowest 5 % of actions, ms", lambda one: one.slow_action_ns / 1e6, 5)
DESKTOP_MAJOR: Final = Measure("major faults of the desktop", lambda one: one.desktop_major_faults, 50)
PAGES_IN: Final = Measure("pages read from swap", lambda one: one.pages_in, 500)
USED: Final = Measure(
    "pages read ahead that were used, %",
    lambda one: _share(one.neighbours_used, one.neighbours_in),
    5,
    more_is_better=True,
)
RUN: Final = Measure("mean run of slots of a sound, pages", lambda one: one.run_pages, 1, more_is_better=True, digits=1)
SWAP: Final = Measure("most swap in use, MiB", lambda one: one.swap_peak_pages / 256, 4)
LOCKED: Final = Measure("most locked, MiB", lambda one: one.locked_peak_bytes / (1 << 20), 0.5, digits=1)
REQUESTS: Final = Measure("disk requests, of files too", lambda one: one.requests, 200)
