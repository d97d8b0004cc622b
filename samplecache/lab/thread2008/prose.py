"""What the page says in words: how, and why; figures come from runs."""

from __future__ import annotations

from typing import Final

TITLE: Final = "# The 2008 thread, answered"

NO_FIGURES: Final = "**The figures on this page mean nothing**: runs were small and short, to see that all works."

INTRODUCTION: Final = """
In January 2008 Peter Zijlstra sent a patch that made `MADV_WILLNEED` work for anonymous memory, because Lennart
Poettering's PulseAudio wanted its samples back from swap before they are played. Andrew Morton, Andi Kleen, Rik van
Riel and Matt Mackall discussed what should be done instead. Nobody showed a figure. Here are some.

**Every figure on this page is SIMULATED**, on a model of Linux 2.6.24 and of 6.18. `samplecache lab thread-2008`
writes the page, its plots and the [figures of each run](the-2008-thread/results.json); verdicts are computed from
them by the thresholds below, and no number was put in by hand.
"""

APPARATUS: Final = """
- **Machine**: {memory} MiB of memory and {swap} MiB of swap; {size}.
- **Uptime**: before a run, programs that ran side by side have filled swap in turns, and most of them have ended:
  gaps are all over the swap area. "Swap not fragmented" has the same pages in it and all gaps in one piece.
- **Desktop**: X server, browser, mail, editor, panel and daemons, with heaps of {heaps} MiB together. Objects of 4
  to 128 KiB are allocated at the first gap that fits, freed and allocated again; each belongs to a tab, folder or
  document, and those that are used together move every half minute to minute. {code} MiB of program files are read
  through the same memory and disk. Short-lived jobs of 4 to 16 MiB come every 15 s, and a scan of all files
  (`updatedb`) a third into the run. "Tidy heaps" begin with tab beside tab instead. An action is over when all it
  uses is in memory; the next one begins after a pause. What programs do depends on the seed only, never on how fast
  the machine is.
- **Audio**: {sounds} event sounds of 100 to 600 KB that lie near one another in memory, so that a large chunk
  brings others with it. Each is played once, in another order, after minutes of disuse; every other one is
  announced a second ahead. A minute of music from memory is announced as a whole. 44.1 kHz stereo, 16 bits. Blocks
  of 25 ms are due 100 ms after they could leave (PulseAudio's four fragments); a late one is a glitch. A sound
  starts in time if its first block does. It is the cache of this project with its own strategies, in virtual time.
- **Time**: {warm_up} s of desktop alone while sounds are uploaded and forgotten, then {play} s of playing.
- **Devices**: {devices}. 2.6.24 knew no synchronous device, so zram has rows of 6.18 only.
- **Seeds**: {seeds}. Tables show the median and, in brackets, least and most.
- **Better or worse** means: medians differ by {change} % of the larger at least, and by more than a floor (5 late
  blocks, 3 of announced sounds, 5 % of sounds, 10 ms until in RAM, 1 ms per action, 5 % of pages used), and all
  seeds but one in five agree. Everything else is **a tie**; if both are as good as can be with every seed, to
  within the floor, there is **nothing to tell apart**. ✓ marks what a claim predicted. A claim is a tie where it
  is not borne out and ties are all that is against it.
- **Adaptive chunks** double when half of the pages read ahead were used and halve when less than a quarter was; the
  thread gives no rule.
"""

CANNOT_SAY: Final = """
- **Batch of 1 or of 32** (Matt Mackall): the walk's own CPU time, and what mapping high page tables costs, are not
  modelled.
- **The end of death dances** (Andi Kleen): there is no OOM killer, only how full swap got.
- **Cleaner core code** (Andrew Morton): not a matter of figures.
- **Seeks**: each costs the same, wherever it goes, and requests are served in the order in which they come, sorted
  only within 32 of one thread. An elevator that sorts deep queues would make WILLNEED of scattered slots faster on
  rotating disks than here.
- **I/O priorities**: a missing page waits for everything that is in the queue before it, writes included. CFQ of
  2008 let reads overtake.
- **Slots by virtual address**: here the addresses of all processes follow one another and fit into swap once, which
  is kinder than what Andrew tried in 2.5.
- **Two lists**: memory is one list with a second chance, so "inactive" is all of it, and a scan of files can push
  out more than the kernel's active list would let it.
- **kswapd**: whoever needs a page frees one. Waits for that are in the figures, and are longer than with a daemon
  that works ahead.
- **Real programs**: heaps, habits and sizes of the desktop are assumed, not traced.
"""
