"""RPCs that announce what comes next."""

from __future__ import annotations

import hashlib
import time

from samplecache.service import translate
from samplecache.service.base import Context, Handlers
from samplecache.v1 import schedule_pb2 as pb


class ScheduleHandlers(Handlers):
    """Schedule, GetSchedule, CancelSchedule. None of them blocks: a schedule is worked on by the cache's workers."""

    async def Schedule(self, request: pb.ScheduleRequest, context: Context) -> pb.ScheduleResponse:
        """Announce cues; see the contract."""
        now_ns, now_unix_ns = self.cache.clock.now_ns(), time.time_ns()
        their_ns = now_unix_ns
        if request.HasField("client_time"):
            their_ns = translate.unix_ns(request.client_time, "client_time")
        answer = self.cache.schedules.announce(
            request.schedule_id,
            [translate.cue(cue, now_ns, now_ns - their_ns) for cue in request.cues],
            keep_others=request.keep_others,
            request_id=request.request_id,
            fingerprint=hashlib.sha256(request.SerializeToString(deterministic=True)).digest(),
            received_ns=now_ns,
        )
        ahead_ns = now_unix_ns - now_ns
        return pb.ScheduleResponse(
            schedule_id=answer.schedule_id,
            cues=[translate.cue_status(cue, ahead_ns) for cue in answer.cues],
            server_time=translate.timestamp(answer.now_ns + ahead_ns),
        )

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Context) -> pb.GetScheduleResponse:
        """Tell how a schedule stands; see the contract."""
        answer, ahead_ns = self.cache.schedules.get(request.schedule_id), self._unix_ahead_ns()
        return pb.GetScheduleResponse(
            cues=[translate.cue_status(cue, ahead_ns) for cue in answer.cues],
            server_time=translate.timestamp(answer.now_ns + ahead_ns),
        )

    async def CancelSchedule(self, request: pb.CancelScheduleRequest, context: Context) -> pb.CancelScheduleResponse:
        """Cancel cues; see the contract."""
        answer = self.cache.schedules.cancel(
            request.schedule_id, frozenset(request.cue_ids), allow_missing=request.allow_missing
        )
        ahead_ns = self._unix_ahead_ns()
        return pb.CancelScheduleResponse(cues=[translate.cue_status(cue, ahead_ns) for cue in answer.cues])

    def _unix_ahead_ns(self) -> int:
        return time.time_ns() - self.cache.clock.now_ns()
