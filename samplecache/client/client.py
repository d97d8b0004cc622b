"""The client: a method for every call of the service."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from types import TracebackType
from typing import BinaryIO, Final, Self

import grpc
from google.protobuf import duration_pb2, field_mask_pb2
from grpc_health.v1 import health_pb2

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.client.connection import Connection
from samplecache.client.failure import ClientError
from samplecache.client.naming import sample_id_of
from samplecache.client.streams import EventStream, PlayStream, PrefetchCall
from samplecache.client.uploading import Progress, opened, upload
from samplecache.clock import NS_PER_MS, NS_PER_S, Clock, MonotonicClock
from samplecache.v1 import audio_pb2, sample_pb2
from samplecache.v1 import playback_pb2 as playback
from samplecache.v1 import samplecache_pb2 as pb
from samplecache.v1 import schedule_pb2 as wire

DEFAULT_TARGET: Final = "127.0.0.1:50380"
SERVICE_NAME: Final = "samplecache.v1.SampleCacheService"
TIMEOUT_NS: Final = 30 * NS_PER_S
EVICT_TIMEOUT_NS: Final = 30 * NS_PER_S
PAGE_SIZE: Final = 500
_HEALTH_POLL_NS: Final = 20 * NS_PER_MS


class Client:
    """A connection to a samplecache server, as a context manager. May be used from any thread.

    Nothing connects before the first call. Every call blocks; every call raises :class:`ClientError`, which says what
    to do. Answers are messages of the contract; times are integer nanoseconds.

    Parameters
    ----------
    target : str
        ``host:port`` or ``unix:PATH``.
    token : str, optional
        Sent with every call, for a server that demands one.
    root_certificates : bytes, optional
        PEM certificates to verify the server by, over TLS; without them the connection is not encrypted.
    low_latency : bool
        Keeps the server from running megabytes ahead of a player, at the price of throughput over distance.
    timeout_ns : int
        How long a call with a single answer may take. Uploads take as long as they take.
    clock : Clock, optional
        What is waited on between tries.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        token: str | None = None,
        root_certificates: bytes | None = None,
        low_latency: bool = True,
        timeout_ns: int = TIMEOUT_NS,
        clock: Clock | None = None,
    ) -> None:
        self.target = target
        self._connection = Connection(target, token, root_certificates, low_latency, timeout_ns)
        self._stub = self._connection.stub
        self._timeout_ns = timeout_ns
        self._clock = clock or MonotonicClock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is under way and disconnect."""
        self._connection.close()

    # --- uploads ---

    def put_file(
        self,
        source: str | Path | BinaryIO,
        sample_id: str | None = None,
        *,
        raw_format: AudioFormat | None = None,
        store_encoding: Encoding | None = None,
        tags: Iterable[str] = (),
        pinned: bool = False,
        strategy: str = "",
        replace: bool = False,
        resumable: bool = True,
        progress: Progress | None = None,
    ) -> pb.PutSampleResponse:
        """Upload a file. It is read twice: for its SHA-256, then to be sent.

        Parameters
        ----------
        source : path or binary file
            What to upload; a pipe is spooled first.
        sample_id : str, optional
            Id to store it under; made from the file's name if not given.
        raw_format : AudioFormat, optional
            Says that it is raw PCM of that format.
        store_encoding : Encoding, optional
            Encoding to store it in; its own if not given.
        tags : iterable of str
            Words to find it by.
        pinned : bool
            Whether the store may never evict it.
        strategy : str
            For requests that name none.
        replace : bool
            Whether a sample of that id is replaced.
        resumable : bool
            Whether to go on after a break of the connection, for some seconds without getting further.
        progress : callable, optional
            Told how many bytes have been sent, on another thread.

        Raises
        ------
        ClientError
            The store is as it was.
        InvalidSampleIdError
            No id can be made from the file's name.
        AudioError
            The file is empty.
        OSError
            The file cannot be read.
        """
        file = Path(source) if isinstance(source, str) else source
        name = file if isinstance(file, Path) else PurePath(str(getattr(file, "name", "")))
        start = pb.UploadStart(
            sample_id=sample_id_of(PurePath(name.name)) if sample_id is None else sample_id,
            raw_format=None if raw_format is None else _wire_format(raw_format),
            store_encoding=_wire_encoding(store_encoding),
            tags=tags,
            pinned=pinned,
            strategy=strategy,
            replace=replace,
            upload_id=uuid.uuid4().hex if resumable else "",
        )
        with opened(file) as readable:
            start.total_bytes, start.sha256 = readable.size_bytes, readable.sha256
            return upload(self._connection, start, readable, progress or (lambda _: None), self._clock)

    # --- samples ---

    def list_samples(self, tags: Iterable[str] = ()) -> Iterator[sample_pb2.Sample]:
        """Yield all samples that have all of `tags`, by ascending id; each page is asked for when it is needed."""
        request = pb.ListSamplesRequest(page_size=PAGE_SIZE, tags=tags)
        while True:
            response = self._connection.call(self._stub.ListSamples, request)
            yield from response.samples
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def get(self, sample_id: str) -> sample_pb2.Sample:
        """Return one sample."""
        return self._connection.call(self._stub.GetSample, pb.GetSampleRequest(sample_id=sample_id)).sample

    def update(
        self,
        sample_id: str,
        *,
        pinned: bool | None = None,
        tags: Iterable[str] | None = None,
        strategy: str | None = None,
    ) -> sample_pb2.Sample:
        """Change what is not None about a sample and return it."""
        changes = {"pinned": pinned, "tags": tags, "strategy": strategy}
        given = {name: value for name, value in changes.items() if value is not None}
        request = pb.UpdateSampleRequest(
            sample=sample_pb2.Sample(
                sample_id=sample_id, pinned=bool(pinned), tags=tags or (), strategy=strategy or ""
            ),
            update_mask=field_mask_pb2.FieldMask(paths=given),
        )
        return self._connection.call(self._stub.UpdateSample, request).sample

    def delete(self, sample_id: str, *, allow_missing: bool = False) -> None:
        """Remove a sample."""
        request = pb.DeleteSampleRequest(sample_id=sample_id, allow_missing=allow_missing)
        self._connection.call(self._stub.DeleteSample, request)

    # --- paging ---

    def prefetch(
        self,
        sample_id: str,
        *,
        start_frame: int = 0,
        frames: int = 0,
        strategy: str = "",
        deadline_ns: int | None = None,
        hold_ns: int | None = None,
    ) -> PrefetchCall:
        """Have a sample's pages brought in. Returns at once; iterate over the call, or ask it for its result.

        Parameters
        ----------
        sample_id : str
            The sample.
        start_frame, frames : int
            Frames to bring in; to the end if `frames` is 0.
        strategy : str
            A name, "auto", or empty for no wish.
        deadline_ns : int, optional
            How long from now the first frame will be played.
        hold_ns : int, optional
            How long locks are kept afterwards; the server's default if not given.
        """
        request = pb.PrefetchRequest(
            sample_id=sample_id,
            start_frame=start_frame,
            frames=frames,
            strategy=strategy,
            deadline=_wire_duration(deadline_ns),
            hold=_wire_duration(hold_ns),
        )
        return PrefetchCall(self._connection, self._connection.open(self._stub.Prefetch, request))

    def schedule(
        self,
        cues: Iterable[wire.Cue],
        *,
        schedule_id: str = "",
        keep_others: bool = False,
        request_id: str | None = None,
    ) -> wire.ScheduleResponse:
        """Announce what will be played when, and how surely. Returns at once; the event ``cue_settled`` tells the rest.

        Parameters
        ----------
        cues : iterable of Cue
            What will be played; :func:`samplecache.client.cue` makes one.
        schedule_id : str
            Name of the schedule, which is replaced; a new one if empty.
        keep_others : bool
            Whether cues of before that are not named stay.
        request_id : str, optional
            Give the same again to repeat a request of which it is not known whether it arrived; new by default.
        """
        request = wire.ScheduleRequest(
            schedule_id=schedule_id,
            cues=cues,
            keep_others=keep_others,
            request_id=uuid.uuid4().hex if request_id is None else request_id,
        )
        return self._connection.call(self._stub.Schedule, request)

    def get_schedule(self, schedule_id: str) -> wire.GetScheduleResponse:
        """Return how a schedule's cues stand."""
        return self._connection.call(self._stub.GetSchedule, wire.GetScheduleRequest(schedule_id=schedule_id))

    def cancel_schedule(
        self, schedule_id: str, cue_ids: Iterable[str] = (), *, allow_missing: bool = False
    ) -> wire.CancelScheduleResponse:
        """Cancel a schedule, or some of its cues."""
        request = wire.CancelScheduleRequest(schedule_id=schedule_id, cue_ids=cue_ids, allow_missing=allow_missing)
        return self._connection.call(self._stub.CancelSchedule, request)

    def residency(
        self, sample_id: str, *, start_frame: int = 0, frames: int = 0, with_map: bool = False
    ) -> sample_pb2.Residency:
        """Tell where a sample's pages are; with a byte for each if `with_map`."""
        request = pb.GetResidencyRequest(sample_id=sample_id, start_frame=start_frame, frames=frames, with_map=with_map)
        return self._connection.call(self._stub.GetResidency, request).residency

    def evict(self, sample_id: str, *, timeout_ns: int = EVICT_TIMEOUT_NS) -> pb.EvictSampleResponse:
        """Page a sample out, for at most `timeout_ns`."""
        request = pb.EvictSampleRequest(sample_id=sample_id, timeout=_wire_duration(timeout_ns))
        return self._connection.call(self._stub.EvictSample, request, timeout_ns=timeout_ns + self._timeout_ns)

    # --- playback ---

    def play(
        self,
        sample_id: str,
        *,
        start_frame: int = 0,
        frames: int = 0,
        strategy: str = "",
        rate_hz: int = 0,
        channels: int = 0,
        encoding: Encoding | None = None,
        loop: bool = False,
        gain: float = 1.0,
        block_ns: int | None = None,
        lead_ns: int | None = None,
        coalesce_ns: int | None = None,
        realtime: bool = True,
    ) -> PlayStream:
        """Open a playback session. Returns at once; what is refused is raised when the stream is iterated.

        Parameters
        ----------
        sample_id : str
            The sample.
        start_frame, frames : int
            What to play; to the end if `frames` is 0.
        strategy : str
            A name, "auto", or empty for no wish.
        rate_hz, channels : int
            Format to deliver; 0 as stored.
        encoding : Encoding, optional
            Encoding to deliver; as stored if not given.
        loop : bool
            Whether to begin again after the last frame.
        gain : float
            Linear, 0 to 16.
        block_ns, lead_ns : int, optional
            Length of a block, and how long after the start its first frame is to sound; the server's defaults if not
            given.
        coalesce_ns : int, optional
            How long a block may wait for those after it, to come in one message: at most half of the lead.
        realtime : bool
            Whether blocks come on the audio clock, or as fast as they are taken.
        """
        start = playback.PlayStart(
            sample_id=sample_id,
            start_frame=start_frame,
            frames=frames,
            strategy=strategy,
            format=audio_pb2.AudioFormat(rate_hz=rate_hz, channels=channels, encoding=_wire_encoding(encoding)),
            loop=loop,
            gain=gain,
            block=_wire_duration(block_ns),
            pace=playback.PACE_REALTIME if realtime else playback.PACE_UNLIMITED,
            lead=_wire_duration(lead_ns),
            coalesce=_wire_duration(coalesce_ns),
        )
        return PlayStream(self._connection, start)

    # --- the server ---

    def strategies(self, explain_sample_id: str = "", *, lead_ns: int | None = None) -> pb.ListStrategiesResponse:
        """Return the strategies there are and, if a sample is named that is due in `lead_ns`, what "auto" comes to."""
        request = pb.ListStrategiesRequest(explain_sample_id=explain_sample_id, lead=_wire_duration(lead_ns))
        return self._connection.call(self._stub.ListStrategies, request)

    def capabilities(self) -> pb.GetCapabilitiesResponse:
        """Return what the server's kernel permits, and what is useful on it."""
        return self._connection.call(self._stub.GetCapabilities, pb.GetCapabilitiesRequest())

    def stats(self) -> pb.GetStatsResponse:
        """Return the server's counters and gauges."""
        return self._connection.call(self._stub.GetStats, pb.GetStatsRequest())

    def sessions(self, *, with_residency: bool = False) -> Sequence[pb.SessionInfo]:
        """Return the sessions open now, oldest first; with where the pages of their samples are if asked for."""
        request = pb.ListSessionsRequest(with_residency=with_residency)
        return self._connection.call(self._stub.ListSessions, request).sessions

    def watch(
        self, kinds: Iterable[pb.EventKind.ValueType] = (), sample_id: str = "", schedule_id: str = ""
    ) -> EventStream:
        """Watch what happens from now on: only those `kinds`, only that sample, and only that schedule, if given."""
        request = pb.WatchEventsRequest(kinds=kinds, sample_id=sample_id, schedule_id=schedule_id)
        return EventStream(self._connection, self._connection.open(self._stub.WatchEvents, request))

    def health(self) -> bool:
        """Return whether the server serves; False while it starts or stops."""
        return self._health(self._timeout_ns, wait_for_ready=False)

    def wait_ready(self, timeout_ns: int = TIMEOUT_NS) -> None:
        """Block until the server serves.

        Raises
        ------
        ClientError
            It does not within `timeout_ns`.
        """
        end_ns = self._clock.now_ns() + timeout_ns
        serving = False
        while not serving and (left_ns := end_ns - self._clock.now_ns()) > 0:
            with contextlib.suppress(ClientError):
                serving = self._health(left_ns, wait_for_ready=True)
            if not serving:
                self._clock.sleep_until(min(end_ns, self._clock.now_ns() + _HEALTH_POLL_NS))
        if not serving:
            raise ClientError(
                grpc.StatusCode.UNAVAILABLE,
                f"no server was ready at {self.target} within {timeout_ns / NS_PER_S:g} s",
                remedy="See its log, or wait longer",
                reason="NOT_READY",
            )

    def _health(self, timeout_ns: int, *, wait_for_ready: bool) -> bool:
        request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
        response = self._connection.call(
            self._connection.health.Check, request, timeout_ns=timeout_ns, wait_for_ready=wait_for_ready
        )
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def cue(
    sample_id: str,
    after_ns: int,
    *,
    cue_id: str = "",
    start_frame: int = 0,
    frames: int = 0,
    strategy: str = "",
    sureness: float = 1.0,
) -> wire.Cue:
    """Return a cue that will be played `after_ns` after the server gets it; see :meth:`Client.schedule`."""
    return wire.Cue(
        cue_id=cue_id,
        sample_id=sample_id,
        start_frame=start_frame,
        frames=frames,
        strategy=strategy,
        after=_wire_duration(after_ns),
        sureness=sureness,
    )


def _wire_duration(nanoseconds: int | None) -> duration_pb2.Duration | None:
    if nanoseconds is None:
        return None
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(nanoseconds)
    return duration


def _wire_encoding(encoding: Encoding | None) -> audio_pb2.Encoding.ValueType:
    return audio_pb2.ENCODING_UNSPECIFIED if encoding is None else audio_pb2.Encoding.Value(f"ENCODING_{encoding.name}")


def _wire_format(audio: AudioFormat) -> audio_pb2.AudioFormat:
    return audio_pb2.AudioFormat(
        rate_hz=audio.rate_hz, channels=audio.channels, encoding=_wire_encoding(audio.encoding)
    )
