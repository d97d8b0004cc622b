"""The page about the thread, written from figures: no number in it that was not counted in a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from samplecache.lab.thread2008 import figures as of
from samplecache.lab.thread2008.claim import Claim
from samplecache.lab.thread2008.claims import CLAIMS, MODERN, OBSERVATIONS, ONE_READ
from samplecache.lab.thread2008.desktop import PROGRAMS
from samplecache.lab.thread2008.figures import Measure, Results
from samplecache.lab.thread2008.lone import PAGE_BYTES, READ_PAGES, SOUND_PAGES, read_ns
from samplecache.lab.thread2008.prose import APPARATUS, CANNOT_SAY, INTRODUCTION, NO_FIGURES, TITLE
from samplecache.lab.thread2008.rows import ROWS
from samplecache.lab.thread2008.verdicts import LEAST_CHANGE, Comparison, Outcome, Verdict, compare

AUDIO: Final = (
    of.LATE,
    of.LATE_ANNOUNCED,
    of.LATE_MUSIC,
    of.STALL,
    of.ANNOUNCED,
    of.UNANNOUNCED,
    of.MAJOR,
)
DESKTOP: Final = (of.PER_ACTION, of.SLOW, of.DESKTOP_MAJOR)
SWAPPING: Final = (of.PAGES_IN, of.USED, of.RUN, of.REQUESTS, of.SWAP, of.LOCKED)
TABLES: Final = (("Audio", AUDIO), ("The desktop", DESKTOP), ("Swap", SWAPPING))


def page(results: Results, plots: str) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    results : Results
        All figures.
    plots : str
        Where the plots are, as a link from the page.
    """
    seeds = ", ".join(map(str, results.seeds))
    memory, swap = (size >> 20 for size in (results.scale.memory_bytes, results.scale.swap_bytes))
    how = APPARATUS.format(
        memory=memory,
        swap=swap,
        heaps=sum(max(1, int(program.heap_mib * results.scale.program_share)) for program in PROGRAMS),
        code=sum(max(1, int(program.code_mib * results.scale.program_share)) for program in PROGRAMS),
        sounds=results.scale.sounds,
        warm_up=results.scale.warm_up_ns // 1_000_000_000,
        play=results.scale.play_ns // 1_000_000_000,
        seeds=seeds,
        size=_size(results.scale.program_share),
        devices=", ".join(results.devices),
        change=int(100 * LEAST_CHANGE),
    )
    sections = [
        TITLE,
        "" if results.scale.program_share == 1 else NO_FIGURES,
        INTRODUCTION,
        "## In short",
        _summary(results),
        "## How it was found out",
        how,
        "## Every idea against the kernel as it was",
        _against_stock(results),
        _picture(plots, "late-blocks", "Late blocks by row on rotating disks", seeds),
        "## Claim by claim",
        *(_claim(claim, results) for claim in CLAIMS),
        "## What nobody said",
        *(_claim(claim, results) for claim in OBSERVATIONS),
        "## What kernels changed since",
        *(_claim(claim, results, "What it is") for claim in MODERN),
        "## What one read costs",
        _reads(results),
        _picture(plots, "read-cost", "What a read of one size costs, in reads of 4 KiB", ""),
        "## One sound by itself",
        _lone(results),
        "## The patch's cap",
        _caps(results),
        "## What chunks cost and what they bring",
        _picture(plots, "chunks", "Chunk sizes: audio, desktop, and use of what is read", seeds),
        "## Audio against desktop",
        _picture(plots, "trade", "Late blocks against the desktop's waits", seeds),
        "## All rows",
        "Medians over seeds; least and most in brackets where they differ. SIMULATED, all of them.",
        *(_tables(results, device) for device in results.devices),
        "## What the model cannot say",
        CANNOT_SAY,
    ]
    return "\n\n".join(section.strip() for section in sections if section) + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> str:
    """Return a Markdown table whose first columns are text and whose others are numbers."""
    rule = ["---" if number < text_columns else "---:" for number in range(len(columns))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, rule, *rows))


def standing(claim: Claim, results: Results) -> str:
    """Return the verdict on a claim in words, with the devices that decide it."""
    verdict = claim.verdict(results)
    if verdict in (Verdict.SILENT, Verdict.MOOT):
        return f"**{verdict.value}**"
    on: dict[Verdict, list[str]] = {}
    for device, says in claim.by_device(results).items():
        on.setdefault(says, []).append(device)
    where = {says: ", ".join(on[says]) for says in Verdict if says in on}
    moot = where.pop(Verdict.MOOT, "")
    if verdict is Verdict.MIXED:
        words = f"**{'; '.join(f'{says.value} on {devices}' for says, devices in where.items())}**"
    else:
        words = f"**{verdict.value}** on {where[verdict]}"
    return words + (f"; {Verdict.MOOT.value} on {moot}" if moot else "")


def _size(share: float) -> str:
    return "nothing is scaled down" if share == 1 else f"programs have {share:.3g} of theirs"


def _summary(results: Results) -> str:
    rows = [(f"[{claim.quote}](#{claim.key})", claim.author, standing(claim, results)) for claim in CLAIMS]
    return table(("said", "by", "figures say"), rows, text_columns=3)


