"""Programs in files: TOML in, a program out, or one error that names the file and the line.

A file has a ``title``, any number of ``[[region]]`` tables (``name``, ``pages``, ``content``: noise, zero or untouched)
and ``[[step]]`` tables, done in their order. A step says what it does (``do = "touch"``, ...; :mod:`.steps` lists all
with their options), where (``region``, ``span = [START, STOP]`` in pages), on which ``thread``, with which ``errno`` it
is expected to end, and with ``settle = false`` that it is looked at before all I/O is over. ``about`` says what the
program shows, ``modes`` and ``page_clusters`` where it shows it. The files in ``library/`` are examples.

``tomllib`` does not say where a value came from. Its tables and keys are found again here, once something is wrong: a
line begins a statement unless it is inside a text or an array.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from samplecache.errors import ConfigurationError, NotFoundError
from samplecache.lab.tracing.program import Program, ProgramError

MOST_BYTES: Final = 1 << 20
SUFFIX: Final = ".toml"

_ADAPTER: Final[TypeAdapter[Program]] = TypeAdapter(Program)
_TABLES: Final = {"region": "regions", "step": "steps"}
_TABLE_OF: Final = {field: table for table, field in _TABLES.items()}
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'" r"|#[^\n]*" r"|[\[\]{}\n]",
    re.DOTALL,
)
"""What says whether the end of a line ends a value: texts, which may end in quotes, comments, brackets."""
_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_HEADER = re.compile(r"\s*\[\[\s*(?:(\w+)|'(\w+)'|\"(\w+)\")\s*\]\]")
_KEY = re.compile(r"\s*(?:([\w-]+)|'([\w-]+)'|\"([\w-]+)\")\s*[.=]")


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
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _complaint(str(path), line, "this is not UTF-8", "Save the file as UTF-8") from None
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
        raise _complaint(name, line, f"this is not TOML: {what}", "Mend what stands there or just before") from None
    except RecursionError:
        raise _unreadable(name, "it is nested too deeply", "Nest fewer arrays and tables") from None
    except ValueError as error:  # a number of thousands of digits
        raise _unreadable(name, _begun_small(str(error)), "Shorten the number") from None
    lines = _Lines(text, name)
    for table in document.keys() & _TABLE_OF.keys():
        raise lines.complaint((table,), f"no option is called {table!r}", f"Write [[{_TABLE_OF[table]}]] tables")
    try:
        program = _ADAPTER.validate_python({_TABLES.get(key, key): value for key, value in document.items()})
        program.check_size()
    except ProgramError as error:
        problem = error.problem
        raise lines.complaint(problem.where, _begun_small(problem.what), problem.remedy) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=True)[0]
        where = tuple(part for part in first["loc"] if part != "function-before")
        raise lines.complaint(*_explained(where, first)) from None
    return program


def _explained(loc: Sequence[str | int], error: Any) -> tuple[tuple[str | int, ...], str, str]:
    """Return where a validation error lies, what it is and what to do, in the words of the file."""
    table = _TABLE_OF.get(str(loc[0]), str(loc[0])) if loc else ""
    where: tuple[str | int, ...] = (table, *(part for part in loc[1:2] if isinstance(part, int)))
    rest = [part for part in loc[len(where) :] if isinstance(part, str)]
    kind = rest[0] if table == "step" and rest else table
    key = rest[-1] if len(rest) > (table == "step") else ""
    if len(where) == 2 and key:
        where = (*where, key)
    subject = f"a {kind} step" if table == "step" and rest else f"a {table}" if table in _TABLES else "a trace"
    context = error.get("ctx", {})
    match error["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return where, f"{subject} has no option {key or table!r}", "Leave it out, or mend its name"
        case "missing" | "missing_keyword_only_argument" | "missing_argument":
            missing = _TABLE_OF.get(key or str(loc[-1]), key or str(loc[-1]))
            return where[:2], f"{subject} needs {missing!r}", f"Add {missing}"
        case "union_tag_invalid":
            return (*where, "do"), f"no step does {context['tag']!r}", f"Choose from {context['expected_tags']}"
        case "union_tag_not_found":
            return where, "the step does not say what it does", 'Add do = "touch", for example'
        case _:
            message = error["msg"].removeprefix("Value error, ")
            return where, f"{key or table or 'the file'}: {_begun_small(message)}", "Mend the value"


class _Lines:
    """Finds tables and keys in the text of a file."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._lines = text.split("\n")
        self._beginnings = list(_beginnings(text))

    def complaint(self, where: Sequence[str | int], what: str, remedy: str) -> ConfigurationError:
        """Return the error for what is wrong at `where`: a table or key, the index of the table, a key in it."""
        return _complaint(self._name, self._line(where), what, remedy)

    def _line(self, where: Sequence[str | int]) -> int:
        """Return the line of `where`, or of the nearest thing around it that has one."""
        table, index, key = [*where, *[None] * 3][:3]
        start, stop = 0, len(self._lines)
        headers = list(self._statements(_HEADER))
        top = min(headers, default=stop)
        if isinstance(index, int):
            own = [at for at in headers if self._name_at(_HEADER, at) == table]
            if index >= len(own):  # written inline: step = [{...}]
                return self._key(table, 0, top) or 1
            start = own[index]
            stop = min((at for at in headers if at > start), default=stop)
            return (self._key(key, start, stop) if key is not None else 0) or start + 1
        return self._key(table, 0, top) or next((at + 1 for at in headers if self._name_at(_HEADER, at) == table), 1)

    def _key(self, key: object, start: int, stop: int) -> int:
        found = (at for at in self._statements(_KEY) if start <= at < stop and self._name_at(_KEY, at) == key)
        return next((at + 1 for at in found), 0)

    def _statements(self, pattern: re.Pattern[str]) -> Iterator[int]:
        """Return the lines that look like `pattern` and are not in the middle of a value."""
        return (at for at in self._beginnings if pattern.match(self._lines[at]))

    def _name_at(self, pattern: re.Pattern[str], at: int) -> str | None:
        found = pattern.match(self._lines[at])
        return next(filter(None, found.groups()), None) if found else None


def _beginnings(text: str) -> Iterator[int]:
    """Yield the lines of `text`, which is TOML, that are not in the middle of a value."""
    yield 0
    line = depth = 0
    for token in _TOKEN.finditer(text):
        line += token[0].count("\n")
        depth += (token[0] in "[{") - (token[0] in "]}")
        if token[0] == "\n" and not depth:
            yield line


def _unreadable(name: str, why: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{name}: this cannot be read as TOML: {why}", remedy=remedy, file=name)


def _complaint(name: str, line: int, what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{name}:{line}: {what}", remedy=remedy, file=name, line=line)


def _begun_small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _folder() -> Traversable:
    return resources.files("samplecache.lab.tracing") / "library"
