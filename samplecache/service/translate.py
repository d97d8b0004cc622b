"""Between wire messages and the cache's own values. No I/O, no decisions."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from google.protobuf import duration_pb2, timestamp_pb2

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.accounting.accounts import PageOutcomes
from samplecache.cache.accounting.figures import StrategyTotals
from samplecache.cache.accounting.playback import PlaybackStats
from samplecache.cache.ahead.cues import Cue
from samplecache.cache.ahead.triggers import TriggerFigures
from samplecache.cache.play_options import DEFAULT_BLOCK_NS, DEFAULT_LEAD_NS, PlayOptions
from samplecache.cache.prefetching.prefetch import Prefetch
from samplecache.cache.samples.sample import Sample
from samplecache.cache.samples.upload import Declaration
from samplecache.clock import NS_PER_S
from samplecache.errors import InvalidError, InvalidFormatError
from samplecache.kernel import port
from samplecache.strategy import events
from samplecache.strategy.registry import Binding, ChosenBy
from samplecache.v1 import audio_pb2, playback_pb2, sample_pb2, samplecache_pb2, schedule_pb2

_ENCODINGS = {
    audio_pb2.ENCODING_U8: Encoding.U8,
    audio_pb2.ENCODING_S16: Encoding.S16,
    audio_pb2.ENCODING_S24: Encoding.S24,
    audio_pb2.ENCODING_S32: Encoding.S32,
    audio_pb2.ENCODING_F32: Encoding.F32,
    audio_pb2.ENCODING_F64: Encoding.F64,
}
_ENCODING_NUMBERS = {encoding: number for number, encoding in _ENCODINGS.items()}

_CHOSEN_BY = {
    ChosenBy.REQUEST: playback_pb2.CHOSEN_BY_REQUEST,
    ChosenBy.SAMPLE: playback_pb2.CHOSEN_BY_SAMPLE,
    ChosenBy.HOOK: playback_pb2.CHOSEN_BY_HOOK,
    ChosenBy.SERVER: playback_pb2.CHOSEN_BY_SERVER,
    ChosenBy.NONE: playback_pb2.CHOSEN_BY_NONE,
}

_CAUSES = {
    events.UnderrunCause.MAJOR_FAULT: playback_pb2.UNDERRUN_CAUSE_MAJOR_FAULT,
    events.UnderrunCause.PAGE_WAIT: playback_pb2.UNDERRUN_CAUSE_PAGE_WAIT,
    events.UnderrunCause.SCHEDULING: playback_pb2.UNDERRUN_CAUSE_SCHEDULING,
    events.UnderrunCause.CLIENT: playback_pb2.UNDERRUN_CAUSE_CLIENT,
    events.UnderrunCause.SERVICE: playback_pb2.UNDERRUN_CAUSE_SERVICE,
}

_CUE_STATES = {state: schedule_pb2.CueState.Value(f"CUE_STATE_{state.name}") for state in events.CueState}

_MAX_DURATION_S: Final = 315_576_000_000
"""10 000 years: what google/protobuf/duration.proto allows."""
_MAX_UNIX_S: Final = 253_402_300_799
"""The year 9999: what google/protobuf/timestamp.proto allows."""


# --- time ---


def duration(nanoseconds: int) -> duration_pb2.Duration:
    """Return so many nanoseconds as a Duration."""
    message = duration_pb2.Duration()
    message.FromNanoseconds(nanoseconds)
    return message


def nanoseconds(message: duration_pb2.Duration, field: str) -> int:
    """Return a client's Duration in nanoseconds.

    Raises
    ------
    InvalidError
        It is negative, or no Duration at all. The reason is ``INVALID_DURATION``.
    """
    # ToNanoseconds takes any numbers, so duration.proto's own bounds are checked here.
    if not (0 <= message.seconds <= _MAX_DURATION_S and 0 <= message.nanos < NS_PER_S):
        raise InvalidError(
            f"{field} is no duration", remedy="Give zero or a positive Duration", reason="INVALID_DURATION", field=field
        )
    return int(message.ToNanoseconds())


def timestamp(since_1970_ns: int) -> timestamp_pb2.Timestamp:
    """Return nanoseconds since 1970 as a Timestamp."""
    message = timestamp_pb2.Timestamp()
    message.FromNanoseconds(since_1970_ns)
    return message


def unix_ns(message: timestamp_pb2.Timestamp, field: str) -> int:
    """Return a client's Timestamp in nanoseconds since 1970.

    Raises
    ------
    InvalidError
        It is no Timestamp. The reason is ``INVALID_TIMESTAMP``.
    """
    if not (0 <= message.seconds <= _MAX_UNIX_S and 0 <= message.nanos < NS_PER_S):
        raise InvalidError(
            f"{field} is no time since 1970",
            remedy="Give a Timestamp with 0 to 999 999 999 nanos",
            reason="INVALID_TIMESTAMP",
            field=field,
        )
    return int(message.ToNanoseconds())


def wall_clock(time_ns: int, now_ns: int) -> timestamp_pb2.Timestamp:
    """Return what the wall clock showed at `time_ns` of a clock that shows `now_ns` now."""
    return timestamp(time.time_ns() - (now_ns - time_ns))


# --- audio ---


def encoding(number: audio_pb2.Encoding.ValueType) -> Encoding | None:
    """Return the encoding, None if it is left open.

    Raises
    ------
    InvalidFormatError
        The number is none that this version knows.
    """
    if number == audio_pb2.ENCODING_UNSPECIFIED:
        return None
    try:
        return _ENCODINGS[number]
    except KeyError:
        raise InvalidFormatError(
            f"encoding {number} is unknown", remedy="Use a value of samplecache.v1.Encoding", encoding=number
        ) from None


def complete_format(message: audio_pb2.AudioFormat) -> AudioFormat:
    """Return the format of raw PCM.

    Raises
    ------
    InvalidFormatError
        A part is missing or impossible.
    """
    how = encoding(message.encoding)
    if how is None:
        raise InvalidFormatError(
            "raw PCM needs an encoding", remedy="Set rate_hz, channels and encoding of UploadStart.raw_format"
        )
    return AudioFormat(message.rate_hz, message.channels, how)


def audio_format(audio: AudioFormat, wire: audio_pb2.AudioFormat | None = None) -> audio_pb2.AudioFormat:
    """Return the wire form of `audio`, written into `wire` if that is given.

    A message that is put into another is copied by way of its bytes; one that is written where it belongs is not.
    """
    wire = audio_pb2.AudioFormat() if wire is None else wire
    wire.rate_hz, wire.channels, wire.encoding = audio.rate_hz, audio.channels, _ENCODING_NUMBERS[audio.encoding]
    return wire


# --- requests ---


def declaration(start: samplecache_pb2.UploadStart) -> Declaration:
    """Return what an upload declares.

    Raises
    ------
    InvalidFormatError
    """
    return Declaration(
        start.sample_id,
        start.total_bytes,
        start.sha256,
        complete_format(start.raw_format) if start.HasField("raw_format") else None,
        encoding(start.store_encoding),
        tuple(start.tags),
        start.pinned,
        start.strategy,
        start.replace,
        start.upload_id,
    )


def play_options(start: playback_pb2.PlayStart) -> PlayOptions:
    """Return what a session asks for, with the defaults that the contract promises.

    Raises
    ------
    InvalidFormatError
    """
    lead_ns = nanoseconds(start.lead, "lead") if start.HasField("lead") else DEFAULT_LEAD_NS
    return PlayOptions(
        start.sample_id,
        start.start_frame,
        start.frames,
        start.strategy,
        start.format.rate_hz,
        start.format.channels,
        encoding(start.format.encoding),
        start.loop,
        start.gain if start.HasField("gain") else 1.0,
        nanoseconds(start.block, "block") if start.HasField("block") else DEFAULT_BLOCK_NS,
        None if start.pace == playback_pb2.PACE_UNLIMITED else lead_ns,
    )


def coalesce_ns(start: playback_pb2.PlayStart) -> int:
    """Return how long a block may wait for those that are sent in one message with it, in nanoseconds.

    Raises
    ------
    InvalidError
        More than half of the lead. The reason is ``COALESCE_TOO_LONG``.
    """
    if not start.HasField("coalesce"):
        return 0
    wait_ns = nanoseconds(start.coalesce, "coalesce")
    lead_ns = play_options(start).lead_ns
    if lead_ns is not None and 2 * wait_ns > lead_ns:
        raise InvalidError(
            f"blocks that wait {wait_ns} ns for others leave less than half of a lead of {lead_ns} ns",
            remedy="Give a coalesce of at most half of lead, or a longer lead",
            reason="COALESCE_TOO_LONG",
            coalesce_ns=wait_ns,
            lead_ns=lead_ns,
        )
    return wait_ns


def cue(message: schedule_pb2.Cue, now_ns: int, offset_ns: int) -> Cue:
    """Return what is announced.

    Parameters
    ----------
    message : Cue
        As it came.
    now_ns : int
        When it came, on the cache's clock.
    offset_ns : int
        The cache's clock less the clock by which absolute times are meant.

    Raises
    ------
    InvalidError
        It says no time. The reason is ``MISSING_CUE_TIME``.
    """
    match message.WhichOneof("when"):
        case "after":
            due_ns = now_ns + nanoseconds(message.after, "after")
        case "at":
            due_ns = unix_ns(message.at, "at") + offset_ns
        case _:
            raise InvalidError(
                f"the cue of {message.sample_id[:80]!r} says no time",
                remedy="Set after, or at",
                reason="MISSING_CUE_TIME",
            )
    sureness = message.sureness if message.HasField("sureness") else 1.0
    return Cue(
        message.cue_id, message.sample_id, due_ns, message.start_frame, message.frames, message.strategy, sureness
    )


# --- answers ---


def sample(value: Sample, wire: sample_pb2.Sample | None = None) -> sample_pb2.Sample:
    """Return the wire form of a sample, written into `wire` if that is given; see :func:`audio_format`."""
    content = value.content
    wire = sample_pb2.Sample() if wire is None else wire
    wire.sample_id = value.sample_id
    audio_format(content.format, wire.format)
    wire.frames = content.frames
    wire.size_bytes = content.size_bytes
    wire.charged_bytes = content.charged_bytes
    wire.content_sha256 = content.sha256
    wire.source = content.source
    wire.tags.extend(value.tags)
    wire.pinned = value.pinned
    wire.strategy = value.strategy
    wire.create_time.FromNanoseconds(value.created_unix_ns)
    wire.shared_with = max(0, len(content.sample_ids) - 1)
    wire.playing = content.playing
    return wire


def residency(value: port.Residency, page_bytes: int, *, with_map: bool) -> sample_pb2.Residency:
    """Return the wire form of a residency."""
    return sample_pb2.Residency(
        page_bytes=page_bytes,
        absent=value.count(port.Tier.ABSENT),
        swapped=value.count(port.Tier.SWAPPED),
        swap_cache=value.count(port.Tier.SWAP_CACHE),
        mapped=value.count(port.Tier.MAPPED),
        locked=value.count(port.Tier.LOCKED),
        exact=value.exact,
        map=value.tiers if with_map else b"",
    )


def capabilities(
    value: port.Capabilities, lock_budget_bytes: int, page_bytes: int
) -> samplecache_pb2.GetCapabilitiesResponse:
    """Return the wire form of what a kernel can do."""
    return samplecache_pb2.GetCapabilitiesResponse(
        kernel=value.kernel,
        release=value.release,
        capabilities=[
            samplecache_pb2.Capability(
                operation=operation.value,
                permitted=capability.permitted,
                useful=capability.useful,
                why=capability.why,
                remedy=capability.remedy,
            )
            for operation, capability in value.operations.items()
        ],
        swap_bytes=value.swap_bytes,
        swap_device=value.swap_device,
        lock_limit_bytes=value.lock_limit_bytes,
        lock_budget_bytes=lock_budget_bytes,
        page_bytes=page_bytes,
    )


def fault_counts(value: port.FaultCounts) -> sample_pb2.FaultCounts:
    """Return the wire form of fault counts."""
    return sample_pb2.FaultCounts(minor=value.minor, major=value.major)


def binding(value: Binding, wire: playback_pb2.StrategyBinding | None = None) -> playback_pb2.StrategyBinding:
    """Return the wire form of a binding, written into `wire` if that is given; see :func:`audio_format`."""
    wire = playback_pb2.StrategyBinding() if wire is None else wire
    wire.strategy = value.strategy.name
    wire.chosen_by = _CHOSEN_BY[value.chosen_by]
    wire.degraded_from = value.degraded_from
    wire.notes.extend(value.notes)
    wire.why = value.why
    return wire


def causes(counts: dict[events.UnderrunCause, int]) -> list[int]:
    """Return late blocks by cause, at the index that is the cause's number on the wire."""
    by_number = [0] * len(playback_pb2.UnderrunCause.values())
    for cause, count in counts.items():
        by_number[_CAUSES[cause]] = count
    return by_number


