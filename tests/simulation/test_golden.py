"""One seed gives one trace, byte for byte, on every machine and every version of Python."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Generator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from samplecache.clock import NS_PER_MS, VirtualClock
from samplecache.errors import SamplecacheError
from samplecache.lab.virtual import VirtualCache
from samplecache.lab.workload import beat
from samplecache.simulation.device import device_profile
from samplecache.simulation.machine import Machine
from samplecache.simulation.options import KernelModel, ReadaheadMode, SimulationOptions, SlotOrder, WillneedMode
from samplecache.simulation.pages import SimulatedRegion
from samplecache.simulation.scheduler import Scheduler
from samplecache.simulation.throttle import ReadLimit

_SSD = device_profile("ssd-sata")
_MACHINES: dict[str, dict[str, Any]] = {
    "roomy": {},
    "pressed": {"memory_pages": 90},
    "swap half full": {"memory_pages": 120, "swap_slots": 350},
    "shuffled": {"memory_pages": 150, "slot_order": SlotOrder.SHUFFLED},
    "clusters": {"memory_pages": 150, "device": device_profile("hdd-7200")},
    "zram": {"memory_pages": 150, "device": device_profile("zram-lz4")},
    "no readahead": {"memory_pages": 150, "page_cluster": 0},
    "adaptive": {"memory_pages": 150, "readahead": ReadaheadMode.ADAPTIVE, "slot_order": SlotOrder.VIRTUAL},
    "limited": {"memory_pages": 150, "device": dataclasses.replace(_SSD, read_limit=ReadLimit(iops=4000))},
    "linux-2.6.24": {
        "memory_pages": 150,
        "device": device_profile("hdd-laptop-2008"),
        "kernel": KernelModel.LINUX_2_6_24,
        "slot_order": SlotOrder.SCAN,
        "willneed": WillneedMode.PATCH_2008,
    },
}
_SEEDS = {"limited": (1, 2), "linux-2.6.24": (5, 7)}
"""Where others than 0 and 1 say as much in less time: with those, threads wait for seconds for memory that others hold,
and look every 10 µs whether there is some."""


class _Run:
    """Three threads that do whatever comes to their mind with the same regions."""

    def __init__(self, seed: int, log_events: int, **changes: Any) -> None:
        base = SimulationOptions(device=_SSD, memory_pages=2000, swap_slots=3000, lock_limit_bytes=None)
        self.clock = VirtualClock()
        self.machine = Machine(
            dataclasses.replace(base, seed=seed, log_events=log_events, **changes), self.clock.now_ns
        )
        self.regions = [self.machine.map(pages) for pages in (20, 150, 300)]
        self.lines: list[str] = []
        scheduler = Scheduler(self.clock)
        for thread in range(3):
            scheduler.start(self._thread(thread, Random(3 * seed + thread)))
        scheduler.run()

    def _thread(self, thread: int, chance: Random) -> Generator[int, None, None]:
        def pick(count: int) -> int:
            return int(chance.random() * count)  # the one method whose numbers are promised to stay

        machine = self.machine
        for _ in range(60):
            region = self.regions[pick(3)]
            start, stop = sorted((pick(region.pages + 1), pick(region.pages + 1)))
            action = pick(14)
            zeros = bytes(pick(8) == 0 for _ in range(start, stop)) if action == 1 else None
            try:
                yield from self._act(action, thread, region, start, stop, zeros)
            except SamplecacheError as error:
                self.lines.append(str(error))
            self.lines.append(self._state(thread, action))
            yield self.clock.now_ns() + pick(4) * NS_PER_MS
        self.lines.append(f"{thread} has ended: {machine.thread_faults(thread)}")

    def _act(
        self, action: int, thread: int, region: SimulatedRegion, start: int, stop: int, zeros: bytes | None
    ) -> Generator[int, None, object]:
        machine, span = self.machine, (thread, region, start, stop)
        if action < 3:
            return (yield from machine.write(*span, zeros))
        if action == 3:
            return (yield from machine.evict(*span, 5 * NS_PER_MS))
        if action == 4:
            return (yield from machine.pageout(*span))
        if action == 5:
            return (yield from machine.lock(*span))
        if action == 6:
            return machine.unlock(region, start, stop)
        if action == 7:
            return machine.cold(*span)
        if action < 10:
            return (yield from machine.willneed(*span))
        if action == 10:
            return (yield from machine.populate(*span))
        return (yield from machine.touch(*span))

    def _state(self, thread: int, action: int) -> str:
        machine = self.machine
        pages = [
            (machine.page_flags(region, 0, region.pages).hex(), machine.page_slots(region, 0, region.pages))
            for region in self.regions
        ]
        return f"{self.clock.now_ns()} {thread} {action} {machine.counters} {machine.thread_faults(thread)} {pages}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


GOLDEN = {
    "roomy": "e857b05b638b0441",
    "pressed": "29ca8844bdc3f571",
    "swap half full": "f0b3579851388131",
    "shuffled": "16767cd151e7ba50",
    "clusters": "47c9bab7bbe9fb87",
    "zram": "ac0750842fcb3e8b",
    "no readahead": "d476281d673fbb39",
    "adaptive": "9f955661e966b7ab",
    "limited": "c73f48cd45d539ac",
    "linux-2.6.24": "5c1e729db2288094",
}
"""Digests of the traces that were right when they were written down: a change has to say why."""

WHOLE_CACHE = Path(__file__).with_name("whole_cache.txt")
"""What a whole cache did when it was written down, so that a change shows line by line what it is."""


@pytest.mark.parametrize("name", _MACHINES)
def test_a_machine_leaves_the_same_trace_everywhere(name: str) -> None:
    run = _Run(1, 1 << 20, **_MACHINES[name])
    assert _digest("\n".join(run.lines) + run.machine.log_text()) == GOLDEN[name]


def test_a_whole_cache_leaves_the_same_trace_everywhere(tmp_path: Path) -> None:
    options = SimulationOptions.for_device("hdd-laptop-2008", memory_bytes=16 << 20, swap_bytes=128 << 20, seed=1)
    virtual = VirtualCache(dataclasses.replace(options, log_events=1 << 20), beat("touch", seed=1))
    virtual.run()
    kept, found = WHOLE_CACHE.read_text().splitlines(), _since_all_was_cold(virtual.trace())
    if found != kept:
        (tmp_path / WHOLE_CACHE.name).write_text("\n".join(found) + "\n")
        change = "\n".join(list(difflib.unified_diff(kept, found, n=1, lineterm=""))[:40])
        pytest.fail(f"If this is meant, say why, and keep {tmp_path / WHOLE_CACHE.name}:\n{change}")


def _since_all_was_cold(trace: str) -> list[str]:
    """What happened once all samples were cold, by the time since then, without what is nobody's choice.

    That is when they were cold, which moves with whatever the cache does before, and which of the workers, all alike,
    does a piece of work, which changes whenever there is other work for them. Of five digests of the whole trace that
    came to differ, three did so by which worker it was, one by 49 ms for which the heads of triggers are waited for
    before samples are made cold, and one by lines on sessions that end, of which nothing was said before.
    """
    heading = [line for line in trace.splitlines() if line.startswith("#")]
    workers = {line.split()[2] for line in heading if re.fullmatch(r"# thread \d+: worker \d+", line)}
    cold_ns = next(int(line.split()[-1]) for line in heading if line.startswith("# all samples are cold at "))
    assert len(workers) > 1
    told = []
    for line in trace.splitlines()[len(heading) :]:
        time_ns, what, facts = line.split(" ", 2)
        if int(time_ns) >= cold_ns:
            facts = re.sub(r"(?<= at )\d+$", lambda at: str(int(at[0]) - cold_ns), facts)
            told.append(f"{int(time_ns) - cold_ns} {'worker' if f'{what}:' in workers else what} {facts}")
    return told


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name in _MACHINES for seed in _SEEDS.get(name, (0, 1))])
def test_runs_of_pages_do_what_page_by_page_does(name: str, seed: int) -> None:
    """A machine that logs goes page by page, one that does not takes runs at once: all else is the same."""
    slow, fast = (_Run(seed, log_events, **_MACHINES[name]) for log_events in (1, 0))
    assert fast.lines == slow.lines
