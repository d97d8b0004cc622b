"""Finding, choosing and running strategies, so that no plugin can stop the cache, another plugin, or playback."""

from __future__ import annotations

import enum
import importlib.metadata
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

import pluggy
import structlog

from samplecache.errors import StrategyError, UnknownStrategyError
from samplecache.kernel.port import Capabilities, Operation
from samplecache.strategy import hookspecs
from samplecache.strategy.actions import Action, is_action
from samplecache.strategy.base import NoStrategy, PrefetchStrategy
from samplecache.strategy.events import Event
from samplecache.strategy.failures import log_failure
from samplecache.strategy.view import Choice, ChoiceView, View

AUTO: Final = "auto"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_log = structlog.get_logger(__name__)


class ChosenBy(enum.Enum):
    """Who chose a session's strategy, in the order in which they are asked."""

    REQUEST = "request"
    SAMPLE = "sample"
    HOOK = "hook"
    SERVER = "server"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Registration:
    """A strategy class and the plugin that brought it (``distribution version``, or ``samplecache`` for the core)."""

    strategy: type[PrefetchStrategy]
    origin: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A plugin that could not be used, and why."""

    origin: str
    why: str


@dataclass(frozen=True, slots=True)
class Binding:
    """The strategy that a session got.

    Attributes
    ----------
    strategy : PrefetchStrategy
        A fresh instance for this session.
    chosen_by : ChosenBy
        Who chose it.
    degraded_from : str
        The name that was chosen first; empty if that is the one bound.
    notes : tuple of str
        Why it was degraded, or why it is permitted but does nothing here; each with its remedy.
    why : str
        Why it was chosen, in the words of the plugin that chose it; empty if that said nothing, or none did.
    deciding : Lock
        Held while a method of the strategy is called: workers are many, and its methods are called one at a time.
    """

    strategy: PrefetchStrategy
    chosen_by: ChosenBy
    degraded_from: str = ""
    notes: tuple[str, ...] = ()
    why: str = ""
    deciding: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)


class StrategyRegistry:
    """The strategies there are. Make one with :meth:`discover`; there is no global one.

    All methods may be called from any thread once plugins are registered.
    """

    def __init__(self) -> None:
        self._plugins = pluggy.PluginManager(hookspecs.PROJECT)
        self._plugins.add_hookspecs(hookspecs)
        self._by_name = {NoStrategy.name: Registration(NoStrategy, "samplecache")}
        self.problems: list[Problem] = []

    @classmethod
    def discover(cls) -> StrategyRegistry:
        """Return a registry of all installed plugins. A plugin that fails to load becomes one of :attr:`problems`."""
        registry = cls()
        for entry in sorted(importlib.metadata.entry_points(group=hookspecs.ENTRY_POINT_GROUP), key=lambda e: e.name):
            origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
            try:
                plugin = entry.load()
            except (Exception, SystemExit) as error:
                registry._reject(origin, f"entry point {entry.name!r} failed to load: {error!r}")
            else:
                registry.register(plugin, origin)
        return registry

    def register(self, plugin: ModuleType | object, origin: str) -> None:
        """Take in one plugin; whatever is wrong with it becomes one of :attr:`problems` and nothing else suffers."""
        if self._plugins.is_registered(plugin):
            self._reject(origin, "the plugin is registered already; name it in one entry point only")
            return
        try:
            self._plugins.register(plugin)
            self._plugins.check_pending()
            caller = self._plugins.subset_hook_caller(
                "samplecache_register_strategies",
                [other for other in self._plugins.get_plugins() if other is not plugin],
            )
            brought = [strategy for strategies in caller() for strategy in strategies]
        except Exception as error:
            if self._plugins.is_registered(plugin):
                self._plugins.unregister(plugin)
            self._reject(origin, f"plugin failed to register: {error}")
            return
        for strategy in brought:
            self._add(strategy, origin)

    def _add(self, strategy: Any, origin: str) -> None:
        if why := self._unfit(strategy):
            self._reject(origin, why)
        else:
            self._by_name[strategy.name] = Registration(strategy, origin)

    def _unfit(self, strategy: Any) -> str:
        """Return why `strategy` cannot be offered; nothing if it can."""
        if not (isinstance(strategy, type) and issubclass(strategy, PrefetchStrategy)):
            return f"{strategy!r} is not a subclass of PrefetchStrategy"
        name, who = getattr(strategy, "name", None), strategy.__qualname__
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == AUTO:
            return f"{who}.name is {name!r}; it must match {_NAME.pattern} and not be auto"
        if name in self._by_name:
            return f"the name {name!r} is taken by {self._by_name[name].origin}"
        requires: Any = strategy.requires
        if not isinstance(requires, frozenset) or not all(isinstance(operation, Operation) for operation in requires):
            return f"{who}.requires is {requires!r}; it must be a frozenset of Operation"
        if not isinstance(strategy.fallback, str):
            return f"{who}.fallback is {strategy.fallback!r}; it must be a strategy's name"
        if not isinstance(strategy.horizon_ns, int | None) or (strategy.horizon_ns or 1) < 1:
            return f"{who}.horizon_ns is {strategy.horizon_ns!r}; it must be a positive number of nanoseconds, or None"
        try:
            strategy()
        except Exception as error:
            return f"{who}() failed: {error!r}; it must be callable without arguments"
        return ""

    def _reject(self, origin: str, why: str) -> None:
        _log.warning("plugin_rejected", origin=origin, why=why)
        self.problems.append(Problem(origin, why))

    # --- looking up ---

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """All strategies, sorted by name."""
        return tuple(self._by_name[name] for name in sorted(self._by_name))

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._by_name))

    def check(self, name: str) -> None:
        """Raise unless `name` is empty, ``auto`` or a strategy's name.

        Raises
        ------
        UnknownStrategyError
            Nobody registered it.
        """
        if name and name != AUTO and name not in self._by_name:
            raise UnknownStrategyError(
                f"no strategy is called {name!r}",
                remedy=f"Ask for one of {', '.join((AUTO, *self.names))}, or install the plugin that brings it",
                strategy=name,
            )

    # --- choosing ---

    def bind(
        self, request: str, sample: str, server: str, capabilities: Capabilities, view: Callable[[], ChoiceView]
    ) -> Binding:
        """Choose and instantiate: request, then sample, then hook, then server default, then ``none``.

        Empty strings mean "no wish", and so does a sample's or the server's wish for a strategy that is not there.
        ``auto``, from whomever it comes, asks the hook. What is chosen is degraded along ``fallback`` until the kernel
        permits all that it requires. `view` is only asked for if a plugin is: it takes a while to find out. Blocks no
        longer than plugins do, and they must not.

        Raises
        ------
        UnknownStrategyError
            The request names a strategy that nobody registered.
        """
        self.check(request)
        choice, chosen_by = self._choose(request, sample, server, view)
        return self._degrade(choice, chosen_by, capabilities)

    def _choose(
        self, request: str, sample: str, server: str, view: Callable[[], ChoiceView]
    ) -> tuple[Choice, ChosenBy]:
        asked = False
        for wish, who in ((request, ChosenBy.REQUEST), (sample, ChosenBy.SAMPLE), (server, ChosenBy.SERVER)):
            if wish == AUTO and not asked:
                asked = True
                if (hooked := self._ask_hook(view())) is not None:
                    return hooked, ChosenBy.HOOK
            elif wish in self._by_name:
                return Choice(wish), who
        return Choice(NoStrategy.name), ChosenBy.NONE

    def _ask_hook(self, view: ChoiceView) -> Choice | None:
        hook = "samplecache_choose_strategy"
        for implementation in self._implementations(hook):
            answer = self._call_one(implementation, hook, view=view)
            choice = Choice(answer) if isinstance(answer, str) else answer
            if isinstance(choice, Choice) and isinstance(choice.why, str) and choice.name in self.names:
                return choice
            if answer is not None:
                _log.warning("plugin_chose_unknown_strategy", plugin=implementation.plugin_name, strategy=repr(answer))
        return None

    def _degrade(self, choice: Choice, chosen_by: ChosenBy, capabilities: Capabilities) -> Binding:
        name = wanted = choice.name
        notes, seen = [], {NoStrategy.name}
        while name not in seen:
            seen.add(name)
            strategy = self._by_name[name].strategy
            lacking = [operation for operation in strategy.requires if not capabilities.permitted(operation)]
            if not lacking:
                break
            notes += _notes(name, lacking, capabilities)
            name = strategy.fallback if strategy.fallback in self._by_name else NoStrategy.name
        else:
            name = NoStrategy.name
        strategy = self._by_name[name].strategy
        useless = [operation for operation in strategy.requires if not capabilities.useful(operation)]
        notes += _notes(name, useless, capabilities)
        try:
            bound = strategy()
        except Exception as error:
            log_failure("strategy_failed_to_start", error, strategy=name)
            notes.append(f"{name}: it raised {error!r}. Mend the plugin or choose another strategy.")
            bound = NoStrategy()
        return Binding(bound, chosen_by, wanted if wanted != bound.name else "", tuple(notes), choice.why)

    # --- running ---

    def decide(
        self, strategy: PrefetchStrategy, method: Callable[[View], Iterable[Action]], view: View
    ) -> tuple[Action, ...]:
        """Ask one of the strategy's methods and check its answer.

        Raises
        ------
        StrategyError
            It raised, or returned what is not actions inside the sample. The caller reports it and plays on.
        """
        try:
            actions = tuple(method(view))
        except Exception as error:
            log_failure("strategy_failed", error, strategy=strategy.name)
            raise StrategyError(
                f"strategy {strategy.name!r} raised {error!r}",
                remedy="Mend the plugin or choose another strategy; playing goes on without its advice",
                strategy=strategy.name,
            ) from error
        for action in actions:
            if not is_action(action, view.sample.pages):
                raise StrategyError(
                    f"strategy {strategy.name!r} returned {action!r}: no action inside {view.sample.pages} pages",
                    remedy="Return Advise, Populate, Touch, Lock, Unlock, Evict or Recheck with a span inside the "
                    "sample, and a deadline in whole nanoseconds or None",
                    strategy=strategy.name,
                )
        return actions

    def observe(self, event: Event) -> None:
        """Tell every plugin of `event`; what they raise is logged and goes no further."""
        hook = "samplecache_observe"
        for implementation in self._implementations(hook):
            self._call_one(implementation, hook, event=event)

    def _implementations(self, hook: str) -> Iterable[pluggy.HookImpl]:
        # In the order in which pluggy would call them: it keeps the one to be called last first.
        caller: pluggy.HookCaller = getattr(self._plugins.hook, hook)
        return reversed(caller.get_hookimpls())

    def _call_one(self, implementation: pluggy.HookImpl, hook: str, **arguments: object) -> Any:
        """Call one plugin: with all of them in one call, the first exception would silence the others."""
        others = [other for other in self._plugins.get_plugins() if other is not implementation.plugin]
        try:
            return self._plugins.subset_hook_caller(hook, others)(**arguments)
        except Exception as error:
            log_failure("plugin_failed", error, plugin=implementation.plugin_name, hook=hook)
            return None


def _notes(strategy: str, operations: Iterable[Operation], capabilities: Capabilities) -> list[str]:
    """Return what is the matter with each of `operations`, and what to do about it."""
    notes = []
    for operation in sorted(operations, key=lambda operation: operation.value):
        found = capabilities.operations[operation]
        sentences = (f"{part.rstrip('.')}." for part in (found.why, found.remedy) if part)
        notes.append(f"{strategy}: {' '.join(sentences)}")
    return notes
