"""Plugins are found through entry points, whoever's they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LIST = """
import json
from samplecache.strategy.registry import StrategyRegistry
registry = StrategyRegistry.discover()
print(json.dumps([
    [[each.strategy.name, each.origin, each.strategy.summary()] for each in registry.registrations],
    [[problem.origin, problem.why] for problem in registry.problems],
]))
"""

GOOD = '''
from samplecache.strategy import Advise, PrefetchStrategy, hookimpl


class Crystal(PrefetchStrategy):
    """Look into
    the ball.

    Then advise.
    """

    name = "crystal"

    def prepare(self, view):
        return [Advise(view.wanted)]


@hookimpl
def samplecache_register_strategies():
    return [Crystal]
'''


def install(site: Path, distribution: str, version: str, modules: dict[str, str], entries: dict[str, str]) -> None:
    """Lay out a distribution as an installer does."""
    information = site / f"{distribution}-{version}.dist-info"
    information.mkdir(parents=True)
    information.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    information.joinpath("entry_points.txt").write_text("\n".join(["[samplecache.strategies]", *lines]))
    for name, source in modules.items():
        site.joinpath(f"{name}.py").write_text(source)


def discover(site: Path) -> tuple[dict[str, tuple[str, str]], list[list[str]]]:
    """What a fresh interpreter discovers with `site` on its path: (origin, summary) by name, and the problems."""
    answer = subprocess.run(
        [sys.executable, "-c", LIST],
        env={"PYTHONPATH": f"{site}:{ROOT}:{ROOT / 'plugins'}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    strategies, problems = json.loads(answer.stdout.splitlines()[-1])
    return {name: (origin, summary) for name, origin, summary in strategies}, problems


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site-packages"


def test_an_installed_plugin_appears(site: Path) -> None:
    install(site, "crystal-ball", "1.2", {"crystal_ball": GOOD}, {"crystal": "crystal_ball"})
    strategies, problems = discover(site)
    assert strategies["crystal"] == ("crystal-ball 1.2", "Look into the ball.")
    assert [problem for problem in problems if problem[0].startswith("crystal")] == []


def test_bundled_plugins_enter_by_the_same_door(site: Path) -> None:
    names = ["mlock", "populate", "touch", "willneed"]
    install(site, "bundled", "3", {}, {name: f"samplecache_{name}" for name in names})
    strategies, _ = discover(site)
    assert set(strategies) >= {*names, "none"}


def test_a_plugin_that_does_not_load_is_a_problem_and_the_next_one_loads(site: Path) -> None:
    modules = {
        "broken": "import a_module_that_is_not_there",
        "wrong": "def (",
        "leaves": "raise SystemExit(3)",
        "crystal_ball": GOOD,
    }
    entries = {"1": "broken", "2": "wrong", "3": "leaves", "4": "crystal_ball:nothing", "5": "crystal_ball"}
    install(site, "mixed", "0.1", modules, entries)
    strategies, problems = discover(site)
    assert strategies["crystal"][0] == "mixed 0.1"
    mine = [why for origin, why in problems if origin == "mixed 0.1"]
    assert [why.split(": ")[0] for why in mine] == [f"entry point '{number}' failed to load" for number in (1, 2, 3, 4)]
    assert "a_module_that_is_not_there" in mine[0]
    assert "SyntaxError" in mine[1]
    assert "SystemExit(3)" in mine[2]
    assert "nothing" in mine[3]
