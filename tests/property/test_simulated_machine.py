"""Whatever is asked of the simulated kernel, in whatever order, what must hold of any kernel holds of it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from samplecache.clock import NS_PER_MS, NS_PER_S, VirtualClock
from samplecache.errors import ExhaustedError, LockLimitError, NotPermittedError, UnmappedError
from samplecache.kernel.port import Advice, Region, Span, Tier
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.simulation.device import PROFILES
from samplecache.simulation.machine import Machine
from samplecache.simulation.options import KernelModel, ReadaheadMode, SimulationOptions, SlotOrder, WillneedMode
from samplecache.simulation.pages import SimulatedRegion
from samplecache.simulation.scheduler import Scheduler

PAGE = 4096
LOCK_LIMIT_PAGES = 12
REGION_PAGES = 48


@st.composite
def machines(draw: st.DrawFn) -> SimulationOptions:
    """Draw any kernel, readahead and order of slots that go together."""
    device = PROFILES[draw(st.sampled_from(["hdd-7200", "ssd-sata", "nvme-p3700", "zram-lz4"]))]
    page_cluster = draw(st.integers(0, 6))
    chunk_pages = draw(st.sampled_from([1, 4, 16, 32]))
    readaheads = set(ReadaheadMode) - ({ReadaheadMode.ADAPTIVE} if chunk_pages < 1 << page_cluster else set())
    order = st.sampled_from(sorted(readaheads, key=lambda mode: mode.value))
    return SimulationOptions(
        device=device,
        memory_pages=draw(st.integers(LOCK_LIMIT_PAGES + 12, 80)),
        swap_slots=draw(st.integers(64, 400)),
        page_cluster=page_cluster,
        kernel=KernelModel.LINUX_6_18 if device.synchronous else draw(st.sampled_from(KernelModel)),
        readahead=None if device.synchronous else draw(st.none() | order),
        willneed=draw(st.sampled_from(WillneedMode)),
        lock_limit_bytes=LOCK_LIMIT_PAGES * PAGE,
        chunk_pages=chunk_pages,
        slot_order=draw(st.sampled_from(SlotOrder)),
        seed=draw(st.integers(0, 3)),
    )


MACHINES = machines()

SPANS = st.tuples(st.integers(0, REGION_PAGES), st.integers(0, REGION_PAGES)).map(lambda ends: Span(*sorted(ends)))


def clipped(region: Region, span: Span) -> Span:
    return Span(min(span.start, region.pages), min(span.stop, region.pages))


class SimulatedMachine(RuleBasedStateMachine):
    """Drives one thread; remembers what was written and what is locked."""

    regions = Bundle("regions")
    files = Bundle("files")

    @initialize(options=MACHINES)
    def boot(self, options: SimulationOptions) -> None:
        self.options = options
        self.clock = VirtualClock()
        self.kernel = SimulatedKernel(options, self.clock)
        self.contents: dict[Region, bytearray] = {}
        self.locked: dict[Region, set[int]] = {}
        self.mapped_files: list[SimulatedRegion] = []

    def run(self, steps: Generator[int, None, object]) -> None:
        for wake_ns in steps:
            self.clock.sleep_until(wake_ns)

    @rule(target=regions, pages=st.integers(1, REGION_PAGES))
    def map(self, pages: int) -> Region:
        region = self.kernel.map(pages * PAGE)
        self.contents[region] = bytearray(pages * PAGE)
        self.locked[region] = set()
        return region

    @rule(region=consumes(regions))
    def unmap(self, region: Region) -> None:
        self.kernel.unmap(region)
        del self.contents[region], self.locked[region]

    @rule(target=files, pages=st.integers(1, REGION_PAGES))
    def map_file(self, pages: int) -> SimulatedRegion:
        file = self.kernel.machine.map_file(pages)
        self.mapped_files.append(file)
        return file

    @rule(file=consumes(files))
    def unmap_file(self, file: SimulatedRegion) -> None:
        self.kernel.machine.unmap(file)
        self.mapped_files.remove(file)

    @rule(file=files, span=SPANS)
    def read_file(self, file: SimulatedRegion, span: Span) -> None:
        """Read pages of a file: no swap-in, whatever is pushed out for them."""
        machine, before = self.kernel.machine, self.kernel.swap_counts()
        with contextlib.suppress(ExhaustedError):
            self.run(machine.touch(1, file, min(span.start, file.pages), min(span.stop, file.pages)))
        assert (self.kernel.swap_counts() - before).pswpin == 0
        assert all(slot > self.options.swap_slots for slot in machine.page_slots(file, 0, file.pages))

    @rule(region=regions, span=SPANS, value=st.integers(0, 3), skip=st.integers(0, PAGE - 1))
    def write(self, region: Region, span: Span, value: int, skip: int) -> None:
        """Write pages full of one value, zeros among them, beginning inside the first."""
        span = clipped(region, span)
        data = bytes([value]) * max(0, len(span) * PAGE - skip)
        start = span.start * PAGE + skip
        if not data:
            return
        try:
            self.kernel.write(region, start, data)
        except ExhaustedError:
            return
        self.contents[region][start : start + len(data)] = data

    @rule(region=regions, span=SPANS)
    def read(self, region: Region, span: Span) -> None:
        span = clipped(region, span)
        start, stop = span.start * PAGE, span.stop * PAGE
        try:
            copy = self.kernel.read(region, start, stop - start)
        except ExhaustedError:
            return
        assert copy == self.contents[region][start:stop]

    @rule(region=regions, span=SPANS, populate=st.booleans())
    def fault_in(self, region: Region, span: Span, populate: bool) -> None:
        span = clipped(region, span)
        before = self.kernel.thread_faults()
        fault_in = self.kernel.populate if populate else self.kernel.touch
        try:
            fault_in(region, span)
        except ExhaustedError:
            return
        faults = self.kernel.thread_faults() - before
        assert faults.major + faults.minor <= len(span)

    @rule(region=regions, span=SPANS, advice=st.sampled_from(Advice))
    def advise(self, region: Region, span: Span, advice: Advice) -> None:
        span = clipped(region, span)
        before = self.kernel.thread_faults()
        if advice is Advice.WILLNEED:
            refused = self.options.willneed is WillneedMode.ABSENT
        else:
            refused = self.options.kernel is KernelModel.LINUX_2_6_24 or bool(self.locked[region] & set(span))
        try:
            self.kernel.advise(region, span, advice)
        except NotPermittedError:
            assert refused
        else:
            assert not refused
        assert self.kernel.thread_faults() == before

    @rule(region=regions, span=SPANS)
    def lock(self, region: Region, span: Span) -> None:
        span = clipped(region, span)
        held = sum(map(len, self.locked.values()))
        fits = held + len(set(span) - self.locked[region]) <= LOCK_LIMIT_PAGES
        try:
            self.kernel.lock(region, span)
        except LockLimitError:
            assert not fits
        except ExhaustedError:
            assert fits
        else:
            assert fits
            self.locked[region] |= set(span)

    @rule(region=regions, span=SPANS)
    def unlock(self, region: Region, span: Span) -> None:
        span = clipped(region, span)
        self.kernel.unlock(region, span)
        self.locked[region] -= set(span)

    @rule(region=regions, span=SPANS, timeout_ms=st.integers(0, 100))
    def evict(self, region: Region, span: Span, timeout_ms: int) -> None:
        span = clipped(region, span)
        left = self.kernel.evict(region, span, timeout_ms * NS_PER_MS)
        residency = self.kernel.residency(region, span)
        # A read in flight that was counted as in RAM is not in core yet, and a write shows no difference.
        assert left >= residency.count(Tier.SWAP_CACHE)
        if left == 0:
            assert residency.count(Tier.SWAP_CACHE) == 0

    @rule(milliseconds=st.integers(0, 50))
    def wait(self, milliseconds: int) -> None:
        self.clock.sleep_until(self.clock.now_ns() + milliseconds * NS_PER_MS)

    @invariant()
    def resident_memory_is_within_its_limit(self) -> None:
        assert 0 <= self.kernel.machine.used_pages <= self.options.memory_pages

    @invariant()
    def exactly_what_was_locked_and_not_released_is_locked_and_resident(self) -> None:
        for region, pages in self.locked.items():
            tiers = self.kernel.residency(region, region.span).tiers
            assert {page for page, tier in enumerate(tiers) if tier == Tier.LOCKED} == pages
        locked = sum(map(len, self.locked.values()))
        assert self.kernel.machine.locked_pages == locked <= LOCK_LIMIT_PAGES

    @invariant()
    def no_slot_has_two_pages_and_none_is_lost(self) -> None:
        slots = [
            slot
            for region in self.contents
            for slot in self.kernel.machine.page_slots(self.kernel.model(region), 0, region.pages)
            if slot
        ]
        assert len(slots) == len(set(slots)) == self.options.swap_slots - self.kernel.machine.free_slots

    @invariant()
    def every_page_in_memory_is_counted(self) -> None:
        machine = self.kernel.machine
        models = [*map(self.kernel.model, self.contents), *self.mapped_files]
        assert machine.used_pages == sum(map(machine.frames, models))

    def teardown(self) -> None:
        self.clock.sleep_until(self.clock.now_ns() + NS_PER_S)
        # Where swap is full, what it holds comes back into more memory only.
        self.run(self.kernel.machine.resize_memory(1, 1 << 20))
        for file in self.mapped_files:
            self.kernel.machine.unmap(file)
        for region, expected in self.contents.items():
            self.kernel.unlock(region, region.span)
            assert self.kernel.read(region, 0, len(expected)) == expected
        for region in self.contents:
            self.kernel.unmap(region)
        machine = self.kernel.machine
        assert (machine.used_pages, machine.locked_pages, machine.free_slots) == (0, 0, self.options.swap_slots)


TestSimulatedMachine = SimulatedMachine.TestCase
TestSimulatedMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_pswpin_is_the_number_of_pages_read() -> None:
    clock = VirtualClock()
    kernel = SimulatedKernel(SimulationOptions(device=PROFILES["ssd-sata"], memory_pages=64, swap_slots=1000), clock)
    region = kernel.map(200 * PAGE)
    kernel.write(region, 0, b"\1" * 200 * PAGE)
    assert kernel.evict(region, region.span, NS_PER_S) == 0
    before = kernel.swap_counts()
    kernel.read(region, 0, 200 * PAGE)
    assert (kernel.swap_counts() - before).pswpin == 200


OPERATIONS = st.tuples(
    st.sampled_from(["touch", "populate", "write", "willneed", "pageout", "lock", "evict"]),
    st.integers(0, 2),
    SPANS,
)


@settings(max_examples=60, deadline=None)
@given(
    options=MACHINES,
    scripts=st.lists(st.lists(OPERATIONS, max_size=6), min_size=2, max_size=4),
    unmap_at_ms=st.none() | st.integers(0, 40),
)
def test_threads_that_interleave_at_every_sleep_leave_the_machine_consistent(
    options: SimulationOptions, scripts: list[list[tuple[str, int, Span]]], unmap_at_ms: int | None
) -> None:
    clock = VirtualClock()
    machine = Machine(options, clock.now_ns)
    regions = [machine.map(REGION_PAGES), machine.map(REGION_PAGES), machine.map_file(REGION_PAGES)]

    def thread(number: int, script: list[tuple[str, int, Span]]) -> Generator[int, None, None]:
        for name, index, span in script:
            extra = {"evict": (10 * NS_PER_MS,)}.get(name, ())
            with contextlib.suppress(ExhaustedError, NotPermittedError, UnmappedError):
                yield from getattr(machine, name)(number, regions[index], span.start, span.stop, *extra)
            assert machine.used_pages <= options.memory_pages

    def unmapper(at_ns: int) -> Generator[int, None, None]:
        yield at_ns
        machine.unmap(regions[1])

    scheduler = Scheduler(clock)
    threads = [scheduler.start(thread(number, script)) for number, script in enumerate(scripts)]
    if unmap_at_ms is not None:
        threads.append(scheduler.start(unmapper(unmap_at_ms * NS_PER_MS)))
    scheduler.run()
    assert all(each.finished for each in threads)
    mapped = [region for region in regions if region.mapped]
    assert machine.used_pages == sum(machine.frames(region) for region in mapped)
    anonymous = [region for region in mapped if not region.file]
    slots = [slot for region in anonymous for slot in machine.page_slots(region, 0, region.pages) if slot]
    assert len(slots) == len(set(slots)) == options.swap_slots - machine.free_slots
    for region in mapped:
        machine.unmap(region)
    assert (machine.used_pages, machine.locked_pages, machine.free_slots) == (0, 0, options.swap_slots)
