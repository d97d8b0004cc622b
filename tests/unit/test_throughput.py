"""Rates that a device keeps up, told from bursts, from queueing behind others, and from nothing being asked of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.accounting.throughput import BURST_NS, WINDOW_NS, Throughput
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.strategy.view import PageInFigures

CHUNK = 256 << 10


def fed(rate: int, chunks: int, *, burst_bytes: int = 0, together: int = 4) -> Throughput:
    """What `rate` looks like on a device that passes `burst_bytes` at once, with some chunks awaited all the time."""
    throughput = Throughput()
    arrivals = [max(0, number * CHUNK - burst_bytes) * NS_PER_S // rate for number in range(1, chunks + 1)]
    began = [0] * together
    for _ in range(together):
        throughput.begin(0)
    for number, at_ns in enumerate(arrivals):
        throughput.end(CHUNK, began[number], at_ns)
        if number + together < chunks:
            throughput.begin(at_ns)
            began.append(at_ns)
    return throughput


def test_nothing_is_known_at_first() -> None:
    assert (Throughput().median, Throughput().low) == (None, None)
    assert PageInMeter().figures == PageInFigures(None, None, None, None)


def test_queueing_behind_others_is_not_slowness() -> None:
    """Forty chunks that wait for each other: the last of them takes forty times as long as the first."""
    assert fed(10_000_000, 40, together=40).median == 10_000_000


def test_what_a_limit_lets_through_at_once_is_no_rate() -> None:
    """2 MB/s, of which 100 ms worth pass at once, as seen on a running kernel."""
    slow = fed(2_000_000, 16, burst_bytes=200_000)
    assert slow.median is not None
    assert 0.95 * 2_000_000 <= slow.median <= 1.05 * 2_000_000


def test_a_short_while_tells_a_bound_only() -> None:
    """2.5 MiB in 20 ms: a limited device might have let through 100 ms worth of that at once."""
    throughput = Throughput()
    throughput.begin(0)
    throughput.end(10 * CHUNK, 0, 20 * NS_PER_MS)
    assert throughput.median == 10 * CHUNK * NS_PER_S // (120 * NS_PER_MS)


def test_a_bound_counts_only_where_it_is_more_than_was_known() -> None:
    throughput = fed(10_000_000, 40, together=10)
    throughput.begin(10 * NS_PER_S)
    throughput.end(4096, 10 * NS_PER_S, 10 * NS_PER_S + NS_PER_MS)
    assert throughput.median == 10_000_000
    throughput.begin(11 * NS_PER_S)
    throughput.end(64 * CHUNK, 11 * NS_PER_S, 11 * NS_PER_S + 100 * NS_PER_MS)
    rates = (10_000_000, 64 * CHUNK * 5)
    assert throughput.low == min(rates)


def test_time_in_which_nothing_is_asked_for_does_not_count() -> None:
    throughput = Throughput()
    for second in range(20):
        throughput.begin(second * NS_PER_S)
        throughput.end(CHUNK, second * NS_PER_S, second * NS_PER_S + 5 * NS_PER_MS)
    assert throughput.median == CHUNK * NS_PER_S // (105 * NS_PER_MS)


def test_what_is_lost_is_not_taken_for_slowness() -> None:
    throughput = fed(10_000_000, 40, together=10)
    throughput.begin(20 * NS_PER_S)
    throughput.lose(25 * NS_PER_S)
    throughput.begin(30 * NS_PER_S)
    throughput.end(4096, 30 * NS_PER_S, 30 * NS_PER_S + NS_PER_MS)
    assert throughput.low == 10_000_000


def test_a_device_that_became_slower_is_followed() -> None:
    throughput = fed(10_000_000, 40, together=10)
    start_ns = 10 * NS_PER_S
    throughput.begin(start_ns)
    for number in range(1, 200):
        at_ns = start_ns + number * NS_PER_S // 4
        throughput.begin(at_ns)
        throughput.end(CHUNK, at_ns - NS_PER_S // 4, at_ns)
    assert throughput.median == throughput.low == 4 * CHUNK


def test_a_device_that_is_asked_for_less_than_it_carries_does_not_look_slow() -> None:
    """Something is awaited all the time, but nothing queues."""
    throughput = fed(10_000_000, 40, together=10)
    start_ns = 10 * NS_PER_S
    for number in range(400):
        throughput.begin(start_ns + number * 10 * NS_PER_MS)
        if number:
            at_ns = start_ns + number * 10 * NS_PER_MS + 5 * NS_PER_MS
            throughput.end(4096, at_ns - 15 * NS_PER_MS, at_ns)
    assert throughput.sustained is None
    assert throughput.low == 10_000_000


def test_what_queues_for_long_shows_what_the_device_carries() -> None:
    throughput = Throughput()
    seen = []
    for _ in range(40):
        throughput.begin(0)
    for number in range(1, 40):
        throughput.end(CHUNK, 0, number * 50 * NS_PER_MS)
        seen.append(throughput.sustained)
    assert seen[:11] == [None] * 11
    # A slice's lump is more or less, of which less and less is left to be in doubt.
    shown = [rate or 0 for rate in seen[11:]]
    assert shown == sorted(shown)
    assert 0.88 * 20 * CHUNK <= shown[0] <= shown[-1] <= 20 * CHUNK


@given(
    rate=st.integers(500_000, 500_000_000),
    chunks=st.integers(1, 300),
    burst_ns=st.integers(0, BURST_NS),
    together=st.integers(1, 64),
)
def test_no_burst_within_what_is_allowed_for_makes_a_device_look_faster(
    rate: int, chunks: int, burst_ns: int, together: int
) -> None:
    throughput = fed(rate, chunks, burst_bytes=rate * burst_ns // NS_PER_S, together=min(together, chunks))
    # A chunk that a window has had a part of is counted where it ends.
    whole_chunk = CHUNK * NS_PER_S // WINDOW_NS
    assert throughput.median is None or throughput.median <= rate + whole_chunk + 1


def test_spread_of_latency_is_told() -> None:
    meter = PageInMeter()
    for elapsed_ns in range(1, 41):
        meter.record_faults(1, elapsed_ns)
    figures = meter.figures
    assert (figures.latency_ns, figures.latency_high_ns) == (20, 38)
