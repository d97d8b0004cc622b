"""Runs in a directory: each is on disk as soon as it has ended, so that whatever comes after cannot lose it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from samplecache.errors import ConfigurationError, NotPermittedError, StateError
from samplecache.lab.contest.records import Run, Status

RUNS: Final = "runs.jsonl"
SCENARIO: Final = "scenario.json"


@dataclass(slots=True)
class RunLog:
    """The runs of one scenario, from as many goes as it took.

    Made by :meth:`open` or :meth:`read`.

    Attributes
    ----------
    directory : Path
        Where they are.
    scenario : dict
        What was played: ``name``, ``text`` and ``seed``.
    runs : list of Run
        All that ended, in the order in which they did.
    """

    directory: Path
    scenario: dict[str, Any]
    runs: list[Run] = field(default_factory=list)

    @classmethod
    def open(cls, directory: Path, scenario: dict[str, Any]) -> RunLog:
        """Return the log in `directory`, which is made if it is not there.

        Raises
        ------
        StateError
            The directory has runs of something else.
        ConfigurationError
            What is there is no log.
        NotPermittedError
            Nothing can be written there.
        """
        if (directory / SCENARIO).exists():
            log = cls.read(directory)
            if log.scenario != scenario:
                changed = [key for key in scenario if log.scenario.get(key) != scenario[key]]
                raise StateError(
                    f"{directory} has runs of another scenario, whose {' and '.join(changed)} was different",
                    remedy="Name another directory with -o, or remove that one",
                )
            return log
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / SCENARIO).write_text(json.dumps(scenario, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise NotPermittedError(
                f"{directory} cannot be written: {error.strerror}",
                remedy="Name a directory that you may write to with -o",
            ) from error
        return cls(directory, scenario)

    @classmethod
    def read(cls, directory: Path) -> RunLog:
        """Return the log in `directory`.

        A last line that was cut off, as when the machine lost power, is left out.

        Raises
        ------
        ConfigurationError
            There is none, or it is damaged.
        """
        try:
            scenario = json.loads((directory / SCENARIO).read_text(encoding="utf-8"))
            lines = (directory / RUNS).read_bytes().split(b"\n") if (directory / RUNS).exists() else []
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{directory} has no runs that can be read: {error}",
                remedy="Name a directory of 'samplecache lab compare'",
            ) from error
        log = cls(directory, scenario)
        for number, line in enumerate(lines, 1):
            try:
                if line:
                    log.runs.append(Run.model_validate_json(line))
            except ValidationError as error:
                if number == len(lines):
                    break
                raise ConfigurationError(
                    f"{directory / RUNS}:{number}: this is no run: {error.errors()[0]['msg']}",
                    remedy="Remove that line, and have the run repeated",
                ) from error
        return log

    def add(self, run: Run) -> None:
        """Keep `run`, on disk before this returns. Blocks."""
        data = run.model_dump_json(exclude_defaults=True).encode() + b"\n"
        with (self.directory / RUNS).open("a+b") as file:
            file.seek(0)
            whole_bytes = file.read().rfind(b"\n") + 1
            file.truncate(whole_bytes)  # of a last line that was cut off nothing is left to tell
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.runs.append(run)

    def settled(self) -> set[tuple[Any, ...]]:
        """Return the keys of runs that need not be played again. What failed is tried again, once per go."""
        return {run.key for run in self.runs if run.status.counts}

    def counting(self) -> Iterator[Run]:
        """Yield the runs whose figures count: of each contender, case and repetition the last, quiet ones first."""
        best: dict[tuple[Any, ...], Run] = {}
        for run in self.runs:
            if run.status.counts:
                before = best.get(run.key)
                if before is None or before.status is Status.NOISY or run.status is Status.DONE:
                    best[run.key] = run
        yield from best.values()
