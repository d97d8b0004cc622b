"""What the port promises, held against both kernels."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from contract_parts import EVICT_NS, Noise, WaitFor, faults_of, prefetched, tiers

from samplecache.errors import InvalidSpanError, NotPermittedError, UnmappedError
from samplecache.kernel.port import Advice, Kernel, Operation, Region, Span, Tier

PAGES = 64


@pytest.fixture(params=[False, True], ids=["alone", "packed"])
def region(kernel: Kernel, request: pytest.FixtureRequest) -> Iterator[Region]:
    region = kernel.map(PAGES * kernel.page_bytes, packed=request.param)
    yield region
    with suppress(UnmappedError):
        kernel.unmap(region)


@pytest.fixture
def data(kernel: Kernel, noise: Noise) -> bytes:
    return noise(PAGES * kernel.page_bytes)


@pytest.fixture
def cold(kernel: Kernel, region: Region, data: bytes, swapping: None) -> Region:
    """A region whose pages are all on the swap device."""
    kernel.write(region, 0, data)
    assert kernel.evict(region, region.span, EVICT_NS) == 0
    return region


class TestMemory:
    @pytest.mark.parametrize(("length_bytes", "pages"), [(1, 1), (4096, 1), (4097, 2), (3 << 20, 768)])
    def test_map_rounds_up_to_pages(self, kernel: Kernel, length_bytes: int, pages: int) -> None:
        assert kernel.map(length_bytes).pages == pages

    @pytest.mark.parametrize("length_bytes", [0, -1])
    def test_nothing_cannot_be_mapped(self, kernel: Kernel, length_bytes: int) -> None:
        with pytest.raises(InvalidSpanError):
            kernel.map(length_bytes)

    def test_fresh_memory_is_absent_and_reads_as_zeros(self, kernel: Kernel, region: Region) -> None:
        assert tiers(kernel, region) == {Tier.ABSENT: PAGES}
        assert kernel.read(region, 100, 5000) == bytes(5000)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    @pytest.mark.parametrize(("offset", "length"), [(0, 1), (4095, 2), (5000, 20000), (PAGES * 4096 - 1, 1), (7, 0)])
    def test_what_was_written_is_read(
        self, kernel: Kernel, region: Region, data: bytes, kind: Callable[[bytes], bytes], offset: int, length: int
    ) -> None:
        kernel.write(region, offset, kind(data[:length]))
        assert kernel.read(region, offset, length) == data[:length]

    def test_only_the_pages_written_come_to_be(self, kernel: Kernel, region: Region) -> None:
        kernel.write(region, 2 * kernel.page_bytes - 1, b"ab")
        residency = kernel.residency(region, Span(0, 4))
        assert residency.tiers == bytes([Tier.ABSENT, Tier.MAPPED, Tier.MAPPED, Tier.ABSENT])

    def test_receive_takes_what_a_pipe_holds_and_then_its_end(self, kernel: Kernel, region: Region) -> None:
        reader, writer = os.pipe()
        try:
            os.write(writer, b"sample")
            os.close(writer)
            assert kernel.receive(region, 4094, reader, 4) == 4
            assert kernel.receive(region, 4098, reader, 100) == 2
            assert kernel.receive(region, 4100, reader, 100) == 0
        finally:
            os.close(reader)
        assert kernel.read(region, 4093, 8) == b"\0sample\0"

    def test_receive_reports_a_bad_descriptor(self, kernel: Kernel, region: Region) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        with pytest.raises(OSError, match="Bad file descriptor"):
            kernel.receive(region, 0, reader, 1)

    @pytest.mark.parametrize(
        "action",
        [
            lambda kernel, region: kernel.read(region, PAGES * 4096, 1),
            lambda kernel, region: kernel.read(region, 0, -1),
            lambda kernel, region: kernel.write(region, PAGES * 4096 - 1, b"ab"),
            lambda kernel, region: kernel.touch(region, Span(PAGES, PAGES + 1)),
            lambda kernel, region: kernel.lock(region, Span(0, PAGES + 1)),
            lambda kernel, region: kernel.advise(region, Span(0, PAGES + 1), Advice.WILLNEED),
            lambda kernel, region: kernel.residency(region, Span(0, PAGES + 1)),
        ],
    )
    def test_a_span_outside_the_region_is_refused(
        self, kernel: Kernel, region: Region, action: Callable[[Kernel, Region], object]
    ) -> None:
        with pytest.raises(InvalidSpanError):
            action(kernel, region)
        assert tiers(kernel, region) == {Tier.ABSENT: PAGES}

    @pytest.mark.parametrize(
        "action",
        [
            lambda kernel, region: kernel.read(region, 0, 1),
            lambda kernel, region: kernel.write(region, 0, b"a"),
            lambda kernel, region: kernel.touch(region, Span(0, 1)),
            lambda kernel, region: kernel.populate(region, Span(0, 1)),
            lambda kernel, region: kernel.lock(region, Span(0, 1)),
            lambda kernel, region: kernel.unlock(region, Span(0, 1)),
            lambda kernel, region: kernel.advise(region, Span(0, 1), Advice.COLD),
            lambda kernel, region: kernel.residency(region, Span(0, 1)),
            lambda kernel, region: kernel.in_core(region, Span(0, 1)),
            lambda kernel, region: kernel.unmap(region),
        ],
    )
    def test_an_unmapped_region_is_refused(
        self, kernel: Kernel, region: Region, action: Callable[[Kernel, Region], object]
    ) -> None:
        kernel.unmap(region)
        with pytest.raises(UnmappedError):
            action(kernel, region)


class TestLocks:
    def test_locks_do_not_nest(self, kernel: Kernel, region: Region, data: bytes) -> None:
        kernel.write(region, 0, data)
        kernel.lock(region, Span(0, 4))
        kernel.lock(region, Span(2, 6))
        assert tiers(kernel, region) == {Tier.LOCKED: 6, Tier.MAPPED: PAGES - 6}
        kernel.unlock(region, Span(0, 3))
        assert list(kernel.residency(region, region.span).spans_in(Tier.LOCKED)) == [Span(3, 6)]

    def test_unlocking_what_is_not_locked_changes_nothing(self, kernel: Kernel, region: Region, data: bytes) -> None:
        kernel.write(region, 0, data)
        kernel.unlock(region, region.span)
        assert tiers(kernel, region) == {Tier.MAPPED: PAGES}

    def test_pages_that_were_never_written_can_be_locked(self, kernel: Kernel, region: Region) -> None:
        kernel.lock(region, Span(1, 3))
        assert tiers(kernel, region) == {Tier.ABSENT: PAGES - 2, Tier.LOCKED: 2}

    def test_unmapping_takes_the_locks_along(self, kernel: Kernel, region: Region) -> None:
        kernel.lock(region, region.span)
        kernel.unmap(region)
        assert tiers(kernel, kernel.map(kernel.page_bytes)) == {Tier.ABSENT: 1}

    @pytest.mark.parametrize("advice", [Advice.PAGEOUT, Advice.COLD])
    def test_locked_pages_are_not_advised_away(
        self, kernel: Kernel, region: Region, data: bytes, advice: Advice
    ) -> None:
        kernel.write(region, 0, data)
        kernel.lock(region, Span(5, 6))
        with pytest.raises(NotPermittedError):
            kernel.advise(region, region.span, advice)
        assert kernel.in_core(region, region.span)


class TestSwap:
    def test_evicted_pages_are_swapped_and_come_back_whole(self, kernel: Kernel, cold: Region, data: bytes) -> None:
        assert tiers(kernel, cold) == {Tier.SWAPPED: PAGES}
        assert not kernel.in_core(cold, cold.span)
        assert kernel.read(cold, 0, len(data)) == data
        assert tiers(kernel, cold) == {Tier.MAPPED: PAGES}

    def test_touching_swapped_pages_reads_each_once(self, kernel: Kernel, cold: Region) -> None:
        before = kernel.swap_counts()
        faults = faults_of(kernel, lambda: kernel.touch(cold, cold.span))
        assert faults.major >= 1
        # Readahead maps what it read at a minor fault each.
        assert faults.major + faults.minor >= PAGES
        assert (kernel.swap_counts() - before).pswpin >= PAGES

    def test_reading_swapped_pages_faults_as_touching_does(self, kernel: Kernel, cold: Region) -> None:
        assert faults_of(kernel, lambda: kernel.read(cold, 0, 3)).major == 1

    def test_prefetched_pages_cost_no_major_fault(self, kernel: Kernel, cold: Region, wait_for: WaitFor) -> None:
        asking = faults_of(kernel, lambda: kernel.advise(cold, cold.span, Advice.WILLNEED))
        wait_for(lambda: prefetched(kernel, cold, cold.span))
        assert tiers(kernel, cold) == {Tier.SWAP_CACHE: PAGES}
        touching = faults_of(kernel, lambda: kernel.touch(cold, cold.span))
        assert (asking.major, touching.major) == (0, 0)
        assert touching.minor >= PAGES
        assert tiers(kernel, cold) == {Tier.MAPPED: PAGES}

    def test_prefetching_a_part_leaves_the_rest(self, kernel: Kernel, cold: Region, wait_for: WaitFor) -> None:
        wait_for(lambda: prefetched(kernel, cold, Span(8, 24)))
        assert list(kernel.residency(cold, cold.span).spans_in(Tier.SWAP_CACHE)) == [Span(8, 24)]

    def test_populate_maps_every_page(self, kernel: Kernel, cold: Region) -> None:
        kernel.populate(cold, cold.span)
        assert tiers(kernel, cold) == {Tier.MAPPED: PAGES}
        assert faults_of(kernel, lambda: kernel.touch(cold, cold.span)).major == 0

    def test_locking_brings_the_pages_in(self, kernel: Kernel, cold: Region) -> None:
        kernel.lock(cold, cold.span)
        assert tiers(kernel, cold) == {Tier.LOCKED: PAGES}
        assert faults_of(kernel, lambda: kernel.touch(cold, cold.span)).major == 0

    def test_locked_pages_are_not_evicted(self, kernel: Kernel, region: Region, data: bytes, swapping: None) -> None:
        kernel.write(region, 0, data)
        kernel.lock(region, Span(10, 20))
        assert kernel.evict(region, region.span, EVICT_NS) == 0
        assert tiers(kernel, region) == {Tier.LOCKED: 10, Tier.SWAPPED: PAGES - 10}

    def test_pages_can_be_evicted_again_and_again(self, kernel: Kernel, cold: Region, data: bytes) -> None:
        for page in (0, PAGES // 2, PAGES - 1):
            kernel.write(cold, page * kernel.page_bytes, b"new")
            kernel.touch(cold, cold.span)
            assert kernel.evict(cold, cold.span, EVICT_NS) == 0
            assert tiers(kernel, cold) == {Tier.SWAPPED: PAGES}
        assert kernel.read(cold, (PAGES - 1) * kernel.page_bytes, 4) == b"new" + data[-kernel.page_bytes + 3 :][:1]

    def test_absent_pages_stay_absent(self, kernel: Kernel, region: Region, swapping: None) -> None:
        kernel.write(region, 0, b"x")
        assert kernel.evict(region, region.span, EVICT_NS) == 0
        kernel.advise(region, region.span, Advice.WILLNEED)
        assert kernel.residency(region, Span(1, PAGES)).count(Tier.ABSENT) == PAGES - 1


class TestProbe:
    def test_every_operation_has_an_answer_with_a_remedy_unless_it_works(self, kernel: Kernel) -> None:
        capabilities = kernel.probe()
        assert set(capabilities.operations) == set(Operation)
        for capability in capabilities.operations.values():
            assert capability.why
            works = capability.permitted and capability.useful
            assert bool(capability.remedy) is not works

    def test_with_swap_every_operation_works(self, kernel: Kernel, swapping: None) -> None:
        capabilities = kernel.probe()
        assert [operation for operation in Operation if not capabilities.useful(operation)] == []
        assert capabilities.swap_bytes > 0


class TestScarcity:
    def test_some_of_the_memory_that_there_is_is_left(self, kernel: Kernel) -> None:
        memory = kernel.memory()
        assert 0 < (memory.available_bytes or 0) <= (memory.limit_bytes or 0)

    def test_signs_of_scarcity_only_grow(self, kernel: Kernel, cold: Region) -> None:
        before = kernel.pressure()
        kernel.touch(cold, cold.span)
        after = kernel.pressure()
        for earlier, later in zip(dataclasses.astuple(before), dataclasses.astuple(after), strict=True):
            assert (earlier is None) is (later is None)
            assert earlier is None or later >= earlier

    def test_pages_that_come_back_from_swap_are_refaults(self, kernel: Kernel, cold: Region) -> None:
        before = kernel.pressure()
        kernel.touch(cold, cold.span)
        refaults = kernel.pressure().since(before).refaults
        assert refaults is not None
        assert refaults >= PAGES
