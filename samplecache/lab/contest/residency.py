"""Where a contender's samples are while it plays: looked at from a thread of its own, where one can look."""

from __future__ import annotations

import bisect
import contextlib
import threading
from collections.abc import Sequence
from typing import Any, Final

from samplecache.client.failure import ClientError
from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.kernel.port import Tier
from samplecache.lab.contest.records import Strip, digits
from samplecache.lab.contest.simulated import PARTS
from samplecache.lab.ear.contender import CueReport, Sound
from samplecache.lab.ear.contenders.served import Samplecache
from samplecache.lab.ear.performing import BEGIN_NS

INTERVAL_NS: Final = 200 * NS_PER_MS
"""Each look costs the server a call a sample; five a second are less than a hundredth of a core."""
_IN_RAM: Final = bytes(int(tier >= Tier.SWAP_CACHE) for tier in range(256))


class Watched:
    """A contender that is looked at while it plays, and does in all else what it does.

    Parameters
    ----------
    contender : Contender
        Which.
    """

    def __init__(self, contender: Any) -> None:
        self._contender = contender
        self._sounds: list[Sound] = []
        self._looks: list[tuple[int, dict[str, bytes]]] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._contender, name)

    def prepare(self, sounds: Sequence[Sound]) -> None:
        """See :class:`Contender`."""
        self._contender.prepare(sounds)
        self._sounds = list(sounds)

    def mix_pipe(self) -> int | None:
        """See :class:`Contender`. A performance is about to begin."""
        if isinstance(self._contender, Samplecache):
            self._looks = []
            self._stopping.clear()
            start_ns = MonotonicClock().now_ns() + BEGIN_NS
            self._thread = threading.Thread(target=self._look, args=(start_ns,), name="residency", daemon=True)
            self._thread.start()
        fd: int | None = self._contender.mix_pipe()
        return fd

    def finish(self) -> dict[int, CueReport]:
        """See :class:`Contender`. A performance is over."""
        self._stop()
        reports: dict[int, CueReport] = self._contender.finish()
        return reports

    def close(self) -> None:
        """See :class:`Contender`."""
        self._stop()
        self._contender.close()

    def strips(self, order: Sequence[str], times_ns: Sequence[int]) -> list[Strip]:
        """Return where the pages of the samples in `order` were at `times_ns`; nothing if nobody could look."""
        looks = [look for look in self._looks if set(order) <= look[1].keys()]
        if not looks:
            return []
        pages = {name: len(looks[0][1][name]) for name in order}
        total = sum(pages.values())
        parts = {name: min(count, max(2, PARTS * count // total)) for name, count in pages.items()}
        when = [at_ns for at_ns, _ in looks]
        nearest = [looks[max(0, bisect.bisect_right(when, at_ns) - 1)][1] for at_ns in times_ns]
        return [
            Strip(sample_id=name, pages=pages[name], rows=[digits(look[name], parts[name]) for look in nearest])
            for name in order
        ]

    def _look(self, start_ns: int) -> None:
        clock = MonotonicClock()
        while True:
            at_ns = clock.now_ns() - start_ns
            with contextlib.suppress(ClientError):  # it is ending
                found = {
                    sound.sample_id: self._contender.client.residency(sound.sample_id, with_map=True).map
                    for sound in self._sounds
                }
                self._looks.append((at_ns, {name: tiers.translate(_IN_RAM) for name, tiers in found.items()}))
            if self._stopping.wait(INTERVAL_NS / NS_PER_S):
                return

    def _stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
