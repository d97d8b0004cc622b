"""Strategies are chosen in order, degraded in daylight, and can harm nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cache_parts import Brings, capabilities, registry_of

from samplecache.errors import StrategyError, UnknownStrategyError
from samplecache.kernel.port import Operation, Residency, Span
from samplecache.strategy import Action, Advice, Advise, Choice, Evict, Lock, PrefetchStrategy, Touch, hookimpl
from samplecache.strategy.events import Evicted
from samplecache.strategy.registry import Binding, ChosenBy, Problem, StrategyRegistry
from samplecache.strategy.view import ChoiceView, PageInFigures, SampleView, View

SAMPLE = SampleView("kick", 8, 4096, 96_000)
EVENT = Evicted(1, "kick", 4096)


def strategy(name: str, *requires: Operation, fallback: str = "none", **more: Any) -> type[PrefetchStrategy]:
    more |= {"name": name, "requires": frozenset(requires), "fallback": fallback}
    return type(name.title().replace("-", ""), (PrefetchStrategy,), more)


A, B, C = strategy("a"), strategy("b"), strategy("c")


class Chooses:
    """A plugin that answers `auto` with whatever it is told to."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[ChoiceView] = []

    @hookimpl
    def samplecache_choose_strategy(self, view: ChoiceView) -> Any:
        self.asked.append(view)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Observes:
    def __init__(self, heard: list[object], failure: Exception | None = None) -> None:
        self.heard = heard
        self.failure = failure

    @hookimpl
    def samplecache_observe(self, event: object) -> None:
        self.heard.append(event)
        if self.failure is not None:
            raise self.failure


def choice(**different: Any) -> ChoiceView:
    return ChoiceView(SAMPLE, capabilities(**different), 1 << 20)


def bind(
    registry: StrategyRegistry, request: str = "", sample: str = "", server: str = "", **different: Any
) -> Binding:
    view = choice(**different)
    return registry.bind(request, sample, server, view.capabilities, lambda: view)


def chosen(binding: Binding) -> tuple[str, ChosenBy]:
    return binding.strategy.name, binding.chosen_by


# --- choosing ---


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (("a", "b", "c"), ("a", ChosenBy.REQUEST)),
        (("", "b", "c"), ("b", ChosenBy.SAMPLE)),
        (("", "", "c"), ("c", ChosenBy.SERVER)),
        (("", "", ""), ("none", ChosenBy.NONE)),
        (("none", "b", "c"), ("none", ChosenBy.REQUEST)),
        (("auto", "b", "c"), ("b", ChosenBy.SAMPLE)),
        (("", "auto", "c"), ("c", ChosenBy.SERVER)),
        (("auto", "auto", "auto"), ("none", ChosenBy.NONE)),
        (("", "uninstalled", "c"), ("c", ChosenBy.SERVER)),
        (("", "uninstalled", "uninstalled"), ("none", ChosenBy.NONE)),
    ],
)
def test_who_chooses_when_no_plugin_does(wishes: tuple[str, str, str], expected: tuple[str, ChosenBy]) -> None:
    assert chosen(bind(registry_of(A, B, C), *wishes)) == expected


@pytest.mark.parametrize("wishes", [("auto", "b", "c"), ("", "auto", "c"), ("", "", "auto")])
def test_auto_asks_the_hook_at_whatever_level(wishes: tuple[str, str, str]) -> None:
    plugin = Chooses("a")
    assert chosen(bind(registry_of(A, B, C, plugins=[plugin]), *wishes)) == ("a", ChosenBy.HOOK)
    assert plugin.asked == [choice()]


@pytest.mark.parametrize("wishes", [("a", "auto", "auto"), ("", "b", "auto"), ("", "", "c"), ("", "", "")])
def test_the_hook_is_not_asked_unless_auto_is_reached(wishes: tuple[str, str, str]) -> None:
    plugin = Chooses("a")
    bind(registry_of(A, B, C, plugins=[plugin]), *wishes)
    assert plugin.asked == []


NO_ANSWERS = [None, "", "unknown", "auto", 7, ["a"], ValueError("no idea")]
NO_CHOICES = [Choice("c"), Choice(["a"]), Choice("b", 7)]  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [*NO_ANSWERS, *NO_CHOICES])
def test_what_is_no_name_is_no_answer_and_the_next_plugin_is_asked(answer: object) -> None:
    older, newer = Chooses("a"), Chooses(answer)
    registry = registry_of(A, B, plugins=[older, newer])
    assert chosen(bind(registry, "auto", "b")) == ("a", ChosenBy.HOOK)
    assert (len(newer.asked), len(older.asked)) == (1, 1)


