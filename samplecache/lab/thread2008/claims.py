"""The thread's claims: who said what, which rows decide it, and when it counts as borne out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from samplecache.lab.thread2008.figures import (
    ANNOUNCED,
    DESKTOP_MAJOR,
    LATE,
    LATE_ANNOUNCED,
    LATE_MUSIC,
    PER_ACTION,
    PREFETCH,
    SWAP,
    UNANNOUNCED,
    USED,
    Measure,
    Results,
)
from samplecache.lab.thread2008.lone import READ_PAGES, read_ns
from samplecache.lab.thread2008.rows import ROWS
from samplecache.lab.thread2008.verdicts import Comparison, Outcome, Verdict, compare, together

B, T, W = Outcome.BETTER, Outcome.TIE, Outcome.WORSE


@dataclass(frozen=True, slots=True)
class Test:
    """A comparison that a claim makes a prediction of.

    Attributes
    ----------
    row, other : str
        The rows that are compared.
    measure : Measure
        By what.
    predicted : frozenset of Outcome
        Outcomes of which the claim is borne out; empty if the figures are only to be seen.
    """

    row: str
    other: str
    measure: Measure
    predicted: frozenset[Outcome] = frozenset()

    def comparisons(self, results: Results) -> list[Comparison]:
        """Return the comparison on each device that both rows ran on."""
        found = [compare(results, device, self.measure, self.row, self.other) for device in results.devices]
        return [one for one in found if one is not None]


def _test(row: str, other: str, measure: Measure, *predicted: Outcome) -> Test:
    return Test(ROWS[row].key, ROWS[other].key, measure, frozenset(predicted))


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that was said in the thread.

    Attributes
    ----------
    key : str
        What the document calls it.
    author, quote : str
        Who said it, and in which words.
    meaning : str
        What it is taken to predict; no figures.
    tests : tuple of Test
        What decides it: on a device it holds if all predictions do.
    since : str
        What kernels did about it later; no figures.
    decide : Callable or None
        Decides instead, on each device, where no comparison of rows can.
    """

    key: str
    author: str
    quote: str
    meaning: str
    tests: tuple[Test, ...] = ()
    since: str = ""
    decide: Callable[[Results], dict[str, bool]] | None = None

    def holds(self, results: Results) -> dict[str, bool]:
        """Return on which devices it is borne out and on which it is not; those that say nothing are left out."""
        if self.decide is not None:
            return self.decide(results)
        found: dict[str, list[bool]] = {}
        for test in self.tests:
            if test.predicted:
                for one in test.comparisons(results):
                    found.setdefault(one.device, []).append(one.outcome in test.predicted)
        return {device: all(borne_out) for device, borne_out in found.items()}

    def verdict(self, results: Results) -> Verdict:
        """Return what the figures say of it over all devices."""
        return together(list(self.holds(results).values()))


ONE_READ: Final = 1.5
"""A megabyte that takes no more than so many times what 4 KiB takes costs the same."""


def _one_read_costs_the_same(results: Results) -> dict[str, bool]:
    return {device: read_ns(device, READ_PAGES[-1]) <= ONE_READ * read_ns(device, 1) for device in results.devices}


def _large_chunks_win(results: Results) -> dict[str, bool]:
    """Return on which devices adaptive chunks end at the largest size, with more than half of the seeds."""
    found = {}
    for device in results.devices:
        sizes = [one.chunk_pages for one in results.of("adaptive-ample", device)]
        if sizes:
            found[device] = 2 * sum(size == READ_PAGES[-1] for size in sizes) > len(sizes)
    return found


def _calls_return_at_once(results: Results) -> dict[str, bool]:
    """Return on which devices WILLNEED returned in less than half the time in which the pages came."""
    return {
        device: all(
            2 * read.blocked_ns < read.in_ns
            for read in results.lone_reads
            if read.device == device and read.way.startswith("WILLNEED")
        )
        for device in dict.fromkeys(read.device for read in results.lone_reads)
    }


_PETER, _ANDREW, _ANDI, _RIK = "Peter Zijlstra", "Andrew Morton", "Andi Kleen", "Rik van Riel"

