"""A client that sends half of an upload and then does nothing until it is killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
from served import chunk, pcm, start

from samplecache.v1 import samplecache_pb2 as pb
from samplecache.v1.samplecache_pb2_grpc import SampleCacheServiceStub


def send(target: str, upload_id: str, half_bytes: str) -> None:
    """Send it, and wait for the end."""
    data = pcm(20_000)

    def messages() -> Iterator[pb.PutSampleRequest]:
        yield start("broken", data, upload_id=upload_id)
        yield chunk(0, data[: int(half_bytes)])
        threading.Event().wait()

    with grpc.insecure_channel(target) as channel:
        SampleCacheServiceStub(channel).PutSample(messages())
