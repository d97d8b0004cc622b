"""Finding, choosing and running strategies, so that no plugin can stop the cache, another plugin, or playback."""

from __future__ import annotations

import enum
import importlib.metadata
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import pluggy
import structlog

from samplecache.errors import StrategyError, UnknownStrategyError
from samplecache.kernel.port import Capabilities
from samplecache.strategy import hookspecs
from samplecache.strategy.actions import Action
from samplecache.strategy.base import NoStrategy, PrefetchStrategy
from samplecache.strategy.events import Event
from samplecache.strategy.view import ChoiceView, View

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
        Why it was degraded, or why it is permitted but does nothing here.
    """

    strategy: PrefetchStrategy
    chosen_by: ChosenBy
    degraded_from: str = ""
    notes: tuple[str, ...] = ()


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
            except Exception as error:
                registry._reject(origin, f"entry point {entry.name!r} failed to load: {error!r}")
            else:
                registry.register(plugin, origin)
        return registry

    def register(self, plugin: ModuleType | object, origin: str) -> None:
        """Take in one plugin; whatever is wrong with it becomes one of :attr:`problems` and nothing else suffers."""
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
        name = getattr(strategy, "name", None)
        if not (isinstance(strategy, type) and issubclass(strategy, PrefetchStrategy)):
            self._reject(origin, f"{strategy!r} is not a subclass of PrefetchStrategy")
        elif not isinstance(name, str) or not _NAME.fullmatch(name) or name == AUTO:
            self._reject(
                origin, f"{strategy.__qualname__}.name is {name!r}; it must match {_NAME.pattern} and not be auto"
            )
        elif name in self._by_name:
            self._reject(origin, f"the name {name!r} is taken by {self._by_name[name].origin}")
        else:
            self._by_name[name] = Registration(strategy, origin)

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

    def bind(self, request: str, sample: str, server: str, view: ChoiceView) -> Binding:
        """Choose and instantiate: request, then sample, then hook, then server default, then ``none``.

        Empty strings mean "no wish". ``auto``, from whomever it comes, asks the hook. What is chosen is degraded along
        ``fallback`` until the kernel permits all that it requires. Never blocks.

        Raises
        ------
        UnknownStrategyError
            The request names a strategy that nobody registered.
        """
        self.check(request)
        name, chosen_by = self._choose(request, sample, server, view)
        return self._degrade(name, chosen_by, view.capabilities)

    def _choose(self, request: str, sample: str, server: str, view: ChoiceView) -> tuple[str, ChosenBy]:
        for wish, who in ((request, ChosenBy.REQUEST), (sample, ChosenBy.SAMPLE), (server, ChosenBy.SERVER)):
            if wish == AUTO:
                if (hooked := self._ask_hook(view)) is not None:
                    return hooked, ChosenBy.HOOK
            elif wish in self._by_name:
                return wish, who
        return NoStrategy.name, ChosenBy.NONE

    def _ask_hook(self, view: ChoiceView) -> str | None:
        # One caller per plugin: with all of them in one call, the first exception would silence the others.
        for plugin in self._newest_first():
            name = self._call_one(plugin, "samplecache_choose_strategy", view=view)
            if name in self._by_name:
                return str(name)
            if name is not None:
                _log.warning("plugin_chose_unknown_strategy", plugin=self._plugins.get_name(plugin), strategy=name)
        return None

    def _degrade(self, name: str, chosen_by: ChosenBy, capabilities: Capabilities) -> Binding:
        wanted, notes, seen = name, [], {NoStrategy.name}
        while name not in seen:
            seen.add(name)
            strategy = self._by_name[name].strategy
            lacking = [
                op for op in sorted(strategy.requires, key=lambda op: op.value) if not capabilities.permitted(op)
            ]
            if not lacking:
                break
            notes += [f"{name}: {capabilities.operations[op].why}" for op in lacking]
            name = strategy.fallback if strategy.fallback in self._by_name else NoStrategy.name
        else:
            name = NoStrategy.name
        strategy = self._by_name[name].strategy
        notes += [
            f"{name}: {capabilities.operations[op].why}"
            for op in sorted(strategy.requires, key=lambda op: op.value)
            if not capabilities.useful(op)
        ]
        return Binding(self._instantiate(strategy), chosen_by, wanted if wanted != name else "", tuple(notes))

    def _instantiate(self, strategy: type[PrefetchStrategy]) -> PrefetchStrategy:
        try:
            return strategy()
        except Exception:
            _log.exception("strategy_failed_to_start", strategy=strategy.name)
            return NoStrategy()

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
            _log.exception("strategy_failed", strategy=strategy.name)
            raise StrategyError(
                f"strategy {strategy.name!r} raised {error!r}",
                remedy="Mend the plugin or choose another strategy; playing goes on without its advice",
                strategy=strategy.name,
            ) from error
        for action in actions:
            if type(action) is Action or not isinstance(action, Action) or action.span.stop > view.sample.pages:
                raise StrategyError(
                    f"strategy {strategy.name!r} returned {action!r}: no action inside {view.sample.pages} pages",
                    remedy="Return Advise, Populate, Touch, Lock, Unlock or Evict with a span inside the sample",
                    strategy=strategy.name,
                )
        return actions

    def observe(self, event: Event) -> None:
        """Tell every plugin of `event`; what they raise is logged and goes no further."""
        for plugin in self._newest_first():
            self._call_one(plugin, "samplecache_observe", event=event)

    def _newest_first(self) -> list[Any]:
        # pluggy calls the plugin registered last first; the order here is the same.
        return [plugin for _, plugin in reversed(self._plugins.list_name_plugin()) if plugin is not None]

    def _call_one(self, plugin: Any, hook: str, **arguments: object) -> Any:
        implementation = getattr(plugin, hook, None)
        if implementation is None or self._plugins.parse_hookimpl_opts(plugin, hook) is None:
            return None
        others = [other for other in self._plugins.get_plugins() if other is not plugin]
        try:
            return self._plugins.subset_hook_caller(hook, others)(**arguments) or None
        except Exception:
            _log.exception("plugin_failed", plugin=self._plugins.get_name(plugin), hook=hook)
            return None
