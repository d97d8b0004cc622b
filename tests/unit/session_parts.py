"""What tests of sessions play with: a strategy that notes what it is asked, and a player without a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from cache_parts import until

from samplecache.cache import PlayOptions, SampleCache, Session
from samplecache.kernel.port import Span
from samplecache.strategy import Action, PrefetchStrategy, View
from samplecache.strategy.events import Event

BLOCK_FRAMES = 960
"""20 ms of MONO."""


class Records(PrefetchStrategy):
    """Notes when it is asked what about which pages; a subclass says what to answer."""

    name = "mine"
    asked: list[tuple[str, Span]]

    def answer(self, moment: str, view: View) -> Iterable[Action]:
        return ()

    def _record(self, moment: str, view: View) -> Iterable[Action]:
        self.asked.append((moment, view.wanted))
        return self.answer(moment, view)

    def prepare(self, view: View) -> Iterable[Action]:
        return self._record("prepare", view)

    def finish(self, view: View) -> Iterable[Action]:
        return self._record("finish", view)


class Follows(Records):
    def advance(self, view: View) -> Iterable[Action]:
        return self._record("advance", view)


def recording(
    answer: Callable[[str, View], Iterable[Action]] | None = None, base: type[Records] = Records
) -> type[Records]:
    own: dict[str, Any] = {"asked": []}
    if answer is not None:
        own["answer"] = lambda _, moment, view: answer(moment, view)
    return type("Mine", (base,), own)


def opened(cache: SampleCache, **options: Any) -> Session:
    options = {"sample_id": "pad", "lead_ns": None, "strategy": "mine"} | options
    return cache.open_session(PlayOptions(**options))


def play(session: Session, blocks: int = 10**9) -> bytes:
    played = bytearray()
    while blocks and (block := session.next_block()) is not None:
        read = session.read(block)
        session.delivered(read)
        played += read.pcm
        blocks -= 1
    return bytes(played)


def closed(cache: SampleCache, session: Session) -> None:
    session.close()
    until(lambda: not cache.session_count)


def answered(session: Session) -> None:
    """Wait until the strategy has answered and what it asked for is done."""
    until(lambda: all(prefetch.progress.done for prefetch in session._prefetches))


def heard(cache: SampleCache, kind: type[Event]) -> list[Any]:
    events: list[Any] = []
    cache.events.listen(lambda event: events.append(event) if isinstance(event, kind) else None)
    return events
