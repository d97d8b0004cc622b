"""Programs in files: TOML in, a program out, or one error that names the file and the line.

A file has a ``title``, any number of ``[[region]]`` tables (``name``, ``pages``, ``content``: noise, zero or untouched)
and ``[[step]]`` tables, done in their order. A step says what it does (``do = "touch"``, ...; :mod:`.steps` lists all
with their options), where (``region``, ``span = [START, STOP]`` in pages), on which ``thread``, with which ``errno`` it
is expected to end, and with ``settle = false`` that it is looked at before all I/O is over. ``about`` says what the
program shows, ``modes`` and ``page_clusters`` where it shows it. The reference is ``docs/trace-files.md``; the files in
``library/`` are examples. :mod:`.mistakes` says what is wrong in the words of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from samplecache.errors import NotFoundError
from samplecache.lab.toml_file import SUFFIX, TomlFile, begun_small
from samplecache.lab.tracing import mistakes
from samplecache.lab.tracing.program import Program, ProgramError


def library() -> list[str]:
    """Return the names of the programs that ship with samplecache, in their order."""
    return sorted(file.name.removesuffix(SUFFIX) for file in _folder().iterdir() if file.name.endswith(SUFFIX))


def all_named(names: Iterable[str]) -> dict[str, Program]:
    """Return programs by their names; see :func:`named`. Files that share a name are told apart by their paths."""
    found: dict[str, tuple[str, Program]] = {}
    for given in names:
        name, program = named(given)
        found[given if _is_path(given) else name] = (name, program)
    uses = Counter(name for name, _ in found.values())
    return {full if uses[name] > 1 else name: program for full, (name, program) in found.items()}


def load(name: str) -> Program:
    """Return the program called `name`; see :func:`named`."""
    return named(name)[1]


def named(name: str) -> tuple[str, Program]:
    """Return the full name of a program, and the program.

    Parameters
    ----------
    name : str
        One of :func:`library`, its number, or the start of just one of those names; or the path of a file.

    Raises
    ------
    NotFoundError
        There is no such program or file.
    ConfigurationError
        The file is no program; the message begins with its name and the line.
    """
    if _is_path(name):
        return Path(name).stem, read(Path(name))
    found = [known for known in library() if name.zfill(2) == known.partition("-")[0]] or [
        known for known in library() if known.startswith(name)
    ]
    if len(found) != 1:
        raise NotFoundError(
            f"{len(found) or 'No'} traces are called {name!r}",
            remedy=f"Name a file ending in {SUFFIX}, or one of {', '.join(found or library())}",
        )
    return found[0], parse((_folder() / f"{found[0]}{SUFFIX}").read_text(encoding="utf-8"), found[0])


def _is_path(name: str) -> bool:
    return name.endswith(SUFFIX) or "/" in name


def read(path: Path) -> Program:
    """Return the program in the file at `path`; see :func:`named`."""
    return _program(TomlFile.read(path, "trace", library()))


def parse(text: str, name: str) -> Program:
    """Return the program that `text` is.

    Parameters
    ----------
    text : str
        TOML.
    name : str
        What errors call it.

    Raises
    ------
    ConfigurationError
        It is none.
    """
    return _program(TomlFile(text, name))


def _program(file: TomlFile) -> Program:
    try:
        program = mistakes.checked(file.document)
        program.check_size()
    except ProgramError as error:
        problem = error.problem
        raise file.complaint(problem.where, begun_small(problem.what), problem.remedy) from None
    return program


def _folder() -> Traversable:
    return resources.files("samplecache.lab.tracing") / "library"
