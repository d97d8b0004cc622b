"""How figures of streaming are read off what a client saw: exactly, so that a benchmark can be believed."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from benchmarks.measuring import Figure, Machine
from benchmarks.streams.load import (
    RUNNING,
    Generator,
    Record,
    quantile,
    rate_per_s,
    read_records,
    run_client,
)
from benchmarks.streams.search import STEP, levels, most_held
from benchmarks.streams.servers import bare, play_request
from benchmarks.streams.threads import Stacks, take
from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS
from samplecache.service.server import SERVICE

MONO = AudioFormat(1_000, 1, Encoding.U8)
"""A byte a millisecond."""


def lateness_ms(arrivals_ms: list[int], blocks: list[int] | None = None, since_ms: int = 0) -> list[int]:
    """Of messages of so many blocks of 100 ms, each with ten bytes beside them."""
    lengths = np.array([100 * each + 10 for each in blocks or [1] * len(arrivals_ms)], np.int64)
    record = Record(0, RUNNING, 0, np.array(arrivals_ms, np.int64) * NS_PER_MS, lengths)
    late_ns = record.lateness_ns(MONO, 100 * NS_PER_MS, since_ms * NS_PER_MS)
    return [late // NS_PER_MS for late in late_ns.tolist()]


def test_lateness_counts_from_a_streams_promptest_message() -> None:
    assert lateness_ms([105, 203, 309, 400]) == [5, 3, 9, 0]
    assert lateness_ms([7, 107, 207]) == [0, 0, 0]
    # What falls behind stays late: the stream's clock does not wait.
    assert lateness_ms([0, 100, 350, 450]) == [0, 0, 150, 150]
    assert lateness_ms([0, 150, 250, 350], since_ms=150) == [0, 0, 0]
    assert lateness_ms([1, 2], since_ms=3) == []


def test_a_message_of_several_blocks_is_as_late_as_the_first_of_them() -> None:
    assert lateness_ms([0, 100, 350, 500], [1, 1, 3, 1]) == [0, 0, 150, 0]
    assert lateness_ms([0, 480, 980], [1, 5, 5], since_ms=1) == [0, 0]


def test_quantiles_are_nearest_ranks() -> None:
    values = list(range(1, 1001))
    assert [quantile(values, fraction) for fraction in (0.5, 0.999, 1.0)] == [500, 999, 1000]
    assert np.isnan(quantile([], 0.5))


def test_records_are_read_as_they_were_written() -> None:
    words = np.array([11, 0, 2, 3, 21, 31, 41, 100, 101, 102, 12, RUNNING, 1, 0], np.int64)
    first, second = read_records(words.tobytes())
    assert (first.began_ns, first.status, first.others) == (11, 0, 2)
    assert (first.arrivals_ns.tolist(), first.lengths.tolist()) == ([21, 31, 41], [100, 101, 102])
    assert (second.began_ns, second.status, second.others, second.arrivals_ns.tolist()) == (12, RUNNING, 1, [])
    assert rate_per_s([first, second], 21, 41) == 2 / 20e-9


def test_levels_are_a_step_apart() -> None:
    found = levels(32, 1024)
    assert (found[0], found[1]) == (32, 34)
    assert found[-1] <= 1024 < found[-1] * STEP * STEP
    assert all(below < above <= round(below * STEP) + 1 for below, above in itertools.pairwise(found))
    assert levels(4, 4) == [4]


@pytest.mark.parametrize("guess", [0, 32, 100, 144, 500, 5000])
def test_the_search_finds_every_answer_in_few_trials(guess: int) -> None:
    among = levels(32, 1024)
    for answer in (0, *among):
        tried: list[int] = []

        def held(streams: int, answer: int = answer, tried: list[int] = tried) -> bool:
            tried.append(streams)
            return streams <= answer

        assert most_held(held, among, guess) == answer
        assert len(tried) == len(set(tried)) <= 2 * len(among).bit_length() + 1


def test_a_figure_shows_what_the_machine_did() -> None:
    machine = (Machine(1, 2, 3),)
    assert Figure("a", "b", (0.0, 0.0), machine).document() == {
        "name": "a",
        "unit": "b",
        "median": 0.0,
        "spread": 0.0,
        "values": [0.0, 0.0],
        "machine": [{"late_p999_ns": 1, "late_worst_ns": 2, "steal_ns": 3}],
    }


def test_dumps_of_stacks_tell_readers_that_read_from_those_that_do_not() -> None:
    def thread(name: str, frames: list[tuple[str, str]], gil: bool) -> dict[str, object]:
        inner = [{"name": function, "filename": file, "line": 1} for function, file in frames]
        return {"thread_name": name, "owns_gil": gil, "frames": inner}

    reading = [("LinuxKernel.read", "samplecache/kernel/linux.py"), ("run", "thread.py")]
    stacks = Stacks()
    take(stacks, [thread("MainThread", [("run", "runners.py")], True), thread("samplecache-reader_0", reading, False)])
    take(stacks, [thread("samplecache-reader_0", reading, True), thread("samplecache-reader_1", reading, False)])
    take(stacks, [thread("samplecache-reader_0", [("_worker", "thread.py")], True), thread("MainThread", [], False)])
    take(stacks, [thread("samplecache-worker-0", reading, True)])
    assert (stacks.dumps, stacks.reading, stacks.reading_with_gil, stacks.readers) == (4, 2, 1, 2)
    assert stacks.example == "samplecache-reader_0: LinuxKernel.read:1, no GIL\nMainThread: run:1, has the GIL"


def test_a_client_streams_from_the_bare_server() -> None:
    client = Generator((sys.executable, "-m", "benchmarks.streams.client"))
    with bare({0}) as server:
        request = play_request("stereo", 0, 1, 20_000_000)
        run = run_client(client, "first", server.address, f"/{SERVICE}/Play", [request], 3, 0, cpus={0})
    assert [len(record.arrivals_ns) for record in run.records] == [1, 1, 1]
    assert [record.others for record in run.records] == [1, 1, 1]
    assert all(record.arrivals_ns[0] > record.began_ns for record in run.records)
    lengths = np.concatenate([record.lengths for record in run.records])
    assert ((lengths > 3840) & (lengths < 3860)).all()
