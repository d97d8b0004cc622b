"""What is wrong in a trace file, in its own words: where, what, and what to do about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import TypeAdapter, ValidationError

from samplecache.lab.toml_mistakes import shown, suggestion, wrong_value
from samplecache.lab.tracing.program import Problem, Program, ProgramError, RegionPlan
from samplecache.lab.tracing.steps import AnyStep, Step

_ADAPTER: Final[TypeAdapter[Program]] = TypeAdapter(Program)
_FIELDS: Final = {"region": "regions", "step": "steps"}
"""What the tables of a file are called in a program."""
_TABLES: Final = {field: table for table, field in _FIELDS.items()}
KINDS: Final[dict[str, type[Step]]] = {kind.do: kind for kind in get_args(get_args(AnyStep)[0])}
"""The classes of steps, by the names that files have for them."""
_KINDS_NAMED: Final = 3
"""How many kinds of steps are named that have an option which another has not."""


def checked(document: Mapping[str, Any]) -> Program:
    """Return the program that a document, read from TOML, is.

    Raises
    ------
    ProgramError
        It is none; the first mistake.
    """
    for field, table in _TABLES.items():
        if field in document:
            raise ProgramError(Problem((field,), f"no option is called {field!r}", f"Write [[{table}]] tables"))
        if isinstance(document.get(table), dict):
            raise ProgramError(Problem((table,), f"[{table}] is one table", f"Write [[{table}]], in double brackets"))
    try:
        return _ADAPTER.validate_python({_FIELDS.get(key, key): value for key, value in document.items()})
    except ValidationError as error:
        raise ProgramError(_problem(error.errors(include_url=False)[0])) from None


def _problem(error: Mapping[str, Any]) -> Problem:
    """Return a validation error as a problem."""
    first, *rest = (part for part in error["loc"] if part != "function-before")
    table = _TABLES.get(first, first)
    if not rest and table in _FIELDS and error["type"] != "too_long":
        return Problem((table,), f"the trace has no {table}", f"Write a [[{table}]] table with its options below it")
    if not rest or table not in _FIELDS:
        return _wrong("a trace", Program, (table,), table, error)
    index, *names = rest
    kind = names.pop(0) if table == "step" and names else None
    key = str(names[0]) if names else ""
    where = (table, index, key) if key else (table, index)
    match error["type"]:
        case "union_tag_not_found":
            return Problem(where, "the step does not say what it does", 'Add do = "touch", for example')
        case "union_tag_invalid":
            given = error["input"]["do"]
            return Problem((*where, "do"), f"no step does {shown(given)}", suggestion(given, KINDS))
        case "dataclass_type" | "model_attributes_type":
            return Problem(where, f"a {table} is no table", f"Write its options below [[{table}]]")
    if kind is None:
        return _wrong("a region", RegionPlan, where, key, error)
    return _wrong(f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} step", KINDS[kind], where, key, error)


def _wrong(
    subject: str, options_of: type[Any], where: Sequence[str | int], key: str, error: Mapping[str, Any]
) -> Problem:
    """Return what is wrong with the option `key` of something that has the fields of `options_of`."""
    options = [_TABLES.get(field.name, field.name) for field in dataclasses.fields(options_of)]
    kind = error["type"]
    if kind == "unexpected_keyword_argument":
        owners = [name for name, step in KINDS.items() if key in {field.name for field in dataclasses.fields(step)}]
        fits = issubclass(options_of, Step) and 0 < len(owners) <= _KINDS_NAMED
        remedy = f"Leave it out; {', '.join(owners)} can have it" if fits else suggestion(key, options)
        return Problem(tuple(where), f"{subject} has no option {key!r}", remedy)
    if kind in ("missing", "missing_keyword_only_argument", "missing_argument"):
        return Problem(tuple(where[:2]) if len(where) > 1 else (), f"{subject} needs {key!r}", f"Add {key}")
    what, remedy = wrong_value(key, error)
    return Problem(tuple(where), what, remedy)
