"""RPCs on stored samples."""

from __future__ import annotations

import base64
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2, field_mask_pb2
from served import Playing, Serve, Served, pcm, refused, until

from samplecache.v1 import playback_pb2 as play
from samplecache.v1 import sample_pb2
from samplecache.v1 import samplecache_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
OUT_OF_RANGE = grpc.StatusCode.OUT_OF_RANGE
SMALL = pcm(100)
DATA = pcm(20_000)
PAGES = -(-len(DATA) // 4096)


def update(sample_id: str, *paths: str, **values: Any) -> pb.UpdateSampleRequest:
    sample = sample_pb2.Sample(sample_id=sample_id, **values)
    return pb.UpdateSampleRequest(sample=sample, update_mask=field_mask_pb2.FieldMask(paths=paths))


async def ids(served: Served, **request: Any) -> tuple[list[str], str]:
    """Ids of one page, and the token for the next."""
    page = await served.stub.ListSamples(pb.ListSamplesRequest(**request))
    return [sample.sample_id for sample in page.samples], page.next_page_token


# --- listing ---


async def test_pages_follow_each_other_to_the_end(served: Served) -> None:
    names = [f"s{number:02}" for number in range(11)]
    for name in reversed(names):
        await served.put(name, SMALL)
    seen, token = await ids(served, page_size=4)
    while token:
        page, token = await ids(served, page_size=4, page_token=token)
        seen += page
    assert seen == names
    assert await ids(served) == (names, "")
    assert await ids(served, page_size=11) == (names, "")
    assert await ids(served, page_size=2_000_000_000) == (names, "")


async def test_a_list_goes_on_where_samples_were_deleted(served: Served) -> None:
    for number in range(6):
        await served.put(f"s{number}", SMALL)
    first, token = await ids(served, page_size=2)
    assert first == ["s0", "s1"]
    for name in ("s1", "s2"):  # the very sample that the token stands for, and the next one
        await served.stub.DeleteSample(pb.DeleteSampleRequest(sample_id=name))
    second, token = await ids(served, page_size=2, page_token=token)
    assert second == ["s3", "s4"]
    for number in range(6):
        await served.stub.DeleteSample(pb.DeleteSampleRequest(sample_id=f"s{number}", allow_missing=True))
    assert await ids(served, page_size=2, page_token=token) == ([], "")


async def test_the_default_page_and_the_largest(served: Served) -> None:
    for number in range(101):
        await served.put(f"s{number:04}", SMALL)
    page = await served.stub.ListSamples(pb.ListSamplesRequest())
    assert (len(page.samples), page.total_size) == (100, 101)
    assert await ids(served, page_token=page.next_page_token) == (["s0100"], "")


async def test_only_samples_with_all_tags_are_listed_and_counted(served: Served) -> None:
    for name, tags in (("a", ["x"]), ("b", ["x", "y"]), ("c", ["y"]), ("d", ["y", "x"])):
        await served.put(name, SMALL, tags=tags)
    page = await served.stub.ListSamples(pb.ListSamplesRequest(tags=["x", "y"], page_size=1))
    assert ([sample.sample_id for sample in page.samples], page.total_size) == (["b"], 2)
    assert await ids(served, tags=["x", "y"], page_token=page.next_page_token) == (["d"], "")
    assert await ids(served, tags=["none such"]) == ([], "")


@pytest.mark.parametrize(
    "token", ["x", "####", "Li4vYQ==", "w7w=", "YQ", "YQ==#", base64.b64encode(b"\xff").decode(), "ü"]
)
async def test_a_token_that_no_list_returned_is_refused(served: Served, token: str) -> None:
    await served.put("a", SMALL)
    await refused(served.stub.ListSamples(pb.ListSamplesRequest(page_token=token)), INVALID, "INVALID_PAGE_TOKEN")


@pytest.mark.parametrize("size", [-1, -(2**31)])
async def test_a_negative_page_size_is_refused(served: Served, size: int) -> None:
    await refused(served.stub.ListSamples(pb.ListSamplesRequest(page_size=size)), INVALID, "INVALID_PAGE_SIZE")


# --- changing ---


async def test_only_what_the_mask_names_changes(served: Served) -> None:
    await served.put("a", SMALL, tags=["old"], strategy="touch")
    response = await served.stub.UpdateSample(update("a", "pinned", pinned=True, tags=["new"], strategy="mlock"))
    assert (response.sample.pinned, list(response.sample.tags), response.sample.strategy) == (True, ["old"], "touch")
    response = await served.stub.UpdateSample(update("a", "tags", "strategy", "pinned"))
    assert (response.sample.pinned, list(response.sample.tags), response.sample.strategy) == (False, [], "")
    shown = await served.stub.GetSample(pb.GetSampleRequest(sample_id="a"))
    assert shown.sample == response.sample


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (update("a", pinned=True), INVALID, "INVALID_UPDATE_MASK"),
        (update("a", "frames"), INVALID, "INVALID_UPDATE_MASK"),
        (update("a", "pinned", "sample_id"), INVALID, "INVALID_UPDATE_MASK"),
        (update("a", "*"), INVALID, "INVALID_UPDATE_MASK"),
        (update("a", *(f"p{n}" for n in range(10_000))), INVALID, "INVALID_UPDATE_MASK"),
        (update("a", "tags", tags=["x"] * 17), INVALID, "INVALID_TAG"),
        (update("a", "tags", tags=["\n" * 10_000]), INVALID, "INVALID_TAG"),
        (update("a", "strategy", strategy="magic"), INVALID, "UNKNOWN_STRATEGY"),
        (update("b", "pinned"), NOT_FOUND, "SAMPLE_NOT_FOUND"),
        (update("../b", "pinned"), INVALID, "INVALID_SAMPLE_ID"),
        (pb.UpdateSampleRequest(), INVALID, "INVALID_UPDATE_MASK"),
    ],
)
async def test_a_bad_update_changes_nothing(
    served: Served, request_: pb.UpdateSampleRequest, code: grpc.StatusCode, reason: str
) -> None:
    await served.put("a", SMALL, tags=["old"])
    before = served.state()
    await refused(served.stub.UpdateSample(request_), code, reason)
    assert served.state() == before


