"""The same load as ``client.cc``, in Python, for machines without a compiler: there the client is the limit."""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from samplecache.clock import NS_PER_S

_BLOCK_TAG = 0x12
_RUNNING = -1


class _Call:
    def __init__(self, channel: grpc.aio.Channel, method: str, request: bytes) -> None:
        self.began_ns = time.monotonic_ns()
        self.code, self.others = _RUNNING, 0
        self.arrivals_ns: list[int] = []
        self.lengths: list[int] = []
        self._stream: Any = channel.stream_stream(method)(iter([request]))

    async def read(self, most_blocks: int | None = None) -> None:
        try:
            async for message in self._stream:
                if message[0] != _BLOCK_TAG:
                    self.others += 1
                    continue
                self.arrivals_ns.append(time.monotonic_ns())
                self.lengths.append(len(message))
                if len(self.arrivals_ns) == most_blocks:
                    self._stream.cancel()
                    return
            self.code = 0
        except grpc.aio.AioRpcError as error:
            self.code = error.code().value[0]

    def record(self) -> bytes:
        words = [self.began_ns, self.code, self.others, len(self.arrivals_ns), *self.arrivals_ns, *self.lengths]
        return struct.pack(f"={len(words)}q", *words)


async def _streams(
    address: str, method: str, requests: list[bytes], count: int, seconds: float, spread_ns: int, connections: int
) -> list[_Call]:
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(connections)]
    calls: dict[int, _Call] = {}

    async def run(number: int) -> None:
        await asyncio.sleep(number * 0.6180339887498949 % 1.0 * spread_ns / NS_PER_S)
        calls[number] = _Call(channels[number % connections], method, requests[number % len(requests)])
        await calls[number].read()

    tasks = [asyncio.create_task(run(number)) for number in range(count)]
    await asyncio.wait(tasks, timeout=seconds + spread_ns / NS_PER_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return [calls[number] for number in sorted(calls)]


async def _first(address: str, method: str, requests: list[bytes], count: int, pause_ns: int) -> list[_Call]:
    calls = []
    async with grpc.aio.insecure_channel(address) as channel:
        for number in range(count):
            calls.append(_Call(channel, method, requests[number % len(requests)]))
            await calls[-1].read(1)
            await asyncio.sleep(pause_ns / NS_PER_S)
    return calls


async def _unary(address: str, method: str, requests: list[bytes], count: int, pause_ns: int) -> list[bytes]:
    records = []
    async with grpc.aio.insecure_channel(address) as channel:
        for number in range(count):
            began_ns = time.monotonic_ns()
            answer = await channel.unary_unary(method)(requests[number % len(requests)])
            records.append(struct.pack("=6q", began_ns, 0, 0, 1, time.monotonic_ns(), len(answer)))
            await asyncio.sleep(pause_ns / NS_PER_S)
    return records


def main() -> None:
    """Take the arguments of ``client.cc``."""
    mode, address, method, starts, output, count, *rest = sys.argv[1:]
    data, requests = Path(starts).read_bytes(), []
    while data:
        (length,) = struct.unpack_from("=I", data)
        requests.append(data[4 : 4 + length])
        data = data[4 + length :]
    if mode == "streams":
        calls = asyncio.run(_streams(address, method, requests, int(count), float(rest[0]), int(rest[1]), int(rest[2])))
        records = [call.record() for call in calls]
    elif mode == "first":
        calls = asyncio.run(_first(address, method, requests, int(count), int(rest[0])))
        records = [call.record() for call in calls]
    else:
        records = asyncio.run(_unary(address, method, requests, int(count), int(rest[0])))
    Path(output).write_bytes(b"".join(records))


if __name__ == "__main__":
    main()
