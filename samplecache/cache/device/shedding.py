"""Looks now and then whether the swap device carries what sessions play, and sheds those for which there is no room."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.accounting.playback import Playback
from samplecache.cache.device.overload import (
    CLEAN_LOOKS,
    COLD_NS,
    CROWDED_LOOKS,
    KEEP,
    LOOK_NS,
    PATIENCE_NS,
    REMEMBER_NS,
    Stream,
    has_room,
    shed,
)
from samplecache.cache.samples.sample import Sample
from samplecache.cache.tasks.looks import Looks
from samplecache.clock import NS_PER_MS, Clock
from samplecache.strategy.events import Event, Overloaded

GATE_POLL_NS: Final = 10 * NS_PER_MS
"""How often a reader of a shed stream looks whether its pages are there."""


class Player(Protocol):
    """What is looked at of a session."""

    session_id: str
    sample: Sample
    playback: Playback

    @property
    def strategy(self) -> str:
        """Name of the strategy bound."""

    @property
    def bytes_per_s(self) -> int:
        """What it reads, in bytes per second of sample memory."""

    @property
    def is_cold(self) -> bool:
        """Whether its next block is not in RAM."""

    @property
    def can_yield(self) -> bool:
        """Whether its strategy brings in a bit at a time, so that it can be kept from it."""


class Place:
    """Where a session stands while the device is overloaded. Any thread.

    Attributes
    ----------
    shed : bool
        Whether it yields to others.
    notice : Overloaded or None
        What its client has not been told yet.
    """

    def __init__(self) -> None:
        self.shed = False
        self.notice: Overloaded | None = None
        self._waits_for = -1
        self._since_ns = 0

    def take_notice(self) -> Overloaded | None:
        """Return what is to be told the client, once."""
        notice, self.notice = self.notice, None
        return notice

    def may_read(self, frame: int, now_ns: int) -> bool:
        """Return whether a block that begins with `frame`, whose pages are not all in RAM, may be read all the same.

        A shed session waits for its pages, but not for ever. To be asked again every :data:`GATE_POLL_NS`.
        """
        if not self.shed:
            return True
        if self._waits_for != frame:
            self._waits_for, self._since_ns = frame, now_ns
        return now_ns - self._since_ns >= PATIENCE_NS


class _Member:
    def __init__(self, player: Player, place: Place, opened: int) -> None:
        self.player = player
        self.place = place
        self.opened = opened
        self.cold_until_ns = 0
        self.clean_looks = 0
        self.late = False
        self.seen = (0, 0, 0, 0)

    def look(self, now_ns: int, *, queueing: bool) -> Stream | None:
        """Return the stream as it is now; None if it does not need the device.

        While batches queue at the device, that a stream plays clean tells only that pages of it were in RAM before.
        """
        stats = self.player.playback.stats
        now = (stats.prefetched.asked, stats.faults.major, stats.late_blocks, stats.blocks)
        before, self.seen = self.seen, now
        if now[:2] != before[:2]:
            self.cold_until_ns = now_ns + COLD_NS
        self.late = now[2] != before[2]
        clean = now[3] != before[3] and not self.late and not queueing
        self.clean_looks = self.clean_looks + 1 if clean else 0
        return self.stream(now_ns)

    def stream(self, now_ns: int) -> Stream | None:
        """Return the stream as it was at the last look; None if it did not need the device."""
        if not self.place.shed and now_ns >= self.cold_until_ns:
            return None
        player, shed_now = self.player, self.place.shed
        recovered = shed_now and self.clean_looks >= CLEAN_LOOKS
        return Stream(player.bytes_per_s, self.opened, shed_now, recovered, player.can_yield)


class Shedding:
    """Sheds sessions and takes them back. Any thread; looks are taken by workers.

    Parameters
    ----------
    clock : Clock
        The time.
    call_at : Callable
        Has something done by a worker at a time, in nanoseconds.
    meter : PageInMeter
        Knows what the device carries.
    publish : Callable
        Told of sessions that are shed or taken back.
    """

    def __init__(
        self,
        clock: Clock,
        call_at: Callable[[Callable[[], None], int], None],
        meter: PageInMeter,
        publish: Callable[[Event], None],
    ) -> None:
        self._clock = clock
        self._meter = meter
        self._publish = publish
        self._lock = threading.Lock()
        self._members: dict[str, _Member] = {}
        self._opened = 0
        self._looks = Looks(clock, call_at, self._look)
        self._capacity_bytes_per_s: int | None = None
        self._known_ns = 0
        self._crowded_looks = 0

    def join(self, player: Player, place: Place) -> None:
        """Look after a session from now on; shed it at once if there is no room for it. Never blocks."""
        now_ns = self._clock.now_ns()
        with self._lock:
            self._opened += 1
            member = _Member(player, place, self._opened)
            others = self._members.values() if player.can_yield else ()  # who cannot yield is not to wait for a count
            streams = [stream for other in others if (stream := other.stream(now_ns)) is not None]
            self._members[player.session_id] = member
        if player.can_yield and player.is_cold and not has_room(streams, player.bytes_per_s, self._known(now_ns)):
            needed = sum(stream.bytes_per_s for stream in streams) + player.bytes_per_s
            self._tell(member, True, needed, now_ns)
        self._looks.begin(now_ns + LOOK_NS)

    def leave(self, session_id: str) -> None:
        """Look no longer after a session."""
        with self._lock:
            self._members.pop(session_id, None)

    def _look(self) -> int | None:
        now_ns = self._clock.now_ns()
        with self._lock:
            members = list(self._members.values())
        if not members:
            return None
        sustained = self._meter.sustained
        queueing = sustained is not None
        looks = [
            (member, stream) for member in members if (stream := member.look(now_ns, queueing=queueing)) is not None
        ]
        streams = [stream for _, stream in looks]
        any_shed = any(stream.shed for stream in streams)
        if sustained is not None and not any_shed:
            # A page that is taken back on its way leaves time in which nothing came in: less than what came in at the
            # worst of other times is no measurement of the device.
            self._capacity_bytes_per_s = max(sustained, self._meter.figures.bytes_per_s_low or 0)
        if sustained is not None or any_shed:
            self._known_ns = now_ns
        self._correct(looks, queueing=queueing)
        needed = sum(stream.bytes_per_s for stream in streams)
        # Between two measurements those that play keep their places.
        enough = sustained is None and not any_shed
        verdicts = shed(streams, None if enough else self._known(now_ns))
        for (member, stream), verdict in zip(looks, verdicts, strict=True):
            if verdict != stream.shed:
                self._tell(member, verdict, needed, now_ns)
        return now_ns + LOOK_NS

    def _known(self, now_ns: int) -> int | None:
        """Return what the device carries; None if it was not measured lately."""
        return self._capacity_bytes_per_s if now_ns - self._known_ns <= REMEMBER_NS else None

    def _correct(self, looks: Sequence[tuple[_Member, Stream]], *, queueing: bool) -> None:
        """Correct what the device is known to carry by who plays clean, once some are shed.

        It carries those, too, that play clean although they are shed. It does not carry all of those that are kept if
        batches still queue and some of them are still late.
        """
        capacity = self._capacity_bytes_per_s
        kept = [(member, stream) for member, stream in looks if not stream.shed]
        if capacity is None or len(kept) == len(looks):
            self._crowded_looks = 0
            return
        crowded = queueing and any(member.late for member, _ in kept)
        self._crowded_looks = self._crowded_looks + 1 if crowded else 0
        kept_bytes_per_s = sum(stream.bytes_per_s for _, stream in kept)
        recovered = sum(stream.bytes_per_s for _, stream in looks if stream.recovered)
        if recovered:
            self._capacity_bytes_per_s = max(capacity, int((kept_bytes_per_s + recovered) / KEEP) + 1)
        elif self._crowded_looks >= CROWDED_LOOKS:
            self._crowded_looks = 0
            self._capacity_bytes_per_s = min(capacity, int(kept_bytes_per_s / KEEP) - 1)

    def _tell(self, member: _Member, shed_now: bool, needed: int, now_ns: int) -> None:
        player, place = member.player, member.place
        place.shed = shed_now
        member.cold_until_ns = now_ns + COLD_NS
        place.notice = Overloaded(
            now_ns,
            player.session_id,
            player.sample.sample_id,
            player.strategy,
            shed=shed_now,
            needed_bytes_per_s=needed,
            device_bytes_per_s=self._capacity_bytes_per_s or 0,
        )
        self._publish(place.notice)
