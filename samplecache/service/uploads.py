"""Upload RPCs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

from samplecache.cache.samples.store import Publication
from samplecache.cache.samples.upload import Declaration, Upload
from samplecache.errors import InvalidError, SampleNotFoundError, UploadIncompleteError
from samplecache.service import translate
from samplecache.service.base import Context, Handlers
from samplecache.v1 import samplecache_pb2 as pb

_CHUNKS_AT_ONCE: Final = 16
"""Chunks taken off the wire before they are written: 1 MiB of the usual ones."""


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
        """Take in chunks until the finish message, and whatever has arrived if it does not come.

        Raises
        ------
        UploadIncompleteError
            The stream ended without one: that is all that an interrupted upload looks like here.
        InvalidError
            A message is none that may come here.
        """
        async with _Spooling(self, upload) as spooling:
            async for message in messages:
                match message.WhichOneof("part"):
                    case "chunk" if message.chunk.data:
                        await spooling.take(message.chunk)
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


class _Spooling:
    """Chunks on their way to the disk: what arrives while some are being written is written together.

    A thread for each chunk of 64 KiB would cost more than what it does. All that was taken in is written at the end of
    the block, whatever ended it.
    """

    def __init__(self, handlers: Handlers, upload: Upload) -> None:
        self._handlers = handlers
        self._upload = upload
        self._waiting: list[pb.UploadChunk] = []
        self._writing: asyncio.Future[None] | None = None

    async def take(self, chunk: pb.UploadChunk) -> None:
        """Take a chunk in; wait only if many are waiting, or to say what is wrong with an earlier one."""
        self._waiting.append(chunk)
        if self._writing is None or self._writing.done() or len(self._waiting) == _CHUNKS_AT_ONCE:
            await self._finish()
            chunks, self._waiting = self._waiting, []
            self._writing = asyncio.ensure_future(self._handlers.blocking(self._append, chunks))

    def _append(self, chunks: list[pb.UploadChunk]) -> None:
        for chunk in chunks:
            self._upload.append(chunk.write_offset, chunk.data)

    async def _finish(self) -> None:
        if self._writing is not None:
            await self._writing

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._finish()
        if self._waiting:
            await self._handlers.blocking(self._append, self._waiting)


def _response(publication: Publication) -> pb.PutSampleResponse:
    return pb.PutSampleResponse(
        sample=translate.sample(publication.sample),
        deduplicated=publication.deduplicated,
        evicted_sample_ids=[sample_id for sample_id, _ in publication.evicted],
    )
