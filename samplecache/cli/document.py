"""Messages of the contract as JSON documents with stable keys.

Keys are the contract's field names. Integers are numbers; durations are integer nanoseconds under a key that ends in
``_ns``; timestamps are RFC 3339; bytes are hexadecimal; enum values are lower case without their prefix; late blocks
by cause are an object with the causes that occurred. Every field is there: what is unset is ``null`` or its default.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, cast

import typer
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from samplecache.v1 import playback_pb2, samplecache_pb2

_BY_CAUSE: Final = "late_by_cause"
_EVENT_NAMES: Final = {
    field.message_type.full_name: field.name  # type: ignore[union-attr]
    for response in (playback_pb2.PlayResponse, samplecache_pb2.PrefetchResponse)
    for field in response.DESCRIPTOR.fields
}
_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")


def document(message: Message) -> dict[str, Any]:
    """Return `message` as a JSON object."""
    values: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        name = f"{field.name}_ns" if field.message_type is Duration.DESCRIPTOR else field.name
        if field.name == _BY_CAUSE:
            values[name] = causes(message.late_by_cause)  # type: ignore[attr-defined]
        elif field.is_repeated:
            values[name] = [_value(field, value) for value in getattr(message, field.name)]
        elif field.has_presence and not message.HasField(field.name):
            values[name] = None
        else:
            values[name] = _value(field, getattr(message, field.name))
    return values


def event_document(message: Message) -> dict[str, Any]:
    """Return an event of a playback or a prefetch as a JSON object whose ``event`` is its name in the contract."""
    return {"event": _EVENT_NAMES[message.DESCRIPTOR.full_name], **document(message)}


def causes(counts: Any) -> dict[str, int]:
    """Return late blocks by the cause's name, without those that did not occur."""
    descriptor = playback_pb2.UnderrunCause.DESCRIPTOR
    return {enum_name(descriptor, number): count for number, count in enumerate(counts) if count}


def enum_name(descriptor: EnumDescriptor, number: int) -> str:
    """Return the name of an enum's value, lower case, without the prefix; the number if this version knows none."""
    value = descriptor.values_by_number.get(number)
    prefix = f"{_WORD_START.sub('_', descriptor.name).upper()}_"
    return str(number) if value is None else value.name.removeprefix(prefix).lower()


def print_json(value: object) -> None:
    """Print `value` as one JSON document on stdout."""
    typer.echo(json.dumps(value, indent=2))


def print_json_line(value: object) -> None:
    """Print `value` as one line of JSON on stdout, at once."""
    typer.echo(json.dumps(value))


def _value(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        return enum_name(field.enum_type, value)
    match value:
        case Duration():
            return value.ToNanoseconds()
        case Timestamp():
            return value.ToJsonString()
        case Message():
            return document(value)
        case bytes():
            return value.hex()
    return cast("int | float | str | bool", value)
