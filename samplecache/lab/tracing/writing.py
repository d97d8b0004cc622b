"""Programs as text: what :mod:`.reading` reads back as the same program."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterator
from typing import Any, Final

from samplecache.kernel.port import Span
from samplecache.lab.tracing.program import Program

_TABLES: Final = {"regions": "region", "steps": "step"}


def text(program: Program) -> str:
    """Return `program` as TOML; options that have their default values are left out."""
    lines = list(_options(program))
    for field, table in _TABLES.items():
        for each in getattr(program, field):
            lines += ["", f"[[{table}]]", *_options(each)]
    return "\n".join(lines) + "\n"


def _options(table: Any) -> Iterator[str]:
    fields = [field for field in dataclasses.fields(table) if field.name not in _TABLES]
    for field in sorted(fields, key=lambda field: field.name != "do"):
        value = getattr(table, field.name)
        if field.name == "do" or value != field.default:
            yield f"{field.name} = {_value(value)}"


def _value(value: object) -> str:
    """Return `value` as TOML, which writes strings, whole numbers, truth and arrays as JSON does."""
    match value:
        case enum.Enum():
            return _value(value.value)
        case Span():
            return _value((value.start, value.stop))
        case tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
