"""Threads of a server do not interrupt its event loop."""

from __future__ import annotations

import os
import threading

import pytest

from samplecache.service.base import Readers
from samplecache.service.threads import yielding_threads

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="only Linux has SCHED_BATCH")


def policy_of_a_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    return found[0]


def test_threads_started_inside_yield_and_the_caller_does_not() -> None:
    with yielding_threads():
        assert policy_of_a_new_thread() == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert policy_of_a_new_thread() == os.SCHED_OTHER


def test_who_has_been_given_another_policy_keeps_it() -> None:
    found: list[int] = []

    def given() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with yielding_threads():
            found.append(policy_of_a_new_thread())
        found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=given)
    thread.start()
    thread.join()
    assert found == [os.SCHED_IDLE, os.SCHED_IDLE]


async def test_readers_yield() -> None:
    readers = Readers(1)
    try:
        assert await readers.reading(os.sched_getscheduler, 0) == os.SCHED_BATCH
    finally:
        readers.close()
