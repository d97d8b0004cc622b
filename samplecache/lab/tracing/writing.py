"""Programs as text: what :mod:`.reading` reads back as the same program."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterator
from typing import Any

from samplecache.kernel.port import Span
from samplecache.lab.tracing.program import Program


def text(program: Program) -> str:
    """Return `program` as TOML; options that have their default values are left out."""
    lines = [f"title = {_value(program.title)}", *([f"about = {_value(program.about)}"] if program.about else [])]
    for name, tables in (("region", program.regions), ("step", program.steps)):
        for table in tables:
            lines += ["", f"[[{name}]]", *_options(table)]
    return "\n".join(lines) + "\n"


def _options(table: Any) -> Iterator[str]:
    for field in sorted(dataclasses.fields(table), key=lambda field: field.name != "do"):
        value = getattr(table, field.name)
        if field.name == "do" or value != field.default:
            yield f"{field.name} = {_value(value)}"


def _value(value: object) -> str:
    """Return `value` as TOML, which writes strings, whole numbers, truth and arrays as JSON does."""
    if isinstance(value, enum.Enum):
        value = value.value
    elif isinstance(value, Span):
        value = [value.start, value.stop]
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
