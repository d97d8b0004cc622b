"""Scenario files: TOML in, a scenario out, or one error that names the file and the line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from samplecache.errors import ConfigurationError, NotFoundError, SamplecacheError
from samplecache.kernel.machine_files import simulation_options
from samplecache.lab.scenarios.score import Score, Sound, find_sounds, perform
from samplecache.lab.scenarios.tables import (
    LoadTable,
    SampleTable,
    Scenario,
    ScenarioProblem,
    StreamTable,
    TriggerTable,
    check,
)
from samplecache.lab.toml_file import SUFFIX, TomlFile, begun_small
from samplecache.lab.toml_mistakes import suggestion, wrong_value

_LIBRARY: Final = Path(str(resources.files("samplecache.lab.scenarios"))) / "library"
_LEAST_BYTES: Final = 1 << 20
_TABLES: Final[dict[str, type[BaseModel]]] = {
    "sample": SampleTable,
    "stream": StreamTable,
    "trigger": TriggerTable,
    "load": LoadTable,
}


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

    @property
    def simulated_device(self) -> str:
        """The profile that stands for the disk on the simulated kernel: its name, or the path of its file."""
        named = self.scenario.simulated_device
        return str(self.folder / named) if named.endswith(SUFFIX) else named

    def complaint(self, key: str, error: SamplecacheError) -> ConfigurationError:
        """Return `error` as one that the scenario's file made, at `key`."""
        return self.file.complaint((key,), begun_small(error.message), error.remedy)

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
        raise file.complaint(*_explained(error.errors(include_url=False))) from None
    except ScenarioProblem as problem:
        raise file.complaint(problem.where, problem.what, problem.remedy) from None
    try:
        simulation_options(play.simulated_device, memory_bytes=_LEAST_BYTES, swap_bytes=_LEAST_BYTES)
    except ConfigurationError as error:
        raise play.complaint("simulated_device", error) from None
    play.score()
    return play


def _explained(errors: Sequence[Any]) -> tuple[Sequence[str | int], str, str]:
    """Return where the first mistake lies, what it is and what to do, in the words of the file.

    A name that is misspelt comes before what is missing, which it mostly is.
    """
    error = min(errors, key=lambda each: each["type"] != "extra_forbidden")
    loc: list[str | int] = list(error["loc"])
    table = str(loc[0]) if loc and loc[0] in _TABLES else ""
    where = loc[: 3 if table else 1]
    subject = f"a {table}" if table else "a scenario"
    key = str(next((part for part in reversed(where) if isinstance(part, str)), "the file"))
    match error["type"]:
        case "extra_forbidden":
            return where, f"{subject} has no option {key!r}", _instead(key, table)
        case "missing":
            if key in _TABLES:
                return (), f"there is no [[{key}]]", f"Add a [[{key}]] table"
            return where[:-1], f"{subject} needs {key!r}", f"Add {key}"
        case "list_type" | "model_type" if table and len(loc) < 3:
            return where, f"{table} is written [[{table}]], for there may be several", f"Write [[{table}]]"
        case _:
            return where, *wrong_value(key, error)


def _instead(key: str, table: str) -> str:
    """Return what to do about an option that a table, or the scenario itself, does not have."""
    if table and key in _options(Scenario):
        return "It is the scenario's: move it above the first table, or leave it out"
    return suggestion(key, _options(_TABLES[table] if table else Scenario))


def _options(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