def _against_stock(results: Results) -> str:
    """Return how each row does on the foremost device, by what is heard and by what the desktop feels."""
    device = results.foremost
    if not results.of("stock", device):
        return f"2.6.24 knows none of these devices: {', '.join(results.devices)}."
    rows = []
    for row in ROWS.values():
        cells = []
        for measure in (of.LATE, of.PER_ACTION):
            compared = compare(results, device, measure, row.key, "stock")
            if compared is not None:
                cells += [str(compared.mine), "" if row.key == "stock" else _outcome(compared)]
        if cells:
            rows.append((row.label, row.author, *cells))
    columns = ("row (SIMULATED)", "idea of", of.LATE.name, "this is", of.PER_ACTION.name, "this is")
    return f"On {device}:\n\n" + table(columns, rows, text_columns=6)


def _claim(claim: Claim, results: Results, then: str = "Since then") -> str:
    who = f"**{claim.author}**: " if claim.author else ""
    parts = [f'<a id="{claim.key}"></a>\n### {claim.quote}', f"{who}{claim.meaning}"]
    comparisons = [(test, one) for test in claim.tests for one in test.comparisons(results)]
    told = [(test, one) for test, one in comparisons if one.outcome is not Outcome.NOTHING]
    if told:
        rows = [
            (
                one.device,
                one.measure.name,
                f"{ROWS[test.row].label}: {one.mine}",
                f"{ROWS[test.other].label}: {one.other}",
                _outcome(one) + (" ✓" if one.outcome in test.predicted else ""),
            )
            for test, one in told
        ]
        parts.append(table(("device", "measure (SIMULATED)", "this", "against", "this is"), rows, text_columns=5))
    quiet: dict[str, list[str]] = {}
    for test, one in comparisons:
        if one.outcome is Outcome.NOTHING:
            what = f"{one.measure.name} ({ROWS[test.row].label} against {ROWS[test.other].label})"
            quiet.setdefault(what, []).append(one.device)
    if quiet:
        lines = "\n".join(f"- {what} on {', '.join(devices)}" for what, devices in quiet.items())
        parts.append(f"Nothing to tell apart:\n\n{lines}")
    parts.append(f"Figures say: {standing(claim, results)}.")
    if claim.since:
        parts.append(f"{then}: {claim.since}")
    return "\n\n".join(parts)


def _outcome(one: Comparison) -> str:
    if one.outcome in (Outcome.NOTHING, Outcome.TIE):
        return str(one.outcome.value)
    wins = one.better_seeds if one.outcome is Outcome.BETTER else one.worse_seeds
    mine, other = one.mine.median, one.other.median
    change = f" by {abs(mine - other) / other:.0%}" if other else ""
    return f"**{one.outcome.value}**{change}, with {wins} of {one.seeds} seeds"


def _tables(results: Results, device: str) -> str:
    parts = [f"### {device}"]
    rows = [row for row in ROWS.values() if results.of(row.key, device)]
    for title, measures in TABLES:
        cells = [(row.label, *(_cell(results, row.key, device, measure) for measure in measures)) for row in rows]
        parts.append(table((f"{title} (SIMULATED)", *(measure.name for measure in measures)), cells))
    return "\n\n".join(parts)


def _cell(results: Results, row: str, device: str, measure: Measure) -> str:
    return str(measure.summary(results.of(row, device)))


def _picture(plots: str, name: str, title: str, seeds: str) -> str:
    of_seeds = f" Median over seeds {seeds}; bars show the least and the most." if seeds else ""
    return f"![{title}]({plots}/{name}.png)\n\n*SIMULATED. {title}.{of_seeds}*"


def _reads(results: Results) -> str:
    rows = []
    for device in results.devices:
        costs = [read_ns(device, pages) for pages in READ_PAGES]
        rows.append((device, *(f"{cost / 1e6:.3f}" for cost in costs), f"{costs[-1] / costs[0]:.1f}"))
    sizes = [f"{pages * PAGE_BYTES >> 10} KiB, ms" for pages in READ_PAGES]
    return (
        "One read anywhere on an idle device, seek and half a turn included where there is any. "
        f"Andi's sentence counts as borne out up to {ONE_READ} times.\n\n"
        + table(("device", *sizes, "1 MiB / 4 KiB"), rows)
    )


def _lone(results: Results) -> str:
    rows = [
        (
            read.device,
            read.way,
            "at random" if read.scattered else "in order",
            f"{read.blocked_ns / 1e6:.2f}",
            f"{read.in_ns / 1e6:.2f}",
            str(read.requests),
            f"{SOUND_PAGES / read.requests:.1f}",
        )
        for read in results.lone_reads
    ]
    columns = ("device", "way", "slots", "the caller waits, ms", "all in after, ms", "requests", "pages per request")
    return (
        f"{SOUND_PAGES * PAGE_BYTES >> 10} KiB, wholly swapped out, brought in on patched 2.6.24 while nothing else "
        "happens.\n\n" + table(columns, rows, text_columns=3)
    )


def _caps(results: Results) -> str:
    rows = [
        (str(cap.memory_bytes >> 20), str(cap.asked_pages), str(cap.read_pages), str(cap.asked_pages - cap.read_pages))
        for cap in results.caps
    ]
    return (
        "`max_sane_readahead()` lets one call read half of what is free or inactive, and says nothing of the rest. All "
        "of memory is free here. The cache asks for 256 KiB at a time, so that no run above was cut short.\n\n"
        + table(("memory, MiB", "pages asked for", "read", "silently left out"), rows, text_columns=0)
    )