def test_a_plugin_may_say_why() -> None:
    binding = bind(registry_of(A, B, plugins=[Chooses(Choice("b", "It fits."))]), "auto")
    assert (chosen(binding), binding.why) == (("b", ChosenBy.HOOK), "It fits.")
    assert bind(registry_of(A, B, plugins=[Chooses("b")]), "auto").why == ""


def test_the_plugin_registered_last_is_asked_first_and_its_answer_is_final() -> None:
    older, newer = Chooses("a"), Chooses("b")
    assert chosen(bind(registry_of(A, B, plugins=[older, newer]), "auto")) == ("b", ChosenBy.HOOK)
    assert older.asked == []


def test_a_plugin_may_ask_to_be_first() -> None:
    class First:
        @hookimpl(tryfirst=True)
        def samplecache_choose_strategy(self, view: ChoiceView) -> str:
            return "a"

    assert chosen(bind(registry_of(A, B, plugins=[First(), Chooses("b")]), "auto")) == ("a", ChosenBy.HOOK)


def test_a_plugin_without_an_answer_is_asked_once_however_often_auto_stands() -> None:
    plugin = Chooses(None)
    assert chosen(bind(registry_of(A, plugins=[plugin]), "auto", "auto", "a")) == ("a", ChosenBy.SERVER)
    assert len(plugin.asked) == 1


def test_an_unknown_request_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UnknownStrategyError, match="Ask for one of auto, a, b, none, or install"):
        bind(registry_of(A, B), "c")


def test_sessions_do_not_share_an_instance() -> None:
    registry = registry_of(A)
    assert bind(registry, "a").strategy is not bind(registry, "a").strategy


# --- degrading ---


def test_a_strategy_that_the_kernel_forbids_falls_back_along_the_chain() -> None:
    registry = registry_of(
        strategy("locks", Operation.LOCK, fallback="advises"),
        strategy("advises", Operation.WILLNEED, fallback="touches"),
        strategy("touches", Operation.TOUCH),
    )
    binding = bind(registry, "locks", forbidden={Operation.LOCK, Operation.WILLNEED}, useless={Operation.TOUCH})
    assert (*chosen(binding), binding.degraded_from) == ("touches", ChosenBy.REQUEST, "locks")
    assert binding.notes == (
        "locks: lock is forbidden. Allow lock.",
        "advises: willneed is forbidden. Allow willneed.",
        "touches: touch does nothing. Mend touch.",
    )


def test_every_operation_that_is_lacking_is_named() -> None:
    registry = registry_of(strategy("greedy", Operation.LOCK, Operation.EVICT))
    binding = bind(registry, "greedy", forbidden={Operation.LOCK, Operation.EVICT})
    assert binding.notes == ("greedy: evict is forbidden. Allow evict.", "greedy: lock is forbidden. Allow lock.")


def test_permitted_but_useless_is_bound_and_said() -> None:
    binding = bind(registry_of(strategy("advises", Operation.WILLNEED)), "advises", useless={Operation.WILLNEED})
    assert (*chosen(binding), binding.degraded_from) == ("advises", ChosenBy.REQUEST, "")
    assert binding.notes == ("advises: willneed does nothing. Mend willneed.",)


def test_what_is_permitted_and_useful_needs_no_words() -> None:
    binding = bind(registry_of(strategy("locks", Operation.LOCK)), "locks")
    assert (binding.degraded_from, binding.notes) == ("", ())


@pytest.mark.parametrize("fallback", ["locks", "other", "uninstalled", "auto", "", "none"])
def test_a_fallback_that_leads_nowhere_ends_at_none(fallback: str) -> None:
    registry = registry_of(
        strategy("locks", Operation.LOCK, fallback=fallback), strategy("other", Operation.LOCK, fallback="locks")
    )
    binding = bind(registry, "locks", forbidden={Operation.LOCK})
    assert (*chosen(binding), binding.degraded_from) == ("none", ChosenBy.REQUEST, "locks")


