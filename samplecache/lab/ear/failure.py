"""What a contender's failure is; apart, so that small processes need not import what contenders are."""

from __future__ import annotations

from samplecache.errors import StateError


class ContenderFailedError(StateError):
    """A contender cannot play this case, or has died of it. That is a result, not a fault of the run."""

    reason = "CONTENDER_FAILED"
