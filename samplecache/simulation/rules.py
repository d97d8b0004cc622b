"""What the fault path of one kernel does differently from another's: the facts in which they differ, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from samplecache.simulation.options import KernelModel
from samplecache.simulation.pages import DATA, ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a kernel treats the pages of a process.

    Attributes
    ----------
    use_keeps_slot : bool
        Whether a page that was written or locked keeps its slot until swap is over half full (``do_swap_page()`` gives
        it back only if ``vm_swap_full()``), so that it goes back to where it was.
    shared_zero_page : bool
        Whether reading what was never written maps the one zero page, not a page of its own.
    zero_content : int
        What a page of zeros is to swap: ZERO where it has a zero map (Linux 6.12), DATA where it goes to the device.
    retried_faults : bool
        Whether faults that wait are retried, which makes those of POPULATE major and those of mlock minor whatever was
        missing.
    populate_writes : bool
        Whether populating faults pages in for writing (``make_pages_present()`` of a writable area).
    knows_pageout : bool
        Whether there are MADV_COLD and MADV_PAGEOUT (Linux 5.4).
    """

    use_keeps_slot: bool
    shared_zero_page: bool
    zero_content: int
    retried_faults: bool
    populate_writes: bool
    knows_pageout: bool


RULES: Final = {
    KernelModel.LINUX_6_18: Rules(
        use_keeps_slot=False,
        shared_zero_page=True,
        zero_content=ZERO,
        retried_faults=True,
        populate_writes=False,
        knows_pageout=True,
    ),
    # 2.6.24 had just lost the zero page ("remove ZERO_PAGE", 557ed1fa2620); 2.6.32 has it again.
    KernelModel.LINUX_2_6_24: Rules(
        use_keeps_slot=True,
        shared_zero_page=False,
        zero_content=DATA,
        retried_faults=False,
        populate_writes=True,
        knows_pageout=False,
    ),
}
"""The rules of each kernel."""
