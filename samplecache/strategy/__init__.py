"""Floor 3: what a strategy plugin sees, what it may ask for, and how plugins are found and chosen.

A plugin author needs this module only::

    from samplecache.strategy import Advice, Advise, Operation, PrefetchStrategy, hookimpl
"""

from samplecache.kernel.port import Advice, Capabilities, Operation, Residency, Span, Tier
from samplecache.kernel.signals import MemoryState
from samplecache.strategy.actions import Action, Advise, Evict, Lock, Populate, Recheck, Touch, Unlock
from samplecache.strategy.base import PrefetchStrategy
from samplecache.strategy.hookspecs import ENTRY_POINT_GROUP, hookimpl
from samplecache.strategy.view import Choice, ChoiceView, PageInFigures, Pressure, SampleView, Stretch, View

__all__ = [
    "ENTRY_POINT_GROUP",
    "Action",
    "Advice",
    "Advise",
    "Capabilities",
    "Choice",
    "ChoiceView",
    "Evict",
    "Lock",
    "MemoryState",
    "Operation",
    "PageInFigures",
    "Populate",
    "PrefetchStrategy",
    "Pressure",
    "Recheck",
    "Residency",
    "SampleView",
    "Span",
    "Stretch",
    "Tier",
    "Touch",
    "Unlock",
    "View",
    "hookimpl",
]
