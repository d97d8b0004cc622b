"""No more is on its way than keeps the device busy, and what is due soonest goes first."""

from __future__ import annotations

from cache_parts import PAGE_BYTES, GatedKernel, make_cache, put_cold, until

from samplecache.cache.device.gate import FIRST_BYTES, LATE_NS, LEAST_BYTES, MOST_BYTES, SOON_NS, Gate
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.kernel.port import Advice, Region, Span
from samplecache.simulation.device import device_profile
from samplecache.strategy import Advise, PrefetchStrategy


def test_as_much_as_the_limit_is_let_out() -> None:
    gate = Gate()
    assert gate.admits(0)
    assert gate.admits(FIRST_BYTES - 1)
    assert not gate.admits(FIRST_BYTES)


def test_the_most_urgent_goes_first_then_the_nearest_deadline_then_who_came_first() -> None:
    gate, gone = Gate(), []
    for name, deadline_ns, urgency in (
        ("far", 9, 0),
        ("near", 1, 0),
        ("near too", 1, 0),
        ("shed", 0, -1),
        ("first", 99, 1),
    ):
        gate.wait(lambda name=name: gone.append(name), deadline_ns, urgency)  # type: ignore[misc]
    while going := gate.let_out(gate.limit_bytes - 1):
        for go in going:
            go()
    assert gone == ["first", "near", "near too", "far", "shed"]


def test_there_is_room_for_as_many_parts_as_are_missing_from_the_limit() -> None:
    gate = Gate()
    for number in range(9):
        gate.wait(lambda: None, number)
    assert len(gate.let_out(gate.limit_bytes)) == 0
    assert len(gate.let_out(gate.limit_bytes - gate.part_bytes - 1)) == 2
    assert len(gate) == 7
    assert len(gate.let_out(0)) == 4


def test_the_limit_doubles_when_what_was_held_up_arrives_at_once() -> None:
    gate = Gate()
    gate.arrived(SOON_NS)
    assert gate.limit_bytes == FIRST_BYTES  # nobody was held up: there is nothing to be learned
    for _ in range(20):
        gate.admits(gate.limit_bytes)
        gate.arrived(SOON_NS)
    assert gate.limit_bytes == MOST_BYTES


def test_the_limit_shrinks_while_what_arrives_has_waited_for_others() -> None:
    gate = Gate()
    gate.arrived(LATE_NS - 1)
    assert gate.limit_bytes == FIRST_BYTES
    gate.arrived(LATE_NS)
    assert gate.limit_bytes == FIRST_BYTES // 2
    for _ in range(20):
        gate.arrived(10 * NS_PER_S)
    assert gate.limit_bytes == LEAST_BYTES


class AdvisedKernel(GatedKernel):
    """Notes what is advised, and of how long a region."""

    def __init__(self, iops: int) -> None:
        super().__init__(device_profile("unthrottled").throttled(iops=iops))
        self.advised: list[tuple[int, int]] = []

    def advise(self, region: Region, span: Span, advice: Advice) -> None:
        if advice is Advice.WILLNEED:
            self.advised.append((region.pages, len(span)))
        super().advise(region, span, advice)


class All(PrefetchStrategy):
    name = "mine"

    def prepare(self, view):  # type: ignore[no-untyped-def]
        return [Advise(view.wanted, view.deadline_ns)]


def test_what_is_due_sooner_does_not_wait_for_all_that_was_advised_before() -> None:
    """A thousand pages at 1000 a second take a second; a hundred that are due first are there after a part of it."""
    kernel = AdvisedKernel(iops=1000)
    with make_cache(All, kernel=kernel, default_strategy="mine", workers=2) as cache:
        put_cold(cache, "long", 1000)
        put_cold(cache, "urgent", 100)
        now_ns = cache.clock.now_ns()
        long = cache.prefetch("long", deadline_ns=now_ns + 3600 * NS_PER_S)
        until(lambda: kernel.advised)
        urgent = cache.prefetch("urgent", deadline_ns=now_ns + NS_PER_S)
        assert urgent.wait(20)
        assert not long.progress.done
        sent_for = sum(pages for length, pages in kernel.advised if length == 1000)
        assert sent_for * PAGE_BYTES <= FIRST_BYTES + LEAST_BYTES + urgent.progress.elapsed_ns // NS_PER_MS * PAGE_BYTES
        assert long.wait(20)
        assert (long.progress.pages_in, urgent.progress.pages_in) == (1000, 100)


def test_a_fast_device_is_not_held_up() -> None:
    kernel = GatedKernel("nvme-p3700")
    with make_cache(All, kernel=kernel, default_strategy="mine", workers=2) as cache:
        put_cold(cache, "long", 1500)
        prefetch = cache.prefetch("long")
        assert prefetch.wait(20)
        assert prefetch.progress.pages_in == 1500


def test_those_who_wait_go_on_though_others_before_them_find_nothing_to_send_for() -> None:
    kernel = AdvisedKernel(iops=1000)
    with make_cache(All, kernel=kernel, default_strategy="mine", workers=2) as cache:
        put_cold(cache, "pad", 600)
        prefetches = [cache.prefetch("pad") for _ in range(12)]
        assert all(prefetch.wait(20) for prefetch in prefetches)
        assert {prefetch.progress.pages_in for prefetch in prefetches} >= {600}


def test_what_is_not_wanted_any_more_takes_no_room() -> None:
    gate, gone = Gate(), []
    for number in range(3):
        gate.wait(lambda number=number: gone.append(number), number, wanted=lambda number=number: number == 2)  # type: ignore[misc]
    for work in gate.let_out(gate.limit_bytes - 1):  # room for one
        work()
    assert (gone, len(gate)) == ([0, 1, 2], 0)
