"""From runs to tables: medians and spread, ranks, and when two contenders are not told apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from samplecache.clock import NS_PER_MS
from samplecache.lab.contest.log import RunLog
from samplecache.lab.contest.records import SAMPLECACHE, Case, Figures, Run, Status
from samplecache.lab.ear.heard import quantile
from samplecache.lab.scenarios.tables import parse_memory

CHANCE: Final = 1 / 16
"""Contenders are told apart where a fair coin would favour one of them in so many repetitions no more often than that
(two-sided sign test): 5 of 5, 9 of 10. Repetitions in which both did alike favour nobody."""
LEAST_REPETITIONS: Final = 1 + math.ceil(-math.log2(CHANCE))
"""With fewer nobody is told apart, whatever comes of them: 2 / 2 ** 5 is the first that is no more than `CHANCE`."""
MOST_TOLD: Final = 0.99


@dataclass(frozen=True, slots=True)
class Column:
    """A figure in tables.

    Attributes
    ----------
    key : str
        Its name in CSV and JSON, with its unit.
    title : str
        Over the column.
    value : Callable
        Returns it, or None where it was not observed.
    about : str
        What it is, for a reader.
    ranked : bool
        Whether less is better; else it is only told.
    """

    key: str
    title: str
    value: Callable[[Figures], float | None]
    about: str
    ranked: bool = True


def _mib(value_bytes: int | None) -> float | None:
    return None if value_bytes is None else value_bytes / 2**20


def _ms(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns / NS_PER_MS


GLITCHES: Final = Column("glitches", "glitches", lambda f: f.glitches, "places at which the sound was broken")
HEARD: Final = (
    GLITCHES,
    Column("unheard", "unheard", lambda f: f.unheard, "sounds that were not heard to their end"),
    Column("missing_ms", "missing, ms", lambda f: _ms(f.missing_ns), "silence in these places, together"),
    Column("longest_stall_ms", "longest stall, ms", lambda f: _ms(f.longest_stall_ns), "the longest of them"),
    Column(
        "first_p50_ms",
        "first period p50, ms",
        lambda f: _ms(quantile(f.first_ns, 0.5)),
        "from asking for a sound to its first period, half of the sounds",
    ),
    Column(
        "first_p99_ms",
        "first period p99, ms",
        lambda f: _ms(quantile(f.first_ns, MOST_TOLD)),
        "the same, 99 of 100 sounds (of fewer than 100 the worst)",
    ),
)
"""What was heard."""
TOOK: Final = (
    Column("major_faults", "major faults", lambda f: f.major_faults, "of the threads that read audio"),
    Column("minor_faults", "minor faults", lambda f: f.minor_faults, "of the threads that read audio"),
    Column(
        "swap_ins_a_page", "swap-ins a page", lambda f: f.swap_ins_a_page, "pages read from swap, for each that sounds"
    ),
    Column("stored_mib", "stored, MiB", lambda f: _mib(f.stored_bytes), "what the samples take in memory and swap"),
    Column(
        "limit_mib",
        "limit, MiB",
        lambda f: _mib(f.limit_bytes),
        "all the memory that there is: for the contender with its samples, and for the victim",
        ranked=False,
    ),
    Column("rss_mib", "RAM, MiB", lambda f: _mib(f.rss_bytes), "what the contender has in RAM, at its largest"),
    Column(
        "locked_mib",
        "locked, MiB",
        lambda f: _mib(None if f.locked_bytes is None else min(f.locked_bytes, f.rss_bytes or f.locked_bytes)),
        "of that, what nobody else can have, at most",
    ),
    Column("cpu_ms", "CPU, ms", lambda f: _ms(f.cpu_ns), "processor time of the contender"),
    Column(
        "victim_faults",
        "victim's major faults",
        lambda f: f.victim_faults,
        "of a process that plays nothing, shares the memory limit, and goes through 4 MiB of its own again and again",
    ),
    Column(
        "victim_p99_ms",
        "victim's p99, ms",
        lambda f: _ms(f.victim_p99_ns),
        "how long that process took for 64 of its pages, which it uses every 10 ms, in 99 of 100 cases",
    ),
)
"""What that took, of the contender and of others."""
COLUMNS: Final = HEARD + TOOK


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all repetitions.

    Attributes
    ----------
    median, least, most : float
        The middle one, and both ends.
    best : bool
        Whether nobody in the table has a better one, or none that is told apart from it.
    """

    median: float
    least: float
    most: float
    best: bool = False

    def __str__(self) -> str:
        middle, low, high = (number(value) for value in (self.median, self.least, self.most))
        return middle if low == high else f"{middle} ({low} to {high})"


