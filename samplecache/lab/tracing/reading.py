"""Programs in files: TOML in, a program out, or one error that names the file and the line.

A file has a ``title``, any number of ``[[region]]`` tables (``name``, ``pages``, ``content``: noise, zero or untouched)
and ``[[step]]`` tables, done in their order. A step says what it does (``do = "touch"``, ...; :mod:`.steps` lists all
with their options), where (``region``, ``span = [START, STOP]`` in pages), on which ``thread``, with which ``errno`` it
is expected to end, and with ``settle = false`` that it is looked at before all I/O is over. ``about`` says what the
program shows, ``modes`` and ``page_clusters`` where it shows it. The reference is ``docs/trace-files.md``; the files in
``library/`` are examples. :mod:`.mistakes` says what is wrong in the words of the file.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from samplecache.errors import ConfigurationError, NotFoundError
from samplecache.lab.toml_lines import Lines, complaint
from samplecache.lab.tracing import mistakes
from samplecache.lab.tracing.program import Program, ProgramError

MOST_BYTES: Final = 1 << 20
SUFFIX: Final = ".toml"

_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


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
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ConfigurationError(f"{path} is longer than {MOST_BYTES} bytes", remedy="Name a trace file")
        text = data.decode().removeprefix("\N{BYTE ORDER MARK}")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise complaint(str(path), line, "this is not UTF-8", "Save the file as UTF-8") from None
    except OSError as error:
        raise NotFoundError(
            f"{path} cannot be read: {error.strerror}", remedy=f"Name a trace file, or one of {', '.join(library())}"
        ) from None
    return parse(text, str(path))


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
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _LINE.search(str(error))
        line = int(found[1]) if found and found[1] else max(1, len(text.splitlines()))
        what = _LINE.sub("", str(error))
        raise complaint(name, line, f"this is not TOML: {what}", "Mend what stands there or just before") from None
    except RecursionError:
        raise _unreadable(name, "it is nested too deeply", "Nest fewer arrays and tables") from None
    except ValueError as error:  # a number of thousands of digits
        raise _unreadable(name, _begun_small(str(error)), "Shorten the number") from None
    lines = Lines(text, name)
    try:
        program = mistakes.checked(document)
        program.check_size()
    except ProgramError as error:
        problem = error.problem
        raise lines.complaint(problem.where, _begun_small(problem.what), problem.remedy) from None
    return program


def _unreadable(name: str, why: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{name}: this cannot be read as TOML: {why}", remedy=remedy, file=name)


def _begun_small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _folder() -> Traversable:
    return resources.files("samplecache.lab.tracing") / "library"
