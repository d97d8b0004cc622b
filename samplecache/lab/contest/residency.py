"""Where a contender's samples are while it plays: looked at from a thread of its own, where one can look."""

from __future__ import annotations

import bisect
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from samplecache.client.failure import ClientError
from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.kernel.port import Tier
from samplecache.lab.contest.records import Strip, digits, shares
from samplecache.lab.ear.contender import CueReport, Sound, Stage
from samplecache.lab.ear.contenders.served import Samplecache
from samplecache.lab.ear.performing import BEGIN_NS, read
from samplecache.lab.ear.sound_pages import SoundPages

INTERVAL_NS: Final = 200 * NS_PER_MS
"""Each look costs samplecache's server a call a sample; five a second are less than a hundredth of a core. Others are
looked at from outside."""
_IN_RAM: Final = bytes(int(tier >= Tier.SWAP_CACHE) for tier in range(256))

Look = Callable[[], dict[str, bytes]]
"""Returns for each sample a byte a page: 1 for what is there, 0 for what is not."""


class Watched:
    """A contender that is looked at while it plays, and does in all else what it does.

    Parameters
    ----------
    contender : Contender
        Which.

    Attributes
    ----------
    mapped_only : bool
        Whether pages that wait in the swap cache count as away: from outside nobody sees them.
    """

    def __init__(self, contender: Any) -> None:
        self._contender = contender
        self.mapped_only = not isinstance(contender, Samplecache)
        self._stage: Stage | None = None
        self._look: Look | None = None
        self._looks: list[tuple[int, dict[str, bytes]]] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._contender, name)

    def start(self, stage: Stage) -> None:
        """See :class:`Contender`."""
        self._stage = stage
        self._contender.start(stage)

    def prepare(self, sounds: Sequence[Sound]) -> None:
        """See :class:`Contender`."""
        self._contender.prepare(sounds)
        self._look = self._asking(sounds) if isinstance(self._contender, Samplecache) else self._peeping(sounds)

    def mix_pipe(self) -> int | None:
        """See :class:`Contender`. A performance is about to begin."""
        self._looks = []
        self._stopping.clear()
        start_ns = MonotonicClock().now_ns() + BEGIN_NS
        self._thread = threading.Thread(target=self._run, args=(start_ns,), name="residency", daemon=True)
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
        parts = shares(pages)
        when = [at_ns for at_ns, _ in looks]
        nearest = [looks[max(0, bisect.bisect_right(when, at_ns) - 1)][1] for at_ns in times_ns]
        return [
            Strip(sample_id=name, pages=pages[name], rows=[digits(look[name], parts[name]) for look in nearest])
            for name in order
        ]

    def _asking(self, sounds: Sequence[Sound]) -> Look:
        """Have samplecache itself say."""
        names = [sound.sample_id for sound in sounds]

        def ask() -> dict[str, bytes]:
            return {
                name: self._contender.client.residency(name, with_map=True).map.translate(_IN_RAM) for name in names
            }

        return ask

    def _peeping(self, sounds: Sequence[Sound]) -> Look | None:
        """Look into the memory of whoever has the samples, where that is allowed and they are found."""
        keeper = self._contender.keeper()
        if keeper is None or self._stage is None:
            return None
        with contextlib.suppress(OSError):
            return SoundPages(keeper, {sound.sample_id: read(sound) for sound in sounds}, self._stage.directory).look
        return None

    def _run(self, start_ns: int) -> None:
        clock = MonotonicClock()
        while self._look is not None:
            at_ns = clock.now_ns() - start_ns
            with contextlib.suppress(ClientError, OSError):  # it is ending
                self._looks.append((at_ns, self._look()))
            if self._stopping.wait(INTERVAL_NS / NS_PER_S):
                return

    def _stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
