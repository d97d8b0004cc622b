"""A program: regions of memory, and steps that threads perform on them one after the other."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import ConfigDict, Field, StrictInt

from samplecache.errors import InvalidError
from samplecache.kernel.port import Span
from samplecache.lab.toml_mistakes import suggestion
from samplecache.lab.tracing.steps import ERRNO_NAMES, AnyStep, Content, Evict, Step, TouchRandom, Unmap

MOST_PAGES: Final = 1 << 18
"""Of all regions together: 1 GiB with pages of 4 KiB."""
MOST_STEPS: Final = 10_000
MOST_REGIONS: Final = 64
MOST_THREADS: Final = 64
MOST_PAGE_CLUSTER: Final = 31
"""``page_cluster_max`` in mm/swap.c."""
PageCluster = Annotated[StrictInt, Field(ge=0, le=MOST_PAGE_CLUSTER)]
MOST_RECORDED: Final = 1 << 24
"""Pages times steps: each step records every page, in some 60 bytes, so that this is 1 GiB for each run."""


class Mode(enum.Enum):
    """What the swap is on, and so how the kernel reads ahead."""

    VMA = "vma"
    """A disk that does not turn: neighbours in virtual memory."""
    CLUSTER = "cluster"
    """A disk that turns: neighbours on the device."""
    ZRAM = "zram"
    """Compressed memory, which is read synchronously: no neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionPlan:
    """Memory that the program's first thread maps and fills before the first step.

    Attributes
    ----------
    name : str
        What steps call it.
    pages : int
        Its length, in pages.
    content : Content
        What it is filled with.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=64)]
    pages: Annotated[StrictInt, Field(ge=1, le=MOST_PAGES)]
    content: Content = Content.NOISE


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a program that makes no sense.

    Attributes
    ----------
    where : tuple
        The table, its index and the key: ``("step", 3, "span")``.
    what, remedy : str
        What is wrong and what to do about it.
    """

    where: tuple[str | int, ...]
    what: str
    remedy: str


