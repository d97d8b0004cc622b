"""A server in a process of its own, for benchmarks that are its clients."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc.aio

COMMAND = (sys.executable, "-c", "from samplecache.cli import main; main()", "serve")


@contextmanager
def process(address: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Serve on `address` until the end of the block; it listens when the block begins."""
    with subprocess.Popen(
        (*COMMAND, "--listen", address, "--grace-s", "0", *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            if not any(line.startswith("listening") for line in server.stdout):
                raise RuntimeError(f"the server ended with {server.wait()}")
            yield server
        finally:
            server.terminate()


@asynccontextmanager
async def started(address: str, *flags: str) -> AsyncIterator[tuple[subprocess.Popen[str], grpc.aio.Channel]]:
    """As :func:`process`, with a channel to it."""
    with process(address, *flags) as server:
        async with grpc.aio.insecure_channel(address) as channel:
            yield server, channel
