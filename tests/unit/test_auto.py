"""What ``auto`` comes to, case by case, and in what words."""

from __future__ import annotations

import dataclasses
from types import ModuleType

import pytest
from cache_parts import PAGE_BYTES, capabilities

import samplecache_auto
import samplecache_mlock
import samplecache_populate
import samplecache_touch
import samplecache_willneed
from samplecache.kernel.port import Capability, Operation
from samplecache.kernel.signals import MemoryState
from samplecache.strategy import ChoiceView, PageInFigures, PrefetchStrategy, SampleView, hookimpl
from samplecache.strategy.registry import AUTO, Binding, ChosenBy, StrategyRegistry

KIB, MIB = 1 << 10, 1 << 20
MS = 1_000_000
AMPLE, SHORT_OF = MemoryState(256 * MIB, 200 * MIB), MemoryState(256 * MIB, 1 * MIB)
FAST, SLOW = PageInFigures(80_000, 200 * MIB, 100_000, 100 * MIB), PageInFigures(80_000, 2 * MIB, 10**7, 1 * MIB)
RATE = 192_000
"""48 kHz, stereo, 16 bits, in bytes a second."""


class _Window(PrefetchStrategy):
    name = "window"


class _WindowPlugin:
    @hookimpl
    def samplecache_register_strategies(self) -> list[type[PrefetchStrategy]]:
        return [_Window]


def registry(*, window: bool = True) -> StrategyRegistry:
    made = StrategyRegistry()
    plugins: list[ModuleType] = [
        samplecache_auto,
        samplecache_mlock,
        samplecache_populate,
        samplecache_touch,
        samplecache_willneed,
    ]
    for plugin in plugins:
        made.register(plugin, "tests 1")
    if window:
        made.register(_WindowPlugin(), "tests 1")
    assert made.problems == []
    return made


def chosen(plugins: StrategyRegistry, case: ChoiceView) -> Binding:
    view = dataclasses.replace(case, names=plugins.names)
    return plugins.bind(AUTO, "", "", view.capabilities, lambda: view)


def view(
    size: int,
    memory: MemoryState = AMPLE,
    page_in: PageInFigures | None = None,
    lead_ms: int | None = None,
    *,
    lock: int = 8 * MIB,
    zram: bool = False,
    swap: bool = True,
    useless: tuple[Operation, ...] = (),
) -> ChoiceView:
    found = capabilities()
    operations = dict(found.operations)
    for operation in useless:
        operations[operation] = Capability(True, False, "It is permitted; control group forbids swap", "Raise it")
    found = dataclasses.replace(
        found,
        operations=operations,
        swap_bytes=1 << 30 if swap else 0,
        swap_synchronous=zram,
        swap_device="zram0" if zram else "vda",
    )
    lead_ns = None if lead_ms is None else lead_ms * MS
    sample = SampleView("pad", -(-size // PAGE_BYTES), PAGE_BYTES, RATE)
    return ChoiceView(sample, found, lock, page_in or PageInFigures(), (), memory, lead_ns)


LONG, KICK = 4 * MIB, 96 * KIB


@pytest.mark.parametrize(
    ("case", "name", "why"),
    [
        # The cases of which a prefetch is made of: sample larger than memory, ample memory, slow swap, triggers.
        (
            view(400 * MIB),
            "window",
            "400.0 MiB do not fit into the 200.0 MiB that are available: only what sounds next is brought in",
        ),
        (
            view(LONG),
            "window",
            "4.0 MiB are brought in ahead of the playhead, the nearest deadlines of all sessions first",
        ),
        (view(100 * MIB), "window", None),
        (view(LONG, page_in=SLOW, lead_ms=2000), "window", None),
        (
            view(LONG, page_in=FAST, lead_ms=2000),
            "populate",
            "all 4.0 MiB come in within 40 ms, before they are due in 2000 ms",
        ),
        # Others want the device, too.
        (view(LONG, page_in=FAST, lead_ms=160), "populate", None),
        (view(LONG, page_in=FAST, lead_ms=159), "window", None),
        (view(LONG, page_in=FAST, lead_ms=None), "window", None),
        (view(100 * MIB, page_in=FAST, lead_ms=60_000), "window", None),
        (view(KICK), "populate", "96 KiB sound for less than 1000 ms: all of them are brought in at once"),
        # Memory is short.
        (
            view(KICK, MemoryState(256 * MIB, 0)),
            "mlock",
            "memory is short (0 KiB available); 96 KiB can be locked, so nothing takes them back before they sound",
        ),
        (view(KICK, MemoryState(256 * MIB, 0), lock=8 * KICK - 1), "window", None),
        (view(LONG, SHORT_OF, page_in=FAST, lead_ms=2000), "window", None),
        (view(KICK, MemoryState(256 * MIB, 300 * KIB), lock=0), "window", None),
        # Nothing is known of memory.
        (view(100 * MIB, MemoryState()), "window", None),
        # zram.
        (
            view(LONG, zram=True),
            "populate",
            "swap is in memory (zram0): advice takes as long as reading, and 4.0 MiB fit",
        ),
        (view(100 * MIB, zram=True), "window", None),
        (view(400 * MIB, zram=True), "window", None),
        # Nothing to be done.
        (view(LONG, swap=False), "none", "no swap is configured, so all pages stay in RAM"),
        (
            view(LONG, useless=tuple(Operation)),
            "none",
            "nothing that could be done has an effect here: It is permitted; control group forbids swap",
        ),
        # Something is missing.
        (view(LONG, useless=(Operation.WILLNEED,)), "touch", None),
        (view(KICK, useless=(Operation.POPULATE,)), "willneed", None),
        (
            view(400 * MIB, useless=(Operation.WILLNEED,)),
            "none",
            "400.0 MiB do not fit into memory, and there is no window",
        ),
    ],
)
def test_choice(case: ChoiceView, name: str, why: str | None) -> None:
    plugins = registry()
    binding = chosen(plugins, case)
    assert (binding.strategy.name, binding.chosen_by, binding.degraded_from) == (name, ChosenBy.HOOK, "")
    assert binding.why
    assert why is None or binding.why == why


@pytest.mark.parametrize(("size", "name"), [(LONG, "willneed"), (KICK, "populate"), (400 * MIB, "none")])
def test_without_a_window_whole_samples_are_brought_in_if_they_fit(size: int, name: str) -> None:
    plugins = registry(window=False)
    assert chosen(plugins, view(size)).strategy.name == name


def test_other_plugins_are_asked_first() -> None:
    class Other:
        @hookimpl
        def samplecache_choose_strategy(self, view: ChoiceView) -> str:
            return "touch"

    for order in (0, 1):
        made = StrategyRegistry()
        for plugin in [samplecache_auto, samplecache_touch, Other()][:: 1 if order else -1]:
            made.register(plugin, "tests 1")
        assert chosen(made, view(KICK)).strategy.name == "touch"
