"""What a table comes to, in words."""

from __future__ import annotations

from samplecache.lab.contest.summary import LEAST_REPETITIONS, Row, Table, labels_of, number


def reading(table: Table) -> str:
    """Return in a sentence or two who was heard best, and who was not: from ranks alone."""
    if not table.rows:
        return "nobody could play."
    first = [row for row in table.rows if row.rank == 1]
    rest = [row for row in table.rows if row.rank > 1]
    label = dict(zip((row.contender for row in table.rows), labels_of(table.rows), strict=True))
    best = _names([label[row.contender] for row in first])
    clean = all(median_of(row) == 0 for row in first)
    low, high = number(median_of(first[0])), number(median_of(first[-1]))
    medians = low if low == high else f"{low} to {high}"
    how = "without a glitch in half of the runs at least" if clean else f"{medians} glitches in the median"
    if not rest:
        few = min(len(row.runs) for row in table.rows) < LEAST_REPETITIONS
        why = "; fewer than five repetitions tell nobody apart" if few else ""
        return f"all are a tie ({how}){why}."
    tie = "are a tie at the top" if len(first) > 1 else "is the best"
    after = "; ".join(f"{label[row.contender]} {number(median_of(row))}" for row in rest)
    return f"{best} {tie} ({how}). Told apart from that, with glitches in the median: {after}."


def median_of(row: Row) -> float:
    """Return in how many places the sound was broken, in the median, and how many were not heard to their end."""
    glitches, unheard = row.cells["glitches"], row.cells.get("unheard")
    return (glitches.median if glitches else 0) + (unheard.median if unheard else 0)


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
