"""Who may import whom."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from tree import GENERATED, PACKAGE, ROOT, imports, name, nodes, python_files

FLOORS = [
    {"errors", "clock", "audio", "witness"},
    {"simulation"},
    {"kernel"},
    {"strategy"},
    {"cache"},
    {"service", "v1"},
    {"lab", "client", "cli"},
]
CACHE_ROOMS = ["samples", "tasks", "accounting", "device", "prefetching", "ahead"]
"""The cache's own storeys, the lowest first. All stand on its settings and events; the rest, on all."""
FLOOR_OF = {part: number for number, floor in enumerate(FLOORS) for part in floor}
FRAME = {"__init__", "__main__"}
"""The package's own front, which stands outside the house."""

DECIDERS = {"time", "threading", "os", "datetime", "asyncio", "socket", "subprocess", "select", "multiprocessing"}
"""What a pure model has no use for."""


def part(path: Path) -> str:
    """The part of the package that a file is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def roots(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    return {dotted.split(".")[0] for dotted in imports(path)}


def parts_imported(path: Path) -> set[str]:
    """The parts of the package that a file imports; absolute names keep that plain."""
    found = imports(path)
    assert not [dotted for dotted in found if dotted.startswith(".")]
    return {dotted.split(".")[1] for dotted in found if dotted.startswith("samplecache.")} - {"__version__"}


def test_every_part_has_a_floor() -> None:
    parts = {part(path) for path in python_files(PACKAGE)} | {GENERATED.name}
    assert parts - FRAME == set(FLOOR_OF)


def test_lower_floors_never_import_higher_ones() -> None:
    housed = [path for path in python_files(PACKAGE) if part(path) not in FRAME]
    assert [
        f"{name(path)} imports {other}"
        for path in housed
        for other in parts_imported(path)
        if FLOOR_OF[other] > FLOOR_OF[part(path)]
    ] == []


def test_lower_rooms_of_the_cache_never_import_higher_ones() -> None:
    assert {path.name for path in (PACKAGE / "cache").iterdir() if path.is_dir()} - {"__pycache__"} == set(CACHE_ROOMS)
    assert [
        f"{name(path)} imports {dotted}"
        for number, room in enumerate(CACHE_ROOMS)
        for path in python_files(PACKAGE / "cache" / room)
        for dotted in imports(path)
        if dotted.startswith("samplecache.cache.")
        and dotted.split(".")[2] not in {*CACHE_ROOMS[: number + 1], "settings", "events"}
    ] == []


def test_only_the_service_and_what_stands_on_it_know_the_wire() -> None:
    knowing = {part(path) for path in python_files(PACKAGE) if "v1" in parts_imported(path)}
    assert knowing <= {"service", "client", "cli", "lab"}


@pytest.mark.parametrize("path", python_files(ROOT / "plugins"), ids=name)
def test_plugins_need_nothing_but_the_strategy_interface(path: Path) -> None:
    own = path.parent.name
    ours = {dotted.rpartition(".")[0] for dotted in imports(path) if dotted.startswith("samplecache")}
    assert {module for module in ours if module.partition(".")[0] != own} <= {"samplecache.strategy"}
    assert roots(path) - {"samplecache", own} <= sys.stdlib_module_names


@pytest.mark.parametrize("path", python_files(ROOT / "demo" / "samplecache_player"), ids=name)
def test_the_player_plays_anything(path: Path) -> None:
    ours = {dotted.rpartition(".")[0] for dotted in imports(path) if dotted.startswith("samplecache.")}
    assert ours <= {"samplecache.errors", "samplecache.clock", "samplecache.audio.format"}


def test_only_the_linux_kernel_calls_the_system_directly() -> None:
    users = {name(path) for path in python_files(PACKAGE) if "ctypes" in roots(path)}
    assert {user.removesuffix(".py") for user in users} <= {
        f"samplecache/kernel/{part}"
        for part in ("linux", "linux_copies", "linux_region", "linux_process", "linux_remote")
    }
    assert users


@pytest.mark.parametrize("path", python_files(PACKAGE / "simulation"), ids=name)
def test_the_simulation_is_pure(path: Path) -> None:
    assert roots(path) & DECIDERS == set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            assert {alias.name for alias in node.names} == {"Random"}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            assert node.attr == "Random", f"line {node.lineno}: a random number without a seed"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Random", "random.Random"):
            assert node.args, f"line {node.lineno}: a generator without a seed"
