"""What a program may do, a class for each kind of step.

A step acts through the kernel port, in the same way on every kernel. It knows the name it has in files (`do`), the
pages it is about, and how closely two kernels can be expected to agree about it.
"""

from __future__ import annotations

import abc
import enum
import errno
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, Protocol

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt
from pydantic_core import PydanticCustomError

from samplecache.clock import NS_PER_MS
from samplecache.kernel.inspection import InspectedKernel
from samplecache.kernel.port import Advice, Region, Span
from samplecache.simulation.chance import shuffled

WAIT_TIMEOUT_MS: Final = 20_000
LONGEST_SLEEP_MS: Final = 60_000
ERRNO_NAMES: Final = frozenset(errno.errorcode.values())


class Content(enum.Enum):
    """What is in the pages of a region, or what is written there."""

    NOISE = "noise"
    """Bytes that do not compress."""
    ZERO = "zero"
    UNTOUCHED = "untouched"
    """Never written."""


class Agreement(enum.Enum):
    """How closely two kernels can be expected to agree about a step's counts."""

    EXACT = "exactly"
    RANDOM = "within 2 %"
    WAITS_MAJOR = "exactly, but that waits for reads may be major faults of the caller's besides its misses"
    """Whether a read is over when the caller comes to its page is a matter of time."""
    WAITS_MINOR = "exactly, but that misses that had to wait are minor faults of the caller's"
    """Likewise."""


class Scene(Protocol):
    """Where a step acts."""

    @property
    def kernel(self) -> InspectedKernel:
        """The kernel."""
        ...

    @property
    def region(self) -> Region:
        """The step's region."""
        ...

    def counting(self) -> AbstractContextManager[None]:
        """Count the block's time, and the faults that the calling thread takes in it, for the step."""
        ...

    def write(self, span: Span, content: Content) -> None:
        """Write every page of `span`. Counted."""
        ...

    def sleep(self, duration_ns: int) -> None:
        """Sleep on the kernel's clock, for `duration_ns`."""
        ...

    def wait_in_core(self, span: Span, timeout_ns: int) -> None:
        """Wait until every written page of `span` is in RAM."""
        ...

    def evict(self, span: Span, first_order: Sequence[int]) -> None:
        """Get every unlocked page of `span` out of RAM, in rounds. The first pages `first_order` out one by one.

        Its calls are counted, but not the looks in between.
        """
        ...


def _to_span(value: Any) -> Any:
    """Turn the ``[START, STOP]`` of a file into a span."""
    if value is None or isinstance(value, Span):
        return value
    if isinstance(value, list) and len(value) == 2 and all(type(end) is int for end in value):
        start, stop = value
        if 0 <= start < stop:
            return Span(start, stop)
    raise PydanticCustomError(
        "span", "is no span", {"remedy": "Give [START, STOP], two whole numbers of pages, 0 <= START < STOP"}
    )


def _written(content: Content) -> Content:
    if content is Content.UNTOUCHED:
        raise PydanticCustomError("content", "is nothing to write", {"remedy": "Write noise or zero"})
    return content


SpanField = Annotated[Span | None, BeforeValidator(_to_span)]


@dataclass(frozen=True, kw_only=True)
class Step(abc.ABC):
    """One thing that one thread does.

    Attributes
    ----------
    region : str
        The name of its region; may be left out where the program has only one.
    thread : str
        The name of its thread.
    errno : str
        The error number that it is expected to end with, by name; empty for none.
    settle : bool
        Whether to let all I/O end before looking at what the step did. Without it, where pages are is a matter of time
        and is not compared.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    touches: ClassVar[bool] = False
    """Whether it uses the memory itself: in a hole, that would be a segmentation fault."""
    can_fail: ClassVar[bool] = False
    """Whether there is an error number that it can end with."""
    agreement: ClassVar[Agreement] = Agreement.EXACT

    region: str = ""
    thread: Annotated[str, Field(min_length=1, max_length=64)] = "main"
    errno: str = ""
    settle: StrictBool = True

    @property
    def pages(self) -> Span | None:
        """The pages it is about; None for all of its region."""
        return None

    @abc.abstractmethod
    def perform(self, scene: Scene) -> None:
        """Do it, on the calling thread. May fault and block, as the operation does."""

    def _in(self, scene: Scene) -> Span:
        return scene.region.span if self.pages is None else self.pages


@dataclass(frozen=True, kw_only=True)
class _SpanStep(Step):
    """A step on some pages of its region: ``span = [START, STOP]``, all by default."""

    span: SpanField = None

    @property
    def pages(self) -> Span | None:
        """See :attr:`Step.pages`."""
        return self.span


@dataclass(frozen=True, kw_only=True)
class Write(_SpanStep):
    """Store to every page, ascending."""

    do: Literal["write"] = "write"
    content: Annotated[Content, AfterValidator(_written)] = Content.NOISE
    touches: ClassVar[bool] = True

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        scene.write(self._in(scene), self.content)


@dataclass(frozen=True, kw_only=True)
class Touch(_SpanStep):
    """Read one byte of every page, ascending."""

    do: Literal["touch"] = "touch"
    touches: ClassVar[bool] = True

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        with scene.counting():
            scene.kernel.touch(scene.region, self._in(scene))


@dataclass(frozen=True, kw_only=True)
class _Touching(_SpanStep):
    """Read one byte of each of some pages, in an order."""

    touches: ClassVar[bool] = True

    @abc.abstractmethod
    def order(self, span: Span) -> Sequence[int]:
        """Return the pages of `span` in the order of the touches."""

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        kernel, region = scene.kernel, scene.region
        pages = self.order(self._in(scene))
        with scene.counting():
            for page in pages:
                kernel.touch(region, Span(page, page + 1))


@dataclass(frozen=True, kw_only=True)
class TouchReverse(_Touching):
    """Read every page, descending."""

    do: Literal["touch-reverse"] = "touch-reverse"

    def order(self, span: Span) -> Sequence[int]:
        """See :meth:`_Touching.order`."""
        return range(span.stop - 1, span.start - 1, -1)


@dataclass(frozen=True, kw_only=True)
class TouchStride(_Touching):
    """Read every `stride`-th page, ascending, from the span's first on."""

    do: Literal["touch-stride"] = "touch-stride"
    stride: Annotated[StrictInt, Field(ge=1)]

    def order(self, span: Span) -> Sequence[int]:
        """See :meth:`_Touching.order`."""
        return range(span.start, span.stop, self.stride)