def test_a_strategy_that_will_not_start_any_more_is_degraded_too() -> None:
    class Moody(PrefetchStrategy):
        name = "moody"
        bad_mood = False

        def __init__(self) -> None:
            if self.bad_mood:
                raise RuntimeError("not today")

    registry = registry_of(Moody)
    assert chosen(bind(registry, "moody")) == ("moody", ChosenBy.REQUEST)
    Moody.bad_mood = True
    binding = bind(registry, "moody")
    assert (*chosen(binding), binding.degraded_from) == ("none", ChosenBy.REQUEST, "moody")
    assert binding.notes == ("moody: it raised RuntimeError('not today'). Mend the plugin or choose another strategy.",)


# --- registering ---


def refused(*plugins: object) -> tuple[tuple[str, ...], list[Problem]]:
    registry = StrategyRegistry()
    for number, plugin in enumerate(plugins):
        registry.register(plugin, f"plugin {number}")
    return registry.names, registry.problems


def test_strategies_are_listed_by_name_with_their_origin() -> None:
    registry = StrategyRegistry()
    registry.register(Brings(B, A), "drums 2.1")
    assert [(each.strategy.name, each.origin) for each in registry.registrations] == [
        ("a", "drums 2.1"),
        ("b", "drums 2.1"),
        ("none", "samplecache"),
    ]


@pytest.mark.parametrize(
    "name", ["", "auto", "Upper", "1st", "-a", "a_b", "a b", "a" * 33, "ä", None, 7], ids=lambda name: repr(name)
)
def test_a_bad_name_is_refused_and_its_neighbours_are_not(name: object) -> None:
    bad = type("Bad", (PrefetchStrategy,), {"name": name})
    names, problems = refused(Brings(A, bad, B))
    assert names == ("a", "b", "none")
    assert problems == [
        Problem("plugin 0", f"Bad.name is {name!r}; it must match [a-z][a-z0-9-]{{0,31}} and not be auto")
    ]


def test_a_name_of_32_characters_is_the_longest() -> None:
    assert registry_of(strategy("a" * 32)).names == ("a" * 32, "none")


def test_a_strategy_without_a_name_is_refused() -> None:
    names, problems = refused(Brings(type("Nameless", (PrefetchStrategy,), {})))
    assert names == ("none",)
    assert [problem.why.partition(";")[0] for problem in problems] == ["Nameless.name is None"]


@pytest.mark.parametrize("other", [object(), A(), str, "a", None])
def test_what_is_no_strategy_class_is_refused(other: object) -> None:
    names, problems = refused(Brings(other, B))
    assert names == ("b", "none")
    assert problems == [Problem("plugin 0", f"{other!r} is not a subclass of PrefetchStrategy")]


def test_a_name_is_whose_it_was_first() -> None:
    names, problems = refused(Brings(A), Brings(strategy("a"), strategy("none"), B))
    assert names == ("a", "b", "none")
    assert problems == [
        Problem("plugin 1", "the name 'a' is taken by plugin 0"),
        Problem("plugin 1", "the name 'none' is taken by samplecache"),
    ]


@pytest.mark.parametrize(
    ("attribute", "value", "must"),
    [
        ("requires", {Operation.LOCK}, "be a frozenset of Operation"),
        ("requires", frozenset({"lock"}), "be a frozenset of Operation"),
        ("requires", Operation.LOCK, "be a frozenset of Operation"),
        ("fallback", None, "be a strategy's name"),
        ("fallback", A, "be a strategy's name"),
    ],
)
def test_what_could_not_be_bound_is_refused_at_once(attribute: str, value: object, must: str) -> None:
    names, problems = refused(Brings(type("Odd", (PrefetchStrategy,), {"name": "odd", attribute: value}), A))
    assert names == ("a", "none")
    assert problems == [Problem("plugin 0", f"Odd.{attribute} is {value!r}; it must {must}")]


def test_a_strategy_that_cannot_be_made_is_refused() -> None:
    class Needy(PrefetchStrategy):
        name = "needy"

        def __init__(self, attention: int) -> None:
            self.attention = attention

    names, problems = refused(Brings(Needy, A))
    assert names == ("a", "none")
    assert len(problems) == 1
    assert "missing 1 required positional argument: 'attention'" in problems[0].why
    assert problems[0].why.endswith("it must be callable without arguments")


class UnknownHook(Brings):
    @hookimpl
    def samplecache_make_coffee(self) -> None: ...


class WrongArgument(Brings):
    @hookimpl
    def samplecache_observe(self, happening: object) -> None: ...


class Raises:
    @hookimpl
    def samplecache_register_strategies(self) -> list[type[PrefetchStrategy]]:
        raise RuntimeError("no strategies today")


