"""What the service, the decoder process and its children say to each other: JSON, one message a packet.

A child runs untrusted input, so nothing it says is believed beyond its shape: see :func:`unpack_answer`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

MAX_MESSAGE_BYTES = 1 << 16
READY = b"ready"
"""From the decoder process, once it has imported what children need."""
GO = b"go"
"""To a child: its header was accepted, decode."""


@dataclass(frozen=True, slots=True)
class Request:
    """To the decoder process, with the descriptors of the input, the PCM pipe and the child's end of the talk."""

    name: str
    store_encoding: str
    max_decoded_bytes: int
    max_cpu_s: int
    max_address_space_bytes: int
    wall_timeout_ns: int


@dataclass(frozen=True, slots=True)
class Header:
    """From a child: what it is about to decode."""

    rate_hz: int
    channels: int
    encoding: str
    frames: int
    container: str
    codec: str


@dataclass(frozen=True, slots=True)
class Failure:
    """From a child: why it gave up, as the parts of an ``AudioError``."""

    reason: str
    message: str
    remedy: str
    details: dict[str, str]


@dataclass(frozen=True, slots=True)
class Done:
    """From a child: all frames are in the pipe."""

    frames: int


@dataclass(frozen=True, slots=True)
class Exit:
    """From the decoder process: how a child ended; negative is the signal's number."""

    status: int
    has_timed_out: bool


Answer = Header | Failure | Done | Exit


def pack(message: Request | Answer) -> bytes:
    """Return `message` as one packet."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()


def unpack_request(packet: bytes) -> Request:
    """Return the request in `packet`; raise ``ValueError`` if there is none."""
    message: Request = _unpack(packet, {Request})
    return message


def unpack_answer(packet: bytes) -> Answer:
    """Return the answer in `packet`; raise ``ValueError`` if it is none, or has fields of other types."""
    message: Answer = _unpack(packet, {Header, Failure, Done, Exit})
    return message


def _unpack(packet: bytes, allowed: set[type[Any]]) -> Any:
    fields = json.loads(packet)
    name = fields.pop("kind", None) if isinstance(fields, dict) else None
    kind = next((kind for kind in allowed if kind.__name__ == name), None)
    if kind is None:
        raise ValueError(f"unexpected message {packet[:100]!r}")
    wanted = {name: getattr(hint, "__origin__", hint) for name, hint in get_type_hints(kind).items()}
    if {name: type(value) for name, value in fields.items()} != wanted:
        raise ValueError(f"malformed message {packet[:100]!r}")
    return kind(**fields)
