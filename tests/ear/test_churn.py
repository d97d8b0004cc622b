"""A background load writes no faster than it may, begins when it should, and gives its memory back in time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from waiting import wait_until

from samplecache.clock import NS_PER_MS, MonotonicClock
from samplecache.lab.ear.lines import LineProcess
from samplecache.lab.ear.watching import Usage

CLOCK = MonotonicClock()
RATE = 8 << 20
LENGTH = 64 << 20
PAGE_BYTES = 4096


@pytest.fixture
def churn(tmp_path: Path) -> Iterator[LineProcess]:
    argv = [sys.executable, "-m", "samplecache.lab.ear.churn", str(RATE)]
    process = LineProcess("a load", partial(subprocess.Popen, argv), tmp_path / "log")
    try:
        process.ask(do="stop")
        yield process
    finally:
        process.close()


def anonymous_bytes(process: LineProcess) -> int:
    return Usage.of([process.process.pid]).anonymous_bytes


def test_a_load_keeps_its_rate_and_its_times(churn: LineProcess) -> None:
    before, faults = anonymous_bytes(churn), Usage.of([churn.process.pid]).minor_faults
    start_ns = CLOCK.now_ns() + 300 * NS_PER_MS
    churn.ask(do="begin", length_bytes=LENGTH, start_ns=start_ns)
    churn.ask(do="until", stop_ns=start_ns + 500 * NS_PER_MS)
    wait_until(lambda: anonymous_bytes(churn) > before + (1 << 20))
    assert CLOCK.now_ns() > start_ns + 100 * NS_PER_MS  # a megabyte takes 125 ms
    wait_until(lambda: anonymous_bytes(churn) <= before + (1 << 20))
    assert CLOCK.now_ns() >= start_ns + 490 * NS_PER_MS
    written = (Usage.of([churn.process.pid]).minor_faults - faults) * PAGE_BYTES
    assert 1 << 20 < written < 5 << 20  # 4 MiB, and what Python itself faults in


def test_a_load_goes_on_until_told_and_round_and_round(churn: LineProcess) -> None:
    before = anonymous_bytes(churn)
    churn.ask(do="begin", length_bytes=1 << 20, start_ns=0)
    wait_until(lambda: anonymous_bytes(churn) > before + (1 << 20) - PAGE_BYTES)
    CLOCK.sleep_until(CLOCK.now_ns() + 200 * NS_PER_MS)  # more than once around
    assert anonymous_bytes(churn) < before + (2 << 20)
    churn.ask(do="stop")
    wait_until(lambda: anonymous_bytes(churn) <= before + (512 << 10))