def prefetched_pages(value: PageOutcomes) -> playback_pb2.PrefetchedPages:
    """Return the wire form of what became of pages that were brought in ahead."""
    return playback_pb2.PrefetchedPages(
        asked=value.asked, useful=value.useful, late=value.late, wasted=value.wasted, outstanding=value.outstanding
    )


def playback_stats(value: PlaybackStats, played_pages: int) -> playback_pb2.PlaybackStats:
    """Return the wire form of a session's stats."""
    return playback_pb2.PlaybackStats(
        blocks=value.blocks,
        frames=value.frames,
        late_blocks=value.late_blocks,
        longest_stall=duration(value.longest_stall_ns),
        longest_read=duration(value.longest_read_ns),
        faults=fault_counts(value.faults),
        first_block=duration(value.first_block_ns),
        late_by_cause=causes(value.late_by_cause),
        prefetched=prefetched_pages(value.prefetched),
        played_pages=played_pages,
    )


def overload(value: events.Overloaded) -> playback_pb2.Overload:
    """Return the wire form of what a session is told of an overload."""
    return playback_pb2.Overload(
        shed=value.shed,
        needed_bytes_per_s=value.needed_bytes_per_s,
        device_bytes_per_s=value.device_bytes_per_s,
    )


def underrun(value: events.Underrun) -> playback_pb2.Underrun:
    """Return the wire form of an underrun."""
    return playback_pb2.Underrun(
        frame_offset=value.offset_frames,
        late=duration(value.late_ns),
        cause=_CAUSES[value.cause],
        faults=fault_counts(value.faults),
    )


