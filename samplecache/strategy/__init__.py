"""Floor 3: what a strategy plugin sees, what it may ask for, and how plugins are found and chosen.

A plugin author needs this module only::

    from samplecache.strategy import Advice, Advise, Operation, PrefetchStrategy, hookimpl
"""

from samplecache.kernel.port import Advice, Capabilities, Operation, Residency, Span, Tier
from samplecache.strategy.actions import Action, Advise, Evict, Lock, Populate, Touch, Unlock
from samplecache.strategy.base import PrefetchStrategy
from samplecache.strategy.hookspecs import ENTRY_POINT_GROUP, hookimpl
from samplecache.strategy.view import ChoiceView, PageInFigures, SampleView, View

__all__ = [
    "ENTRY_POINT_GROUP",
    "Action",
    "Advice",
    "Advise",
    "Capabilities",
    "ChoiceView",
    "Evict",
    "Lock",
    "Operation",
    "PageInFigures",
    "Populate",
    "PrefetchStrategy",
    "Residency",
    "SampleView",
    "Span",
    "Tier",
    "Touch",
    "Unlock",
    "View",
    "hookimpl",
]
