"""All rows on all devices with all seeds, on as many processes as there are cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Final

from samplecache.lab.thread2008.experiment import Figures, Scale, run
from samplecache.lab.thread2008.figures import Results
from samplecache.lab.thread2008.lone import WAYS, Cap, LoneRead, capped, lone_read
from samplecache.lab.thread2008.rows import ROWS
from samplecache.strategy.registry import StrategyRegistry

CAP_MIB: Final = (32, 64, 128, 256)
"""Memories of which the patch's cap is looked at."""
CAP_PAGES: Final = 16384
"""64 MiB, asked for at once."""


def investigate(
    scale: Scale,
    devices: tuple[str, ...],
    seeds: tuple[int, ...],
    progress: Callable[[int, int], None] = lambda done, total: None,
    processes: int | None = None,
) -> Results:
    """Run everything and return the figures, in an order that does not depend on who was faster. Blocks for minutes.

    Parameters
    ----------
    scale : Scale
        How large and long runs are.
    devices : tuple of str
        Names of device profiles.
    seeds : tuple of int
        One run of each row on each device with each.
    progress : Callable
        Told how many runs are done, and of how many.
    processes : int, optional
        How many run at a time; the number of cores if not given.

    Raises
    ------
    ConfigurationError
        No device has one of the names.
    ExhaustedError
        A machine is too small for its load.
    """
    plan = [(row, device, seed) for device in devices for row in ROWS if ROWS[row].runs_on(device) for seed in seeds]
    done: dict[tuple[str, str, int], Figures] = {}
    progress(0, len(plan))
    # Not forked: whoever calls may have threads.
    with ProcessPoolExecutor(processes or os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(_run, *each, scale): each for each in plan}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                progress(len(done), len(plan))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return Results(scale, devices, seeds, tuple(done[each] for each in plan), _lone_reads(devices), _caps())


def _run(row: str, device: str, seed: int, scale: Scale) -> Figures:
    return run(ROWS[row], device, seed, scale, StrategyRegistry.discover())


def _lone_reads(devices: tuple[str, ...]) -> tuple[LoneRead, ...]:
    return tuple(
        lone_read(way, device, scattered=scattered)
        for device in devices
        if ROWS["stock"].runs_on(device)
        for scattered in (False, True)
        for way in WAYS
    )


def _caps() -> tuple[Cap, ...]:
    return tuple(capped(mib << 20, CAP_PAGES) for mib in CAP_MIB)
