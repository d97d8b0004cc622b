"""What ``auto`` means where no other plugin says: a strategy for each session, and why.

The first rule that applies decides. A rule's strategy is passed over where nobody registered it or where it would have
no effect here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from samplecache.strategy import Choice, ChoiceView, Operation, hookimpl

SHORT_NS: Final = 1_000_000_000
"""What sounds no longer is brought in as a whole: there is no time for a window to move."""

ROOM: Final = 4
"""What is brought in as a whole is to have room, in memory and in the time until it is due, so many times over: others
bring in, too, and cannot be served before what nobody may cut short.
"""

LOCK_SHARE: Final = 8
"""A session takes no more than one part in so many of what may still be locked."""

WHOLE_BYTES: Final = 8 << 20
"""More than that is not brought in as a whole, whatever there is: it may be stopped long before its end."""

_NEEDS: Final = {
    "willneed": (Operation.WILLNEED,),
    "window": (Operation.WILLNEED, Operation.POPULATE),
    "populate": (Operation.POPULATE,),
    "touch": (Operation.TOUCH,),
    "mlock": (Operation.LOCK,),
}


@dataclass(frozen=True, slots=True)
class _Case:
    """A sample to be played, and what there is."""

    view: ChoiceView

    @property
    def sample_bytes(self) -> int:
        return self.view.sample.sample_bytes

    @property
    def available_bytes(self) -> int | None:
        return self.view.memory.available_bytes

    @property
    def fits(self) -> bool:
        """Whether all of it can be in memory with nothing else swapped out for it."""
        return self.available_bytes is None or self.sample_bytes <= self.available_bytes

    @property
    def has_room(self) -> bool:
        """Whether it is small, and memory ample for it."""
        roomy = self.available_bytes is None or self.sample_bytes * ROOM <= self.available_bytes
        return roomy and self.sample_bytes <= WHOLE_BYTES

    @property
    def is_short(self) -> bool:
        return self.view.sample.pages * self.view.sample.page_ns <= SHORT_NS

    @property
    def may_lock(self) -> bool:
        return self.sample_bytes * LOCK_SHARE <= self.view.lock_budget_bytes

    @property
    def takes_ns(self) -> int | None:
        """How long the device needs for all of it, at a slow moment; None before anything was measured."""
        rate = self.view.page_in.bytes_per_s_low
        return None if not rate else self.sample_bytes * 1_000_000_000 // rate

    @property
    def comes_in_time(self) -> bool:
        """Whether all of it comes in before it is due although others want the device just then."""
        lead_ns, takes_ns = self.view.lead_ns, self.takes_ns
        return lead_ns is not None and takes_ns is not None and takes_ns * ROOM <= lead_ns

    def works(self, name: str) -> bool:
        """Return whether strategy `name` is there and has an effect here."""
        useful = self.view.capabilities.useful
        return name in self.view.names and all(map(useful, _NEEDS[name]))


def _rules(case: _Case) -> Iterator[tuple[bool, str, Callable[[], str]]]:
    """Yield conditions, strategies and reasons, in their order."""
    view = case.view
    size = _size(case.sample_bytes)
    room = "an unknown amount" if case.available_bytes is None else _size(case.available_bytes)
    yield (
        case.is_short and not case.has_room and case.may_lock,
        "mlock",
        lambda: (
            f"memory is short ({room} available); {size} can be locked, so nothing takes them back before they sound"
        ),
    )
    yield (
        not case.fits,
        "window",
        lambda: f"{size} do not fit into the {room} that are available: only what sounds next is brought in",
    )
    yield (
        view.capabilities.swap_synchronous and case.has_room,
        "populate",
        lambda: f"swap is in memory ({view.capabilities.swap_device}): advice takes as long as reading, and {size} fit",
    )
    yield (
        case.comes_in_time and case.has_room,
        "populate",
        lambda: f"all {size} come in within {_ms(case.takes_ns)}, before they are due in {_ms(view.lead_ns)}",
    )
    yield (
        case.is_short and case.has_room,
        "populate",
        lambda: f"{size} sound for less than {_ms(SHORT_NS)}: all of them are brought in at once",
    )
    yield (
        True,
        "window",
        lambda: f"{size} are brought in ahead of the playhead, the nearest deadlines of all sessions first",
    )
    yield case.fits, "willneed", lambda: f"{size} fit into the {room} that are available, and there is no window"
    yield case.fits, "touch", lambda: f"{size} fit into the {room} that are available, and advice has no effect here"


@hookimpl(trylast=True)
def samplecache_choose_strategy(view: ChoiceView) -> Choice:
    """Choose for one session, from what the view shows and nothing else."""
    case = _Case(view)
    if not view.capabilities.swap_bytes:
        return Choice("none", "no swap is configured, so all pages stay in RAM")
    for applies, name, why in _rules(case):
        if applies and case.works(name):
            return Choice(name, why())
    if not any(map(case.works, _NEEDS)):
        blocked = view.capabilities.operations[Operation.POPULATE]
        return Choice("none", f"nothing that could be done has an effect here: {blocked.why}")
    return Choice("none", f"{_size(case.sample_bytes)} do not fit into memory, and there is no window")


def _size(length_bytes: int) -> str:
    for unit, shift in (("GiB", 30), ("MiB", 20)):
        if length_bytes >= 1 << shift:
            return f"{length_bytes / (1 << shift):.1f} {unit}"
    return f"{length_bytes / 1024:.0f} KiB"


def _ms(duration_ns: int | None) -> str:
    return f"{(duration_ns or 0) / 1e6:.0f} ms"
