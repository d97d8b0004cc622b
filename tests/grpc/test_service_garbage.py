"""Whatever bytes arrive: an answer that blames the right side, and the store as it was."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from served import WAIT_S, Serve, pcm, until

from samplecache.service.server import SERVICE
from samplecache.v1 import samplecache_pb2 as pb

METHODS = pb.DESCRIPTOR.services_by_name["SampleCacheService"].methods
DATA = pcm(5_000)
ROUNDS = 70
"""Times 15 methods: a thousand requests of each kind."""

MEANT_TO_CHANGE = {"UpdateSample", "DeleteSample"}
"""What these do to a sample that they rightly name is no accident, so they may not guess its name."""

BLAME = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DATA_LOSS,
}
"""Statuses that say what is wrong with a request; never UNKNOWN or INTERNAL."""

NUMBERS = [0, 1, 2, 17, 4_999, 5_000, 5_001, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, -1, -(2**31), -(2**63)]
FLOATS = [0.0, 1.0, -1.0, 17.0, float("nan"), float("inf"), 1e308]
TEXTS = ["", "kept", "x", "../kept", "KEPT", "ü", "\0", "a" * 10_000, "none", "auto", "touch", "mlock", "magic", "*"]


def noise(rng: random.Random, kind: type[Message]) -> bytes:
    """Bytes of any kind; few of them are a message."""
    return rng.randbytes(rng.randrange(64))


def damaged(rng: random.Random, kind: type[Message]) -> bytes:
    """A message with a few bytes changed, or its end missing."""
    data = bytearray(meaningless(rng, kind))
    for _ in range(rng.randrange(4)):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(len(data) + 1)])


def meaningless(rng: random.Random, kind: type[Message]) -> bytes:
    """A message whose fields have extreme and nonsensical values."""
    message = kind()
    _fill(rng, message)
    return message.SerializeToString()


def _fill(rng: random.Random, message: Message) -> None:
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.4:
            continue
        if field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(rng.randrange(4)):
                if field.message_type is None:
                    values.append(_value(rng, field))
                else:
                    _fill(rng, values.add())
        elif field.message_type is None:
            setattr(message, field.name, _value(rng, field))
        else:
            part = getattr(message, field.name)
            part.SetInParent()
            _fill(rng, part)


def _value(rng: random.Random, field: Any) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return rng.randbytes(rng.choice([0, 1, 31, 32, 33, 1000]))
        case FieldDescriptor.CPPTYPE_STRING:
            return rng.choice(TEXTS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return rng.random() < 0.5
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return rng.choice(FLOATS)
        case FieldDescriptor.CPPTYPE_ENUM:
            return rng.choice([0, 1, 2, 6, 7, 99, -1])
    signed = field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
    bits = 32 if field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return rng.choice([number for number in NUMBERS if least <= number <= most])


def answer(channel: grpc.Channel, method: MethodDescriptor, requests: list[bytes]) -> grpc.StatusCode:
    """The status of a call with these raw requests; what would last for ever is cancelled after its first answer."""
    path = f"/{SERVICE}/{method.name}"
    asked: Any = iter(requests) if method.client_streaming else requests[0]
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    try:
        answered = getattr(channel, kind)(path)(asked, timeout=WAIT_S)
        if method.server_streaming:
            next(answered, None)
            answered.cancel()
    except grpc.RpcError as error:
        return refusal(error)
    return grpc.StatusCode.OK


def refusal(error: Any) -> grpc.StatusCode:
    """The status of a refusal that says nothing of the server's inside."""
    details = error.details() or ""
    assert not [telltale for telltale in ("Traceback", "<class", "Unexpected") if telltale in details], details
    code: grpc.StatusCode = error.code()
    return code


@pytest.mark.parametrize("make", [noise, damaged, meaningless])
async def test_garbage_is_blamed_on_the_sender_and_changes_nothing(
    serve: Serve, make: Callable[[random.Random, type[Message]], bytes]
) -> None:
    served = await serve(upload_ttl_s=0.01)
    rng = random.Random(2008)
    await served.put("kept", DATA)
    before = served.state()
    channel = grpc.insecure_channel(served.address)
    for _, method in itertools.product(range(ROUNDS), METHODS):
        requests = [make(rng, GetMessageClass(method.input_type)) for _ in range(rng.randrange(1, 4))]
        if method.name in MEANT_TO_CHANGE:
            requests = [request.replace(b"kept", b"gone") for request in requests]
        code = await asyncio.to_thread(answer, channel, method, requests)
        assert code in BLAME | {grpc.StatusCode.OK}, (method.name, requests)
    channel.close()
    cache = served.cache
    await until(lambda: not (cache.session_count or cache.prefetch_count or len(cache.uploads)))
    assert served.state() == before