CLAIMS: Final = (
    Claim(
        "async",
        _PETER,
        "This solution is async; it will just issue a read for the requested pages and moves on.",
        "One sound by itself: WILLNEED returns in less than half the time in which the pages come, scattered or not.",
        since="Linux 3.9 has it (1998cc048901), without the cap, and merges its requests under one plug.",
        decide=_calls_return_at_once,
    ),
    Claim(
        "wait",
        _PETER,
        "make_pages_present() relies on page faults [...] and will thus wait for all data",
        "Announced sounds are in RAM sooner with the patch than with make_pages_present.",
        (_test("patch", "populate", PREFETCH, B), _test("patch", "populate", UNANNOUNCED)),
        since="make_pages_present became MADV_POPULATE_READ in Linux 5.14; it still waits for each fault.",
    ),
    Claim(
        "moot",
        _ANDREW,
        "swapin_readahead() is _supposed_ to make the difference moot.",
        "With make_pages_present no more blocks of announced sounds are late than with the patch.",
        (
            _test("populate", "patch", LATE_ANNOUNCED, B, T),
            _test("populate", "patch", ANNOUNCED),
            _test("populate", "patch", LATE),
        ),
        since="Linux 3.14 sized the window by hits (579f82901f6f), 4.14 reads virtual neighbours (ec560175c0b6).",
    ),
    Claim(
        "thread",
        _ANDREW,
        "Does he know about pthread_create()? [...] That would get him out of trouble.",
        "Fewer blocks of announced sounds are late with a touching thread than without.",
        (
            _test("touch", "stock", LATE_ANNOUNCED, B),
            _test("touch", "stock", ANNOUNCED),
            _test("touch", "stock", LATE_MUSIC),
        ),
        since="Nothing had to change: a thread that touches works on every kernel.",
    ),
    Claim(
        "worth",
        _ANDREW,
        "I don't know that the usefulness of the feature is worth actually expending code on.",
        "With the patch no fewer blocks are late than with a touching thread, which needs no patch.",
        (
            _test("patch", "touch", LATE, T, W),
            _test("patch", "touch", LATE_ANNOUNCED),
            _test("patch", "stock", LATE_ANNOUNCED),
            _test("patch", "stock", UNANNOUNCED),
        ),
        since="It was written again five years later, and stayed.",
    ),
    Claim(
        "mlock",
        "Peter Zijlstra, for Lennart Poettering",
        "its better to do a best effort at not hitting swap than it is to strain the system with mlock usage",
        "The desktop waits longer per action when all event sounds are locked than with the patch.",
        (
            _test("patch", "mlock-sounds", PER_ACTION, B),
            _test("patch", "mlock-all", PER_ACTION),
            _test("patch", "mlock-sounds", LATE),
        ),
        since="Its default limit grew from 32 KiB to 8 MiB (Linux 5.16): enough for some twenty event sounds.",
    ),
    Claim(
        "fragmentation",
        _ANDI,
        "The real problem [...] is that the data tends to be badly fragmented on the swap partition.",
        "Without prefetching, fewer blocks are late and the desktop waits less where swap is not fragmented.",
        (_test("fresh", "stock", LATE, B), _test("fresh", "stock", PER_ACTION, B)),
        since="Slots are still handed out in the order of eviction, in clusters; 4.14 reads around the gaps.",
    ),
    Claim(
        "less-need",
        _ANDI,
        "if that problem was [attacked] the need for such prefetching would be far less",
        "Where swap is not fragmented, no fewer blocks of announced sounds are late with the patch than without.",
        (
            _test("patch-fresh", "fresh", LATE_ANNOUNCED, T, W),
            _test("patch-fresh", "fresh", ANNOUNCED),
            _test("fresh", "stock", LATE_ANNOUNCED),
        ),
    ),
    Claim(
        "virtual",
        _ANDREW,
        "I still don't know why my allocate-swapspace-according-to-virtual-address change didn't help. Much.",
        "Slots by virtual address change neither late blocks nor the desktop's waits for the better.",
        (
            _test("virtual", "stock", LATE, T, W),
            _test("virtual", "stock", PER_ACTION, T, W),
            _test("virtual", "fresh", PER_ACTION),
        ),
        since="Never merged. Linux 4.14 reads the virtual neighbours wherever their slots are.",
    ),
    Claim(
        "chunks",
        _ANDI,
        "Any reason swapping couldn't be done on e.g. 1MB chunks?",
        "With 1 MiB chunks and no prefetch, no more blocks are late than with the patch and small blocks.",
        (
            _test("chunks-1m", "patch", LATE, B, T),
            _test("chunks-1m", "patch", LATE_ANNOUNCED),
            _test("chunks-1m", "stock", LATE),
            _test("chunks-64k", "stock", LATE),
            _test("patch-chunks-1m", "chunks-1m", LATE),
        ),
        since="Never merged as such; swap-outs of whole huge pages (4.13) and of large folios (6.10) come nearest.",
    ),
    Claim(
        "malloc",
        _RIK,
        "Don't malloc() and free() hopelessly fragment memory over time [...]?",
        "More of what 1 MiB chunks bring is used where heaps are tidy than where they are as malloc() left them.",
        (_test("chunks-1m-tidy", "chunks-1m", USED, B), _test("chunks-1m", "chunks-64k", USED)),
    ),
    Claim(
        "one-megabyte",
        _ANDI,
        "it does not cost less to transfer 1MB versus 4K",
        f"Reading 1 MiB takes no more than {ONE_READ} times as long as reading 4 KiB, seek and turn included.",
        since="Where nothing turns, the transfer is all there is to pay.",
        decide=_one_read_costs_the_same,
    ),
    Claim(
        "full-sooner",
        _ANDI,
        "The only drawback is that the swap might be full sooner",
        "The desktop waits no longer with 1 MiB chunks than with the kernel as it was.",
        (_test("chunks-1m", "stock", PER_ACTION, B, T), _test("chunks-1m", "stock", SWAP)),
    ),
    Claim(
        "second-drawback",
        _RIK,
        "we evict more potentially useful data every time we swap in a whole lot of extra data",
        "With 1 MiB chunks the desktop waits longer per action than with 64 KiB chunks.",
        (
            _test("chunks-1m", "chunks-64k", PER_ACTION, W),
            _test("chunks-1m", "chunks-64k", DESKTOP_MAJOR),
            _test("chunks-1m", "stock", PER_ACTION),
        ),
        since="Linux 3.14 reads only the missing page when nothing suggests more.",
    ),
    Claim(
        "adapt",
        _RIK,
        "automatically change our chunk size based on those statistics",
        "Adaptive chunks are at least as good as each fixed size, for the desktop and for the audio.",
        tuple(
            _test("adaptive", fixed, measure, B, T)
            for measure in (PER_ACTION, LATE)
            for fixed in ("chunks-64k", "chunks-256k", "chunks-1m")
        ),
        since="Linux 3.14 (579f82901f6f): hits among the pages read ahead size the window, up to page_cluster.",
    ),
    Claim(
        "large-chunks",
        _RIK,
        "I would expect most desktop systems to end up with large chunks, because they rarely swap.",
        "With a quarter more memory, adaptive chunks end at 1 MiB with more than half of the seeds.",
        since="The window of 3.14 ends at 8 pages by default, so the question did not come up.",
        decide=_large_chunks_win,
    ),
    Claim(
        "batch",
        "Matt Mackall",
        "effectively doing a batch of size 1 [...] could potentially be expensive in the HIGHPTE case",
        "The model has the batch of 32, but no cost of mapping a page table: it cannot tell 1 from 32.",
        since="Today's walk lets go of the page table for each page that it reads: a batch of 1 after all.",
    ),
    Claim(
        "death-dance",
        _ANDI,
        "I would actually consider this a feature because it would likely end many prolonged oom death dances",
        "The model has no OOM killer: it can tell how full swap gets, not what is killed and what that ends.",
    ),
)
"""All claims, in the order of the page."""