async def test_a_missing_sample_may_be_allowed_for_in_a_deletion(served: Served) -> None:
    await served.put("a", SMALL)
    await served.stub.DeleteSample(pb.DeleteSampleRequest(sample_id="a"))
    await refused(served.stub.DeleteSample(pb.DeleteSampleRequest(sample_id="a")), NOT_FOUND, "SAMPLE_NOT_FOUND")
    await served.stub.DeleteSample(pb.DeleteSampleRequest(sample_id="a", allow_missing=True))
    bad = pb.DeleteSampleRequest(sample_id="A", allow_missing=True)
    await refused(served.stub.DeleteSample(bad), INVALID, "INVALID_SAMPLE_ID")


async def test_a_deleted_sample_plays_out(served: Served) -> None:
    await served.put("a", DATA)
    playing = Playing(served, "a")
    await playing.begin()
    await served.stub.DeleteSample(pb.DeleteSampleRequest(sample_id="a"))
    await playing.finish()
    assert playing.pcm == DATA
    await until(lambda: served.cache.store.used_bytes == 0)


async def test_a_sample_tells_how_many_play_it(served: Served) -> None:
    await served.put("a", DATA)
    playing = Playing(served, "a", loop=True)
    await playing.begin()
    assert (await served.stub.GetSample(pb.GetSampleRequest(sample_id="a"))).sample.playing == 1
    playing.call.cancel()
    await until(lambda: served.cache.store.get("a").content.playing == 0)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetSample", pb.GetSampleRequest(sample_id="b")),
        ("DeleteSample", pb.DeleteSampleRequest(sample_id="b")),
        ("GetResidency", pb.GetResidencyRequest(sample_id="b")),
        ("EvictSample", pb.EvictSampleRequest(sample_id="b")),
    ],
)
async def test_what_is_not_there_is_not_found(served: Served, method: str, request_: Any) -> None:
    await refused(getattr(served.stub, method)(request_), NOT_FOUND, "SAMPLE_NOT_FOUND")
    request_.sample_id = ""
    await refused(getattr(served.stub, method)(request_), INVALID, "INVALID_SAMPLE_ID")


