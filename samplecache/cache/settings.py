"""Limits and defaults of a cache."""

from __future__ import annotations

from dataclasses import dataclass

from samplecache.clock import NS_PER_S


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Limits and defaults of one cache.

    Attributes
    ----------
    budget_bytes : int
        The most that all samples may take, in bytes.
    lock_budget_bytes : int or None
        The most that may be locked, in bytes; None takes RLIMIT_MEMLOCK less a reserve.
    max_samples, max_sessions, max_prefetches, max_uploads : int
        The most of each at a time. A prefetch counts as long as what it has locked is kept for it.
    max_cues : int
        The most cues that are announced at a time, over all schedules.
    max_upload_bytes : int
        The largest upload, in bytes.
    max_decoded_bytes : int
        The largest sample once decoded, in bytes.
    upload_ttl_ns : int
        How long an interrupted resumable upload is kept.
    trigger_lock_bytes : int or None
        The most of the lock budget that heads of trigger samples may take, in bytes; None for three quarters of it.
    trigger_warm_bytes : int
        The most of their heads that is kept in RAM without a lock, in bytes.
    workers : int
        Threads that carry out prefetches. Each may wait in a page fault.
    prefetch_budget_bytes : int or None
        The most that strategies which are budgeted may have brought in ahead and not read yet, all sessions together,
        in bytes; None takes a quarter of the memory that is available at the start, and 16 MiB at least.
    advice_bounded : bool
        Whether what advice may have on its way from the swap device is bounded by what keeps it busy, so that deadlines
        order the device too. Without, it is as if programs advised the kernel by themselves.
    default_strategy : str
        For requests and samples that name none; empty for ``none``.
    spool_dir : str or None
        Where uploads are spooled; None for the system's temporary directory.
    """

    budget_bytes: int = 1 << 30
    lock_budget_bytes: int | None = None
    max_samples: int = 100_000
    max_sessions: int = 256
    max_prefetches: int = 1024
    max_uploads: int = 16
    max_cues: int = 1024
    max_upload_bytes: int = 256 << 20
    max_decoded_bytes: int = 512 << 20
    upload_ttl_ns: int = 60 * NS_PER_S
    trigger_lock_bytes: int | None = None
    trigger_warm_bytes: int = 4 << 20
    workers: int = 4
    prefetch_budget_bytes: int | None = None
    advice_bounded: bool = True
    default_strategy: str = ""
    spool_dir: str | None = None
