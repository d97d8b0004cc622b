"""The store: samples by id within a byte budget, with LRU eviction, pins, leases and deduplication.

It is bookkeeping over regions: it maps and unmaps, and never reads or writes sample memory.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from sortedcontainers import SortedDict

from samplecache.audio.format import AudioFormat
from samplecache.cache.samples.recency import Recency
from samplecache.cache.samples.sample import Content, Sample, check_sample_id, check_tags
from samplecache.cache.samples.tags import TagIndex
from samplecache.errors import ConflictError, LimitError, SampleNotFoundError, StoreFullError
from samplecache.kernel.port import Kernel, Region


@dataclass(frozen=True, slots=True)
class Publication:
    """What publishing did.

    Attributes
    ----------
    sample : Sample
        The sample as stored.
    deduplicated : bool
        Its content was there already.
    evicted : tuple of (str, int)
        Ids that made room, each with the bytes of the budget that it freed.
    """

    sample: Sample
    deduplicated: bool
    evicted: tuple[tuple[str, int], ...] = ()


class Lease:
    """A promise that a content stays mapped. A context manager; releasing twice is harmless. Any thread.

    Attributes
    ----------
    sample : Sample
        The sample as it was when it was leased.
    content : Content
        What stays mapped.
    held : bool
        Whether it does still, as far as this lease goes.
    """

    def __init__(self, store: Store, sample: Sample) -> None:
        self.sample = sample
        self.content = sample.content
        self.held = True
        self._store = store
        store._begin_lease(self)

    def share(self) -> Lease:
        """Return another lease on the same content, even if the sample was replaced meanwhile. Hold this one then."""
        return Lease(self._store, self.sample)

    def release(self) -> None:
        """Give it back. The content is unmapped if it was replaced meanwhile and nobody else uses it."""
        self._store._end_lease(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Store:
    """Samples by id. All methods may be called from any thread; none faults.

    Nothing goes through all samples: what is looked up, published, leased or removed costs the logarithm of how many
    there are, a page its own length, and making room what it evicts. Several tags at once cost what the rarest has.

    Parameters
    ----------
    kernel : Kernel
        Where regions come from.
    budget_bytes : int
        The most that all contents may take together, in whole pages, in bytes.
    max_samples : int
        The most ids.
    """

    def __init__(self, kernel: Kernel, budget_bytes: int, max_samples: int) -> None:
        self._kernel = kernel
        self.budget_bytes = budget_bytes
        self.max_samples = max_samples
        self._lock = threading.RLock()
        self._freed: list[Region] = []
        self._samples: SortedDict[str, Sample] = SortedDict()
        self._tags = TagIndex()
        self._contents: dict[tuple[AudioFormat, bytes], Content] = {}
        # Contents that are replaced but still played: they are charged too.
        self._orphans: set[Content] = set()
        self._recency = Recency()
        self._used_bytes = 0
        self._evictions = 0
        self._listeners: list[Callable[[str], None]] = []

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have `listener` called with the id of every sample that comes, goes or is changed.

        It is called under the store's lock, on the thread that changes it: it must not block or call the store.
        """
        self._listeners.append(listener)

    # --- figures ---

    @property
    def used_bytes(self) -> int:
        """Bytes of the budget in use."""
        return self._used_bytes

    @property
    def evictions(self) -> int:
        """Samples evicted since the start."""
        return self._evictions

    @property
    def content_count(self) -> int:
        """Distinct contents, those being played out included."""
        return len(self._contents) + len(self._orphans)

    def __len__(self) -> int:
        return len(self._samples)

    # --- looking up ---

    def get(self, sample_id: str) -> Sample:
        """Return the sample; this is no use in the sense of LRU.

        Raises
        ------
        InvalidSampleIdError, SampleNotFoundError
        """
        check_sample_id(sample_id)
        try:
            return self._samples[sample_id]
        except KeyError:
            raise SampleNotFoundError(
                f"there is no sample {sample_id!r}",
                remedy="Upload it, or list the samples there are",
                sample_id=sample_id,
            ) from None

    def page(self, after: str, limit: int, tags: frozenset[str]) -> tuple[list[Sample], bool]:
        """Return at most `limit` samples with ids after `after` that have all `tags`, and whether there are more."""
        with self._lock:
            by_id = self._tags.rarest(tags) if tags else self._samples
            ids = by_id.irange(minimum=after, inclusive=(False, True))
            # With several tags it may be very many that are looked at: not under the lock that opening a session needs.
            if len(tags) > 1:
                ids = iter(list(ids))
            else:
                found = [self._samples[sample_id] for sample_id in itertools.islice(ids, limit + 1)]
        if len(tags) > 1:
            found = list(itertools.islice(self._having(tags, ids), limit + 1))
        return found[:limit], len(found) > limit

    def _having(self, tags: frozenset[str], ids: Iterable[str]) -> Iterator[Sample]:
        samples = filter(None, map(self._samples.get, ids))
        return (sample for sample in samples if tags.issubset(sample.tags))

    def count(self, tags: frozenset[str]) -> int:
        """Return how many samples have all `tags`; of several, it goes through those that have the rarest."""
        if not tags:
            return len(self._samples)
        with self._lock:
            rarest = self._tags.rarest(tags)
            if len(tags) == 1:
                return len(rarest)
            ids = list(rarest)
        return sum(1 for _ in self._having(tags, ids))

    def lease(self, sample_id: str, *, used: bool = True) -> Lease:
        """Return a lease on the sample and, if it is to be `used`, mark it most recently used.

        Raises
        ------
        InvalidSampleIdError, SampleNotFoundError
        """
        with self._lock:
            sample = self.get(sample_id)
            if used:
                self._recency.use(sample.content)
            return Lease(self, sample)

    # --- changing ---

    def check_room(self, sample_id: str, length_bytes: int, *, replace: bool) -> None:
        """Raise unless a sample of that id and length could be published now. Changes nothing.

        Raises
        ------
        InvalidSampleIdError
        ConflictError
            The id is taken and `replace` is false.
        LimitError
            There are as many samples as there may be.
        StoreFullError
            The budget is too small even if all that may be evicted were.
        """
        check_sample_id(sample_id)
        with self._lock:
            self._check_id(sample_id, replace=replace)
            self._victims(self._round_up(length_bytes), self._leaving(sample_id))

    def publish(
        self,
        sample_id: str,
        region: Region,
        audio: AudioFormat,
        frames: int,
        sha256: bytes,
        *,
        source: str = "raw",
        tags: Iterable[str] = (),
        pinned: bool = False,
        strategy: str = "",
        replace: bool = False,
        created_unix_ns: int = 0,
    ) -> Publication:
        """Make a verified region visible as a sample, evicting the least recently used to make room.

        The store owns `region` from here on if this returns; if it raises, the caller still does, and nothing changed.

        Raises
        ------
        As :meth:`check_room`.
        """
        check_sample_id(sample_id)
        check_tags(tags := tuple(tags))
        with self._changing():
            self._check_id(sample_id, replace=replace)
            key = (audio, sha256)
            content = self._contents.get(key)
            deduplicated = content is not None
            evicted: tuple[tuple[str, int], ...] = ()
            if content is None:
                charged_bytes = region.pages * self._kernel.page_bytes
                victims = self._victims(charged_bytes, self._leaving(sample_id))
                if sample_id in self._samples:
                    self._unbind(self._samples[sample_id])
                evicted = tuple(pair for victim in victims for pair in self._evict(victim))
                content = Content(region, audio, frames, sha256, source, charged_bytes)
                self._contents[key] = content
                self._used_bytes += charged_bytes
            else:
                self._freed.append(region)
            self._bind(Sample(sample_id, content, tags, pinned, strategy, created_unix_ns))
            self._recency.use(content)
            sample = self._samples[sample_id]
        return Publication(sample, deduplicated, evicted)

    def update(
        self,
        sample_id: str,
        *,
        tags: tuple[str, ...] | None = None,
        pinned: bool | None = None,
        strategy: str | None = None,
    ) -> Sample:
        """Change what is not None about a sample and return it.

        Raises
        ------
        InvalidSampleIdError, SampleNotFoundError, InvalidError
        """
        if tags is not None:
            check_tags(tags)
        with self._lock:
            old = self.get(sample_id)
            new = dataclasses.replace(
                old,
                tags=old.tags if tags is None else tags,
                pinned=old.pinned if pinned is None else pinned,
                strategy=old.strategy if strategy is None else strategy,
            )
            self._samples[sample_id] = new
            self._tags.replace(sample_id, old.tags, new.tags)
            new.content.pins += new.pinned - old.pinned
            self._recency.sort(new.content)
            self._tell(sample_id)
        return new

    def remove(self, sample_id: str) -> None:
        """Remove a sample; its content is unmapped when nobody uses it any more.

        Raises
        ------
        InvalidSampleIdError, SampleNotFoundError
        """
        with self._changing():
            self._unbind(self.get(sample_id))

    def clear(self) -> None:
        """Unmap everything, leased or not. Only for the end, when no session is left."""
        with self._lock:
            self._kernel.unmap_all([content.region for content in (*self._contents.values(), *self._orphans)])
            self._samples.clear()
            self._tags.clear()
            self._contents.clear()
            self._orphans.clear()
            self._recency.clear()
            self._used_bytes = 0

    # --- inside, under the lock ---

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock; unmap what has become free after it is let go: that takes long, and an event loop may wait."""
        with self._lock:
            yield
            freed, self._freed = self._freed, []
        for region in freed:
            self._kernel.unmap(region)

    def _round_up(self, length_bytes: int) -> int:
        return -(-length_bytes // self._kernel.page_bytes) * self._kernel.page_bytes

    def _check_id(self, sample_id: str, *, replace: bool) -> None:
        if sample_id in self._samples:
            if not replace:
                raise ConflictError(
                    f"there is a sample {sample_id!r} already",
                    remedy="Choose another id, or set replace",
                    reason="SAMPLE_EXISTS",
                    sample_id=sample_id,
                )
        elif len(self._samples) >= self.max_samples:
            raise LimitError(
                f"the store has {self.max_samples} samples, which is its limit",
                remedy="Remove samples, or raise max_samples",
                limit=self.max_samples,
            )

    def _leaving(self, sample_id: str) -> Content | None:
        """Return the content that goes away at once when `sample_id` is replaced."""
        old = self._samples.get(sample_id)
        return old.content if old and old.content.leases == 0 and len(old.content.sample_ids) == 1 else None

    def _victims(self, wanted_bytes: int, leaving: Content | None) -> list[Content]:
        """Return the least recently used contents whose eviction makes room; raise if that is not enough."""
        missing_bytes = self._used_bytes + wanted_bytes - self.budget_bytes
        if leaving is not None:
            missing_bytes -= leaving.charged_bytes
        if missing_bytes <= 0:
            return []
        victims = self._recency.victims(missing_bytes, leaving)
        if victims is None:
            raise StoreFullError(
                f"{wanted_bytes} bytes do not fit: {self._used_bytes} of {self.budget_bytes} are used, and what is not "
                "pinned or playing is too little",
                remedy="Unpin or remove samples, wait for sessions to end, or raise budget",
                wanted_bytes=wanted_bytes,
                used_bytes=self._used_bytes,
                budget_bytes=self.budget_bytes,
            )
        return victims

    def _evict(self, content: Content) -> list[tuple[str, int]]:
        names = sorted(content.sample_ids)
        for name in names:
            self._unbind(self._samples[name])
        self._evictions += len(names)
        # The last id to go is the one that frees the memory.
        return [(name, content.charged_bytes if name == names[-1] else 0) for name in names]

    def _bind(self, sample: Sample) -> None:
        content, old = sample.content, self._samples.get(sample.sample_id)
        content.sample_ids.add(sample.sample_id)
        content.pins += sample.pinned
        self._samples[sample.sample_id] = sample
        self._tags.replace(sample.sample_id, old.tags if old is not None else (), sample.tags)
        if old is not None:
            self._leave(old, keeps_id=old.content is content)
        self._tell(sample.sample_id)

    def _unbind(self, sample: Sample) -> None:
        del self._samples[sample.sample_id]
        self._tags.replace(sample.sample_id, sample.tags, ())
        self._leave(sample)
        self._tell(sample.sample_id)

    def _tell(self, sample_id: str) -> None:
        for listener in self._listeners:
            listener(sample_id)

    def _leave(self, sample: Sample, *, keeps_id: bool = False) -> None:
        content = sample.content
        content.pins -= sample.pinned
        if not keeps_id:
            content.sample_ids.discard(sample.sample_id)
        self._recency.sort(content)
        if not content.sample_ids:
            del self._contents[content.format, content.sha256]
            self._orphans.add(content)
            self._free_if_unused(content)

    def _begin_lease(self, lease: Lease) -> None:
        with self._lock:
            lease.content.leases += 1
            self._recency.sort(lease.content)

    def _end_lease(self, lease: Lease) -> None:
        with self._changing():
            if lease.held:
                lease.held = False
                lease.content.leases -= 1
                self._recency.sort(lease.content)
                self._free_if_unused(lease.content)

    def _free_if_unused(self, content: Content) -> None:
        if content in self._orphans and content.leases == 0:
            self._orphans.remove(content)
            self._used_bytes -= content.charged_bytes
            self._freed.append(content.region)
