"""The thread's claims, who made them, and which rows decide each; and what nobody said, but figures do."""

from __future__ import annotations

from typing import Final

from samplecache.lab.thread2008.claim import Claim, predicts
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
    Results,
)
from samplecache.lab.thread2008.lone import READ_PAGES, read_ns
from samplecache.lab.thread2008.verdicts import Outcome

B, T, W = Outcome.BETTER, Outcome.TIE, Outcome.WORSE


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


def _far_less_need(results: Results) -> dict[str, bool | None]:
    """Return on which devices half of the late blocks of announced sounds, or more, are gone without fragments."""
    found: dict[str, bool | None] = {}
    for device in results.devices:
        fresh, stock = (results.of(row, device) for row in ("fresh", "stock"))
        if fresh and stock:
            left, before = (LATE_ANNOUNCED.summary(runs).median for runs in (fresh, stock))
            found[device] = None if before < LATE_ANNOUNCED.floor else 2 * left <= before
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
        (predicts("patch", "populate", PREFETCH, B), predicts("patch", "populate", UNANNOUNCED)),
        since="make_pages_present became MADV_POPULATE_READ in Linux 5.14; it still waits for each fault.",
    ),
    Claim(
        "moot",
        _ANDREW,
        "swapin_readahead() is _supposed_ to make the difference moot.",
        "With make_pages_present no more blocks of announced sounds are late than with the patch.",
        (
            predicts("populate", "patch", LATE_ANNOUNCED, B, T),
            predicts("populate", "patch", ANNOUNCED),
            predicts("populate", "patch", LATE),
        ),
        since="Linux 3.14 sized the window by hits (579f82901f6f), 4.14 reads virtual neighbours (ec560175c0b6).",
    ),
    Claim(
        "thread",
        _ANDREW,
        "Does he know about pthread_create()? [...] That would get him out of trouble.",
        "Fewer blocks of announced sounds are late with a touching thread than without.",
        (
            predicts("touch", "stock", LATE_ANNOUNCED, B),
            predicts("touch", "stock", ANNOUNCED),
            predicts("touch", "stock", LATE_MUSIC),
        ),
        since="Nothing had to change: a thread that touches works on every kernel.",
    ),
    Claim(
        "worth",
        _ANDREW,
        "I don't know that the usefulness of the feature is worth actually expending code on.",
        "With the patch no fewer blocks are late than with a touching thread, which needs no patch.",
        (
            predicts("patch", "touch", LATE, T, W),
            predicts("patch", "touch", LATE_ANNOUNCED),
            predicts("patch", "stock", LATE_ANNOUNCED),
            predicts("patch", "stock", UNANNOUNCED),
        ),
        since="It was written again five years later, and stayed.",
    ),
    Claim(
        "mlock",
        "Peter Zijlstra, for Lennart Poettering",
        "its better to do a best effort at not hitting swap than it is to strain the system with mlock usage",
        "The desktop waits longer per action when all event sounds are locked than with the patch.",
        (
            predicts("patch", "mlock-sounds", PER_ACTION, B),
            predicts("patch", "mlock-all", PER_ACTION),
            predicts("patch", "mlock-sounds", LATE),
            predicts("patch", "mlock-sounds", UNANNOUNCED),
        ),
        since="Its default limit grew from 32 KiB to 8 MiB (Linux 5.16): enough for some twenty event sounds.",
    ),
    Claim(
        "fragmentation",
        _ANDI,
        "The real problem [...] is that the data tends to be badly fragmented on the swap partition.",
        "Without prefetching, fewer blocks are late and the desktop waits less where swap is not fragmented.",
        (predicts("fresh", "stock", LATE, B), predicts("fresh", "stock", PER_ACTION, B)),
        since="Slots are still handed out in the order of eviction, in clusters; 4.14 reads around the gaps.",
    ),
    Claim(
        "less-need",
        _ANDI,
        "if that problem was [attacked] the need for such prefetching would be far less",
        "Without prefetching, no more than half as many blocks of announced sounds are late where swap is not "
        "fragmented. What is then left for the patch to do stands below it.",
        (predicts("fresh", "stock", LATE_ANNOUNCED), predicts("patch-fresh", "fresh", LATE_ANNOUNCED)),
        decide=_far_less_need,
    ),
    Claim(
        "virtual",
        _ANDREW,
        "I still don't know why my allocate-swapspace-according-to-virtual-address change didn't help. Much.",
        "Slots by virtual address change neither late blocks nor the desktop's waits for the better.",
        (
            predicts("virtual", "stock", LATE, T, W),
            predicts("virtual", "stock", PER_ACTION, T, W),
            predicts("virtual", "fresh", PER_ACTION),
        ),
        since="Never merged. Linux 4.14 reads the virtual neighbours wherever their slots are.",
    ),
    Claim(
        "chunks",
        _ANDI,
        "Any reason swapping couldn't be done on e.g. 1MB chunks?",
        "With 1 MiB chunks and no prefetch, no more blocks are late than with the patch and small blocks.",
        (
            predicts("chunks-1m", "patch", LATE, B, T),
            predicts("chunks-1m", "patch", LATE_ANNOUNCED),
            predicts("chunks-1m", "stock", LATE),
            predicts("chunks-64k", "stock", LATE),
            predicts("patch-chunks-1m", "chunks-1m", LATE),
        ),
        since="Never merged as such; swap-outs of whole huge pages (4.13) and of large folios (6.10) come nearest.",
    ),
    Claim(
        "malloc",
        _RIK,
        "Don't malloc() and free() hopelessly fragment memory over time [...]?",
        "More of what 1 MiB chunks bring is used where heaps are tidy than where they are as malloc() left them.",
        (predicts("chunks-1m-tidy", "chunks-1m", USED, B), predicts("chunks-1m", "chunks-64k", USED)),
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
        (predicts("chunks-1m", "stock", PER_ACTION, B, T), predicts("chunks-1m", "stock", SWAP)),
    ),
    Claim(
        "second-drawback",
        _RIK,
        "we evict more potentially useful data every time we swap in a whole lot of extra data",
        "With 1 MiB chunks the desktop waits longer per action than with 64 KiB chunks.",
        (
            predicts("chunks-1m", "chunks-64k", PER_ACTION, W),
            predicts("chunks-1m", "chunks-64k", DESKTOP_MAJOR),
            predicts("chunks-1m", "stock", PER_ACTION),
        ),
        since="Linux 3.14 reads only the missing page when nothing suggests more.",
    ),
    Claim(
        "adapt",
        _RIK,
        "automatically change our chunk size based on those statistics",
        "Adaptive chunks, by the rule above, are at least as good as each fixed size, for desktop and audio.",
        tuple(
            predicts("adaptive", fixed, measure, B, T)
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


OBSERVATIONS: Final = (
    Claim(
        "too-late",
        "",
        "A prefetch that comes with the sound itself does not help it to start.",
        "No more unannounced sounds start in time with the patch than with no prefetch: its reads are in the queue "
        "before the first block's.",
        (predicts("patch", "stock", UNANNOUNCED, T, W), predicts("touch", "stock", UNANNOUNCED)),
    ),
    Claim(
        "too-early",
        "",
        "Music that is announced as a whole is prefetched too early.",
        "With the patch no fewer blocks of the music are late than with no prefetch: pages that nobody has used yet "
        "get no second chance, and are gone before their turn.",
        (predicts("patch", "stock", LATE_MUSIC, T, W), predicts("mlock-announced", "stock", LATE_MUSIC)),
    ),
    Claim(
        "in-only",
        "",
        "Chunks only help if pages were written out in chunks too.",
        "With 1 MiB chunks in, but slots in the order of eviction, the desktop waits longer than with both.",
        (predicts("chunks-1m-in", "chunks-1m", PER_ACTION, W), predicts("chunks-1m-in", "stock", PER_ACTION)),
    ),
    Claim(
        "memory",
        "",
        "A quarter more memory does more than the patch.",
        "With it no more blocks are late with no prefetch than with the patch without it, and the desktop waits less.",
        (predicts("ample", "patch", LATE, B, T), predicts("ample", "patch", PER_ACTION, B)),
    ),
)
"""What nobody said in the thread, in the order of the page."""

MODERN: Final = (
    Claim(
        "modern-readahead",
        "Linux 3.14 and 4.14",
        "Readahead by hits, and of virtual neighbours",
        "Without prefetching, today's kernel has no more late blocks than 2.6.24, and its desktop waits no longer.",
        (
            predicts("today", "stock", LATE, B, T),
            predicts("today", "stock", PER_ACTION, B, T),
            predicts("today", "stock", USED),
            predicts("today", "stock", DESKTOP_MAJOR),
        ),
        since="On a rotating disk 6.18 still reads slot neighbours; virtual ones (ec560175c0b6) are for all others.",
    ),
    Claim(
        "modern-willneed",
        "Linux 3.9",
        "WILLNEED of anonymous memory",
        "Fewer blocks of announced sounds are late on today's kernel with it than without.",
        (
            predicts("today-willneed", "today", LATE_ANNOUNCED, B),
            predicts("today-willneed", "patch", LATE_ANNOUNCED),
        ),
        since="1998cc048901: the patch's idea, without its cap.",
    ),
    Claim(
        "modern-populate",
        "Linux 5.14",
        "MADV_POPULATE_READ",
        "On today's kernel no more blocks of announced sounds are late with it than with WILLNEED.",
        (
            predicts("today-populate", "today-willneed", LATE_ANNOUNCED, B, T),
            predicts("today-populate", "today", LATE_ANNOUNCED),
            predicts("today-touch", "today", LATE_ANNOUNCED),
        ),
        since="make_pages_present for programs (4ca9b3859dac), which Andrew asked for.",
    ),
)
"""What kernels changed since, in the order of the page."""
