"""TOML that people write: read into a document whose mistakes are told by file and line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from samplecache.errors import ConfigurationError, NotFoundError
from samplecache.lab.toml_lines import Lines, complaint

MOST_BYTES: Final = 1 << 20
SUFFIX: Final = ".toml"

_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


class TomlFile:
    """A document, and the lines that its values stand in.

    Parameters
    ----------
    text : str
        TOML.
    name : str
        What errors call it.

    Attributes
    ----------
    text, name : str
        As given.
    document : dict
        What the text says.

    Raises
    ------
    ConfigurationError
        The text is no TOML; the message begins with `name` and the line.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        try:
            self.document: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = _LINE.search(str(error))
            line = int(found[1]) if found and found[1] else max(1, len(text.splitlines()))
            what = _LINE.sub("", str(error))
            raise complaint(name, line, f"this is not TOML: {what}", "Mend what stands there or just before") from None
        except RecursionError:
            raise _unreadable(name, "it is nested too deeply", "Nest fewer arrays and tables") from None
        except ValueError as error:  # a number of thousands of digits
            raise _unreadable(name, begun_small(str(error)), "Shorten the number") from None
        self.text = text

    @classmethod
    def read(cls, path: Path, kind: str, choices: Sequence[str]) -> TomlFile:
        """Return what is in the file at `path`.

        Parameters
        ----------
        path : Path
            The file.
        kind : str
            What it should be, for errors: ``"trace"``.
        choices : sequence of str
            What ships with samplecache and may be named instead.

        Raises
        ------
        ConfigurationError
            It is too long, no UTF-8 or no TOML; the message begins with its name and, where there is one, the line.
        NotFoundError
            It cannot be read.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise ConfigurationError(f"{path} is longer than {MOST_BYTES} bytes", remedy=f"Name a {kind} file")
            text = data.decode().removeprefix("\N{BYTE ORDER MARK}")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise complaint(str(path), line, "this is not UTF-8", "Save the file as UTF-8") from None
        except OSError as error:
            raise NotFoundError(
                f"{path} cannot be read: {error.strerror}", remedy=f"Name a {kind} file, or one of {', '.join(choices)}"
            ) from None
        return cls(text, str(path))

    def complaint(self, where: Sequence[str | int], what: str, remedy: str) -> ConfigurationError:
        """Return the error for what is wrong at `where`: a table or key, the index of the table, a key in it."""
        return Lines(self.text, self.name).complaint(where, what, remedy)


def begun_small(sentence: str) -> str:
    """Return a sentence as it goes on after a colon."""
    return sentence[:1].lower() + sentence[1:]


def _unreadable(name: str, why: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{name}: this cannot be read as TOML: {why}", remedy=remedy, file=name)
