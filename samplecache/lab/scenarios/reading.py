"""Scenario files: TOML in, a scenario out, or one error that names the file and the line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from samplecache.errors import InvalidError, NotFoundError
from samplecache.lab.scenarios.score import Score, Sound, find_sounds, perform
from samplecache.lab.scenarios.tables import Scenario, ScenarioProblem, check
from samplecache.lab.toml_file import SUFFIX, TomlFile, begun_small

_LIBRARY: Final = Path(str(resources.files("samplecache.lab.scenarios"))) / "library"
_TABLES: Final = ("sample", "stream", "trigger", "load")


@dataclass(frozen=True, slots=True)
class Play:
    """A scenario that was read, with all that its file refers to.

    Attributes
    ----------
    name : str
        What it is called: its file's name.
    scenario : Scenario
        What the file says.
    text : str
        The file.
    sounds : tuple of Sound
        Its samples.
    file : TomlFile
        Where what is wrong is found.
    folder : Path
        Where files are that it names.
    """

    name: str
    scenario: Scenario
    text: str
    sounds: tuple[Sound, ...]
    file: TomlFile
    folder: Path

    def score(self, repetition: int = 0, seed: int | None = None) -> Score:
        """Return what happens when, in a repetition; with another seed than the scenario's if it is given.

        Raises
        ------
        ConfigurationError
            A table contradicts the samples; names the file and the line.
        """
        base = self.scenario.seed if seed is None else seed
        try:
            return perform(self.scenario, self.sounds, self.folder, base + repetition)
        except ScenarioProblem as problem:
            raise self.file.complaint(problem.where, problem.what, problem.remedy) from None


def library() -> list[str]:
    """Return the names of the scenarios that ship with samplecache."""
    return sorted(path.stem for path in _LIBRARY.glob(f"*{SUFFIX}"))


def load(name: str) -> Play:
    """Return the scenario called `name`: one of :func:`library`, or the path of a file.

    Raises
    ------
    NotFoundError
        There is no such scenario or file.
    ConfigurationError
        The file is no scenario; the message begins with its name and the line.
    """
    if name.endswith(SUFFIX) or "/" in name:
        path = Path(name)
    elif name in library():
        path = _LIBRARY / f"{name}{SUFFIX}"
    else:
        raise NotFoundError(
            f"No scenario is called {name!r}",
            remedy=f"Name a file ending in {SUFFIX}, or one of {', '.join(library())}",
        )
    return parse(TomlFile.read(path, "scenario", library()), path.stem, path.parent)


def parse(file: TomlFile, name: str, folder: Path) -> Play:
    """Return the scenario that `file` is; what it refers to is looked for in `folder`.

    Raises
    ------
    ConfigurationError
        It is none, or refers to what is not there.
    """
    try:
        scenario = Scenario.model_validate(file.document, by_alias=True, by_name=False)
        check(scenario)
        play = Play(name, scenario, file.text, find_sounds(scenario, folder), file, folder)
    except ValidationError as error:
        raise file.complaint(*_explained(error.errors(include_url=False)[0])) from None
    except ScenarioProblem as problem:
        raise file.complaint(problem.where, problem.what, problem.remedy) from None
    play.score()
    return play


def _explained(error: Any) -> tuple[Sequence[str | int], str, str]:
    """Return where a validation error lies, what it is and what to do, in the words of the file."""
    loc: list[str | int] = list(error["loc"])
    table = loc[0] if loc and loc[0] in _TABLES else ""
    where = loc[: 3 if table else 1]
    subject = f"a {table}" if table else "a scenario"
    key = next((part for part in reversed(where) if isinstance(part, str)), "the file")
    match error["type"]:
        case "extra_forbidden":
            return where, f"{subject} has no option {key!r}", "Leave it out, or mend its name"
        case "missing":
            if key in _TABLES:
                return (), f"there is no [[{key}]]", f"Add a [[{key}]] table"
            return where[:-1], f"{subject} needs {key!r}", f"Add {key}"
        case "list_type" if table and len(loc) == 1:
            return where, f"{table} is written [[{table}]], for there may be several", f"Write [[{table}]]"
        case _:
            message = error["msg"].removeprefix("Value error, ")
            return where, f"{key}: {begun_small(message)}", "Mend the value"


def check_strategies(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise unless all of `names` are in `known`.

    Raises
    ------
    InvalidError
        One is not.
    """
    for name in names:
        if name not in known:
            raise InvalidError(
                f"no strategy is called {name!r}", remedy=f"Choose from {', '.join(known)}", reason="UNKNOWN_STRATEGY"
            )
