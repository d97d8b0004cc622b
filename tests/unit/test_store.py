"""The store keeps its budget, its promises and its order."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest
from cache_parts import MONO, PAGE_BYTES, PAGE_FRAMES, machine_options, passes, simulated_kernel

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache.samples.sample import Sample, check_sample_id, check_tags
from samplecache.cache.samples.store import Lease, Publication, Store
from samplecache.clock import VirtualClock
from samplecache.errors import (
    ConflictError,
    InvalidError,
    InvalidSampleIdError,
    LimitError,
    OutOfRangeError,
    SamplecacheError,
    SampleNotFoundError,
    StoreFullError,
    UnmappedError,
)
from samplecache.kernel.port import Kernel, Region, Span
from samplecache.kernel.simulated import SimulatedKernel

BUDGET_PAGES = 10


@pytest.fixture
def kernel() -> Kernel:
    return simulated_kernel()


@pytest.fixture
def store(kernel: Kernel) -> Store:
    return Store(kernel, BUDGET_PAGES * PAGE_BYTES + 1, max_samples=6)


def digest(content: str) -> bytes:
    return hashlib.sha256(content.encode()).digest()


def publish(
    kernel: Kernel, store: Store, sample_id: str, pages: int = 2, content: str = "", **more: Any
) -> Publication:
    """Publish a sample of so many pages, with a content of its own unless one is named."""
    region = kernel.map(pages * PAGE_BYTES)
    sha256 = digest(content or f"{sample_id} {pages}")
    try:
        return store.publish(sample_id, region, MONO, pages * PAGE_FRAMES, sha256, **more)
    except SamplecacheError:
        kernel.unmap(region)
        raise


def mapped(kernel: Kernel, region: Region) -> bool:
    try:
        kernel.residency(region, Span(0, 1))
    except UnmappedError:
        return False
    return True


def ids(store: Store) -> list[str]:
    return [sample.sample_id for sample in store.page("", 100, frozenset())[0]]


def state(store: Store) -> tuple[object, ...]:
    samples = store.page("", 100, frozenset())[0]
    return samples, len(store), store.used_bytes, store.content_count, store.evictions


# --- ids and tags ---


@pytest.mark.parametrize("sample_id", ["a", "0", "a.b_c-d", "9" * 63])
def test_sample_ids(sample_id: str) -> None:
    check_sample_id(sample_id)


@pytest.mark.parametrize(
    "sample_id", ["", "A", "-a", ".a", "_a", "a/b", "..", "a b", "a\n", "ä", "a\0", "9" * 64, "x" * 1_000_000]
)
def test_no_sample_ids(store: Store, sample_id: str) -> None:
    with pytest.raises(InvalidSampleIdError, match="Use 1 to 63 of") as caught:
        store.get(sample_id)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("tags", [(), ("a",), ("é" * 64,), tuple("abcdefghijklmnop"), ("two words",)])
def test_tags(tags: tuple[str, ...]) -> None:
    check_tags(tags)


@pytest.mark.parametrize("tags", [("",), ("a" * 65,), ("a\n",), tuple("abcdefghijklmnopq")])
def test_no_tags(kernel: Kernel, store: Store, tags: tuple[str, ...]) -> None:
    publish(kernel, store, "kick")
    before = state(store)
    with pytest.raises(InvalidError, match="at most 16 tags of 1 to 64") as caught:
        store.update("kick", tags=tags)
    assert caught.value.reason_code == "INVALID_TAG"
    with pytest.raises(InvalidError, match="at most 16 tags"):
        publish(kernel, store, "snare", tags=tags)
    assert state(store) == before


# --- publishing and looking up ---


def test_a_published_sample_is_there_as_it_was_given(kernel: Kernel, store: Store) -> None:
    region = kernel.map(5_000)
    publication = store.publish(
        "kick", region, MONO, 2_500, b"sha", source="WAV PCM_16", tags=["a", "b"], pinned=True, strategy="touch",
        created_unix_ns=7,
    )  # fmt: skip
    sample = store.get("kick")
    assert publication == Publication(sample, deduplicated=False, evicted=())
    content = sample.content
    assert sample == Sample("kick", content, ("a", "b"), True, "touch", 7)
    assert (content.region, content.format, content.frames, content.sha256, content.source) == (
        region, MONO, 2_500, b"sha", "WAV PCM_16",
    )  # fmt: skip
    assert (content.size_bytes, content.charged_bytes, content.sample_ids) == (5_000, 8_192, {"kick"})
    assert (store.used_bytes, len(store), store.content_count) == (8_192, 1, 1)


def test_what_is_not_there(store: Store) -> None:
    for look_up in (store.get, store.lease, store.remove, store.update):
        with pytest.raises(SampleNotFoundError, match="there is no sample 'kick'"):
            look_up("kick")


def test_equal_content_is_stored_once(kernel: Kernel, store: Store) -> None:
    first = publish(kernel, store, "kick", content="same")
    region = kernel.map(2 * PAGE_BYTES)
    second = store.publish("bass-drum", region, MONO, 2 * PAGE_FRAMES, digest("same"))
    assert (first.deduplicated, second.deduplicated) == (False, True)
    assert second.sample.content is first.sample.content
    assert first.sample.content.sample_ids == {"kick", "bass-drum"}
    assert (len(store), store.content_count, store.used_bytes) == (2, 1, 2 * PAGE_BYTES)
    assert (mapped(kernel, first.sample.content.region), mapped(kernel, region)) == (True, False)
    store.remove("kick")
    assert (mapped(kernel, first.sample.content.region), store.used_bytes) == (True, 2 * PAGE_BYTES)
    store.remove("bass-drum")
    assert (mapped(kernel, first.sample.content.region), store.used_bytes) == (False, 0)


def test_equal_bytes_of_another_format_are_another_content(kernel: Kernel, store: Store) -> None:
    publish(kernel, store, "kick", content="same")
    stereo = AudioFormat(48_000, 2, Encoding.S16)
    other = store.publish("snare", kernel.map(2 * PAGE_BYTES), stereo, PAGE_FRAMES, digest("same"))
    assert (other.deduplicated, store.content_count, store.used_bytes) == (False, 2, 4 * PAGE_BYTES)


def test_equal_content_fits_though_the_budget_is_used_up(kernel: Kernel, store: Store) -> None:
    publish(kernel, store, "a", BUDGET_PAGES, content="same", pinned=True)
    assert publish(kernel, store, "b", BUDGET_PAGES, content="same").deduplicated
    assert ids(store) == ["a", "b"]


def test_an_id_is_taken_unless_it_is_to_be_replaced(kernel: Kernel, store: Store) -> None:
    publish(kernel, store, "kick", tags=["old"])
    before = state(store)
    with pytest.raises(ConflictError, match="set replace") as caught:
        publish(kernel, store, "kick", 3)
    assert (caught.value.reason_code, state(store)) == ("SAMPLE_EXISTS", before)
    old = store.get("kick").content
    publication = publish(kernel, store, "kick", 3, replace=True)
    assert (publication.evicted, store.get("kick"), ids(store)) == ((), publication.sample, ["kick"])
    assert (store.used_bytes, mapped(kernel, old.region)) == (3 * PAGE_BYTES, False)


def test_replacing_by_the_same_content_changes_only_what_is_said_of_it(kernel: Kernel, store: Store) -> None:
    old = publish(kernel, store, "kick", content="same", tags=["old"]).sample
    new = publish(kernel, store, "kick", content="same", tags=["new"], replace=True).sample
    assert (new.content is old.content, new.tags, store.used_bytes) == (True, ("new",), 2 * PAGE_BYTES)
    assert mapped(kernel, new.content.region)


def test_the_number_of_samples_is_limited_but_may_be_replaced(kernel: Kernel, store: Store) -> None:
    for number in range(6):
        publish(kernel, store, f"s{number}", 1)
    before = state(store)
    with pytest.raises(LimitError, match=r"has 6 samples.* raise max_samples"):
        publish(kernel, store, "s6", 1)
    with pytest.raises(LimitError):
        store.check_room("s6", 1, replace=False)
    assert state(store) == before
    assert publish(kernel, store, "s5", 1, "other", replace=True).evicted == ()


# --- the budget ---


def test_the_least_recently_used_makes_room(kernel: Kernel, store: Store) -> None:
    contents = {name: publish(kernel, store, name, 3).sample.content for name in "abc"}
    store.lease("a").release()
    store.get("b")  # looking is no use
    publication = publish(kernel, store, "d", 5)
    assert publication.evicted == (("b", 3 * PAGE_BYTES), ("c", 3 * PAGE_BYTES))
    assert (ids(store), store.used_bytes, store.evictions) == (["a", "d"], 8 * PAGE_BYTES, 2)
    assert [mapped(kernel, contents[name].region) for name in "abc"] == [True, False, False]


def test_no_more_is_evicted_than_needed(kernel: Kernel, store: Store) -> None:
    for name in "abcd":
        publish(kernel, store, name, 2)
    assert publish(kernel, store, "e", 2).evicted == ()
    assert publish(kernel, store, "f", 1).evicted == (("a", 2 * PAGE_BYTES),)


def test_publishing_an_equal_content_is_use(kernel: Kernel, store: Store) -> None:
    publish(kernel, store, "a", 4, content="same")
    publish(kernel, store, "b", 4)
    publish(kernel, store, "c", 4, content="same")
    assert publish(kernel, store, "d", 3).evicted == (("b", 4 * PAGE_BYTES),)


def test_a_content_is_evicted_with_all_its_ids_and_freed_once(kernel: Kernel, store: Store) -> None:
    publish(kernel, store, "z", 6, content="same")
    publish(kernel, store, "a", 6, content="same")
    assert publish(kernel, store, "new", 6).evicted == (("a", 0), ("z", 6 * PAGE_BYTES))
    assert (ids(store), store.used_bytes, store.evictions) == (["new"], 6 * PAGE_BYTES, 2)


@pytest.mark.parametrize("who", ["pinned", "leased", "twin pinned"])
def test_what_is_pinned_or_leased_stays(kernel: Kernel, store: Store, who: str) -> None:
    publish(kernel, store, "a", 4, content="same", pinned=who == "pinned")
    if who == "twin pinned":
        publish(kernel, store, "a-twin", 4, content="same", pinned=True)
    publish(kernel, store, "b", 4)
    lease = store.lease("a") if who == "leased" else None
    store.lease("b").release()
    assert publish(kernel, store, "c", 4).evicted == (("b", 4 * PAGE_BYTES),)
    before = state(store)
    with pytest.raises(StoreFullError, match="28672 bytes do not fit: 32768 of 40961 are used") as caught:
        publish(kernel, store, "d", 7)
    assert caught.value.details == {"wanted_bytes": "28672", "used_bytes": "32768", "budget_bytes": "40961"}
    assert state(store) == before
    if lease is not None:
        lease.release()
        assert publish(kernel, store, "d", 7).evicted == (("a", 4 * PAGE_BYTES), ("c", 4 * PAGE_BYTES))


def test_unpinning_lets_go(kernel: Kernel, store: Store) -> None:
    publish(kernel, store, "a", BUDGET_PAGES, pinned=True)
    with pytest.raises(StoreFullError):
        publish(kernel, store, "b", 1)
    assert store.update("a", pinned=False).pinned is False
    assert publish(kernel, store, "b", 1).evicted == (("a", BUDGET_PAGES * PAGE_BYTES),)


def test_what_is_larger_than_the_budget_evicts_nothing(kernel: Kernel, store: Store) -> None:
    publish(kernel, store, "a", 1)
    before = state(store)
    with pytest.raises(StoreFullError):
        publish(kernel, store, "b", BUDGET_PAGES + 1)
    assert state(store) == before


def test_what_is_replaced_need_not_be_evicted(kernel: Kernel, store: Store) -> None:
    publish(kernel, store, "a", 4)
    publish(kernel, store, "b", 5)
    assert publish(kernel, store, "b", 6, replace=True).evicted == ()
    assert (ids(store), store.used_bytes) == (["a", "b"], 10 * PAGE_BYTES)


def test_replacing_one_of_two_names_evicts_only_the_other(kernel: Kernel, store: Store) -> None:
    publish(kernel, store, "a", 6, content="same")
    publish(kernel, store, "b", 6, content="same")
    publication = publish(kernel, store, "b", 5, replace=True)
    assert publication.evicted == (("a", 6 * PAGE_BYTES),)
    assert (ids(store), store.get("b"), store.used_bytes) == (["b"], publication.sample, 5 * PAGE_BYTES)


@pytest.mark.parametrize(
    ("length_bytes", "fits"), [(0, True), (1, True), (6 * PAGE_BYTES, True), (6 * PAGE_BYTES + 1, False)]
)
def test_check_room_tells_beforehand_and_changes_nothing(
    kernel: Kernel, store: Store, length_bytes: int, fits: bool
) -> None:
    publish(kernel, store, "a", 4, pinned=True)
    publish(kernel, store, "b", 6)
    before = state(store)
    if fits:
        store.check_room("c", length_bytes, replace=False)
    else:
        with pytest.raises(StoreFullError):
            store.check_room("c", length_bytes, replace=False)
    assert state(store) == before


def test_check_room_counts_what_would_be_replaced(kernel: Kernel, store: Store) -> None:
    publish(kernel, store, "a", 10, pinned=True)
    store.check_room("a", 10 * PAGE_BYTES, replace=True)
    with pytest.raises(ConflictError):
        store.check_room("a", 1, replace=False)
    with pytest.raises(InvalidSampleIdError):
        store.check_room("A", 1, replace=False)
    lease = store.lease("a")
    with pytest.raises(StoreFullError):
        store.check_room("a", 1, replace=True)
    lease.release()


# --- leases ---


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_region_stays_mapped_and_charged_until_its_last_lease_ends(kernel: Kernel, store: Store, how: str) -> None:
    old = publish(kernel, store, "kick", 4).sample
    first, second = store.lease("kick"), store.lease("kick")
    if how == "removed":
        store.remove("kick")
        new_pages = 0
    else:
        publish(kernel, store, "kick", 3, replace=True)
        new_pages = 3
    assert (first.sample, first.content.sample_ids) == (old, set())
    third = first.share()
    for lease in (first, second):
        lease.release()
        assert mapped(kernel, old.content.region)
        assert (store.used_bytes, store.content_count) == ((4 + new_pages) * PAGE_BYTES, 1 + bool(new_pages))
    third.release()
    assert not mapped(kernel, old.content.region)
    assert (store.used_bytes, store.content_count) == (new_pages * PAGE_BYTES, int(bool(new_pages)))


def test_what_is_still_played_counts_against_the_budget(kernel: Kernel, store: Store) -> None:
    publish(kernel, store, "kick", 6)
    lease = store.lease("kick")
    store.remove("kick")
    with pytest.raises(StoreFullError):
        publish(kernel, store, "kick", 6)
    lease.release()
    publish(kernel, store, "kick", 6)


def test_content_that_comes_back_while_the_old_one_is_played_out_is_new(kernel: Kernel, store: Store) -> None:
    old = publish(kernel, store, "kick", content="same").sample.content
    lease = store.lease("kick")
    store.remove("kick")
    again = publish(kernel, store, "kick", content="same")
    assert (again.deduplicated, again.sample.content is old, store.used_bytes) == (False, False, 4 * PAGE_BYTES)
    lease.release()
    assert (mapped(kernel, old.region), mapped(kernel, again.sample.content.region)) == (False, True)


def test_releasing_twice_is_harmless(kernel: Kernel, store: Store) -> None:
    content = publish(kernel, store, "kick").sample.content
    with store.lease("kick") as first:
        second = store.lease("kick")
        first.release()
    assert content.leases == 1
    second.release()
    assert (content.leases, mapped(kernel, content.region)) == (0, True)


def test_releasing_twice_at_once_is_harmless(kernel: Kernel, store: Store) -> None:
    content = publish(kernel, store, "kick").sample.content
    keep, many = store.lease("kick"), [store.lease("kick") for _ in range(50)]
    start = threading.Barrier(4)

    def release(leases: list[Lease]) -> None:
        start.wait(20)
        for lease in leases:
            lease.release()

    threads = [threading.Thread(target=release, args=(many,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content.leases == 1
    store.remove("kick")
    assert mapped(kernel, content.region)
    keep.release()
    assert not mapped(kernel, content.region)


# --- updating, listing, the end ---


def test_updating_changes_what_is_given(kernel: Kernel, store: Store) -> None:
    old = publish(kernel, store, "kick", tags=["a"], strategy="touch").sample
    assert store.update("kick") == old
    assert store.update("kick", tags=(), pinned=True) == Sample("kick", old.content, (), True, "touch", 0)
    assert store.update("kick", strategy="") == store.get("kick") == Sample("kick", old.content, (), True, "", 0)


def test_pages_are_sorted_and_say_whether_there_are_more(kernel: Kernel, store: Store) -> None:
    for name in ("b", "d", "a", "c"):
        publish(kernel, store, name, 1, tags=["odd"] if name in "ac" else ["even", "x"])

    def page(after: str, limit: int, *tags: str) -> tuple[str, bool]:
        found, more = store.page(after, limit, frozenset(tags))
        return "".join(sample.sample_id for sample in found), more

    assert page("", 3) == ("abc", True)
    assert page("c", 3) == ("d", False)
    assert page("", 4) == ("abcd", False)
    assert page("aa", 1) == ("b", True)
    assert page("d", 1) == ("", False)
    assert page("", 1, "odd") == ("a", True)
    assert page("a", 1, "odd") == ("c", False)
    assert page("", 9, "even", "x") == ("bd", False)
    assert page("", 9, "even", "odd") == ("", False)
    assert [store.count(frozenset(tags)) for tags in ((), ("odd",), ("even", "x"), ("no",))] == [4, 2, 2, 0]


def test_clearing_unmaps_everything_and_late_releases_do_no_harm(kernel: Kernel, store: Store) -> None:
    replaced = publish(kernel, store, "a", 1).sample.content
    lease = store.lease("a")
    kept = publish(kernel, store, "a", 2, replace=True).sample.content
    other = store.lease("a")
    store.clear()
    assert [mapped(kernel, content.region) for content in (replaced, kept)] == [False, False]
    assert state(store) == ([], 0, 0, 0, 0)
    lease.release()
    other.release()
    assert state(store) == ([], 0, 0, 0, 0)


def test_nobody_waits_while_memory_is_given_back() -> None:
    """Unmapping takes long: whoever looks a sample up meanwhile, perhaps on an event loop, does not wait for it."""
    unmapping, gate = threading.Event(), threading.Event()

    class SlowToUnmap(SimulatedKernel):
        def unmap(self, region: Region) -> None:
            unmapping.set()
            passes(gate)
            super().unmap(region)

    slow = SlowToUnmap(machine_options(), VirtualClock())
    store = Store(slow, BUDGET_PAGES * PAGE_BYTES, 6)
    publish(slow, store, "a")
    publish(slow, store, "b")
    remover = threading.Thread(target=store.remove, args=("a",))
    remover.start()
    passes(unmapping)
    looked: list[str] = []
    looker = threading.Thread(target=lambda: looked.append(store.lease("b").sample.sample_id))
    looker.start()
    looker.join(20)
    assert (looked, ids(store), store.used_bytes) == (["b"], ["b"], 2 * PAGE_BYTES)
    gate.set()
    remover.join(20)


# --- frames and pages ---


@pytest.mark.parametrize(
    ("start_frame", "frames", "expected"),
    [
        (0, 0, range(5_000)),
        (10, 0, range(10, 5_000)),
        (10, 5, range(10, 15)),
        (4_999, 1, range(4_999, 5_000)),
        (5_000, 0, range(5_000, 5_000)),
    ],
)
def test_frames_of_a_sample(kernel: Kernel, store: Store, start_frame: int, frames: int, expected: range) -> None:
    content = store.publish("kick", kernel.map(10_000), MONO, 5_000, b"").sample.content
    assert content.check_frames(start_frame, frames) == expected


@pytest.mark.parametrize(("start_frame", "frames"), [(-1, 0), (-1, 2), (5_001, 0), (4_999, 2), (10, -5), (0, -1)])
def test_frames_past_the_end(kernel: Kernel, store: Store, start_frame: int, frames: int) -> None:
    content = store.publish("kick", kernel.map(10_000), MONO, 5_000, b"").sample.content
    with pytest.raises(OutOfRangeError, match=r"Ask for frames inside \[0, 5000\]") as caught:
        content.check_frames(start_frame, frames)
    assert caught.value.reason_code == "SPAN_OUT_OF_RANGE"


@pytest.mark.parametrize(
    ("frames", "pages"),
    [
        (range(1), Span(0, 1)),
        (range(PAGE_FRAMES), Span(0, 1)),
        (range(PAGE_FRAMES + 1), Span(0, 2)),
        (range(PAGE_FRAMES - 1, PAGE_FRAMES + 1), Span(0, 2)),
        (range(PAGE_FRAMES, 5_000), Span(1, 3)),
        (range(5_000, 5_000), Span(2, 2)),
        (range(0), Span(0, 0)),
    ],
)
def test_pages_of_frames(kernel: Kernel, store: Store, frames: range, pages: Span) -> None:
    content = store.publish("kick", kernel.map(10_000), MONO, 5_000, b"").sample.content
    assert content.pages_of(frames, PAGE_BYTES) == pages