def number(value: float) -> str:
    """Return a figure for people, with as many digits as it deserves."""
    if value == 0 or (value == round(value) and abs(value) < 10_000):
        return f"{value:.0f}"
    if 0 < value < 0.005:
        return "< 0.01"
    if abs(value) < 0.95:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 99.5 else f"{value:,.0f}".replace(",", "\u202f")


@dataclass(frozen=True, slots=True)
class Row:
    """A contender in one machine.

    Attributes
    ----------
    contender : str
        Who.
    bound : str
        The strategy that ran instead, if another did.
    rank : int
        1 for the fewest glitches. Those who are not told apart share a rank.
    tied : bool
        Whether somebody shares it.
    runs : tuple of Run
        One a repetition, in their order.
    cells : dict
        By the column's key; None where the figure was not observed.
    noisy : int
        How many of the runs the machine itself disturbed, again and again.
    """

    contender: str
    bound: str
    rank: int
    tied: bool
    runs: tuple[Run, ...]
    cells: dict[str, Spread | None]
    noisy: int

    @property
    def typical(self) -> Run:
        """The run whose glitches and stalls are in the middle."""
        ordered = sorted(self.runs, key=lambda run: (_figures(run).glitches, _figures(run).missing_ns))
        return ordered[(len(ordered) - 1) // 2]


@dataclass(frozen=True, slots=True)
class Table:
    """One machine's contenders, the best first.

    Attributes
    ----------
    case : Case
        The machine.
    machine : dict
        What it was.
    rows : tuple of Row
        Who played.
    missing : tuple of tuple
        Who did not, and why.
    columns : tuple of Column
        Those that say something: observed for somebody, and not 0 for all.
    """

    case: Case
    machine: dict[str, str]
    rows: tuple[Row, ...]
    missing: tuple[tuple[str, str], ...]
    columns: tuple[Column, ...]


def tables(log: RunLog) -> list[Table]:
    """Return a table for each machine: measured ones first, then by device, then by memory, the easiest first."""
    counting = sorted(log.counting(), key=lambda run: run.repetition)
    cases = dict.fromkeys(run.case for run in log.runs)
    return [
        _table(case, [run for run in counting if run.case == case], [run for run in log.runs if run.case == case])
        for case in sorted(cases, key=_ease)
    ]


def standing(among: Sequence[Table]) -> list[str]:
    """Return all contenders of several tables, those first that have the lower ranks in them together."""
    ranks: dict[str, int] = {}
    for table in among:
        for row in table.rows:
            ranks.setdefault(row.contender, 0)
    for table in among:
        of = {row.contender: row.rank for row in table.rows}
        for name in ranks:
            ranks[name] += of.get(name, len(of) + 1)
    return sorted(ranks, key=lambda name: ranks[name])


def labels_of(rows: Sequence[Row]) -> list[str]:
    """Return what contenders are called beside each other: strategies by their names, unless others play, too."""
    names = [row.contender for row in rows]
    alone = all(name.startswith(SAMPLECACHE) for name in names)
    return [name.removeprefix(SAMPLECACHE) for name in names] if alone else names


def _ease(case: Case) -> tuple[bool, bool, str, float]:
    memory = parse_memory(case.memory)
    return (
        not case.measured,
        case.device != "unthrottled",
        case.device,
        -math.inf if memory is None else -memory,
    )


def _table(case: Case, runs: list[Run], all_runs: list[Run]) -> Table:
    by_contender: dict[str, list[Run]] = {}
    for run in runs:
        by_contender.setdefault(run.contender, []).append(run)
    names = sorted(by_contender, key=lambda name: _merit(by_contender[name]))
    missing = tuple(
        (name, _why_not([run for run in all_runs if run.contender == name]))
        for name in dict.fromkeys(run.contender for run in all_runs)
        if name not in by_contender
    )
    columns = tuple(
        column
        for column in COLUMNS
        if column is GLITCHES or any(column.value(_figures(run)) for own in by_contender.values() for run in own)
    )
    ranks = _ranks([by_contender[name] for name in names])
    best = {column.key: _best(column, by_contender) for column in columns}
    rows = tuple(
        Row(
            contender=name,
            bound=_instead(by_contender[name]),
            rank=rank,
            tied=ranks.count(rank) > 1,
            runs=tuple(by_contender[name]),
            cells={column.key: _spread(column, by_contender[name], best[column.key], name) for column in columns},
            noisy=sum(run.status is Status.NOISY for run in by_contender[name]),
        )
        for name, rank in zip(names, ranks, strict=True)
    )
    machine = runs[0].machine if runs else next((run.machine for run in all_runs if run.machine), {})
    return Table(case, machine, rows, missing, columns)


def _figures(run: Run) -> Figures:
    if run.figures is None:
        raise ValueError(f"a run that counts has no figures: {run.key}")
    return run.figures


def _merit(runs: Iterable[Run]) -> tuple[float, ...]:
    """Return medians to order contenders by: glitches, then how much was missing, then the slowest first period."""
    figures = [_figures(run) for run in runs]
    return tuple(
        statistics.median(values)
        for values in (
            [each.unheard + each.glitches for each in figures],
            [each.missing_ns for each in figures],
            [max(each.first_ns, default=0) for each in figures],
        )
    )


def _ranks(ordered: list[list[Run]]) -> list[int]:
    """Return ranks, best first: whoever is not told apart from the first of a rank shares it."""
    ranks: list[int] = []
    leader = 0
    for index, runs in enumerate(ordered):
        if index and told_apart(_broken(ordered[leader]), _broken(runs)):
            leader = index
        ranks.append(leader + 1)
    return ranks


def _broken(runs: list[Run]) -> dict[int, float]:
    return {run.repetition: _figures(run).unheard + _figures(run).glitches for run in runs}


def told_apart(mine: dict[int, float], others: dict[int, float]) -> bool:
    """Return whether one of two contenders is better in so many repetitions that chance is no explanation.

    Parameters
    ----------
    mine, others : dict
        A figure by repetition. Only repetitions that both have played are compared: the same schedule, soon after one
        another.
    """
    gains = [mine[repetition] - others[repetition] for repetition in mine.keys() & others.keys()]
    ahead, behind = sum(gain < 0 for gain in gains), sum(gain > 0 for gain in gains)
    decided = ahead + behind
    if not decided:
        return False
    tail: float = sum(math.comb(decided, wins) for wins in range(max(ahead, behind), decided + 1)) / 2**decided
    return min(1.0, 2 * tail) <= CHANCE


def _values(column: Column, runs: list[Run]) -> dict[int, float]:
    found = {run.repetition: column.value(_figures(run)) for run in runs}
    return {repetition: value for repetition, value in found.items() if value is not None}


def _best(column: Column, by_contender: dict[str, list[Run]]) -> set[str]:
    """Return who has the best median of a figure, and whoever could have been told apart from that and is not.

    Nobody where nobody is told apart from it.
    """
    if not column.ranked:
        return set()
    observed = {name: values for name, runs in by_contender.items() if (values := _values(column, runs))}
    if not observed:
        return set()
    first = min(observed, key=lambda name: statistics.median(observed[name].values()))
    best = {first} | {
        name
        for name, values in observed.items()
        if len(values.keys() & observed[first].keys()) >= LEAST_REPETITIONS and not told_apart(observed[first], values)
    }
    apart = {name for name, values in observed.items() if told_apart(observed[first], values)}
    return best if apart else set()


def _spread(column: Column, runs: list[Run], best: set[str], name: str) -> Spread | None:
    values = list(_values(column, runs).values())
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), name in best)


def _instead(runs: list[Run]) -> str:
    bound = ", ".join(dict.fromkeys(run.bound for run in runs if run.bound))
    return "" if not bound or bound in runs[0].contender.split(":") else bound


def _why_not(runs: list[Run]) -> str:
    return next((run.why for run in reversed(runs) if run.why), "it has not played yet")
