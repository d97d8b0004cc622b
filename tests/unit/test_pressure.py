"""Pressure is told from a slow device, halves the budget, and goes away step by step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecache.cache.device.pressure import CALM_LOOKS, LEAST_FACTOR, PressureController, Signs, wait_ns
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.kernel.signals import MemoryState, PressureCounts
from samplecache.strategy.view import Pressure

NONE, SOME, FULL = Pressure.NONE, Pressure.SOME, Pressure.FULL
MIB = 1 << 20
AMPLE, SCARCE = MemoryState(64 * MIB, 32 * MIB), MemoryState(64 * MIB, MIB)
CALM = Signs(NS_PER_S, PressureCounts(0, 0, 0, 0), AMPLE)


def signs(
    some_ms: int | None = 0,
    full_ms: int | None = 0,
    limit_events: int | None = 0,
    refaults: int | None = 0,
    memory: MemoryState = SCARCE,
    asked: int = 0,
    taken_back: int = 0,
) -> Signs:
    some_ns, full_ns = (None if each is None else each * NS_PER_MS for each in (some_ms, full_ms))
    return Signs(NS_PER_S, PressureCounts(some_ns, full_ns, limit_events, refaults), memory, asked, taken_back)


@pytest.mark.parametrize(
    ("seen", "level"),
    [
        (signs(), NONE),
        (signs(some_ms=69), NONE),
        (signs(some_ms=70), SOME),
        (signs(some_ms=900), SOME),
        (signs(some_ms=900, full_ms=199), SOME),
        (signs(some_ms=900, full_ms=200), FULL),
        # Stalled, but not for want of memory: swap is slow.
        (signs(some_ms=900, full_ms=800, memory=AMPLE), NONE),
        (signs(some_ms=70, memory=AMPLE, limit_events=1), SOME),
        # At the limit and none the worse for it: what was played makes room.
        (signs(limit_events=20_000), NONE),
        (signs(some_ms=70, memory=MemoryState()), SOME),
        # No PSI: refaults at a millisecond each, less what was asked for.
        (signs(some_ms=None, full_ms=None, refaults=69), NONE),
        (signs(some_ms=None, full_ms=None, refaults=70), SOME),
        (signs(some_ms=None, full_ms=None, refaults=700, asked=640), NONE),
        (signs(some_ms=None, full_ms=None, refaults=None), NONE),
        # What was brought in and taken back says it all.
        (signs(asked=1000, taken_back=49, memory=AMPLE), NONE),
        (signs(asked=1000, taken_back=50, memory=AMPLE), SOME),
        (signs(asked=1000, taken_back=250, memory=AMPLE), FULL),
        (signs(asked=0, taken_back=16, memory=AMPLE), FULL),
        (signs(asked=20, taken_back=15, memory=AMPLE), NONE),
    ],
)
def test_level(seen: Signs, level: Pressure) -> None:
    assert seen.level is level


def test_the_budget_is_halved_at_once_and_given_back_step_by_step() -> None:
    controller = PressureController()
    factors = []
    for seen in [signs(some_ms=100)] * 2 + [CALM] * (CALM_LOOKS + 2):
        controller.look(seen)
        factors.append(controller.factor)
    assert factors == [0.5, 0.25, *[0.25] * (CALM_LOOKS - 1), 0.3125, 0.375, 0.4375]


def test_a_level_is_left_one_step_at_a_time() -> None:
    controller = PressureController()
    controller.look(signs(full_ms=500, some_ms=500))
    levels = []
    for _ in range(2 * CALM_LOOKS):
        levels.append(controller.level)
        controller.look(CALM)
    assert levels == [FULL] * CALM_LOOKS + [SOME] * CALM_LOOKS
    assert controller.level is NONE


@given(
    st.lists(
        st.builds(signs, some_ms=st.integers(0, 1000), full_ms=st.integers(0, 1000), taken_back=st.integers(0, 99))
    )
)
def test_the_factor_stays_in_bounds_and_comes_back(looks: list[Signs]) -> None:
    controller = PressureController()
    for seen in looks:
        before = controller.factor
        controller.look(seen)
        assert LEAST_FACTOR <= controller.factor <= 1
        assert controller.factor <= before or seen.level is NONE
    for _ in range(2 * CALM_LOOKS + 16):
        controller.look(CALM)
    assert (controller.level, controller.factor) == (NONE, 1.0)


@pytest.mark.parametrize(
    ("pressure", "lead_ms", "times_taken_back", "expected_ms"),
    [
        (NONE, 60_000, 99, 0),
        (SOME, None, 99, 0),
        (SOME, 1000, 0, 0),
        (SOME, 5000, 0, 3000),
        (FULL, 5000, 0, 4500),
        (FULL, 400, 0, 0),
        (FULL, -400, 0, 0),
        (SOME, 1500, 2, 0),
        (SOME, 1500, 3, 1000),
    ],
)
def test_what_is_far_off_or_was_taken_back_often_waits(
    pressure: Pressure, lead_ms: int | None, times_taken_back: int, expected_ms: int
) -> None:
    lead_ns = None if lead_ms is None else lead_ms * NS_PER_MS
    assert wait_ns(pressure, lead_ns, times_taken_back) == expected_ms * NS_PER_MS
