"""What is wrong with a value in a file that people write, in their words rather than pydantic's, and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

_SHOWN: Final = 40
"""How much of a value is shown, in characters."""
_QUOTED: Final = re.compile(r"'([^']*)'")
_ARRAY: Final = ("is no array", "Put values into brackets, with commas between them")
_WRONG: Final = {
    "int_type": ("is no whole number", "Give a whole number, without quotes or a fraction"),
    "float_type": ("is no number", "Give a number, without quotes"),
    "bool_type": ("is neither true nor false", "Give true or false, without quotes"),
    "string_type": ("is no text", "Put a text in quotes"),
    "tuple_type": _ARRAY,
    "list_type": _ARRAY,
    "dict_type": ("is no table", "Write pairs in braces: {{ 36 = \"kick\" }}"),
    "greater_than_equal": ("is less than {ge}", "Give {ge} at least"),
    "greater_than": ("is not more than {gt}", "Give more than {gt}"),
    "less_than_equal": ("is more than {le}", "Give {le} at most"),
    "less_than": ("is not less than {lt}", "Give less than {lt}"),
    "string_too_short": ("is empty", "Give it a name"),
    "string_too_long": ("is longer than {max_length} characters", "Give it a shorter name"),
    "string_pattern_mismatch": (
        "is no name",
        "Use small letters, digits, dots, hyphens and underscores, and begin with a letter or a digit",
    ),
    "too_short": ("is empty", "Name one at least"),
    "too_long": ("has more than {max_length} entries", "Leave some out"),
}  # fmt: skip
"""What pydantic calls an error: what that is, and the remedy."""
_VALUE_ERROR: Final = "Value error, "
_GIVE: Final = ": give "
"""Where a validator's own message turns from what is wrong to the remedy."""


def wrong_value(key: str, error: Mapping[str, Any]) -> tuple[str, str]:
    """Return what is wrong with the value of `key`, and the remedy.

    Parameters
    ----------
    key : str
        The option.
    error : mapping
        One of pydantic's ``ValidationError.errors()``.
    """
    context, message = error.get("ctx", {}), error["msg"]
    if error["type"] == "enum":
        return f"{key}: {shown(error['input'])} is unknown", suggestion(
            error["input"], _QUOTED.findall(context["expected"])
        )
    if message.startswith(_VALUE_ERROR):
        what, give, remedy = message.removeprefix(_VALUE_ERROR).partition(_GIVE)
        return f"{key}: {what}", f"Give {remedy}" if give else "Mend the value"
    what, remedy = _WRONG.get(error["type"], (message, context.get("remedy", "Mend the value")))
    return f"{key}: {shown(error['input'])} {what.format(**context)}", remedy.format(**context)


def suggestion(given: object, names: Iterable[str]) -> str:
    """Return which of `names` may be meant, as the beginning of a remedy, and which there are."""
    known = list(names)
    near = get_close_matches(str(given).lower(), known, 1)
    return f"{f'Did you mean {near[0]!r}? ' if near else ''}Choose from {', '.join(known)}"


def shown(value: object) -> str:
    """Return `value` as a file would have it, cut short."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