@dataclass(frozen=True, kw_only=True)
class TouchRandom(_Touching):
    """Read `count` pages, no page twice, drawn by `seed`; the whole span shuffled if there is no `count`."""

    do: Literal["touch-random"] = "touch-random"
    seed: Annotated[StrictInt, Field(ge=0)]
    count: Annotated[StrictInt | None, Field(ge=1)] = None
    agreement: ClassVar[Agreement] = Agreement.RANDOM

    def order(self, span: Span) -> Sequence[int]:
        """See :meth:`_Touching.order`."""
        return _drawn(span, self.seed, self.count)


@dataclass(frozen=True, kw_only=True)
class Willneed(_SpanStep):
    """``MADV_WILLNEED``."""

    do: Literal["willneed"] = "willneed"
    can_fail: ClassVar[bool] = True

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        with scene.counting():
            scene.kernel.advise(scene.region, self._in(scene), Advice.WILLNEED)


@dataclass(frozen=True, kw_only=True)
class Wait(_SpanStep):
    """Wait until every written page is in RAM, as mincore says."""

    do: Literal["wait"] = "wait"
    can_fail: ClassVar[bool] = True
    timeout_ms: Annotated[StrictInt, Field(ge=1, le=LONGEST_SLEEP_MS)] = WAIT_TIMEOUT_MS

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        with scene.counting():
            scene.wait_in_core(self._in(scene), self.timeout_ms * NS_PER_MS)


@dataclass(frozen=True, kw_only=True)
class Populate(_SpanStep):
    """``MADV_POPULATE_READ``."""

    do: Literal["populate"] = "populate"
    can_fail: ClassVar[bool] = True
    agreement: ClassVar[Agreement] = Agreement.WAITS_MAJOR

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        with scene.counting():
            scene.kernel.populate(scene.region, self._in(scene))


@dataclass(frozen=True, kw_only=True)
class Lock(_SpanStep):
    """``mlock``."""

    do: Literal["lock"] = "lock"
    can_fail: ClassVar[bool] = True
    agreement: ClassVar[Agreement] = Agreement.WAITS_MINOR

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        with scene.counting():
            scene.kernel.lock(scene.region, self._in(scene))


@dataclass(frozen=True, kw_only=True)
class Unlock(_SpanStep):
    """``munlock``."""

    do: Literal["unlock"] = "unlock"
    can_fail: ClassVar[bool] = True

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        with scene.counting():
            scene.kernel.unlock(scene.region, self._in(scene))


@dataclass(frozen=True, kw_only=True)
class Pageout(_SpanStep):
    """``MADV_PAGEOUT``, once."""

    do: Literal["pageout"] = "pageout"
    can_fail: ClassVar[bool] = True

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        with scene.counting():
            scene.kernel.advise(scene.region, self._in(scene), Advice.PAGEOUT)


@dataclass(frozen=True, kw_only=True)
class Cold(_SpanStep):
    """``MADV_COLD``: what it does shows in which pages reclaim takes, later."""

    do: Literal["cold"] = "cold"
    can_fail: ClassVar[bool] = True

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        with scene.counting():
            scene.kernel.advise(scene.region, self._in(scene), Advice.COLD)


@dataclass(frozen=True, kw_only=True)
class Evict(_SpanStep):
    """Get every unlocked page out of RAM: page out, let writing end, populate, page out again, in rounds.

    With `shuffle_seed` the first round pages out one by one in an order drawn by it, so that slots are in that order.
    """

    do: Literal["evict"] = "evict"
    shuffle_seed: Annotated[StrictInt | None, Field(ge=0)] = None

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        span = self._in(scene)
        scene.evict(span, () if self.shuffle_seed is None else _drawn(span, self.shuffle_seed))


@dataclass(frozen=True, kw_only=True)
class Unmap(_SpanStep):
    """Unmap pages: a hole."""

    do: Literal["unmap"] = "unmap"

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        with scene.counting():
            scene.kernel.punch(scene.region, self._in(scene))


@dataclass(frozen=True, kw_only=True)
class Sleep(Step):
    """Let time pass."""

    do: Literal["sleep"] = "sleep"
    ms: Annotated[StrictInt, Field(ge=1, le=LONGEST_SLEEP_MS)]

    def perform(self, scene: Scene) -> None:
        """See :meth:`Step.perform`."""
        with scene.counting():
            scene.sleep(self.ms * NS_PER_MS)


def _drawn(span: Span, seed: int, count: int | None = None) -> list[int]:
    pages = range(span.start, span.stop)
    return shuffled(pages, seed)[: len(pages) if count is None else count]


AnyStep = Annotated[
    Write
    | Touch
    | TouchReverse
    | TouchStride
    | TouchRandom
    | Willneed
    | Wait
    | Populate
    | Lock
    | Unlock
    | Pageout
    | Cold
    | Evict
    | Unmap
    | Sleep,
    Field(discriminator="do"),
]