# --- paging ---


async def test_residency_adds_up_and_eviction_makes_it_cold(served: Served) -> None:
    await served.put("a", DATA)
    warm = (await served.stub.GetResidency(pb.GetResidencyRequest(sample_id="a", with_map=True))).residency
    assert (warm.page_bytes, warm.mapped, warm.map, warm.exact) == (4096, PAGES, b"\3" * PAGES, True)
    response = await served.stub.EvictSample(pb.EvictSampleRequest(sample_id="a"))
    assert response == pb.EvictSampleResponse(pages=PAGES)
    await Playing(served, "a", frames=1, pace=play.PACE_UNLIMITED).whole()
    cold = (await served.stub.GetResidency(pb.GetResidencyRequest(sample_id="a", with_map=True))).residency
    assert cold.absent + cold.swapped + cold.swap_cache + cold.mapped + cold.locked == PAGES == len(cold.map)
    assert cold.mapped >= 1
    assert cold.swapped > 0
    assert [cold.map.count(tier) for tier in range(5)] == [
        cold.absent,
        cold.swapped,
        cold.swap_cache,
        cold.mapped,
        cold.locked,
    ]


async def test_residency_of_a_span_is_of_its_pages(served: Served) -> None:
    await served.put("a", DATA)
    # 1024 stereo S16 frames are a page; frames 1000 to 1100 lie in the first two.
    request = pb.GetResidencyRequest(sample_id="a", start_frame=1000, frames=100)
    residency = (await served.stub.GetResidency(request)).residency
    assert (residency.mapped, residency.map) == (2, b"")
    empty = pb.GetResidencyRequest(sample_id="a", start_frame=20_000)
    assert (await served.stub.GetResidency(empty)).residency.mapped == 0


@pytest.mark.parametrize(("start_frame", "frames"), [(20_001, 0), (0, 20_001), (19_999, 2), (2**64 - 1, 2**64 - 1)])
async def test_a_span_past_the_end_is_refused(served: Served, start_frame: int, frames: int) -> None:
    await served.put("a", DATA)
    request = pb.GetResidencyRequest(sample_id="a", start_frame=start_frame, frames=frames)
    await refused(served.stub.GetResidency(request), OUT_OF_RANGE, "SPAN_OUT_OF_RANGE")


@pytest.mark.parametrize(
    ("length", "reason"),
    [
        (duration_pb2.Duration(), "INVALID_TIMEOUT"),
        (duration_pb2.Duration(nanos=999_999), "INVALID_TIMEOUT"),
        (duration_pb2.Duration(seconds=600, nanos=1), "INVALID_TIMEOUT"),
        (duration_pb2.Duration(seconds=-1), "INVALID_DURATION"),
        (duration_pb2.Duration(seconds=1, nanos=-1), "INVALID_DURATION"),
        (duration_pb2.Duration(seconds=2**62), "INVALID_DURATION"),
    ],
)
async def test_an_impossible_timeout_is_refused(served: Served, length: duration_pb2.Duration, reason: str) -> None:
    await served.put("a", DATA)
    await refused(served.stub.EvictSample(pb.EvictSampleRequest(sample_id="a", timeout=length)), INVALID, reason)
    assert await served.in_core("a") == PAGES


async def test_locked_pages_stay(served: Served) -> None:
    await served.put("a", DATA)
    call = served.stub.Prefetch(pb.PrefetchRequest(sample_id="a", frames=2048, strategy="mlock"))
    assert [answer async for answer in call][-1].result.pages_locked == 2
    response = await served.stub.EvictSample(pb.EvictSampleRequest(sample_id="a"))
    assert response == pb.EvictSampleResponse(pages=PAGES)
    residency = (await served.stub.GetResidency(pb.GetResidencyRequest(sample_id="a"))).residency
    assert (residency.locked, residency.swapped) == (2, PAGES - 2)


async def test_without_swap_there_is_no_eviction(serve: Serve) -> None:
    served = await serve(swap=0)
    await served.put("a", DATA)
    call = served.stub.EvictSample(pb.EvictSampleRequest(sample_id="a"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert await served.in_core("a") == PAGES
