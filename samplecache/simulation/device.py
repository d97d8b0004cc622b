"""Swap devices: how long a request takes, worked out when it is submitted."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import Final

from samplecache.clock import NS_PER_S
from samplecache.errors import ConfigurationError
from samplecache.simulation.throttle import ReadLimit, Throttle

QUEUE_REQUESTS: Final = 256
"""Requests that may be in flight; submission sleeps when there are as many (``nr_requests``, block layer default)."""


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """What is known of a swap device.

    Attributes
    ----------
    name : str
        The name it is chosen by.
    source : str
        Where the figures come from.
    servers : int
        Requests that are served at the same time.
    latency_ns : int
        From the start of service until data flows, in nanoseconds. Published latencies are taken for it, though they
        are of 4 KiB with its transfer, which adds 2 us at most.
    bandwidth_bytes_per_s : int or None
        Shared by all servers; None does not bind.
    positioning_ns : int
        Seek and half a turn, charged when a request does not begin where the last one ended, in nanoseconds.
    page_ns : int or None
        Cost of one page on the calling CPU, in nanoseconds, where the device is *synchronous*; None for a device that
        works while its caller goes on.
    iops : int or None
        A blkio limit in operations a second. Swap submits one operation a page and limits come before merging, so each
        page counts.
    limit_bytes_per_s : int or None
        A blkio limit in bytes a second.
    request_ns : int
        What every request takes of the device besides, whatever its length, one request after another, in nanoseconds.
        A virtual disk has it: the host takes requests off the queue one by one.
    read_limit : ReadLimit or None
        A limit on reads just as a control group enforces it, in slices; on a synchronous device the caller waits for
        it, page by page. `iops` and `limit_bytes_per_s` are the smooth ideal of such a limit, for writes too, and only
        of a device that works while its caller goes on.
    """

    name: str
    source: str
    servers: int = 1
    latency_ns: int = 0
    bandwidth_bytes_per_s: int | None = None
    positioning_ns: int = 0
    page_ns: int | None = None
    iops: int | None = None
    limit_bytes_per_s: int | None = None
    request_ns: int = 0
    read_limit: ReadLimit | None = None

    def __post_init__(self) -> None:
        if self.servers < 1 or min(self.latency_ns, self.positioning_ns, self.request_ns, self.page_ns or 0) < 0:
            raise ConfigurationError(
                f"The device {self.name} has no server or a negative time",
                remedy="Give one server at least, times >= 0",
            )
        for rate in (self.bandwidth_bytes_per_s, self.iops, self.limit_bytes_per_s):
            if rate is not None and rate < 1:
                raise ConfigurationError(
                    f"The device {self.name} has a rate of {rate}",
                    remedy="Give a rate of 1 at least, or None for no limit",
                )
        if self.synchronous and (self.iops is not None or self.limit_bytes_per_s is not None):
            raise ConfigurationError(
                f"The device {self.name} is synchronous and has a smooth limit, which only a device with a queue can",
                remedy="Give it a read_limit instead, or leave out page_ns",
            )

    @property
    def rotational(self) -> bool:
        """Whether the position of a slot matters; the kernel then reads slot neighbours, not virtual ones."""
        return self.positioning_ns > 0

    @property
    def synchronous(self) -> bool:
        """Whether a read or a write is over when its submission returns."""
        return self.page_ns is not None

    def throttled(self, *, iops: int | None = None, bytes_per_s: int | None = None) -> DeviceProfile:
        """Return this device under a blkio limit.

        Raises
        ------
        ConfigurationError
            It is synchronous, and has no queue for requests to wait in, or neither limit is given.
        """
        if self.synchronous or (iops is None and bytes_per_s is None):
            raise ConfigurationError(
                f"The device {self.name} cannot be throttled so",
                remedy="Give iops or bytes_per_s, and a device that is not zram, which can only have a read_limit",
            )
        limits = [f"{iops} IOPS"] * (iops is not None) + [f"{bytes_per_s} B/s"] * (bytes_per_s is not None)
        return replace(self, name=f"{self.name} at {', '.join(limits)}", iops=iops, limit_bytes_per_s=bytes_per_s)


_ANANDTECH = "AnandTech 11209; bandwidth: Intel product specification"
_ZRAM = "published zram measurements, CPU unstated; writing is assumed to cost as much as reading"

PROFILES: Final = {
    profile.name: profile
    for profile in (
        DeviceProfile(
            "hdd-laptop-2008",
            "Hitachi 5K320 specification: seek 12 ms, half a turn 5.5 ms; bandwidth assumed",
            bandwidth_bytes_per_s=50_000_000,
            positioning_ns=12_000_000 + 5_500_000,
        ),
        DeviceProfile(
            "hdd-7200",
            "HGST 7K4000: seek 8.2 ms, half a turn 4.16 ms; bandwidth: Seagate Barracuda XT",
            bandwidth_bytes_per_s=138_000_000,
            positioning_ns=8_200_000 + 4_160_000,
        ),
        DeviceProfile(
            "ssd-sata",
            "Samsung 850 EVO specification",
            servers=10,
            latency_ns=100_000,
            bandwidth_bytes_per_s=540_000_000,
        ),
        DeviceProfile(  # 13 / 77.9 us = 167k IOPS
            "nvme-p3700", _ANANDTECH, servers=13, latency_ns=77_900, bandwidth_bytes_per_s=2_800_000_000
        ),
        DeviceProfile(  # 5 / 8.9 us = 562k IOPS, the whole number of servers next to 585k
            "optane-p4800x", _ANANDTECH, servers=5, latency_ns=8_900, bandwidth_bytes_per_s=2_400_000_000
        ),
        DeviceProfile("zram-lz4", _ZRAM, page_ns=1_710),
        DeviceProfile("zram-lzo-rle", _ZRAM, page_ns=2_240),
        DeviceProfile("zram-zstd", _ZRAM, page_ns=5_710),
        DeviceProfile("unthrottled", "a device that costs nothing, to put a blkio limit on", servers=QUEUE_REQUESTS),
    )
}
"""The known devices, by name."""


def device_profile(name: str) -> DeviceProfile:
    """Return the profile called `name`.

    Raises
    ------
    ConfigurationError
        There is none.
    """
    if name not in PROFILES:
        raise ConfigurationError(f"No simulated device is called {name!r}", remedy=f"Choose from {', '.join(PROFILES)}")
    return PROFILES[name]


class Device:
    """A swap device at work. Requests are served in the order of submission; nothing happens between submissions.

    Parameters
    ----------
    profile : DeviceProfile
        What it is like.
    page_bytes : int
        Size of a page, in bytes.
    """

    def __init__(self, profile: DeviceProfile, page_bytes: int) -> None:
        self.profile = profile
        self.requests = 0
        """Requests submitted so far."""
        self.idle_ns = 0
        """When the last of them is complete."""
        self._page_bytes = page_bytes
        self._server_free_ns = [0] * profile.servers
        self._wire_free_ns = 0
        self._limit_free_ns = 0
        self._next_slot = -1
        self.in_flight: list[int] = []
        """When each request in the queue will be complete: a heap, looked through when :meth:`ready_ns` is asked."""
        limit = profile.read_limit
        self._throttle = None if limit is None else Throttle(limit, page_bytes)
        self.limits_reads = limit is not None and not profile.synchronous
        """Whether reads pass a limit first, so that one request may come in pieces: see :meth:`submit_limited`."""
        self._rotational = profile.rotational
        self._limited = profile.iops is not None or profile.limit_bytes_per_s is not None

    def ready_ns(self, now_ns: int) -> int:
        """Return when the queue takes another request: `now_ns`, or the end of the first that is in flight."""
        in_flight = self.in_flight
        while in_flight and in_flight[0] <= now_ns:
            heapq.heappop(in_flight)
        return now_ns if len(in_flight) < QUEUE_REQUESTS else in_flight[0]

    def submit(self, now_ns: int, slot: int, pages: int) -> int:
        """Submit one read or write of `pages` slots from `slot` on; return when it will be complete."""
        done_ns = self._serve(now_ns, slot, pages)
        heapq.heappush(self.in_flight, done_ns)
        return done_ns

    def submit_limited(self, now_ns: int, slot: int, pages: int) -> list[tuple[int, int]]:
        """Submit one read through the limit; return how many pages will be complete when, in the order of slots.

        What waits for the limit takes no room in the queue: it has no request yet.
        """
        assert self._throttle is not None  # noqa: S101 -- the caller asks `limits_reads`
        done = []
        for pass_ns, count in self._throttle.admit(now_ns, pages):
            done.append((count, self._serve(pass_ns, slot, count)))
            slot += count
        return done

    def read_directly(self, now_ns: int, pages: int) -> int:
        """Return when a caller has read `pages` of a synchronous device, one after the other, that begins now."""
        page_ns = self.profile.page_ns or 0
        if self._throttle is None:
            return now_ns + pages * page_ns
        for _ in range(pages):
            ((pass_ns, _),) = self._throttle.admit(now_ns, 1)
            now_ns = pass_ns + page_ns
        return now_ns

    def _serve(self, now_ns: int, slot: int, pages: int) -> int:
        """Serve a request that reaches the device at `now_ns`; return when it is complete."""
        profile = self.profile
        start_ns = heapq.heappop(self._server_free_ns)
        pass_ns = self._admit(now_ns, pages) if self._limited else now_ns
        if pass_ns > start_ns:
            start_ns = pass_ns
        flow_ns = start_ns + profile.latency_ns
        if slot != self._next_slot:
            flow_ns += profile.positioning_ns
        self._next_slot = slot + pages
        done_ns = flow_ns
        if profile.bandwidth_bytes_per_s is not None or profile.request_ns:
            transfer_ns = profile.request_ns
            if profile.bandwidth_bytes_per_s is not None:
                transfer_ns += pages * self._page_bytes * NS_PER_S // profile.bandwidth_bytes_per_s
            done_ns = self._wire_free_ns = max(flow_ns, self._wire_free_ns) + transfer_ns
        # A head stays where it reads; other servers turn to the next request while data flows.
        heapq.heappush(self._server_free_ns, done_ns if self._rotational else flow_ns)
        self.requests += 1
        if done_ns > self.idle_ns:
            self.idle_ns = done_ns
        return done_ns

    def elevator_order(self, slots: list[int]) -> list[int]:
        """Return the indices of `slots` in the order they are served: one sweep upwards from the head, then the rest.

        Only where positions matter; other devices serve in the order of issue.
        """
        if not self._rotational:
            return list(range(len(slots)))
        return sorted(range(len(slots)), key=lambda index: (slots[index] < self._next_slot, slots[index]))

    def _admit(self, now_ns: int, pages: int) -> int:
        """Return when the blkio limits let a request through."""
        profile = self.profile
        cost_ns = 0
        if profile.iops is not None:
            cost_ns = pages * NS_PER_S // profile.iops
        if profile.limit_bytes_per_s is not None:
            cost_ns = max(cost_ns, pages * self._page_bytes * NS_PER_S // profile.limit_bytes_per_s)
        self._limit_free_ns = max(now_ns, self._limit_free_ns) + cost_ns
        return self._limit_free_ns
