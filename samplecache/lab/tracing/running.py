"""Runs a program on a kernel, the same way on each, and records what every step did.

Threads are real ones. Each hands over to the next when its step is over, so that steps come in the program's order and
a step's faults are those of its own thread. What a step left behind is looked at once all I/O is over, since until then
it is a matter of time which pages are in.

A run can *follow* another: pages then get the swap slots that they got there, and each eviction repeats the very
operations that it took there, whatever the kernel here would have needed. That is how the simulated kernel is fed with
what is not its to decide: where the real one puts a page, and which pages a CPU's LRU batch holds back for a round.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import gc
import queue
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from samplecache.clock import NS_PER_MS, NS_PER_S, Clock
from samplecache.errors import SamplecacheError, StateError, UnavailableError
from samplecache.kernel.inspection import ENTRY_PRESENT, ENTRY_SWAPPED, InspectedKernel, areas, errno_name, slots
from samplecache.kernel.port import Advice, FaultCounts, Region, Span, SwapCounts, Tier
from samplecache.lab.tracing.program import Program, RegionPlan
from samplecache.lab.tracing.steps import Content, Step

SETTLE_TIMEOUT_NS: Final = 20 * NS_PER_S
EVICT_ROUNDS: Final = 100
POLL_NS: Final = NS_PER_MS
BLOCK_PAGES: Final = 64
"""Pages that are written or looked at in one go: what that allocates is small enough not to fault itself."""

HEAP_BYTES: Final = 64 << 10
"""How much memory for objects of each size class (of 16 bytes, up to 512) is made ready before a step."""

PlanSlots = Callable[[Region, Sequence[int]], None]


class Push(enum.Enum):
    """What an eviction consists of."""

    POPULATE = enum.auto()
    """Map what is in the swap cache, by a minor fault, so that it can be paged out again without a write."""
    PAGEOUT = enum.auto()


Round = tuple[tuple[Push, Span], ...]
"""Operations of an eviction before it lets I/O end and looks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one step did.

    Attributes
    ----------
    faults : FaultCounts
        Faults of the step's thread, during the step.
    swap : SwapCounts
        Swap traffic of the whole machine, from the step's beginning until all I/O was over.
    in_core : bytes
        What mincore says of each page of all regions, one after the other, 1 or 0.
    present, swapped : bytes
        The bits of their pagemap entries, 1 or 0.
    slots : tuple of int
        The swap slots that pagemap names, 0 for none.
    locked_bytes : int
        What the process had locked, in bytes, beyond what it had at the beginning.
    errno : str
        The error number that the step ended with; empty for none.
    time_ns : int
        How long the step took, on the kernel's clock, in nanoseconds.
    evicted : tuple of Round
        The operations it took, where the step is an eviction.
    """

    faults: FaultCounts
    swap: SwapCounts
    in_core: bytes
    present: bytes
    swapped: bytes
    slots: tuple[int, ...]
    locked_bytes: int
    errno: str
    time_ns: int
    evicted: tuple[Round, ...] = ()

    def without(self, pages: int) -> Observation:
        """Return it without what it says of the first `pages` pages."""
        return dataclasses.replace(
            self,
            in_core=self.in_core[pages:],
            present=self.present[pages:],
            swapped=self.swapped[pages:],
            slots=self.slots[pages:],
        )


Recording = tuple[Observation, ...]
"""What each step of a program did, in their order."""


def run(
    program: Program,
    kernel: InspectedKernel,
    clock: Clock,
    *,
    following: Recording | None = None,
    plan_slots: PlanSlots | None = None,
) -> Recording:
    """Run `program` on `kernel` and return what each step did. Blocks. Maps memory and gives it back.

    Parameters
    ----------
    program : Program
        What to do.
    kernel : InspectedKernel
        Where.
    clock : Clock
        The kernel's.
    following : Recording, optional
        What the same program did elsewhere.
    plan_slots : Callable, optional
        Has the pages of a region get certain slots when they are next given one; for a run that follows another.

    Raises
    ------
    UnavailableError
        Pages could not be evicted, or the device was never at rest.
    StateError
        Pages went to more than one swap area.
    """
    with contextlib.ExitStack() as stack:
        regions: dict[str, Region] = {}
        for plan in program.regions:
            regions[plan.name] = region = kernel.map(plan.pages * kernel.page_bytes)
            stack.callback(kernel.unmap, region)
        crew = stack.enter_context(_crew(program.threads))
        stage = _Stage(kernel, clock, list(regions.values()))
        first = crew[program.threads[0]]
        first(lambda: stage.fill(program.regions))
        for act in crew.values():
            act(stage.warm_up)
        stage.settle()
        observations: list[Observation] = []
        for index, step in enumerate(program.steps):
            model = following[index] if following is not None else None
            if model is not None and plan_slots is not None:
                stage.feed(model.slots, plan_slots)
            region = regions[program.region_of(step).name]
            observations.append(stage.observe(step, region, crew[step.thread], model))
        return tuple(observations)


_Act = Callable[[Callable[[], None]], None]
"""Does something on a certain thread and waits for it; raises what it raises."""


@contextlib.contextmanager
def _crew(names: Sequence[str]) -> Iterator[dict[str, _Act]]:
    """Start a thread for each name; they end with the block, or after the step that they are in if it fails."""
    inboxes: list[queue.SimpleQueue[Callable[[], None] | None]] = []
    threads: list[threading.Thread] = []

    def start(name: str) -> _Act:
        inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        outbox: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def work() -> None:
            while (deed := inbox.get()) is not None:
                try:
                    deed()
                    outbox.put(None)
                except BaseException as error:
                    outbox.put(error)

        def act(deed: Callable[[], None]) -> None:
            inbox.put(deed)
            error = outbox.get()
            if error is not None:
                raise error

        inboxes.append(inbox)
        threads.append(threading.Thread(target=work, name=f"trace-{name}", daemon=True))
        threads[-1].start()
        return act

    try:
        yield {name: start(name) for name in names}
    finally:
        for inbox in inboxes:
            inbox.put(None)
    # Not waited for where the block is interrupted: a thread may sleep for long, and what it uses is not unmapped
    # before it lets go.
    for thread in threads:
        thread.join()


class _Stage:
    """A kernel with the regions of one program."""

    def __init__(self, kernel: InspectedKernel, clock: Clock, regions: Sequence[Region]) -> None:
        self.kernel = kernel
        self.clock = clock
        self._regions = regions
        self._areas: set[int] = set()
        self._locked_before_bytes = kernel.locked_bytes()
        block_bytes = BLOCK_PAGES * kernel.page_bytes
        self.blocks = {
            Content.NOISE: memoryview(random.Random(2008).randbytes(block_bytes)),  # noqa: S311 -- not a secret
            Content.ZERO: memoryview(bytes(block_bytes)),
        }

    def scene(self, region: Region, model: Observation | None = None) -> _Scene:
        """Return what a step on `region` acts on; `model` is what it did in the run that is followed."""
        return _Scene(self, region, model)

    def fill(self, plans: Sequence[RegionPlan]) -> None:
        """Write what is to be in each region at the beginning."""
        for plan, region in zip(plans, self._regions, strict=True):
            if plan.content is not Content.UNTOUCHED:
                self.scene(region).write(region.span, plan.content)

    def settle(self) -> None:
        """Let all I/O end."""
        self.kernel.settle(self._regions[0], SETTLE_TIMEOUT_NS)

    def warm_up(self) -> None:
        """Have the calling thread fault in the stack and the heap that steps use, on memory of its own."""
        region = self.kernel.map(BLOCK_PAGES * self.kernel.page_bytes)
        scene = self.scene(region)
        scene.write(region.span, Content.NOISE)
        self.kernel.advise(region, region.span, Advice.WILLNEED)
        self.kernel.populate(region, region.span)
        with scene.counting():
            for page in region.span:
                self.kernel.touch(region, Span(page, page + 1))
        self.kernel.unmap(region)

    def feed(self, slots_after: Sequence[int], plan_slots: PlanSlots) -> None:
        """Have pages get the slots that they are to have after the next step."""
        start = 0
        for region in self._regions:
            plan_slots(region, slots_after[start : start + region.pages])
            start += region.pages

    def observe(self, step: Step, region: Region, act: _Act, model: Observation | None) -> Observation:
        """Have `step` done and return what came of it."""
        kernel, scene, errno = self.kernel, self.scene(region, model), ""
        before = kernel.swap_counts()
        gc.disable()
        try:
            act(lambda: _perform(step, scene))
        except SamplecacheError as error:
            name = errno_name(error)
            if name is None:
                raise
            errno = name
        finally:
            gc.enable()
        if step.settle:
            self.settle()
        swap = kernel.swap_counts() - before
        entries = [kernel.page_entries(each, each.span) for each in self._regions]
        self._check_areas(entries)
        return Observation(
            faults=scene.faults,
            swap=swap,
            in_core=b"".join(kernel.mincore(each, each.span) for each in self._regions),
            present=b"".join(((each & ENTRY_PRESENT) != 0).tobytes() for each in entries),
            swapped=b"".join(((each & ENTRY_SWAPPED) != 0).tobytes() for each in entries),
            slots=tuple(slot for each in entries for slot in slots(each)),
            locked_bytes=kernel.locked_bytes() - self._locked_before_bytes,
            errno=errno,
            time_ns=scene.time_ns,
            evicted=tuple(scene.rounds),
        )

    def _check_areas(self, entries: Sequence[npt.NDArray[np.uint64]]) -> None:
        """See that all slots are of one area: a CPU goes on with the one it has begun, whatever their priorities."""
        for each in entries:
            self._areas |= areas(each)
        if len(self._areas) > 1:
            raise StateError(
                "Pages went to more than one swap area, so that their slots say nothing",
                remedy="Take other swap off (swapoff) while traces run",
            )


def _perform(step: Step, scene: _Scene) -> None:
    _fault_in_heap()
    step.perform(scene)


def _fault_in_heap() -> None:
    """Have the interpreter fault in the memory that objects come from while the step is being counted.

    What is taken here and given back is found again before memory that was never used.
    """
    numbers = list(range(1 << 20, (1 << 20) + HEAP_BYTES // 32))
    objects = [bytes(size) for size in range(1, 480, 16) for _ in range(HEAP_BYTES // (size + 48))]
    del numbers, objects


class _Scene:
    """What one step acts on; see :class:`samplecache.lab.tracing.steps.Scene`."""

    def __init__(self, stage: _Stage, region: Region, model: Observation | None) -> None:
        self.kernel = stage.kernel
        self.region = region
        self.rounds: list[Round] = []
        self.faults = FaultCounts()
        self.time_ns = 0
        self._stage = stage
        self._clock = stage.clock
        self._model = model

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """See :meth:`.steps.Scene.counting`."""
        kernel, clock = self.kernel, self._clock
        start_ns, before = clock.now_ns(), kernel.thread_faults()
        try:
            yield
        finally:
            self.faults += kernel.thread_faults() - before
            self.time_ns += clock.now_ns() - start_ns

    def write(self, span: Span, content: Content) -> None:
        """See :meth:`.steps.Scene.write`."""
        block, page_bytes = self._stage.blocks[content], self.kernel.page_bytes
        with self.counting():
            for chunk in span.chunks(BLOCK_PAGES):
                self.kernel.write(self.region, chunk.start * page_bytes, block[: len(chunk) * page_bytes])

    def sleep(self, duration_ns: int) -> None:
        """See :meth:`.steps.Scene.sleep`."""
        self._clock.sleep_until(self._clock.now_ns() + duration_ns)

    def wait_in_core(self, span: Span, timeout_ns: int) -> None:
        """See :meth:`.steps.Scene.wait_in_core`."""
        deadline_ns = self._clock.now_ns() + timeout_ns
        for chunk in span.chunks(BLOCK_PAGES):
            while not self.kernel.in_core(self.region, chunk):
                if self._clock.now_ns() >= deadline_ns:
                    raise UnavailableError(
                        f"Pages [{chunk.start}, {chunk.stop}) did not come in within {timeout_ns // NS_PER_MS} ms",
                        remedy="Wait longer, or ask for them before",
                        errno="ETIMEDOUT",
                    )
                self.sleep(POLL_NS)

    def evict(self, span: Span, first_order: Sequence[int]) -> None:
        """See :meth:`.steps.Scene.evict`."""
        for rounds in range(EVICT_ROUNDS):
            if self._model is not None and rounds < len(self._model.evicted):
                this = self._model.evicted[rounds]
            elif rounds == 0 and first_order:
                this = tuple((Push.PAGEOUT, Span(page, page + 1)) for page in first_order)
            else:
                this = tuple(self._next_round(span))
            if not this:
                return
            self.rounds.append(this)
            with self.counting():
                for push, pages in this:
                    if push is Push.POPULATE:
                        self.kernel.populate(self.region, pages)
                    else:
                        self.kernel.advise(self.region, pages, Advice.PAGEOUT)
            self._stage.settle()
        raise UnavailableError(
            f"Pages of [{span.start}, {span.stop}) stay in RAM", remedy="Give the machine more swap, and try again"
        )

    def _next_round(self, span: Span) -> Iterator[tuple[Push, Span]]:
        """Yield what has to be done about the pages still in RAM; nothing if none is."""
        for chunk in span.chunks(BLOCK_PAGES):
            residency = self.kernel.residency(self.region, chunk)
            for pages in residency.spans_in(Tier.SWAP_CACHE):
                yield Push.POPULATE, pages
            for pages in residency.spans_in(Tier.SWAP_CACHE, Tier.MAPPED):
                yield Push.PAGEOUT, pages
