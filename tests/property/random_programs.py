"""Random programs over the trace runner, for Hypothesis: whatever is drawn is a valid program, and shrinks to one.

Left out is what is a matter of time on the running kernel:

- Steps follow each other only once all I/O is over, but for reads that WILLNEED began: a touch, a write, a populate and
  a lock may come upon those. They wait, which changes no count but the caller's own split into major and minor.
- So nothing comes upon a write. A page that is being written is marked with the very bit that marks pages read ahead
  (PG_reclaim is PG_readahead), and a fault then takes it for a hit; nor are slots given back meanwhile.
- Only pages that were asked for are waited for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from samplecache.kernel.port import Span
from samplecache.lab.tracing.program import Program, RegionPlan
from samplecache.lab.tracing.steps import (
    Cold,
    Content,
    Evict,
    Lock,
    Pageout,
    Populate,
    Sleep,
    Step,
    Touch,
    TouchRandom,
    TouchReverse,
    TouchStride,
    Unlock,
    Unmap,
    Wait,
    Willneed,
    Write,
)

MOST_PAGES = 1500
MOST_REGIONS = 3
MOST_STEPS = 12
THREADS = ("main", "second", "third")
KINDS = (
    *("touch", "reverse", "stride", "random") * 2,
    *("willneed", "prefetch", "rush", "populate"),
    *("lock", "unlock", "pageout", "cold", "evict", "shuffle", "evict"),
    *("write", "zero", "unmap", "sleep"),
)

_pages = st.one_of(
    st.integers(1, 40), st.integers(1, MOST_PAGES), st.sampled_from([511, 512, 513, 1024, 1025, MOST_PAGES])
)
_contents = st.sampled_from([*[Content.NOISE] * 8, Content.ZERO, Content.UNTOUCHED])


@dataclass(frozen=True)
class Wish:
    """A step before it is known what memory there is: it gets the nearest that there is."""

    kind: str
    region: int
    whole: bool
    start: int
    length: int
    thread: str
    number: int


_wishes = st.builds(
    Wish,
    kind=st.sampled_from(KINDS),
    region=st.integers(0, MOST_REGIONS - 1),
    whole=st.booleans(),
    start=st.integers(0, MOST_PAGES - 1),
    length=st.one_of(st.integers(1, 20), st.integers(1, MOST_PAGES)),
    thread=st.sampled_from(THREADS),
    number=st.integers(0, 99),
)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Any program of a few regions and steps that has a certain outcome."""
    plans = [
        RegionPlan(name=f"r{index}", pages=pages, content=content)
        for index, (pages, content) in enumerate(draw(st.lists(st.tuples(_pages, _contents), min_size=1, max_size=3)))
    ]
    warm = draw(st.integers(0, 4)) == 4
    steps: list[Step] = [] if warm else [Evict(region=plan.name) for plan in plans]
    steps += _Memory(plans).steps(draw(st.lists(_wishes, min_size=2, max_size=MOST_STEPS)))
    return Program(title="random", regions=tuple(plans), steps=tuple(_calmed(steps) or [Sleep(region="r0", ms=1)]))


class _Memory:
    """The regions of a program, as far as its steps have come."""

    def __init__(self, plans: Sequence[RegionPlan]) -> None:
        self._plans = plans
        self._holes: list[set[int]] = [set() for _ in plans]
        self._locked: list[set[int]] = [set() for _ in plans]

    def steps(self, wishes: Sequence[Wish]) -> list[Step]:
        """Return what can be done of `wishes`."""
        return [step for wish in wishes for step in self._granted(wish)]

    def _granted(self, wish: Wish) -> Iterator[Step]:
        index = min(wish.region, len(self._plans) - 1)
        plan, holes, locked = self._plans[index], self._holes[index], self._locked[index]
        start = 0 if wish.whole else wish.start % plan.pages
        span = Span(start, plan.pages if wish.whole else min(start + wish.length, plan.pages))
        solid = Span(start, min((page for page in holes if page in range(start, span.stop)), default=span.stop))
        region, thread, number = plan.name, wish.thread, wish.number
        hole = "ENOMEM" if solid != span else ""
        held = "EINVAL" if locked.intersection(span) else ""
        match wish.kind:
            case "willneed" | "prefetch" | "rush":
                yield Willneed(region=region, thread=thread, span=span, errno=hole, settle=wish.kind != "rush")
                if wish.kind == "prefetch" and not hole:
                    yield Wait(region=region, thread=thread, span=span)
            case "populate":
                yield Populate(region=region, thread=thread, span=span, errno=hole)
            case "pageout":
                yield Pageout(region=region, thread=thread, span=span, errno=held or hole)
            case "cold":
                yield Cold(region=region, thread=thread, span=span, errno=held or hole)
            case "lock":
                yield Lock(region=region, thread=thread, span=span, errno=hole)
                locked.update(() if hole else span)
            case "unlock":
                yield Unlock(region=region, thread=thread, span=span, errno=hole)
                locked.difference_update(solid)
            case "unmap":
                yield Unmap(region=region, thread=thread, span=span)
                holes.update(span)
                locked.difference_update(span)
            case "sleep":
                yield Sleep(region=region, thread=thread, ms=1 + number % 3)
            case "shuffle" if solid and not locked.intersection(solid):
                yield Evict(region=region, thread=thread, span=solid, shuffle_seed=number)
            case _ if solid:
                yield _using(wish.kind, region, thread, solid, number)


def _using(kind: str, region: str, thread: str, span: Span, number: int) -> Step:
    """Return a step that uses memory, and so must not meet a hole."""
    match kind:
        case "touch":
            return Touch(region=region, thread=thread, span=span)
        case "reverse":
            return TouchReverse(region=region, thread=thread, span=span)
        case "stride":
            return TouchStride(region=region, thread=thread, span=span, stride=1 + number % 17)
        case "random":
            count = 1 + number * len(span) // 100
            return TouchRandom(region=region, thread=thread, span=span, seed=number, count=count)
        case "evict" | "shuffle":
            return Evict(region=region, thread=thread, span=span)
        case "write":
            return Write(region=region, thread=thread, span=span)
        case _:
            return Write(region=region, thread=thread, span=span, content=Content.ZERO)


def _calmed(steps: Sequence[Step]) -> list[Step]:
    """Let reads go on only where what comes next copes with that."""
    coping = (Touch, TouchReverse, TouchStride, TouchRandom, Write, Populate, Lock)
    return [
        step if step.settle or isinstance(after, coping) else dataclasses.replace(step, settle=True)
        for step, after in zip(steps, [*steps[1:], None], strict=True)
    ]
