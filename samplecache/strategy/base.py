"""The strategy interface, and ``none``, the strategy that does nothing."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import ClassVar

from samplecache.kernel.port import Operation
from samplecache.strategy.actions import Action
from samplecache.strategy.view import View


class PrefetchStrategy:
    """Decides what to do so that pages are in RAM before they are read. Subclass it and register the class.

    A strategy owns no thread, makes no system call and reads no clock: each method is a pure function of the view it is
    shown. So it runs unchanged on the real and on the simulated kernel. One instance serves one session and may keep
    what it has seen in attributes; its methods are called one at a time, never on the playing thread or the event loop.
    The class is called without arguments, once when it is registered to see that it can be, then for each session.

    Attributes
    ----------
    name : str
        What clients ask for; ``^[a-z][a-z0-9-]{0,31}$``.
    requires : frozenset of Operation
        What the kernel must permit. Where it does not, the session gets `fallback` instead and is told so.
    fallback : str
        Name of the strategy to degrade to, ``"none"`` by default.
    budgeted : bool
        Whether what it brings in ahead is charged to the prefetch budget, and bounded by it.
    only_missing : bool
        Whether it has nothing to say of pages in RAM, mapped or not: a session all of whose pages are there begins
        without :meth:`prepare`, as most sessions do.
    horizon_ns : int or None
        How far from the cursor on :meth:`prepare` is shown where pages are, in nanoseconds of audio; None for all that
        is wanted. Looking costs time in proportion.
    """

    name: ClassVar[str]
    requires: ClassVar[frozenset[Operation]] = frozenset()
    fallback: ClassVar[str] = "none"
    budgeted: ClassVar[bool] = False
    only_missing: ClassVar[bool] = False
    horizon_ns: ClassVar[int | None] = None

    def prepare(self, view: View) -> Iterable[Action]:
        """Decide what to do for pages that will be wanted: on a prefetch, and when playing starts or seeks."""
        return ()

    def advance(self, view: View) -> Iterable[Action]:
        """Decide what to do at the time that a :class:`~samplecache.strategy.actions.Recheck` named, and only then.

        A strategy that overrides this looks after a loop's next round itself: the view's path tells when it begins. For
        one that does not, :meth:`prepare` is called once before each round.
        """
        return ()

    def finish(self, view: View) -> Iterable[Action]:
        """Decide what to do after the last page was read. Locks of this session are released in any case."""
        return ()

    @classmethod
    def summary(cls) -> str:
        """Return the first paragraph of the class's docstring."""
        return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


class NoStrategy(PrefetchStrategy):
    """Do nothing: every page that is not in RAM faults when it is played."""

    name = "none"
