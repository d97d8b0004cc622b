"""Upload RPCs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from samplecache.cache.store import Publication
from samplecache.cache.upload import Declaration, Upload
from samplecache.errors import InvalidError, SampleNotFoundError, UploadIncompleteError
from samplecache.service import translate
from samplecache.service.base import Context, Handlers
from samplecache.v1 import samplecache_pb2 as pb


class UploadHandlers(Handlers):
    """PutSample, GetUpload, CancelUpload."""

    async def PutSample(self, request: AsyncIterator[pb.PutSampleRequest], context: Context) -> pb.PutSampleResponse:
        """Take in an upload and make a sample of it; see the contract."""
        first = await anext(aiter(request), None)
        if first is None or first.WhichOneof("part") != "start":
            raise InvalidError(
                "an upload must begin with UploadStart", remedy="Send UploadStart first", reason="MISSING_START"
            )
        declaration = translate.declaration(first.start)
        if (known := await self._finished_before(declaration)) is not None:
            return known
        upload = await self._open(declaration)
        try:
            await self._receive(upload, request)
        except BaseException:
            # A cancelled call, too, must give the upload up, or keep it for resuming.
            self.cache.uploads.close(upload, done=False)
            raise
        return _response(await self.lagging(self._finish, upload))

    async def _finished_before(self, declaration: Declaration) -> pb.PutSampleResponse | None:
        if not self.cache.uploads.finished(declaration):
            return None
        try:
            sample = self.cache.store.get(declaration.sample_id)
        except SampleNotFoundError:
            return None
        return pb.PutSampleResponse(sample=translate.sample(sample), deduplicated=True)

    async def _open(self, declaration: Declaration) -> Upload:
        opening = asyncio.ensure_future(self.blocking(self.cache.open_upload, declaration))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._give_up)
            raise

    def _give_up(self, opening: asyncio.Future[Upload]) -> None:
        """Close an upload that was opened for a call that has gone."""
        if not opening.cancelled() and opening.exception() is None:
            self.cache.uploads.close(opening.result(), done=False)

    async def _receive(self, upload: Upload, messages: AsyncIterator[pb.PutSampleRequest]) -> None:
        """Take in chunks until the finish message.

        Raises
        ------
        UploadIncompleteError
            The stream ended without one: that is all that an interrupted upload looks like here.
        InvalidError
            A message is none that may come here.
        """
        async for message in messages:
            match message.WhichOneof("part"):
                case "chunk" if message.chunk.data:
                    await self.blocking(upload.append, message.chunk.write_offset, message.chunk.data)
                case "finish":
                    return
                case _:
                    raise InvalidError(
                        "a second UploadStart, an empty chunk or an empty message came in the middle of an upload",
                        remedy="Send UploadStart once, then chunks of 1 byte at least, then UploadFinish",
                        reason="UNEXPECTED_PART",
                    )
        raise UploadIncompleteError(
            f"the stream ended after {upload.committed_bytes} of {upload.declaration.total_bytes} bytes without "
            "UploadFinish",
            remedy="Send all bytes, then UploadFinish; give an upload_id to be able to resume",
        )

    def _finish(self, upload: Upload) -> Publication:
        """Make the sample and end the upload, on one thread to the end: a call that is cancelled meanwhile must find
        both done when it comes back with its upload_id.
        """
        try:
            publication = self.cache.finish_upload(upload)
        except UploadIncompleteError:
            self.cache.uploads.close(upload, done=False)
            raise
        except BaseException:
            # All has arrived, and it is no good: resuming it could not mend it.
            self.cache.uploads.discard(upload)
            raise
        self.cache.uploads.close(upload, done=True)
        return publication

    async def GetUpload(self, request: pb.GetUploadRequest, context: Context) -> pb.GetUploadResponse:
        """Tell how far an upload has come; see the contract."""
        committed_bytes, total_bytes, complete = self.cache.uploads.status(request.upload_id)
        return pb.GetUploadResponse(committed_bytes=committed_bytes, total_bytes=total_bytes, complete=complete)

    async def CancelUpload(self, request: pb.CancelUploadRequest, context: Context) -> pb.CancelUploadResponse:
        """Forget an upload; see the contract."""
        self.cache.uploads.cancel(request.upload_id)
        return pb.CancelUploadResponse()


def _response(publication: Publication) -> pb.PutSampleResponse:
    return pb.PutSampleResponse(
        sample=translate.sample(publication.sample),
        deduplicated=publication.deduplicated,
        evicted_sample_ids=[sample_id for sample_id, _ in publication.evicted],
    )
