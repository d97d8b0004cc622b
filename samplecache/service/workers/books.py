"""The owner's side of the sessions that a worker streams: it opens them, and keeps their books.

A session here is a session like any other: it holds the lease, has its strategy prepare, counts into the totals and
publishes underruns. What it does not do is read. The worker tells how its reads went, some milliseconds later. Its
own :class:`~samplecache.cache.accounting.playback.Playback` begins with the same figures and is told the same, so both
agree.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

import structlog

from samplecache.cache import SampleCache
from samplecache.cache.reading import ReadBlock
from samplecache.cache.session import Session
from samplecache.errors import SamplecacheError
from samplecache.kernel.linux import LinuxKernel
from samplecache.service import translate
from samplecache.service.playback import playback_stats, started
from samplecache.service.workers.link import Link, Message, pack_error, unpack_reading
from samplecache.v1 import playback_pb2

_log = structlog.get_logger(__name__)

IN_TIME: Final = "t"
READ: Final = "r"
SEEK: Final = "s"
LOOP: Final = "l"
"""What happened in a session: blocks in time that took no read of their own, a block that was read, a seek, a loop."""


class Books:
    """The sessions of one worker. For the owner's event loop.

    Parameters
    ----------
    cache : SampleCache
        Whose they are.
    link : Link
        To the worker.
    observe_call : Callable
        Told of each RPC that the worker answered by itself.
    """

    def __init__(self, cache: SampleCache, link: Link, observe_call: Callable[[str, str, float], None]) -> None:
        self._cache = cache
        self._link = link
        self._observe_call = observe_call
        self._sessions: dict[str, Session] = {}

    def hear(self, message: Message) -> None:
        """Do what the worker asks, or take in what it tells."""
        match message["say"]:
            case "open":
                self._open(message)
            case "played":
                for session_id, happened in message["sessions"].items():
                    if (session := self._sessions.get(session_id)) is not None:
                        self._take_in(session, happened)
            case "stats":
                stats = playback_stats(self._sessions[message["session"]]).SerializeToString()
                self._link.send(say="stats", number=message["number"], stats=base64.b64encode(stats).decode())
            case "close":
                if (session := self._sessions.pop(message["session"], None)) is not None:
                    session.close()
            case "call":
                self._observe_call(message["method"], message["code"], message["elapsed_s"])

    def close(self) -> None:
        """End all sessions: the worker has gone."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def _open(self, message: Message) -> None:
        start = playback_pb2.PlayStart.FromString(base64.b64decode(message["start"]))
        try:
            session = self._cache.open_session(translate.play_options(start))
        except Exception as error:
            if not isinstance(error, SamplecacheError):
                _log.exception("request_failed", method="Play")
                error = SamplecacheError("the server failed at this request", remedy="Report it with the server's log")
            self._link.send(say="refused", number=message["number"], error=pack_error(error))
            return
        self._sessions[session.session_id] = session
        self._link.send(say="opened", number=message["number"], **self._description(session))

    def _description(self, session: Session) -> dict[str, Any]:
        """Return what the worker needs to stream a session that has just been opened."""
        content, playback, converter = session.sample.content, session.playback, session.converter
        kernel = self._cache.kernel
        assert isinstance(kernel, LinuxKernel)  # noqa: S101 -- the configuration allows no other with workers
        remaining = playback.remaining
        return {
            "session": session.session_id,
            "strategy": session.strategy,
            "sample": session.sample.sample_id,
            "started": base64.b64encode(started(session).SerializeToString()).decode(),
            "address": kernel.address(content.region),
            "pages": content.region.pages,
            "frames": content.frames,
            "stored": _audio(converter.source),
            "delivered": _audio(converter.target),
            "gain": converter.gain,
            "remaining": [remaining.start, remaining.stop],
            "block_frames": playback.block_frames,
            "opened_ns": playback.opened_ns,
            "lead_ns": playback.lead_ns if playback.paced else None,
            "loop": playback.loop,
        }

    def _take_in(self, session: Session, happened: list[list[Any]]) -> None:
        brought_in = session.account.outstanding > 0
        for kind, *values in happened:
            if kind == IN_TIME:
                for _ in range(values[0]):
                    if (block := session.next_block()) is not None:
                        if brought_in:
                            session.was_read(block, in_core=True)
                        session.delivered_in_time(block.frames)
            elif kind == READ:
                if (block := session.next_block()) is not None:
                    reading = unpack_reading(values)
                    session.was_read(block, in_core=not reading.faults.major)
                    self._cache.meter.record_faults(reading.faults.major, reading.ready_ns - reading.began_ns)
                    session.delivered(ReadBlock(block, b"", block.frames.start, reading))
            elif kind == SEEK:
                session.seek(values[0], values[1])
            elif kind == LOOP:
                session.playback.loop = values[0]


def _audio(audio: Any) -> list[Any]:
    return [audio.rate_hz, audio.channels, audio.encoding.value]
