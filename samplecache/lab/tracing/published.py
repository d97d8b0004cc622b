"""What was published about the traces that ship, beside what a run of them gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from samplecache.lab.tracing.bench import Outcome
from samplecache.lab.tracing.program import Mode
from samplecache.lab.tracing.setting import Setting, State

FIGURES: Final[dict[tuple[str, int], dict[Mode, str]]] = {
    ("01-sequential", 3): {Mode.VMA: "130/894/1024/894", Mode.CLUSTER: "129/895/1024/895"},
    ("02-no-readahead", 0): {Mode.VMA: "1024/0/1024/0", Mode.CLUSTER: "1024/0/1024/0"},
    ("03-window-sizes", 1): {Mode.VMA: "512", Mode.CLUSTER: "514"},
    ("03-window-sizes", 2): {Mode.VMA: "258", Mode.CLUSTER: "257"},
    ("03-window-sizes", 4): {Mode.VMA: "67", Mode.CLUSTER: "66"},
    ("03-window-sizes", 5): {Mode.VMA: "36", Mode.CLUSTER: "35"},
    ("04-reverse", 3): {Mode.VMA: "129/895", Mode.CLUSTER: "130/894"},
    ("05-stride-2", 3): {Mode.VMA: "384/128/769", Mode.CLUSTER: "128/384/1023"},
    ("06-random", 3): {Mode.VMA: "64/0/75/11", Mode.CLUSTER: "64/0/75/11"},
    ("07-shuffled-slots", 3): {Mode.VMA: "130", Mode.CLUSTER: "892"},
    ("08-willneed", 3): {Mode.VMA: "0/1024/1024/0", Mode.CLUSTER: "0/1024/1024/0"},
    ("09-willneed-too-late", 3): {Mode.VMA: "0/1024", Mode.CLUSTER: "0/1024"},
    ("10-willneed-a-part", 3): {Mode.VMA: "66/958/1024/446", Mode.CLUSTER: "67/957/1024/445"},
    ("13-populate", 3): {Mode.VMA: "130/894", Mode.CLUSTER: "129/895"},
    ("15-zram-sequential", 3): {Mode.ZRAM: "1024/0/1024/0"},
    ("16-zram-willneed", 3): {Mode.ZRAM: "0/1024"},
    ("17-one-pageout", 3): {Mode.VMA: "0/1024/0", Mode.CLUSTER: "0/1024/0"},
    ("19-zeros", 3): {Mode.VMA: "130/894/0", Mode.CLUSTER: "129/895/0"},
}
"""By trace and ``vm.page-cluster``: major/minor/pswpin/swap_ra, as far as they were given. A caller that takes the
faults "as trace 1" is held to what was published of that one."""
_HEADING: Final = """
## Where the published figures hold

*Holds* where what was MEASURED is what was published, as far as that goes; else what was MEASURED. In cluster mode the
published figures are those of a machine that has just booted, whose readahead still takes its neighbours for used.
Traces 11, 12, 14 and 18 were published as statements (no change; ENOMEM and both sides read; the machine's major faults
as in trace 1 but hardly any of the caller's; nothing written); `errno` and the columns of their steps hold them to
those. Trace 7 was published for one seed of slots, which is not known: its cluster figure can only be near.

| trace | page_cluster | VMA mode published | | cluster mode published | as at boot | scattered | zram published | |
|---|--:|---|---|---|---|---|---|---|"""


def published_table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the lines of a page's section about the figures that were published; none if no such trace ran."""
    ran = {(outcome.name, outcome.setting): outcome.totals for outcome in outcomes}
    rows = []
    for (name, cluster), given in FIGURES.items():
        cells = []
        for mode, states in (
            (Mode.VMA, [State.SCATTERED]),
            (Mode.CLUSTER, [State.BOOT, State.SCATTERED]),
            (Mode.ZRAM, [State.SCATTERED]),
        ):
            figures = given.get(mode, "")
            cells.append(figures)
            cells += [_held(figures, ran.get((name, Setting(mode, cluster, state)), "")) for state in states]
        if any(ran.get((name, Setting(mode, cluster, state))) for mode in given for state in State):
            rows.append(f"| {name} | {cluster} | {' | '.join(cells)} |")
    return [*_HEADING.split("\n"), *rows] if rows else []


def _held(published: str, measured: str) -> str:
    if not published or not measured:
        return ""
    return "holds" if measured.split("/")[: published.count("/") + 1] == published.split("/") else measured
