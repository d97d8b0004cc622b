"""A server in a process of its own, for benchmarks that are its clients."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import grpc.aio

BARE = (sys.executable, "-m", "benchmarks.streams.bare", "--address")
"""Sends and takes in bytes, and does nothing else. An address follows, as it does with the next."""
_SAMPLECACHE = (sys.executable, "-c", "from samplecache.cli import main; main()", "serve", "--grace-s", "0", "--listen")


@contextmanager
def process(address: str, *flags: str, server: Sequence[str] = _SAMPLECACHE) -> Iterator[subprocess.Popen[str]]:
    """Serve on `address` until the end of the block; it listens when the block begins."""
    with subprocess.Popen(
        (*server, address, *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            if not any(line.startswith("listening") for line in running.stdout):
                raise RuntimeError(f"the server ended with {running.wait()}")
            yield running
        finally:
            running.terminate()


@asynccontextmanager
async def started(
    address: str, *flags: str, server: Sequence[str] = _SAMPLECACHE
) -> AsyncIterator[tuple[subprocess.Popen[str], grpc.aio.Channel]]:
    """As :func:`process`, with a channel to it."""
    with process(address, *flags, server=server) as running:
        async with grpc.aio.insecure_channel(address) as channel:
            yield running, channel
