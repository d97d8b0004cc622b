"""What stands in the files: names, lengths, docstrings, and nothing of any one machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tree import GENERATED, PACKAGE, ROOT, files, name, nodes, python_files

from samplecache import errors
from samplecache.strategy import hookspecs

MAX_LINES = 500
UPPER_SNAKE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")

# The brackets keep this file from being a match for itself.
INDEX_HOSTS = re.compile(r"pyp[i]\.org|pythonhoste[d]|index-ur[l]|artifactor[y]|anacond[a]")
MACHINE_PATHS = re.compile(r"(?<![\w.~])/(?:wor[k]|hom[e]|roo[t]|User[s]|workspac[e])/")
UNFINISHED = re.compile(r"\b(?:TOD[O]|FIXM[E]|XX[X]|HAC[K])\b")


def text_files() -> list[Path]:
    return [path for path in files() if b"\0" not in path.read_bytes()]


@pytest.mark.parametrize("pattern", [INDEX_HOSTS, MACHINE_PATHS, UNFINISHED], ids=["index", "path", "unfinished"])
def test_nothing_names_a_registry_a_machine_or_work_left_undone(pattern: re.Pattern[str]) -> None:
    found = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in text_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_constraints_are_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
    names = [pin.partition("==")[0].lower() for pin in pins]
    assert names == sorted(set(names))


def test_no_file_grows_for_ever() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in python_files()}
    assert {file: lines for file, lines in lengths.items() if lines > MAX_LINES} == {}


def test_every_module_says_what_it_is() -> None:
    modules = [(path, nodes(path)[0]) for path in python_files() if not path.is_relative_to(ROOT / "tests")]
    silent = [
        name(path) for path, module in modules if isinstance(module, ast.Module) and not ast.get_docstring(module)
    ]
    assert modules
    assert silent == []


def test_no_name_says_nothing() -> None:
    vague = re.compile(r"utils?|helpers?|misc|common")
    assert [name(path) for path in python_files() if vague.fullmatch(path.stem)] == []
    classes = [
        f"{name(path)}: {node.name}"
        for path in python_files(PACKAGE)
        for node in nodes(path)
        if isinstance(node, ast.ClassDef) and re.search(r"Manager|Helper|Util", node.name)
    ]
    assert classes == []


def test_tests_do_not_mock_the_kernel_or_sleep_bare() -> None:
    for path in python_files(ROOT / "tests"):
        loops = [node for node in nodes(path) if isinstance(node, ast.While | ast.For)]
        for node in nodes(path):
            if isinstance(node, ast.Call) and re.search("(sleep|Mock|patch)$", called := dotted(node.func)):
                in_loop = any(loop.lineno <= node.lineno <= (loop.end_lineno or 0) for loop in loops)
                bare = called in ("time.sleep", "asyncio.sleep") and not in_loop
                assert not (bare and path.stem.startswith("test_")), f"{name(path)}:{node.lineno}: wait on a condition"
                assert not called.endswith(("Mock", "mock.patch")), f"{name(path)}:{node.lineno}: there is a simulator"


def dotted(called: ast.expr) -> str:
    """What is called, as far as it is a name: ``time.sleep``."""
    if isinstance(called, ast.Attribute):
        return f"{dotted(called.value)}.{called.attr}"
    return called.id if isinstance(called, ast.Name) else ""


# --- errors ---


def error_classes() -> list[type[errors.SamplecacheError]]:
    return [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SamplecacheError)
    ]


def test_every_error_has_a_reason_of_its_own() -> None:
    reasons = [kind.__dict__["reason"] for kind in error_classes()]
    assert [reason for reason in reasons if not UPPER_SNAKE.fullmatch(reason)] == []
    assert len(reasons) == len(set(reasons))
    assert all(kind.__doc__ for kind in error_classes())


def test_reasons_given_where_an_error_is_raised_are_of_the_same_kind() -> None:
    given = [
        (name(path), keyword.value.value)
        for path in python_files(PACKAGE)
        for node in nodes(path)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "reason" and isinstance(keyword.value, ast.Constant)
    ]
    assert given
    assert [(where, reason) for where, reason in given if not UPPER_SNAKE.fullmatch(str(reason))] == []


# --- hooks ---

HOOKS = [hook for hook in vars(hookspecs) if hook.startswith("samplecache_")]


def test_there_are_hooks() -> None:
    assert len(HOOKS) == 3


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_says_when_it_is_called_and_is_tested(hook: str) -> None:
    assert re.search(r"^Called ", getattr(hookspecs, hook).__doc__.replace("    ", ""), re.MULTILINE)
    implemented = [
        name(path)
        for path in python_files(ROOT / "tests")
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef) and node.name == hook
    ]
    assert implemented


def test_generated_code_is_marked_as_such() -> None:
    unmarked = [path.name for path in GENERATED.glob("*_pb2*") if "generated by" not in path.read_text()[:500].lower()]
    assert unmarked == []
