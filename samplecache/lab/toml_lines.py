"""Finds the lines of a TOML file that its tables and keys stand in, for errors that name them.

``tomllib`` does not say where a value came from. Tables and keys are found again here, once something is wrong: a line
begins a statement unless it is inside a text or an array.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from samplecache.errors import ConfigurationError

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'" r"|#[^\n]*" r"|[\[\]{}\n]",
    re.DOTALL,
)
"""What says whether the end of a line ends a value: texts, which may end in quotes, comments, brackets."""
_HEADER = re.compile(r"\s*\[\[?\s*(?:(\w+)|'(\w+)'|\"(\w+)\")\s*\]\]?")
_KEY = re.compile(r"\s*(?:([\w-]+)|'([\w-]+)'|\"([\w-]+)\")\s*[.=]")


class Lines:
    """The text of a file that is TOML.

    Parameters
    ----------
    text : str
        What is in it.
    name : str
        What errors call it.
    """

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._lines = text.split("\n")
        self._beginnings = list(_beginnings(text))

    def complaint(self, where: Sequence[str | int], what: str, remedy: str) -> ConfigurationError:
        """Return the error for what is wrong at `where`: a table or key, the index of the table, a key in it."""
        return complaint(self._name, self._line(where), what, remedy)

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


def complaint(name: str, line: int, what: str, remedy: str) -> ConfigurationError:
    """Return the error for what is wrong in a line of the file `name`."""
    return ConfigurationError(f"{name}:{line}: {what}", remedy=remedy, file=name, line=line)
