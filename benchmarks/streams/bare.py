"""``python -m benchmarks.streams.bare``: a server that only sends ready bytes, as fast as gRPC in Python goes.

It speaks of the contract what a listener needs: Play answers with the same messages as samplecache, of constant PCM and
serialised beforehand, and GetSample is a unary round trip with as many bytes as a block has. PutSample takes in an
upload's messages and drops them. There is no cache, no residency, no accounting, no command after the first. Transport
and options are samplecache's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio
import typer
import uvloop

from samplecache.clock import NS_PER_S
from samplecache.service.listening import OPTIONS
from samplecache.service.server import SERVICE
from samplecache.v1 import playback_pb2, samplecache_pb2

DEFAULT_BLOCK_NS: Final = 20_000_000
STARTED: Final = playback_pb2.PlayResponse(
    started=playback_pb2.PlayStarted(session_id="session-1", block_frames=960)
).SerializeToString()


def ready_block(pcm_bytes: int) -> bytes:
    """Return a message with a block of `pcm_bytes` bytes, serialised."""
    block = playback_pb2.PlayBlock(frame_offset=1 << 20, pcm=bytes(range(1, 251)) * (pcm_bytes // 250 + 1))
    block.pcm = block.pcm[:pcm_bytes]
    return playback_pb2.PlayResponse(block=block).SerializeToString()


async def play(requests: AsyncIterator[playback_pb2.PlayRequest], context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Send the same block over and over, at its time or as fast as the client takes it."""
    start = (await anext(aiter(requests))).start
    frame_bytes = 4
    block_ns = start.block.ToNanoseconds() or DEFAULT_BLOCK_NS
    # The format is what tells a bare server how much a block is: it has no sample to ask.
    block = ready_block(start.format.rate_hz * block_ns // NS_PER_S * frame_bytes)
    await context.write(STARTED)
    if start.pace == playback_pb2.PACE_UNLIMITED:
        while True:
            await context.write(block)
    loop = asyncio.get_running_loop()
    due_s, block_s = loop.time(), block_ns / NS_PER_S
    while True:
        await context.write(block)
        due_s += block_s
        if (delay_s := due_s - loop.time()) > 0:
            await asyncio.sleep(delay_s)


async def get_sample(request: samplecache_pb2.GetSampleRequest, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    """Answer at once."""
    return UNARY


async def put_sample(requests: AsyncIterator[samplecache_pb2.PutSampleRequest], context: object) -> bytes:
    """Take in what comes, and answer when it has ended."""
    async for _ in requests:
        pass
    return samplecache_pb2.PutSampleResponse().SerializeToString()


UNARY: Final = ready_block(3840)
"""As large as 20 ms of 48 kHz stereo S16."""


async def serve(address: str) -> None:
    """Serve until killed; print where."""
    server = grpc.aio.server(options=OPTIONS)
    handlers = {
        "Play": grpc.stream_stream_rpc_method_handler(play, playback_pb2.PlayRequest.FromString),
        "GetSample": grpc.unary_unary_rpc_method_handler(get_sample, samplecache_pb2.GetSampleRequest.FromString),
        "PutSample": grpc.stream_unary_rpc_method_handler(put_sample, samplecache_pb2.PutSampleRequest.FromString),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port(address)
    await server.start()
    where = address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
    print("listening on", where, flush=True)
    await server.wait_for_termination()


def main(address: str = "127.0.0.1:0") -> None:
    """Serve at ADDRESS."""
    uvloop.run(serve(address))


if __name__ == "__main__":
    typer.run(main)
