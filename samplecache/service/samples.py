"""RPCs on stored samples."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from samplecache.cache.samples.sample import check_sample_id
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import InvalidError, InvalidSampleIdError, SampleNotFoundError
from samplecache.service import translate
from samplecache.service.base import Context, Handlers
from samplecache.v1 import samplecache_pb2 as pb

_DEFAULT_PAGE_SIZE: Final = 100
_MAX_PAGE_SIZE: Final = 1000
_DEFAULT_EVICT_NS: Final = 30 * NS_PER_S
_MAX_EVICT_NS: Final = 600 * NS_PER_S
_MUTABLE: Final = ("pinned", "tags", "strategy")


class SampleHandlers(Handlers):
    """ListSamples, GetSample, UpdateSample, DeleteSample, GetResidency, EvictSample."""

    async def ListSamples(self, request: pb.ListSamplesRequest, context: Context) -> pb.ListSamplesResponse:
        """List samples, a page at a time; see the contract."""
        if request.page_size < 0:
            raise InvalidError(
                f"a page of {request.page_size} samples is impossible",
                remedy=f"Give page_size 1 to {_MAX_PAGE_SIZE}, or 0 for {_DEFAULT_PAGE_SIZE}",
                reason="INVALID_PAGE_SIZE",
            )
        limit = min(request.page_size or _DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE)
        tags = frozenset(request.tags)
        # Looking for tags goes through all samples: some 50 ms for 100 000, too long for the loop.
        samples, more = await self.blocking(self.cache.store.page, _after(request.page_token), limit, tags)
        return pb.ListSamplesResponse(
            samples=map(translate.sample, samples),
            next_page_token=_token(samples[-1].sample_id) if more else "",
            total_size=await self.blocking(self.cache.store.count, tags),
        )

    async def GetSample(self, request: pb.GetSampleRequest, context: Context) -> pb.GetSampleResponse:
        """Show a sample; see the contract."""
        return pb.GetSampleResponse(sample=translate.sample(self.cache.store.get(request.sample_id)))

    async def UpdateSample(self, request: pb.UpdateSampleRequest, context: Context) -> pb.UpdateSampleResponse:
        """Change a sample; see the contract."""
        paths = set(request.update_mask.paths)
        if not paths or paths - set(_MUTABLE):
            raise InvalidError(
                f"update_mask names {', '.join(sorted(paths)) or 'nothing'}",
                remedy=f"Name one or more of {', '.join(_MUTABLE)}; nothing else can be changed",
                reason="INVALID_UPDATE_MASK",
            )
        sample = self.cache.update(
            request.sample.sample_id,
            tags=tuple(request.sample.tags) if "tags" in paths else None,
            pinned=request.sample.pinned if "pinned" in paths else None,
            strategy=request.sample.strategy if "strategy" in paths else None,
        )
        return pb.UpdateSampleResponse(sample=translate.sample(sample))

    async def DeleteSample(self, request: pb.DeleteSampleRequest, context: Context) -> pb.DeleteSampleResponse:
        """Remove a sample; see the contract."""
        try:
            await self.blocking(self.cache.store.remove, request.sample_id)
        except SampleNotFoundError:
            if not request.allow_missing:
                raise
        return pb.DeleteSampleResponse()

    async def GetResidency(self, request: pb.GetResidencyRequest, context: Context) -> pb.GetResidencyResponse:
        """Tell where a sample's pages are; see the contract."""
        residency = await self.blocking(self.cache.residency, request.sample_id, request.start_frame, request.frames)
        page_bytes = self.cache.kernel.page_bytes
        return pb.GetResidencyResponse(residency=translate.residency(residency, page_bytes, with_map=request.with_map))

    async def EvictSample(self, request: pb.EvictSampleRequest, context: Context) -> pb.EvictSampleResponse:
        """Page a sample out; see the contract."""
        timeout_ns = (
            translate.nanoseconds(request.timeout, "timeout") if request.HasField("timeout") else _DEFAULT_EVICT_NS
        )
        if not NS_PER_MS <= timeout_ns <= _MAX_EVICT_NS:
            raise InvalidError(
                f"a timeout of {timeout_ns / NS_PER_S:g} s is out of range",
                remedy=f"Give 0.001 to {_MAX_EVICT_NS // NS_PER_S} s",
                reason="INVALID_TIMEOUT",
            )
        pages, left = await self.lagging(self.cache.evict, request.sample_id, timeout_ns)
        return pb.EvictSampleResponse(pages=pages, pages_left=left)


def _token(sample_id: str) -> str:
    return base64.urlsafe_b64encode(sample_id.encode()).decode()


def _after(token: str) -> str:
    if not token:
        return ""
    try:
        sample_id = base64.urlsafe_b64decode(token.encode()).decode()
        check_sample_id(sample_id)
        if token != _token(sample_id):
            raise ValueError(token)  # base64 skips what it does not know; a token of ours has nothing to skip
    except (binascii.Error, UnicodeError, ValueError, InvalidSampleIdError):
        raise InvalidError(
            "that is no page token",
            remedy="Pass on the next_page_token of the last answer, or none to begin anew",
            reason="INVALID_PAGE_TOKEN",
        ) from None
    return sample_id
