"""What belongs to the project, for tests that read it."""

from __future__ import annotations

import ast
import functools
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "samplecache"
GENERATED = PACKAGE / "v1"
_NOT_OURS = {".git", ".venv", ".cache", ".hypothesis", "build", "dist", "demo-output", "__pycache__"}


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file of the project: what git tracks or would, or, in an unpacked archive, what is there."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    git = subprocess.run(command, cwd=ROOT, capture_output=True, text=True) if shutil.which("git") else None
    if git is not None and git.returncode == 0:
        found = [ROOT / line for line in git.stdout.splitlines()]
    else:
        found = [path for path in ROOT.rglob("*") if not _NOT_OURS & set(path.relative_to(ROOT).parts)]
    return tuple(sorted(path for path in found if path.is_file()))


def python_files(folder: Path = ROOT) -> list[Path]:
    """Every Python file below `folder` that people write."""
    return [
        path
        for path in files()
        if path.suffix == ".py" and path.is_relative_to(folder) and not path.is_relative_to(GENERATED)
    ]


def name(path: Path) -> str:
    """How messages call a file."""
    return str(path.relative_to(ROOT))


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file's syntax, wherever in it; the first is the module itself."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> set[str]:
    """Full names of the modules, and of what is taken from them, that a file imports, wherever in it.

    What comes from the file's own package by a relative import begins with a dot.
    """
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return found
