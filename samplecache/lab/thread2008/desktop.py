"""A desktop of 2008: programs with fragmented heaps and moving working sets, short-lived jobs, a scan of all files.

What a program does is drawn from its own seed alone and never from the time, so that all machines see the same
accesses in the same order; only when they happen differs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Final

from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.lab.loads import Stage
from samplecache.lab.thread2008.chance import Chance
from samplecache.lab.thread2008.heap import Heap
from samplecache.simulation.machine import Machine
from samplecache.simulation.memory import Steps
from samplecache.simulation.pages import SimulatedRegion

PAGES_PER_MIB: Final = 256
OBJECT_PAGES: Final = (1, 2, 4, 8, 16, 32)
"""4 KiB to 128 KiB, beyond which malloc() maps; drawn with equal chances, so that small ones are most."""
FILLED: Final = 0.85
"""How much of a heap is in use."""
STRAY: Final = 0.1
"""Accesses outside the topic at hand: menus, timers, garbage collection."""
CODE_RUN_PAGES: Final = 8
CODE_RUNS: Final = 3
"""How much of its code and libraries an action runs through, in runs of pages."""
CLOSED: Final = 0.3
"""How often a topic that is left is closed, and another opened in its place."""


@dataclass(frozen=True, slots=True)
class Program:
    """What is known of a program.

    Attributes
    ----------
    name : str
        Its name.
    heap_mib, code_mib : int
        Length of its heap, and of the files that it maps, in MiB.
    topics : int
        Tabs, folders, documents: its objects belong to one each.
    dwell : int
        Actions until another topic is turned to.
    pause_ns : int
        From one action to the next, if the first is over by then, in nanoseconds.
    objects : int
        Objects that an action uses.
    write_share, churn_share : float
        Of these, how many are written to, and how many are freed and others allocated in their place.
    """

    name: str
    heap_mib: int
    code_mib: int
    topics: int
    dwell: int
    pause_ns: int
    objects: int
    write_share: float
    churn_share: float


PROGRAMS: Final = (
    Program("X server", 18, 6, 6, 40, 500 * NS_PER_MS, 4, 0.5, 0.02),
    Program("browser", 80, 18, 12, 30, NS_PER_S, 14, 0.35, 0.15),
    Program("mail", 34, 10, 8, 20, 2 * NS_PER_S, 10, 0.2, 0.1),
    Program("editor", 38, 14, 5, 60, NS_PER_S, 6, 0.4, 0.1),
    Program("panel and daemons", 26, 12, 10, 4, 5 * NS_PER_S, 8, 0.3, 0.05),
)
"""Sizes and habits are assumed."""


@dataclass(slots=True)
class Response:
    """What became of a program's actions, from the beginning on.

    Attributes
    ----------
    times_ns : list of int
        How long each took, in their order, in nanoseconds.
    major_faults : int
        Major faults of the program's thread.
    """

    times_ns: list[int] = field(default_factory=list)
    major_faults: int = 0


class Running:
    """A program at work. For one run.

    Parameters
    ----------
    program : Program
        Which.
    chance : Chance
        What it draws from.
    stop_ns : int
        When it ends, in nanoseconds from the beginning.
    start_ns : int
        When it is started, in nanoseconds from the start of the warm-up.
    tidy : bool
        Whether its heap holds topic beside topic at first, rather than as years of malloc() and free() would have it.
    """

    def __init__(self, program: Program, chance: Chance, stop_ns: int, start_ns: int, *, tidy: bool = False) -> None:
        self.program = program
        self.response = Response()
        self._chance = chance
        self._stop_ns = stop_ns
        self._start_ns = start_ns
        self._tidy = tidy
        self._heap = Heap(program.heap_mib * PAGES_PER_MIB)
        self._objects: list[list[tuple[int, int]]] = [[] for _ in range(program.topics)]
        self._machine: Machine
        self._thread: int
        self._memory: SimulatedRegion
        self._code: SimulatedRegion

    def run(self, stage: Stage) -> Steps:
        """Fill the heap, then act until the end."""
        machine, clock, program = stage.kernel.machine, stage.clock, self.program
        self._machine, self._thread = machine, stage.thread
        yield clock.now_ns() + self._start_ns
        self._memory = machine.map(program.heap_mib * PAGES_PER_MIB)
        self._code = machine.map_file(program.code_mib * PAGES_PER_MIB)
        for topic in self._first_topics():
            yield from self._create(topic)
        stop_ns = stage.began_ns + self._stop_ns
        topic = actions = major_before = 0
        while (began_ns := clock.now_ns()) < stop_ns:
            if began_ns < stage.began_ns:
                major_before = machine.thread_faults(stage.thread)[1]
            actions += 1
            if actions % program.dwell == 0:
                topic = yield from self._leave(topic)
            yield from self._act(topic)
            if began_ns >= stage.began_ns:
                self.response.times_ns.append(clock.now_ns() - began_ns)
                self.response.major_faults = machine.thread_faults(stage.thread)[1] - major_before
            yield max(clock.now_ns(), began_ns + program.pause_ns)

    def _first_topics(self) -> Iterator[int]:
        """Yield the topic of the next object, until the heap is as full as it is to be."""
        topics, heap = self.program.topics, self._heap
        wanted_pages = int(heap.pages * FILLED)
        while (used_pages := heap.pages - heap.free_pages) < wanted_pages:
            yield used_pages * topics // wanted_pages if self._tidy else self._chance.below(topics)

    def _create(self, topic: int) -> Steps:
        """Allocate an object for `topic` and write it; nothing if no gap of the heap is long enough."""
        pages = self._chance.choice(OBJECT_PAGES)
        start = self._heap.allocate(pages)
        if start is not None:
            self._objects[topic].append((start, pages))
            yield from self._machine.write(self._thread, self._memory, start, start + pages)

    def _discard(self, topic: int, index: int) -> None:
        objects = self._objects[topic]
        objects[index], objects[-1] = objects[-1], objects[index]
        self._heap.free(*objects.pop())

    def _leave(self, topic: int) -> Generator[int, None, int]:
        """Return the topic to turn to; close the one at hand, perhaps, and open as large a one in its place."""
        if self._chance.random() < CLOSED:
            count = len(self._objects[topic])
            for index in reversed(range(count)):
                self._discard(topic, index)
            for _ in range(count):
                yield from self._create(topic)
        return self._chance.below(self.program.topics)

    def _act(self, topic: int) -> Steps:
        """Use some objects, and some code to do it."""
        machine, thread, chance, program = self._machine, self._thread, self._chance, self.program
        for _ in range(CODE_RUNS):
            start = chance.below(self._code.pages - CODE_RUN_PAGES + 1)
            yield from machine.touch(thread, self._code, start, start + CODE_RUN_PAGES)
        for _ in range(program.objects):
            used = chance.below(program.topics) if chance.random() < STRAY else topic
            objects = self._objects[used]
            if not objects:
                continue
            index, habit = chance.below(len(objects)), chance.random()
            start, pages = objects[index]
            if habit < program.churn_share:
                self._discard(used, index)
                yield from self._create(used)
            elif habit < program.churn_share + program.write_share:
                yield from machine.write(thread, self._memory, start, start + pages)
            else:
                yield from machine.touch(thread, self._memory, start, start + pages)


class Uptime:
    """Days of it: programs that ran side by side long ago, of which some have ended and the others never stir again.

    Their pages are written in turns and then all pushed out, as nothing else runs yet. What the ended ones give back
    are gaps all over the swap area. For one run.

    Parameters
    ----------
    chance : Chance
        What the turns are drawn from.
    pages : int
        How much they had in swap together.
    scattered : bool
        Whether they wrote in turns of some pages; or the ones that last before all the others, which leaves one gap.
    """

    LASTING: Final = 0.35
    """What part of their pages is of those that last."""
    TURN_PAGES: Final = (1, 2, 4, 8, 16)

    def __init__(self, chance: Chance, pages: int, *, scattered: bool) -> None:
        self._chance = chance
        self._pages = pages
        self._scattered = scattered

    def run(self, stage: Stage) -> Steps:
        """Write, have all of memory taken away and given back, and end those that end."""
        machine, thread = stage.kernel.machine, stage.thread
        lasting, ended = (
            machine.map(int(self._pages * self.LASTING)),
            machine.map(self._pages - int(self._pages * self.LASTING)),
        )
        left = {lasting: range(lasting.pages), ended: range(ended.pages)}
        while any(left.values()):
            pages = self._chance.choice(self.TURN_PAGES)
            region = lasting if self._chance.random() < self.LASTING or not self._scattered else ended
            if not left[region]:
                region = ended if region is lasting else lasting
            span, left[region] = left[region][:pages], left[region][pages:]
            yield from machine.write(thread, region, span.start, span.stop)
        memory_pages = machine.memory_pages
        for limit_pages in (0, memory_pages):
            yield from machine.resize_memory(thread, limit_pages)
        machine.unmap(ended)


class Jobs:
    """Programs that come and go: each writes its memory, lives for a while, and gives it all back. For one run.

    Parameters
    ----------
    chance : Chance
        What their sizes are drawn from.
    stop_ns : int
        When the last one ends, in nanoseconds from the beginning.
    share : float
        How much of their size they have.
    """

    EVERY_NS: Final = 15 * NS_PER_S
    LIVING: Final = 2
    MIB: Final = (4, 6, 8, 12, 16)

    def __init__(self, chance: Chance, stop_ns: int, share: float = 1.0) -> None:
        self._chance = chance
        self._stop_ns = stop_ns
        self._share = share

    def run(self, stage: Stage) -> Steps:
        """Start one job after the other."""
        machine, clock = stage.kernel.machine, stage.clock
        living: deque[SimulatedRegion] = deque()
        while (began_ns := clock.now_ns()) < stage.began_ns + self._stop_ns:
            region = machine.map(int(self._chance.choice(self.MIB) * self._share * PAGES_PER_MIB))
            living.append(region)
            yield from machine.write(stage.thread, region, 0, region.pages)
            if len(living) > self.LIVING:
                machine.unmap(living.popleft())
            yield max(clock.now_ns(), began_ns + self.EVERY_NS)


@dataclass(frozen=True, slots=True)
class Scan:
    """``updatedb``: reads as many files as there are, once.

    Attributes
    ----------
    start_ns : int
        When, in nanoseconds from the beginning.
    mib : int
        How much it reads, in MiB.
    bytes_per_s : int
        How fast, if the disk keeps up.
    """

    start_ns: int
    mib: int = 96
    bytes_per_s: int = 6_000_000

    def run(self, stage: Stage) -> Steps:
        """Read."""
        machine, clock = stage.kernel.machine, stage.clock
        yield stage.began_ns + self.start_ns
        files = machine.map_file(self.mib * PAGES_PER_MIB)
        step_ns = PAGES_PER_MIB * stage.kernel.page_bytes * NS_PER_S // self.bytes_per_s
        for start in range(0, files.pages, PAGES_PER_MIB):
            began_ns = clock.now_ns()
            yield from machine.touch(stage.thread, files, start, start + PAGES_PER_MIB)
            yield max(clock.now_ns(), began_ns + step_ns)
