"""Why workers read the owner's private memory instead of sharing a mapping: what paging does to each."""

from __future__ import annotations

import pytest
from shared_memory import KINDS, PAGES, Findings, look

from samplecache.lab.rig import Rig

FEW = PAGES // 10
"""Pages that a CPU's batch may keep from reclaim, and pages of other memory that go with these."""


@pytest.fixture(scope="module")
def found(session_rig: Rig) -> dict[str, Findings]:
    with session_rig.joined():
        return {kind: look(kind, session_rig.reclaim) for kind in KINDS}


def test_private_memory_stays_private_when_another_process_reads_it(found: dict[str, Findings]) -> None:
    private = found["private"]
    assert private.left == 0
    assert private.told_swapped >= PAGES - FEW
    # MADV_PAGEOUT finds its pages although the other has read them: they are mapped once.
    assert private.left_shared == 0
    # What was only read needs no write to be dropped again.
    assert private.written_again <= FEW


def test_the_reader_counts_the_faults_it_takes_in_the_owners_memory(found: dict[str, Findings]) -> None:
    private = found["private"]
    assert private.other.major > 0
    assert private.other.major + private.other.minor >= PAGES - FEW
    assert private.other.pswpin >= PAGES - FEW
    assert private.other_warm.major == 0
    assert private.other_warm.minor < FEW


def test_what_the_owner_advises_the_reader_finds(found: dict[str, Findings]) -> None:
    private = found["private"]
    assert private.willneed_in_core == PAGES
    assert private.after_willneed.major == 0
    assert private.other_after_willneed.major == 0


def test_memory_inherited_by_fork_cannot_be_paged_out(found: dict[str, Findings]) -> None:
    assert found["fork"].left == 0
    assert found["fork"].left_shared >= PAGES - FEW


def test_shared_memory_is_written_each_time_and_nobody_is_told_where_it_is(found: dict[str, Findings]) -> None:
    shared = found["memfd"]
    assert shared.told_swapped == 0
    assert shared.left_shared >= PAGES - FEW
    assert shared.written_again >= PAGES - FEW
    # WILLNEED itself works. Reclaim has made other pages of this process cold too.
    assert shared.willneed_in_core == PAGES
    assert shared.after_willneed.major <= FEW