class BringsHalf:
    @hookimpl
    def samplecache_register_strategies(self) -> Any:
        yield A
        raise RuntimeError("half of it")


class BringsNumber:
    @hookimpl
    def samplecache_register_strategies(self) -> Any:
        return 7


@pytest.mark.parametrize(
    ("plugin", "why"),
    [
        (UnknownHook(A), "unknown hook 'samplecache_make_coffee'"),
        (WrongArgument(A), "happening"),
        (Raises(), "no strategies today"),
        (BringsHalf(), "half of it"),
        (BringsNumber(), "'int' object is not iterable"),
    ],
)
def test_a_broken_plugin_is_a_problem_and_leaves_no_trace(plugin: object, why: str) -> None:
    heard: list[object] = []
    registry = StrategyRegistry()
    registry.register(Observes(heard), "before")
    registry.register(plugin, "broken")
    registry.register(Brings(B), "after")
    assert registry.names == ("b", "none")
    assert [problem.origin for problem in registry.problems] == ["broken"]
    assert why in registry.problems[0].why
    registry.observe(EVENT)
    assert heard == [EVENT]


def test_a_plugin_without_strategies_may_still_choose_and_observe() -> None:
    heard: list[object] = []
    registry = registry_of(A, plugins=[Observes(heard), Chooses("a")])
    registry.observe(EVENT)
    assert heard == [EVENT]
    assert bind(registry, "auto").chosen_by is ChosenBy.HOOK


def test_a_plugin_named_twice_goes_on_working() -> None:
    heard: list[object] = []
    plugin = Observes(heard)
    registry = StrategyRegistry()
    registry.register(plugin, "first")
    registry.register(plugin, "second")
    assert [problem.origin for problem in registry.problems] == ["second"]
    registry.observe(EVENT)
    assert heard == [EVENT]


# --- running ---


def test_an_observer_that_raises_silences_nobody() -> None:
    first: list[object] = []
    second: list[object] = []
    third: list[object] = []
    registry = registry_of(plugins=[Observes(first), Observes(second, OSError("disk full")), Observes(third)])
    registry.observe(EVENT)
    assert (first, second, third) == ([EVENT], [EVENT], [EVENT])


def view(pages: int = SAMPLE.pages) -> View:
    span = Span(0, pages)
    return View(0, SAMPLE, span, None, Residency(span, bytes(pages)), (), 0, PageInFigures(), capabilities())


def decide(method: Callable[[View], Any]) -> tuple[Action, ...]:
    return StrategyRegistry().decide(A(), method, view())


def test_actions_pass_in_their_order() -> None:
    actions = [Touch(Span(0, 8), 5), Lock(Span(2, 2)), Advise(Span(1, 3), -1, Advice.COLD), Evict(Span(8, 8))]
    assert decide(lambda _: iter(actions)) == tuple(actions)


class MyTouch(Touch):
    pass


@pytest.mark.parametrize(
    "answer",
    [
        [Action(Span(0, 1))],
        [MyTouch(Span(0, 1))],
        ["touch"],
        [None],
        [Touch],
        [Touch((0, 1))],  # type: ignore[arg-type]
        [Touch(Span(0, 9))],
        [Touch(Span(9, 9))],
        [Touch(Span(0, 1), 1.5)],  # type: ignore[arg-type]
        [Touch(Span(0, 1), "soon")],  # type: ignore[arg-type]
        [Advise(Span(0, 1), None, "willneed")],  # type: ignore[arg-type]
        [Touch(Span(0, 1)), 7],
    ],
    ids=repr,
)
def test_what_is_no_action_inside_the_sample_is_refused(answer: list[Any]) -> None:
    with pytest.raises(StrategyError, match=r"strategy 'a' returned .*: no action inside 8 pages\. Return Advise"):
        decide(lambda _: answer)


@pytest.mark.parametrize("answer", [7, None])
def test_what_is_no_list_is_refused(answer: object) -> None:
    with pytest.raises(StrategyError, match="strategy 'a' raised TypeError"):
        decide(lambda _: answer)


def test_a_strategy_that_raises_half_way_does_nothing() -> None:
    def raises(_: View) -> Any:
        yield Touch(Span(0, 1))
        raise ZeroDivisionError("oops")

    with pytest.raises(StrategyError, match=r"raised ZeroDivisionError\('oops'\).* playing goes on without its advice"):
        decide(raises)