def prefetch_result(value: Prefetch) -> samplecache_pb2.PrefetchResult:
    """Return the wire form of how a prefetch ended."""
    progress = value.progress
    return samplecache_pb2.PrefetchResult(
        pages_needed=progress.pages_needed,
        pages_brought_in=progress.pages_in,
        pages_failed=progress.pages_needed - progress.pages_in,
        elapsed=duration(progress.elapsed_ns),
        in_time=value.in_time,
        pages_locked=value.pages_locked,
        notes=value.notes,
        prefetched=prefetched_pages(value.order.account.outcomes),
    )


def strategy_stats(by_name: dict[str, StrategyTotals]) -> Iterable[samplecache_pb2.StrategyStats]:
    """Yield the wire form of the sums per strategy."""
    for name, totals in by_name.items():
        yield samplecache_pb2.StrategyStats(
            strategy=name,
            sessions=totals.sessions,
            blocks=totals.blocks,
            late_blocks=totals.late_blocks,
            longest_stall=duration(totals.longest_stall_ns),
            faults=fault_counts(totals.faults),
            prefetches=totals.prefetches,
            pages_needed=totals.pages_needed,
            pages_brought_in=totals.pages_brought_in,
            late_by_cause=causes(totals.late_by_cause),
            prefetched=prefetched_pages(totals.prefetched),
            played_pages=totals.played_pages,
        )


def trigger_stats(value: TriggerFigures) -> samplecache_pb2.TriggerStats:
    """Return the wire form of how triggers stand."""
    return samplecache_pb2.TriggerStats(
        samples=value.samples,
        heads=value.heads,
        locked_pages=value.locked_pages,
        warm_pages=value.warm_pages,
        repopulated_pages=value.repopulated_pages,
    )


def cue_status(value: events.CueSettled, unix_ahead_ns: int) -> schedule_pb2.CueStatus:
    """Return the wire form of how a cue stands; the wall clock is so much ahead of the one that tells its times."""
    return schedule_pb2.CueStatus(
        cue_id=value.cue_id,
        sample_id=value.sample_id,
        at=timestamp(value.due_ns + unix_ahead_ns),
        sureness=value.sureness,
        state=_CUE_STATES[value.state],
        strategy=value.strategy,
        pages_needed=value.pages_needed,
        pages_brought_in=value.pages_brought_in,
        margin=None if value.margin_ns is None else duration(value.margin_ns),
        why=value.why,
    )