class ProgramError(InvalidError):
    """A program contradicts itself.

    Attributes
    ----------
    problem : Problem
        What is wrong with it.
    """

    reason = "INVALID_PROGRAM"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what, remedy=problem.remedy)
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Regions and steps.

    Attributes
    ----------
    title : str
        What it is, in a few words.
    about : str
        What it shows.
    regions : tuple of RegionPlan
        Its memory.
    steps : tuple of Step
        What is done, in this order, each step by the thread that it names.
    modes : tuple of Mode
        Where it shows what it is to show: a default for who runs it.
    page_clusters : tuple of int
        With which ``vm.page-cluster``: likewise.

    Raises
    ------
    ProgramError
        A step names no region, reaches past its region, uses memory that it has unmapped, or expects an unknown error.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    title: Annotated[str, Field(min_length=1)]
    about: str = ""
    regions: Annotated[tuple[RegionPlan, ...], Field(min_length=1, max_length=MOST_REGIONS)]
    steps: Annotated[tuple[AnyStep, ...], Field(min_length=1, max_length=MOST_STEPS)]
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = (Mode.VMA, Mode.CLUSTER)
    page_clusters: Annotated[
        tuple[Annotated[StrictInt, Field(ge=0, le=MOST_PAGE_CLUSTER)], ...], Field(min_length=1)
    ] = (3,)

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ProgramError(problem)

    @property
    def pages(self) -> int:
        """Pages of all regions."""
        return sum(region.pages for region in self.regions)

    @property
    def threads(self) -> list[str]:
        """The names of its threads, in the order of first appearance."""
        return list(dict.fromkeys(step.thread for step in self.steps))

    def region_of(self, step: Step) -> RegionPlan:
        """Return the region that `step` is about."""
        return next(region for region in self.regions if step.region in (region.name, ""))

    def span_of(self, step: Step) -> Span:
        """Return the pages that `step` is about."""
        return Span(0, self.region_of(step).pages) if step.pages is None else step.pages

    def check_size(self) -> None:
        """Raise if it is too large for a file's. A prelude (:meth:`after`) is not counted.

        Raises
        ------
        ProgramError
            It has too many pages or threads, or too many pages for its steps.
        """
        for problem in self._excesses():
            raise ProgramError(problem)

    def after(self, prelude: Program) -> Program:
        """Return a program that does `prelude` first, on memory of its own, which stays mapped."""
        return dataclasses.replace(
            self,
            regions=(*_named(prelude, "prelude"), *_named(self, "own")),
            steps=(*_renamed(prelude, "prelude"), *_renamed(self, "own")),
        )

    def _problems(self) -> Iterator[Problem]:
        names = [region.name for region in self.regions]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Problem(("region", index, "name"), f"Two regions are called {name!r}", "Rename one")
        for key, values in (("modes", self.modes), ("page_clusters", self.page_clusters)):
            if len(set(values)) < len(values):
                yield Problem((key,), f"{key} names one twice", "Name each once")
        holes = {region.name: bytearray(region.pages) for region in self.regions}
        for index, step in enumerate(self.steps):
            yield from self._step_problems(index, step, holes)

    def _excesses(self) -> Iterator[Problem]:
        pages, steps, threads = self.pages, len(self.steps), len(self.threads)
        if pages > MOST_PAGES:
            yield Problem(("region",), f"The regions have {pages} pages", f"Use at most {MOST_PAGES}")
        if threads > MOST_THREADS:
            yield Problem(("step",), f"The steps name {threads} threads", f"Use at most {MOST_THREADS}")
        if pages * steps > MOST_RECORDED:
            yield Problem(
                ("step",),
                f"{steps} steps on {pages} pages are too much to record",
                f"Use at most {MOST_RECORDED // pages} steps, or fewer pages",
            )

    def _step_problems(self, index: int, step: AnyStep, holes: dict[str, bytearray]) -> Iterator[Problem]:
        names = ", ".join(region.name for region in self.regions)
        if step.errno and not step.can_fail:
            yield Problem(("step", index, "errno"), f"{step.do} ends with no error", "Leave the errno out")
        if step.errno and step.errno not in ERRNO_NAMES:
            yield Problem(("step", index, "errno"), f"No error is called {step.errno!r}", "Name one, such as ENOMEM")
        if not step.region and len(self.regions) > 1:
            yield Problem(("step", index), "The step does not say which region it is about", f"Choose from {names}")
        if step.region and step.region not in holes:
            where = ("step", index, "region")
            yield Problem(where, f"No region is called {step.region!r}", suggestion(step.region, holes))
            return
        region = self.region_of(step)
        span, where = self.span_of(step), ("step", index, "span")
        if span.stop > region.pages:
            yield Problem(
                where,
                f"Pages [{span.start}, {span.stop}) reach past region {region.name!r} of {region.pages} pages",
                f"End the span at {region.pages} at the latest",
            )
            return
        if not span:
            yield Problem(where, "The span is empty", "Give START < STOP")
        if isinstance(step, TouchRandom) and (step.count or 0) > len(span):
            yield Problem(
                ("step", index, "count"),
                f"{step.count} different pages cannot be drawn from {len(span)}",
                "Lower the count, or leave it out for all pages",
            )
        hole = holes[region.name].find(1, span.start, span.stop)
        if (step.touches or isinstance(step, Evict)) and hole >= 0:
            yield Problem(
                where,
                f"Page {hole} of region {region.name!r} is unmapped by then: using it would end the process",
                "Leave it out of the span",
            )
        if isinstance(step, Unmap):
            holes[region.name][span.start : span.stop] = b"\1" * len(span)


def _named(program: Program, whose: str) -> Iterator[RegionPlan]:
    for region in program.regions:
        yield dataclasses.replace(region, name=f"{whose}/{region.name}")


def _renamed(program: Program, whose: str) -> Sequence[AnyStep]:
    return [dataclasses.replace(step, region=f"{whose}/{program.region_of(step).name}") for step in program.steps]
