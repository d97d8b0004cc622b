"""Events of the cache as they go over the wire."""

from __future__ import annotations

import time

from samplecache.cache.accounting.accounts import PageOutcomes
from samplecache.service import translate
from samplecache.strategy import events
from samplecache.v1 import samplecache_pb2


def event(
    value: events.Event, now_ns: int
) -> tuple[samplecache_pb2.EventKind.ValueType, samplecache_pb2.WatchEventsResponse]:
    """Return the kind and the wire form of an event of the cache."""
    message = samplecache_pb2.WatchEventsResponse(time=translate.wall_clock(value.time_ns, now_ns))
    match value:
        case events.Underrun():
            message.underrun.CopyFrom(
                samplecache_pb2.UnderrunEvent(
                    session_id=value.session_id,
                    sample_id=value.sample_id,
                    strategy=value.strategy,
                    underrun=translate.underrun(value),
                )
            )
            return samplecache_pb2.EVENT_KIND_UNDERRUN, message
        case events.PrefetchDone():
            message.prefetch_done.CopyFrom(
                samplecache_pb2.PrefetchDoneEvent(
                    sample_id=value.sample_id,
                    strategy=value.strategy,
                    result=samplecache_pb2.PrefetchResult(
                        pages_needed=value.pages_needed,
                        pages_brought_in=value.pages_brought_in,
                        pages_failed=value.pages_needed - value.pages_brought_in,
                        elapsed=translate.duration(value.elapsed_ns),
                        in_time=value.in_time,
                    ),
                    cancelled=value.cancelled,
                )
            )
            return samplecache_pb2.EVENT_KIND_PREFETCH_DONE, message
        case events.Degraded():
            message.degraded.CopyFrom(
                samplecache_pb2.DegradedEvent(
                    sample_id=value.sample_id, strategy=value.strategy, wanted=value.wanted, why=value.why
                )
            )
            return samplecache_pb2.EVENT_KIND_DEGRADED, message
        case events.Evicted():
            message.evicted.CopyFrom(
                samplecache_pb2.EvictedEvent(sample_id=value.sample_id, freed_bytes=value.freed_bytes)
            )
            return samplecache_pb2.EVENT_KIND_EVICTED, message
        case events.CueSettled():
            message.cue_settled.schedule_id = value.schedule_id
            message.cue_settled.cue.CopyFrom(translate.cue_status(value, time.time_ns() - now_ns))
            return samplecache_pb2.EVENT_KIND_CUE_SETTLED, message
        case events.SessionEnded():
            outcomes = PageOutcomes(value.pages_asked, value.pages_useful, value.pages_late, value.pages_wasted)
            message.session_ended.CopyFrom(
                samplecache_pb2.SessionEndedEvent(
                    session_id=value.session_id,
                    sample_id=value.sample_id,
                    strategy=value.strategy,
                    blocks=value.blocks,
                    late_blocks=value.late_blocks,
                    prefetched=translate.prefetched_pages(outcomes),
                    played_pages=value.pages_played,
                )
            )
            return samplecache_pb2.EVENT_KIND_SESSION_ENDED, message
        case events.Overloaded():
            message.overloaded.CopyFrom(
                samplecache_pb2.OverloadedEvent(
                    session_id=value.session_id,
                    sample_id=value.sample_id,
                    strategy=value.strategy,
                    overload=translate.overload(value),
                )
            )
            return samplecache_pb2.EVENT_KIND_OVERLOADED, message
    raise TypeError(f"{type(value).__name__} has no wire form")
