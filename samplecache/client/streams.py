"""Calls that answer more than once: playback, prefetch, events."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar, cast

import grpc

from samplecache.client.connection import Connection
from samplecache.client.failure import ClientError
from samplecache.v1 import playback_pb2 as playback
from samplecache.v1 import samplecache_pb2 as pb

PlayEvent: TypeAlias = (
    playback.PlayStarted
    | playback.PlayBlock
    | playback.PlaySeeked
    | playback.PlayPositionReport
    | playback.Underrun
    | playback.PlaySummary
)
"""What a playback session answers: first PlayStarted, last PlaySummary."""

PrefetchEvent: TypeAlias = playback.StrategyBinding | pb.PrefetchProgress | pb.PrefetchResult
"""What a prefetch answers: first StrategyBinding, last PrefetchResult."""

_Event = TypeVar("_Event")


class _Stream(Generic[_Event]):
    """The answers of one call, in order. One thread iterates, blocking; any may :meth:`close`.

    Raises :class:`ClientError` where the call fails. As a context manager it is closed at the end.
    """

    def __init__(self, connection: Connection, call: Any) -> None:
        self._connection = connection
        self._call = call
        self._closed = False

    def __iter__(self) -> Iterator[_Event]:
        return self

    def __next__(self) -> _Event:
        while True:
            try:
                event = self._event(next(self._call))
            except grpc.RpcError as error:
                if self._closed:
                    raise StopIteration from None
                raise self._connection.failure(error) from None
            if event is not None:
                return event

    def _event(self, response: Any) -> _Event | None:
        """Return the event in `response`; None if it is of a kind that this version does not know."""
        kind = response.WhichOneof("event")
        return None if kind is None else cast("_Event", getattr(response, kind))

    def close(self) -> None:
        """Cancel the call: iteration ends, and the server stops working on it. Never blocks; may be called again."""
        self._closed = True
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EventStream(_Stream[pb.WatchEventsResponse]):
    """What happens on the server, until closed. The first is ``started``: what happens after it is not missed."""

    def _event(self, response: pb.WatchEventsResponse) -> pb.WatchEventsResponse:
        """Return it whole: the time and the number of lost events matter too."""
        return response


class PrefetchCall(_Stream[PrefetchEvent]):
    """A prefetch under way. Closing it stops the work."""

    cancel = _Stream.close

    def result(self) -> pb.PrefetchResult:
        """Block until it has ended and return how.

        Raises
        ------
        ClientError
            It failed, or was cancelled.
        """
        for event in self:
            if isinstance(event, pb.PrefetchResult):
                return event
        raise ClientError(
            grpc.StatusCode.CANCELLED,
            "the prefetch was cancelled",
            remedy="Prefetch again if that was not meant",
            reason="CANCELLED",
        )


class PlayStream(_Stream[PlayEvent]):
    """A playback session. One thread iterates over its events; any thread may send commands.

    Commands never block, and do nothing once the session has ended. The server sends no faster than this is iterated.

    Parameters
    ----------
    connection : Connection
        Where to play.
    start : PlayStart
        What to play.
    """

    def __init__(self, connection: Connection, start: playback.PlayStart) -> None:
        self._commands: queue.SimpleQueue[playback.PlayRequest | None] = queue.SimpleQueue()
        self._send(playback.PlayRequest(start=start))
        call = connection.open(connection.stub.Play, iter(self._commands.get, None))
        super().__init__(connection, call)
        # Otherwise gRPC's sending thread would wait for a command for ever.
        if not call.add_callback(self._end_commands):
            self._end_commands()

    def seek(self, frame: int) -> None:
        """Go on at `frame` of the sample; blocks after the PlaySeeked event are from there."""
        self._send(playback.PlayRequest(seek=playback.PlaySeek(frame=frame)))

    def stop(self) -> None:
        """End the session; what is under way and the PlaySummary still come."""
        self._send(playback.PlayRequest(stop=playback.PlayStop()))

    def set_gain(self, gain: float) -> None:
        """Change the linear gain, 0 to 16, from the next block on."""
        self._send(playback.PlayRequest(gain=gain))

    def set_loop(self, loop: bool) -> None:
        """Switch looping on or off."""
        self._send(playback.PlayRequest(loop=loop))

    def request_position(self) -> None:
        """Ask where the session stands; a PlayPositionReport comes among the events."""
        self._send(playback.PlayRequest(position=playback.PlayPosition()))

    def _send(self, command: playback.PlayRequest) -> None:
        self._commands.put(command)

    def _end_commands(self) -> None:
        self._commands.put(None)
